"""What earlier versions wrote still opens, and says the same."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from commands import Run
from torchloupe.checkpoints.file import read_tensors
from torchloupe.checkpoints.open import open_model
from torchloupe.inspection.repeat import again
from torchloupe.inspection.result import tensors_of

HERE = Path(__file__).parents[1] / "artefacts"
PICTURES = sorted(path.relative_to(HERE / "0.1").as_posix() for path in (HERE / "0.1").rglob("pictures/*/*.json"))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of what version 0.1 wrote."""
    shutil.copytree(HERE / "0.1", tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_there_are_pictures_of_several_methods() -> None:
    assert {Path(name).parent.name for name in PICTURES} >= {"filters", "deconvnet", "maximize", "invert"}


@pytest.mark.parametrize("word", ["first", "first/model.safetensors", "first@0", "first@0.256"])
def test_a_run_opens(old: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.chdir(old)
    found = open_model(word)
    assert found.config.arguments == {"widths": [2, 4, 8]} and found.run is not None
    tensors, _ = read_tensors(Path("first/model.safetensors"))
    if "@" not in word:
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in found.network.bare.state_dict().items())


def test_it_is_tested_as_it_was(run: Run, old: Path) -> None:
    told = json.loads((old / "first" / "test.json").read_text())
    ended = run("test", "first", "--out", "anew", "--json")
    assert ended.code == 0, ended.err
    anew = json.loads((old / "anew" / "test.json").read_text())
    assert {anew[name] == told[name] for name in ("n", "crc32", "weights")} == {True}
    assert anew["accuracy"] == pytest.approx(told["accuracy"], abs=0.01)  # hardly trained: processors round otherwise
    assert anew["loss"] == pytest.approx(told["loss"], rel=1e-3)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_made_again(old: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(old)
    file = Path(name)
    before, _ = read_tensors(file.with_suffix(".safetensors"))
    model = "net.py:Net" if name.startswith("mine") else None
    made, _ = again(file, model=model)
    after = dict(tensors_of(made.result))
    for key in before.keys() & after.keys():
        torch.testing.assert_close(after[key], before[key], rtol=1e-3, atol=1e-3, equal_nan=True)
    assert len(before.keys() & after.keys()) >= 1


def test_a_report_of_it_is_written(run: Run, old: Path) -> None:
    ended = run("report", "first", "--budget", "20s", "--units", "1", "--layers", "conv1", "--out", "r.html")
    assert ended.code == 0 and (old / "r.html").stat().st_size > 100_000


def test_a_users_own_network_is_asked_for_once(run: Run, old: Path) -> None:
    assert run("layers", "mine", "--no-data").code == 4
    assert run("layers", "mine", "--no-data", "--model", "net.py:Net").code == 0
    assert run("again", "mine/pictures/feature-maps/conv-2.json", "--out", "anew").code == 0
