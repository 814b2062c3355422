"""Whose code may run: a user's own work goes on without a question, and nobody else's begins."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import torchloupe.checkpoints.file
from commands import Run
from torchloupe.checkpoints.file import load_model, save_model, save_tensors
from torchloupe.checkpoints.open import load, open_model
from torchloupe.errors import ChangedCodeWarning, ModelError, UsageError
from torchloupe.models import build, build_blank
from torchloupe.models.reference import find_source, source_files
from torchloupe.models.trust import check_maker, makes_networks, permitted, recall, remember, state_folder
from torchloupe.runs.config import Config

NET = """
from torch import nn
from helpers.blocks import block

class Net(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.conv = block(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

def make(classes) -> nn.Module:
    return Net(classes)
"""
BLOCK = """
from torch import nn
from . import numbers
def block(width):
    return nn.Sequential(nn.Conv2d(3, width, numbers.KERNEL, padding=1), nn.ReLU())
"""
TRAIN = ("--data", "shapes", "--steps", "2", "--batch", "8", "--optimizer", "adam")


def write_net(folder: Path) -> Path:
    (folder / "helpers").mkdir(parents=True)
    (folder / "net.py").write_text(NET)
    (folder / "helpers" / "__init__.py").write_text("")
    (folder / "helpers" / "blocks.py").write_text(BLOCK)
    (folder / "helpers" / "numbers.py").write_text("KERNEL = 3\n")
    (folder / "helpers" / "unused.py").write_text("import nothing\n")
    return folder / "net.py"


def forget_helpers() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "helpers" or name == "torchloupe_user_net"]:
        del sys.modules[name]


def forget_everything() -> None:
    """As on another machine in a new process, or with runs of a version that remembered nothing."""
    forget_helpers()
    for path in (state_folder() / "networks").glob("*.json"):
        path.unlink()


@pytest.fixture
def mine(run: Run, tmp_path: Path) -> Path:
    """The user's own network, trained by the command line."""
    forget_helpers()
    write_net(tmp_path)
    ended = run("train", "--model", "net.py:Net", *TRAIN, "--out", "mine")
    assert ended.code == 0, ended.err
    return tmp_path / "mine"


def test_ones_own_work_goes_on_without_a_question(
    run: Run, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = json.loads((mine / "config.json").read_text())
    assert again["model"] == f"{tmp_path / 'net.py'}:Net"
    commands = [
        "layers mine --no-data",
        "test mine --out results",
        "show filters mine --layer conv.0",
        "show maximize mine --layer conv.0 --channels 0 --steps 2",
        "again mine/pictures/filters/conv-0.json",
        "again mine/pictures/maximize/conv-0.json",
        "pictures mine@0 --out pictures",
        "report mine --budget 20s --units 1 --layers conv.0",
        "train --resume --out mine",
        f"train --weights mine --model net.py:Net {' '.join(TRAIN)} --out tuned",
        f"train --weights mine {' '.join(TRAIN)} --out tuned-again",
    ]
    for command in commands:
        ended = run(*command.split())
        assert ended.code == 0 and "code" not in ended.err and "Note: '" not in ended.err, (command, ended.err)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # paths are absolute: it works from anywhere
    forget_helpers()
    from torchloupe.cli import main

    for words in (["layers", "../mine", "--no-data"], ["again", "../mine/pictures/filters/conv-0.json"]):
        with pytest.raises(SystemExit) as ended_with:
            main(words)
        assert ended_with.value.code == 0


def test_a_run_that_was_stopped_goes_on_from_another_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_net(tmp_path)
    forget_helpers()
    from torchloupe.cli import main
    from torchloupe.training.loop import Run as Training

    def stop(self: Training) -> bool:
        return self.step == 1

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_wants_stop", stop)
        assert run("train", "--model", "net.py:Net", *TRAIN, "--out", "mine").code == 143
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--resume", "--out", "../mine"])
    assert ended.value.code == 0 and (tmp_path / "mine" / "model.safetensors").is_file()


@pytest.mark.parametrize("edited", ["net.py", "helpers/blocks.py", "helpers/numbers.py"])
def test_an_edited_file_runs_and_is_named_once(run: Run, mine: Path, tmp_path: Path, edited: str) -> None:
    with (tmp_path / edited).open("a") as stream:
        stream.write("\nEDITED = True\n")
    ended = run("layers", "mine", "--no-data")
    note = f"Note: '{tmp_path / edited}' changed since torchloupe ran it last; it runs as it is now.\n"
    assert ended.code == 0 and ended.err.count(note) == 1
    ended = run("layers", "mine", "--no-data")
    assert ended.code == 0 and "changed" not in ended.err


def test_what_it_does_not_import_may_change_in_silence(run: Run, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "helpers" / "unused.py").write_text("EDITED = True\n")
    assert "changed" not in run("layers", "mine", "--no-data").err


def test_a_run_from_before_takes_one_word(run: Run, mine: Path, tmp_path: Path) -> None:
    forget_everything()
    refused = run("layers", "mine", "--no-data")
    assert refused.code == 4 and f"give --model {tmp_path / 'net.py'}:Net if you trust it" in refused.err
    assert run("layers", "mine", "--no-data", "--model", "net.py:Net").code == 0
    for command in ("layers mine --no-data", "show filters mine@0 --layer conv.0", "train --resume --out mine"):
        assert run(*command.split()).code == 0


@pytest.mark.parametrize(
    "command",
    [
        "test mine --out results",
        "show filters mine --layer conv.0",
        "pictures mine --out pictures",
        "report mine --budget 20s --units 1 --layers conv.0",
        "train --resume --out mine",
        "again filters.json",
    ],
)
def test_every_command_takes_that_word(run: Run, mine: Path, command: str) -> None:
    words = ("--classes", "10", "--weights", "mine/model.safetensors", *UNNORMALISED)
    assert run("show", "filters", "net.py:Net", *words, "--out", "filters.png").code == 0
    forget_everything()
    assert run(*command.split()).code == 4
    ended = run(*command.split(), "--model", "net.py:Net")
    assert ended.code == 0, ended.err


UNNORMALISED = ("--normalize", "none", "--layer", "conv.0")


def test_a_network_named_once_is_known(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_net(tmp_path)
    forget_helpers()
    save_tensors(tmp_path / "w.safetensors", build("net.py:Net", classes=2).state_dict(), {})
    forget_everything()
    words = ("--classes", "2", "--weights", "w.safetensors", *UNNORMALISED, "--out", "pictures/a.png")
    assert run("show", "filters", "net.py:Net", *words).code == 0
    told = json.loads((tmp_path / "pictures" / "a.json").read_text())
    assert told["model"] == "../net.py:Net"  # as seen from the JSON's folder
    first = (tmp_path / "pictures" / "a.png").read_bytes()
    forget_helpers()
    from torchloupe.cli import main

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(SystemExit) as ended:
        main(["again", "../pictures/a.json", "--out", "."])
    assert ended.value.code == 0 and (tmp_path / "elsewhere" / "a.png").read_bytes() == first


def test_a_moved_file_takes_one_word(run: Run, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    for name in ("net.py", "helpers"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    forget_helpers()
    ended = run("layers", "mine", "--no-data")
    assert ended.code == 4 and "that file is gone" in ended.err
    assert run("layers", "mine", "--no-data", "--model", "moved/net.py:Net").code == 0
    assert run("layers", "mine", "--no-data").code == 0


def test_another_name_in_a_known_file_is_not_known(run: Run, mine: Path, tmp_path: Path) -> None:
    forget_helpers()
    about = json.loads((mine / "config.json").read_text())
    for name in ("make", "nn.Linear", "os.system"):
        with pytest.raises(ModelError, match="is code"):
            permitted(about["model"].replace(":Net", f":{name}"), "theirs")
    with pytest.raises(ModelError, match="is code"):
        permitted(about["model"], "theirs", arguments={"width": 10**9})
    assert permitted(about["model"], "theirs") == about["model"]


@pytest.mark.parametrize("broken", ["a file is in its place", "not JSON", "of another form"])
def test_a_state_folder_that_is_no_good_stops_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    write_net(tmp_path)
    forget_helpers()
    if broken == "a file is in its place":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("TORCHLOUPE_STATE", str(tmp_path / "file"))
    else:
        assert run("train", "--model", "net.py:Net", *TRAIN, "--out", "first").code == 0
        for path in (state_folder() / "networks").glob("*.json"):
            path.write_text("{" if broken == "not JSON" else '{"reference": 3, "files": []}')
    assert run("train", "--model", "net.py:Net", *TRAIN, "--out", "mine").code == 0
    forget_helpers()
    ended = run("layers", "mine", "--no-data")
    assert ended.code == (4 if broken == "a file is in its place" else 0)
    assert run("layers", "mine", "--no-data", "--model", "net.py:Net").code == 0


def test_settings_in_a_file_are_a_file(run: Run, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('model = "net.py:Net"\nsteps = 2\nbatch = 8\noptimizer = "adam"\n')
    words = ("train", "--config", "settings.toml", "--data", "shapes", "--out")
    assert run(*words, "a").code == 0
    forget_everything()
    assert run(*words, "b").code == 4
    assert run(*words, "c", "--model", "net.py:Net").code == 0


# from Python


def test_what_this_process_imported_is_trusted(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_everything()
    with pytest.raises(ModelError, match="is code"):
        load(mine)
    monkeypatch.syspath_prepend(str(tmp_path))
    import net  # type: ignore[import-not-found]

    assert load(mine).classes
    del sys.modules["net"]
    forget_everything()
    assert isinstance(load(mine, model=net.Net).bare, net.Net)
    assert isinstance(load(mine, model=lambda classes: net.Net(classes, width=4)).bare, net.Net)
    assert isinstance(load(mine, model=net.Net(10)).bare, net.Net)
    assert recall(f"{tmp_path / 'net.py'}:Net") is None
    assert load(mine, model=f"{tmp_path / 'net.py'}:Net").classes


def test_what_this_process_defined_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("of_a_notebook")
    exec(compile(NET.replace("from helpers.blocks import block", ""), "cell", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "of_a_notebook", module)
    assert permitted("of_a_notebook:Net", "f") == "of_a_notebook:Net"
    assert permitted("of_a_notebook:make", "f") == "of_a_notebook:make"
    for name in ("nn.Linear", "nn", "nothing", "Net.__init__", "nn.Sequential"):
        with pytest.raises(ModelError, match=r"is code|does not say"):
            permitted(f"of_a_notebook:{name}", "f")


@pytest.mark.parametrize("reference", ["torch.nn:Identity", "torch.hub:load", "torchloupe.cli:main", "os:system"])
def test_what_torchloupe_itself_imported_is_nobodys_will(reference: str) -> None:
    with pytest.raises(ModelError, match="is code"):
        permitted(reference, "f")


def test_load_takes_its_words_as_before() -> None:
    assert load(model="resnet20", classes=2).classes == ("0", "1")
    with pytest.raises(UsageError, match="load takes MODEL first"):
        load()
    with pytest.raises(UsageError, match="leave --model"):
        open_model("net.py:Net", model="net.py:Net", classes=2)


# where code lies


def test_finding_code_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "a_loud_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('run')")
    (package / "nets.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_source("a_loud_package.nets:Net") == (package / "nets.py", None)
    monkeypatch.chdir(tmp_path)
    assert find_source("a_loud_package.nets:Net") == (package / "nets.py", tmp_path)
    assert find_source("a_loud_package:Net") == (package / "__init__.py", tmp_path)
    assert source_files("a_loud_package.nets:Net") == [package / "nets.py"]
    assert not [name for name in sys.modules if name.startswith("a_loud")]


def test_the_files_that_a_network_is_made_of(tmp_path: Path) -> None:
    net = write_net(tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in source_files(f"{net}:Net")}
    assert found == {"net.py", "helpers/__init__.py", "helpers/blocks.py", "helpers/numbers.py"}


@pytest.mark.parametrize(
    "reference", ["\0.py:Net", "~nobody-at-all/x.py:Net", "x" * 5000 + ".py:Net", "a" * 5000 + ":b"]
)
def test_a_reference_that_is_no_path_is_told(reference: str) -> None:
    with pytest.raises(ModelError) as raised:
        permitted(reference, "f")
    assert str(raised.value).isprintable() and len(str(raised.value)) < 400


def test_advice_is_safe_to_paste(tmp_path: Path) -> None:
    for reference in ("$(touch x).py:Net", "a;b.py:Net", "`x`.py:Net", "a\x1b[31m.py:Net"):
        with pytest.raises(ModelError, match=r"give --model FILE\.py:NAME if"):
            permitted(reference, "f")


def test_an_installed_package_imports_nothing_from_the_folder_it_is_called_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, here = tmp_path / "site", tmp_path / "here"
    for folder in (installed, here):
        folder.mkdir()
    code = NET.replace("from helpers.blocks import block", "import a_plugin_of_it\nblock = a_plugin_of_it.block")
    (installed / "an_installed_net.py").write_text(code)
    (here / "a_plugin_of_it.py").write_text("raise SystemExit('run')")
    (installed / "a_plugin_of_it.py").write_text(BLOCK.replace("from . import numbers", "class numbers: KERNEL = 3"))
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.chdir(here)
    assert build("an_installed_net:Net", classes=2)
    for name in ("an_installed_net", "a_plugin_of_it"):
        del sys.modules[name]


# what is said of makers and arguments


def test_makers() -> None:
    def plain(classes: int): ...  # type: ignore[no-untyped-def]
    def quoted(classes: int) -> "nn.Module": ...  # type: ignore[empty-body]

    assert makes_networks(quoted) and makes_networks(nn.Linear) and makes_networks(nn.Linear(1, 1))
    assert not makes_networks(plain) and not makes_networks(print) and not makes_networks(int)
    assert not makes_networks(os.path.join) and not makes_networks(Path)
    for reference in ("os:system", "subprocess:call", "pathlib:Path.touch", "builtins:eval", "builtins:exec"):
        with pytest.raises(ModelError, match=r"is not a torch\.nn\.Module"):
            check_maker(reference)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"widths": [1, 2]}, "takes 3 whole numbers from 1 to 8192"),
        ({"widths": [1, 2, -3]}, "takes 3 whole numbers"),
        ({"widths": [1, 2, 3.0]}, "takes 3 whole numbers"),
        ({"widths": [1, 2, True]}, "takes 3 whole numbers"),
        ({"widths": 4}, "takes 3 whole numbers"),
        ({"widths": {"a": 1}}, "takes 3 whole numbers"),
        ({"widths": "123"}, "takes 3 whole numbers"),
        ({"widths": [1, 2, 10**30]}, "takes 3 whole numbers"),
        ({"kernel": "5"}, "takes a whole number"),
        ({"kernel": [5]}, "takes a whole number"),
        ({"kernel": 0}, "takes a whole number"),
        ({"widths": [8192, 8192, 8192]}, "instead of"),
        ({"kernel": 8192}, "instead of"),
        ({"self": 1}, "takes no argument 'self'"),
        ({"__init__": 1}, "takes no argument"),
    ],
)
def test_arguments_in_a_file_are_checked_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], said: str
) -> None:
    about = asdict(Config("loupe", ("a", "b"), None, None, 32, arguments))
    save_tensors(tmp_path / "m.safetensors", build("loupe", classes=2).state_dict(), about)

    def taken(*_: object, **__: object) -> None:
        raise AssertionError("memory was taken")

    monkeypatch.setattr(nn.Module, "load_state_dict", taken)
    monkeypatch.setattr(torchloupe.checkpoints.file, "build_bare", taken)
    with pytest.raises(ModelError, match=said) as raised:
        load_model(tmp_path / "m.safetensors")
    assert len(str(raised.value)) < 400


def test_a_wide_network_in_a_small_file_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = asdict(Config("loupe", ("a", "b"), None, None, 32, {"widths": [2000, 2000, 2000]}))
    save_tensors(tmp_path / "m.safetensors", build("loupe", classes=2).state_dict(), about)

    def drawn(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        assert tensor.is_meta, "memory was taken"
        return tensor

    monkeypatch.setattr(nn.init, "kaiming_uniform_", drawn)
    with pytest.raises(ModelError, match=r"does not fit the network 'loupe'.*instead of"):
        load_model(tmp_path / "m.safetensors")


def test_a_network_too_wide_for_any_machine(run: Run) -> None:
    with pytest.raises(ModelError, match=r"would have 2,880,776,010 parameters .*more than 500,000,000"):
        build("loupe", widths=[8000, 8000, 8000])
    with pytest.raises(ModelError, match=r"more than 500,000,000"):
        build("study", classes=10**6 - 1)
    ended = run("train", "--data", "shapes", "--net-width", "4000", "--out", "x")
    assert ended.code == 4 and "takes 3 whole numbers from 1 to 8192" in ended.err
    ended = run("train", "--data", "shapes", "--net-width", "2000", "--out", "x")
    assert ended.code == 4 and "more than" in ended.err


def test_a_network_is_filled_as_it_was_built(tmp_path: Path) -> None:
    for name, arguments in (("loupe", {"widths": [4, 8, 12], "kernel": 3}), ("resnet20", {}), ("study", {})):
        real, blank = build(name, 7, **arguments), build_blank(name, 7, **arguments)
        assert repr(real) == repr(blank)
        told = [[(key, value.shape, value.dtype) for key, value in net.state_dict().items()] for net in (real, blank)]
        assert told[0] == told[1] and all(value.is_meta for value in blank.state_dict().values())
        about = Config(name, tuple("abcdefg"), None, None, 32, arguments)
        save_model(tmp_path / "m.safetensors", real, about)
        filled = load_model(tmp_path / "m.safetensors")[0].bare
        images = torch.rand(2, 3, 32, 32)
        assert torch.equal(real.eval()(images), filled.eval()(images))
        assert [p.requires_grad for p in real.parameters()] == [p.requires_grad for p in filled.parameters()]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classes", ["a", 3]),
        ("classes", []),
        ("mean", ["0.5"] * 3),
        ("mean", "0.5"),
        ("std", [[1]] * 3),
        ("size", "32"),
        ("size", 10**9),
        ("size", -1),
        ("size", True),
        ("data", []),
        ("training", "x" * 10000),
        ("model", 3),
        ("model", "x\x1b[31m" * 1000),
        ("arguments", None),
    ],
)
def test_a_description_of_wrong_types_is_told_in_one_sentence(
    run: Run, tmp_path: Path, field: str, value: object
) -> None:
    about = {**asdict(Config("resnet20", ("a", "b"), (0.5,) * 3, (0.5,) * 3, 32)), field: value}
    save_tensors(tmp_path / "m.safetensors", build("resnet20", classes=2).state_dict(), about)
    ended = run("layers", "m.safetensors", "--no-data")
    assert ended.code in (2, 4) and ended.err.startswith("Error: ") and "bug" not in ended.err
    assert ended.err.strip().isprintable() and len(ended.err) < 500


def test_too_many_classes(run: Run) -> None:
    ended = run("layers", "resnet20", "--classes", "99999999999", "--normalize", "none")
    assert ended.code == 4 and "from 1 to 1,000,000" in ended.err


# the folder that it is called in


def call(folder: Path, *words: str, **environment: str) -> str:
    """Run a command in a process of its own, in a stranger's folder."""
    known = {**os.environ, "TORCHLOUPE_CACHE": str(folder / ".cache"), "MPLCONFIGDIR": str(folder / ".mpl")}
    done = subprocess.run(
        [sys.executable, "-m", "torchloupe", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**known, **environment},
    )
    return done.stdout


def test_nothing_is_imported_from_the_folder_it_is_called_in(tmp_path: Path) -> None:
    for name in ("torch", "numpy", "click", "safetensors", "json", "PIL", "matplotlib", "torchloupe_user_net"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nraise SystemExit('run')\n")
    assert "conv1" in call(tmp_path, "layers", "cifar10", "--no-data")
    assert not (tmp_path / "canary").exists()


def test_drawing_follows_no_matplotlibrc_in_the_folder_it_is_called_in(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "mine").mkdir()
    lines = ["text.usetex: True", "text.latex.preamble: \\immediate\\write18{touch canary}", "backend: module://evil"]
    (tmp_path / "theirs" / "matplotlibrc").write_text("\n".join([*lines, "lines.linewidth: 9", "font.size: 30"]))
    (tmp_path / "theirs" / "evil.py").write_text("open('canary', 'w')\n")
    for folder in ("theirs", "mine"):
        call(tmp_path / folder, "show", "filters", "cifar10", "--out", "f.png")
    assert not (tmp_path / "theirs" / "canary").exists()
    assert (tmp_path / "theirs" / "f.png").read_bytes() == (tmp_path / "mine" / "f.png").read_bytes()


def test_a_repository_that_it_is_called_in_runs_none_of_its_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchloupe.runtime.environment import environment

    monkeypatch.chdir(tmp_path)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'canary'}\n")
    program.chmod(0o755)
    subprocess.run(["git", "init", "-q", "."], check=True)
    names = ["core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "pager.rev-parse", "alias.rev-parse"]
    for name in names:
        subprocess.run(["git", "config", name, str(program)], check=True)
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"):
        (tmp_path / ".git" / "hooks").mkdir(exist_ok=True)
        (tmp_path / ".git" / "hooks" / hook).symlink_to(program)
    environment("cpu")
    assert not (tmp_path / "canary").exists()


# what may be written in the source

DANGEROUS = {
    "load_module",
    "import_module",
    "spec_from_file_location",
    "exec_module",
    "extractall",
    "extract",
    "system",
}
DANGEROUS |= {"popen", "run_path", "run_module", "Popen", "check_output", "getoutput", "allow_pickle", "__import__"}
BUILTIN = {"eval", "exec", "compile", "__import__"}
WITH_OWNER = {"pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler", "torch.load", "torch.jit.load"}
WITH_OWNER |= {"yaml.load", "marshal.load", "marshal.loads", "subprocess.run", "torch.hub.load", "joblib.load"}
WITH_OWNER |= {"torch.package.PackageImporter", "shelve.open", "subprocess.call", "dill.load", "np.load", "numpy.load"}
ALLOWED = {
    "__init__.py:__getattr__ import_module": "the table of public names",
    "inspection/catalog.py:load_function import_module": "the catalog's own literal strings",
    "cli/__init__.py:LazyGroup.get_command import_module": "the table of commands",
    "models/__init__.py:_factory import_module": "the table of our networks",
    "models/reference.py:_import_file spec_from_file_location": "the user's own factory, after trust.permitted",
    "models/reference.py:_import_file exec_module": "the same",
    "models/reference.py:_import_module import_module": "the same",
    "data/formats/unpickle.py:_Unpickler pickle.Unpickler": "four names of the official batches, each a stand-in",
    "checkpoints/foreign/inert.py:InertUnpickler pickle._Unpickler": "imports nothing, in a process of its own",
    "checkpoints/convert.py:_unpickle subprocess.run": "that process: a fixed program, no shell",
    "runtime/environment.py:_git_commit subprocess.run": "git rev-parse HEAD, no shell",
}


def dangerous(tree: ast.AST) -> set[str]:
    """Every use of what can run what a file says, with the function or class around it."""
    found: set[str] = set()

    def look(node: ast.AST, around: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            around = f"{around}.{node.name}".lstrip(".")
        name = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        last = name.rpartition(".")[2]
        aliases = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        hits = [name] if name in WITH_OWNER or (name in BUILTIN) else []
        hits += [last] if last in DANGEROUS and name else []
        if isinstance(node, ast.ImportFrom):
            hits += [f"{node.module}.{each}" for each in aliases if f"{node.module}.{each}" in WITH_OWNER]
        if isinstance(node, ast.keyword) and node.arg in ("shell", "allow_pickle", "weights_only"):
            hits += [str(node.arg)]
        found.update(f"{around} {hit}" for hit in hits)
        for child in ast.iter_child_nodes(node):
            look(child, around)

    look(tree, "")
    return found


def test_nothing_else_in_the_source_could_run_what_a_file_says() -> None:
    root = Path(torchloupe.__file__).parent
    found = {
        f"{path.relative_to(root).as_posix()}:{use}"
        for path in root.rglob("*.py")
        for use in dangerous(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - ALLOWED.keys() == set()
    assert ALLOWED.keys() - found == set(), "is gone: take it off the list"


@pytest.mark.parametrize(
    "code",
    [
        "pickle.load(f)",
        "from pickle import loads",
        "torch.load(f)",
        "eval(x)",
        "f = exec",
        "importlib.import_module(x)",
        "import_module(x)",
        "importlib.util.spec_from_file_location(a, b)",
        "archive.extractall()",
        "run(x, shell=True)",
        "yaml.load(x)",
        "os.system(x)",
        "np.load(x, allow_pickle=True)",
        "subprocess.run(x)",
        "__import__(x)",
    ],
)
def test_the_search_would_find_it(code: str) -> None:
    assert dangerous(ast.parse(code))
    assert not dangerous(ast.parse("net.eval(); re.compile(x); safetensors.torch.load(b); module.compile()"))


def test_a_warning_from_python_names_the_file(tmp_path: Path) -> None:
    net = write_net(tmp_path)
    remember(f"{net}:Net")
    net.write_text(NET + "\n")
    with pytest.warns(ChangedCodeWarning, match=r"net\.py' changed since"):
        permitted(f"{net}:Net", "f")
    (tmp_path / "helpers" / "numbers.py").write_text("KERNEL = 5\n")
    with pytest.warns(ChangedCodeWarning, match=r"\.py' and 1 more changed"):
        permitted(f"{net}:Net", "f")
