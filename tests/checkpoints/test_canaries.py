"""Opening a file never runs code: every kind of file that can name code, at every place that opens it."""

import functools
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import torchloupe
from commands import Run
from torchloupe.checkpoints.file import save_model, save_tensors
from torchloupe.checkpoints.open import load, open_model
from torchloupe.data.dataset import checksum
from torchloupe.errors import ModelError
from torchloupe.inspection.manifest import NEEDED
from torchloupe.inspection.repeat import repeat
from torchloupe.models import build
from torchloupe.reports.report import report
from torchloupe.runs.config import Config
from torchloupe.runtime.files import write_json

NET = """
from pathlib import Path
Path({canary!r}).touch()
from torch import nn
class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))
"""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """The file that exists once a stranger's code has run; with the code that makes it in all the usual places."""
    path = tmp_path / "canary"
    code = NET.format(canary=str(path))
    for place in ("stranger.py", "net.py", "strange_package/__init__.py", "strange_package/nets.py", "run/net.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(code)
    return path


@pytest.fixture(autouse=True)
def modules_forgotten() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("strange") or name.startswith("torchloupe_user"):
            del sys.modules[name]


def payloads(canary: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """What a file may say that its network is, and with what arguments."""
    return {
        "os:system": ("os:system", {"command": f"touch {shlex.quote(str(canary))}"}),
        "subprocess:call": ("subprocess:call", {"args": ["touch", str(canary)]}),
        "pathlib:Path.touch": ("pathlib:Path.touch", {"self": str(canary)}),
        "module in the working folder": ("stranger:Net", {}),
        "package in the working folder": ("strange_package.nets:Net", {}),
        "file in the working folder": ("net.py:Net", {}),
        "file in the run": (f"{canary.parent / 'run' / 'net.py'}:Net", {}),
    }


@functools.cache
def crc_of_shapes() -> str:
    return checksum(torchloupe.data.load("shapes"))


PAYLOADS = list(payloads(Path("canary")))


def hostile(folder: Path, canary: Path, payload: str) -> tuple[Path, dict[str, Any]]:
    """Write a run that is whole but for the network that its files name; returns it and its description."""
    model, arguments = payloads(canary)[payload]
    net = build("resnet20", classes=2)
    training = {"model": model, "epochs": 1.0, "weights": None}
    data = {"name": "shapes", "source": "shapes", "crc32": crc_of_shapes(), "train": 5000, "test": 1000}
    about = asdict(Config(model, ("cat", "dog"), None, None, 32, arguments, data, training))
    for name in ("model", "snapshots/epoch-0", "snapshots/epoch-1"):
        save_tensors(folder / f"{name}.safetensors", net.state_dict(), about)
    write_json(folder / "config.json", about)
    write_json(folder / "environment.json", {"threads": 1})
    return folder, about


def of_a_picture(model: str, options: dict[str, Any], title: str = "x") -> dict[str, Any]:
    """Return the JSON beside a picture, of filters."""
    told = dict.fromkeys(NEEDED)
    known = {"method": "filters", "model": model, "model_options": options, "title": title, "layer": "0"}
    rest = {"seed": 0, "settings": {}, "environment": {}, "look": {}, "files": ["a.png"], "weights": "0"}
    return {**told, **known, **rest, "started_from_pictures": False}


COMMANDS: dict[str, str] = {
    "layers": "layers run --no-data",
    "layers of a file": "layers run/model.safetensors --no-data",
    "layers of a snapshot": "layers run@1 --no-data",
    "layers of the newest run": "layers last --no-data",
    "test": "test run --data shapes",
    "show filters": "show filters run",
    "show deconvnet": "show deconvnet run --pictures samples",
    "show maximize of a snapshot": "show maximize run@0",
    "pictures": "pictures run",
    "report": "report run --out r.html",
    "report in LaTeX": "report run --as latex --out r.zip",
    "train --weights": "train --data shapes --steps 1 --weights run --out new",
    "train --resume": "train --resume --out run --yes",
    "run": "run --data shapes --out run --yes",
    "again, of a run": "again of-a-run.json",
    "again, of code": "again of-code.json",
    "train --config": "train --config settings.toml --data shapes --steps 1 --out new",
}
CALLS: dict[str, Callable[[Path], object]] = {
    "load": load,
    "load a file": lambda run: load(run / "model.safetensors"),
    "load a snapshot": lambda run: load(f"{run}@1"),
    "torchloupe.report": lambda run: report(run, "r.html"),
    "again from Python": lambda run: repeat(Path("of-code.json")),
}


@pytest.fixture
def files(tmp_path: Path, canary: Path, request: pytest.FixtureRequest) -> Path:
    """Everything that a stranger could send, with one payload."""
    payload: str = request.param
    folder, about = hostile(tmp_path / "run", canary, payload)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "theirs").symlink_to(folder)
    write_json(tmp_path / "of-a-run.json", of_a_picture("run", {}))
    options = {"classes": 2, "mean": [0.5] * 3, "std": [0.5] * 3}
    write_json(tmp_path / "of-code.json", of_a_picture(about["model"], options))
    (tmp_path / "settings.toml").write_text(f"model = {json.dumps(about['model'])}\n")
    return folder


@pytest.mark.parametrize("files", PAYLOADS, indirect=True)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_what_a_file_names(run: Run, canary: Path, files: Path, command: str) -> None:
    ended = run(*COMMANDS[command].split())
    assert not canary.exists()
    assert ended.code == 4 and "is code" in ended.err and "--model" in ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("Error: ") and len(last) < 500


@pytest.mark.parametrize("files", PAYLOADS, indirect=True)
@pytest.mark.parametrize("call", CALLS)
def test_no_call_runs_what_a_file_names(
    canary: Path, files: Path, call: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as raised:
        CALLS[call](files)
    assert not canary.exists()
    assert "is code" in str(raised.value)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_snapshot_that_names_other_code_than_its_run(run: Run, canary: Path, tmp_path: Path, payload: str) -> None:
    """The report opens snapshots by itself, after the run was found harmless."""
    folder, _ = hostile(tmp_path / "run", canary, payload)
    net, plain = build("loupe", classes=2), Config("loupe", ("cat", "dog"), None, None, 32)
    save_model(folder / "model.safetensors", net, plain)
    write_json(folder / "config.json", asdict(plain))
    row = {"kind": "epoch", "epoch": 2.0, "step": 2, "train_loss": 1.0, "train_accuracy": 0.5}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    ended = run("report", folder, "--budget", "20s", "--layers", "conv1", "--units", "1", "--out", "r.html")
    assert not canary.exists()
    assert ended.code == 0 and "how it learned" in ended.err and "is code" in ended.err


@pytest.mark.parametrize("payload", ["os:system", "subprocess:call", "pathlib:Path.touch"])
def test_a_function_that_makes_no_network_gets_nothing_from_a_file(
    run: Run, canary: Path, tmp_path: Path, payload: str
) -> None:
    """Not even where the user repeats the name that the file gave."""
    hostile(tmp_path / "run", canary, payload)
    ended = run("layers", "run", "--no-data", "--model", payload)
    assert ended.code == 4 and not canary.exists()
    with pytest.raises(ModelError):
        open_model(tmp_path / "run", model=payload)
    assert not canary.exists()


def test_the_canary_sings(run: Run, canary: Path, tmp_path: Path) -> None:
    """The same files run their code where the user names it: the tests above could fail."""
    folder, about = hostile(tmp_path / "run", canary, "file in the run")
    tensors = torch.nn.Linear(3, 2).state_dict()
    save_tensors(folder / "model.safetensors", {f"2.{name}": value for name, value in tensors.items()}, about)
    assert run("layers", "run", "--no-data", "--model", "run/net.py:Net").code == 0
    assert canary.exists()
