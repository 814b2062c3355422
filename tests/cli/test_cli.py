"""The command line end to end: what it says, what it writes, how it ends."""

import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image

from commands import Run, one_sentence
from torchloupe.cli import COMMANDS, main
from torchloupe.models import build

TINY = ["--device", "cpu", "--steps", "3", "--batch", "8", "--low-size", "0"]
MODES = ("RGB", "L", "P", "RGBA", "CMYK", "I;16")
NET = """
from torch import nn
def make(classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))
"""


def image(mode: str, size: tuple[int, int], value: int) -> bytes:
    stream, kind = io.BytesIO(), "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    image = Image.new("L", size, value)
    image = image.convert("I").point(lambda v: v * 257).convert("I;16") if mode == "I;16" else image.convert(mode)
    image.save(stream, kind)
    return stream.getvalue()


def make_images(folder: Path, classes: tuple[str, ...] = ("ant", "bee", "cat"), each: int = 10) -> Path:
    """Pictures of mixed sizes and modes; each class has its own grey."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            mode, size = MODES[i % len(MODES)], (12 + i, 20 - i)
            suffix = "tif" if mode in ("CMYK", "I;16") else "png"
            (folder / name / f"{i}.{suffix}").write_bytes(image(mode, size, 40 + 80 * label))
    return folder


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pets")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pictures with three classes; both lie in one folder."""
    home = tmp_path_factory.mktemp("trained")
    make_images(home / "pets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHLOUPE_CACHE", str(home / "cache"))
        with pytest.raises(SystemExit) as ended:
            main(["train", "--data", str(home / "pets"), "--size", "16", "--out", str(home / "run"), "--quiet", *TINY])
    assert ended.value.code == 0
    return home


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian"], ["'trian'", "did you mean 'train'"]),
        (["train", "--epoch", "3"], ["--epoch"]),
        (["train", "--epochs", "many"], ["'many'"]),
        (["train", "--epochs", "0"], ["--epochs", "0.0"]),
        (["train", "--epochs", "inf"], ["--epochs"]),
        (["train", "--lr-head", "-1"], ["--lr-head"]),
        (["train", "--weight-decay", "-1"], ["--weight-decay"]),
        (["train", "--seed", "9999999999999999999999"], ["--seed"]),
        (["train", "--preset", "quikc"], ["did you mean 'quick'"]),
        (["train", "--config", "none.toml"], ["'none.toml'"]),
        (["train", "--config", "folder"], ["'folder'"]),
        (["train", "--config", "wrong.toml"], ["epohcs", "did you mean 'epochs'"]),
        (["train", "--config", "broken.toml"], ["broken.toml", "TOML"]),
        (["train", "--config", "preset.toml"], ["preset"]),
        (["train", "--config", "type.toml"], ["epochs", "'three'"]),
        (["train", "--device", "cuda:77", "--data", "shapes", "--size", "8"], ["cuda:77"]),
        (["train", "--device", "gpu", "--data", "shapes", "--size", "8"], ["'gpu'"]),
        (["train", "--out", "full", "--data", "shapes"], ["'full'", "--out"]),
        (["train", "--out", "full", "--data", "missing"], ["'full'", "--out"]),
        (["train", "--mean", "a,b", "--data", "shapes"], ["--mean"]),
        (["train", "--resume"], ["no run", "torchloupe train"]),
        (["train", "--resume", "auto"], ["--out"]),
        (["train", "--resume", "--out", "nowhere"], ["no run in 'nowhere'", "--resume auto"]),
        (["test"], ["MODEL"]),
        (["test", "net.py:make", "--classes", "none.txt"], ["none.txt"]),
        (["test", "net.py:make", "--classes", "3", "--normalize", "none"], ["--data"]),
        (["test", "net.py:make", "--classes", "3"], ["--mean", "--normalize none"]),
        (["test", "resnet20", "--classes", "3", "--mean", "0.5,0.5,0.5"], ["--std"]),
        (["test", "net.py:make", "--classes", "3", "--normalize", "none", "--mean", "0.5"], ["--normalize"]),
        (["convert", "x.pth", "--model", "resnet20", "--out", "y.safetensors"], ["--classes"]),
        (["convert", "x.pth", "--model", "resnet20", "--classes", "3", "--out", "y.safetensors"], ["--normalize"]),
        (["data", "show", "shapes", "--per-class", "0"], ["--per-class"]),
        (["data", "show", "shapes", "--per-class", "700"], ["--per-class"]),
        (["data", "show", "shapes", "--size", "8", "--out", "sheet.doc"], ["sheet.doc"]),
        (["data", "get", "cifar11"], ["cifar11"]),
        (["data", "shwo"], ["shwo"]),
        (["models", "extra"], ["extra"]),
    ],
)
def test_wrong_usage(run: Run, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "wrong.toml").write_text("epohcs = 3")
    (tmp_path / "broken.toml").write_text("epochs = ")
    (tmp_path / "preset.toml").write_text("preset = 3")
    (tmp_path / "type.toml").write_text('epochs = "three"')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "net.py").write_text(NET)
    one_sentence(run(*words, *(["--quiet"] if words[0] in ("train", "test") and len(words) > 1 else [])), 2, *parts)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["train", "show"])
@pytest.mark.parametrize("kind", ["missing", "one class", "class in test only", "nothing", "no pictures", "all broken"])
def test_unfit_pictures(run: Run, tmp_path: Path, kind: str, command: str) -> None:
    folder = tmp_path / "d"
    if kind == "one class":
        make_images(folder, ("ant",))
    elif kind == "class in test only":
        make_images(folder / "train", ("ant", "bee"))
        make_images(folder / "test", ("ant", "wasp"))
    elif kind != "missing":
        (folder / "ant").mkdir(parents=True)
        if kind != "nothing":
            (folder / "ant" / "a.txt").write_text("no picture")
        if kind == "all broken":
            for name in ("ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(b"not a picture")
    part = {"one class": "'ant'", "class in test only": "'wasp'", "all broken": "ant/1.png"}.get(kind, "'")
    words = ["train", "--data", folder] if command == "train" else ["data", "show", folder]
    one_sentence(run(*words, "--quiet"), 3, str(folder), part)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train", "--data", "shapes", "--model", "resnet21"], ["no model 'resnet21'; did you mean 'resnet"]),
        (["train", "--data", "shapes", "--model", "nte.py:make"], ["did you mean 'net.py'"]),
        (["train", "--data", "shapes", "--model", "net.py:mkae"], ["did you mean 'make'"]),
        (["train", "--data", "shapes", "--weights", "none"], ["'none'"]),
        (["test", "last"], ["no run", "torchloupe train"]),
        (["test", "lst"], ["'lst'", "did you mean 'last'"]),
        (["test", "resnet20", "--data", "shapes"], ["--classes"]),
        (["test", "net.py:make", "--data", "shapes"], ["--classes"]),
        (["test", "cut.safetensors", "--data", "shapes"], ["cut.safetensors"]),
        (["test", "foreign.safetensors", "--data", "shapes"], ["torchloupe convert"]),
        (
            ["test", "net.py:make", "--weights", "foreign.safetensors", "--classes", "3", "--normalize", "none"],
            ["does not fit", "2.weight is [9, 9] instead of [3, 3]"],
        ),
        (["convert", "none.pth", "--model", "resnet20", "--classes", "3", "--normalize", "none"], ["none.pth"]),
        (["convert", "text.pth", "--model", "resnet20", "--classes", "3", "--normalize", "none"], ["text.pth"]),
    ],
)
def test_wrong_models(run: Run, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    (tmp_path / "net.py").write_text(NET)
    safetensors.torch.save_file(
        {"2.weight": torch.zeros(9, 9), "2.bias": torch.zeros(9)}, tmp_path / "foreign.safetensors"
    )
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "foreign.safetensors").read_bytes()[:50])
    (tmp_path / "text.pth").write_text("no checkpoint")
    more = ["--out", "new.safetensors"] if words[0] == "convert" else []
    one_sentence(run(*words, *more, "--quiet"), 4, *parts)
    assert not (tmp_path / "new.safetensors").exists()


def test_help_of_every_command(run: Run) -> None:
    for words in ([], *([row.name] for row in COMMANDS), ["data", "show"], ["data", "get"]):
        ended = run(*words, "--help")
        assert ended.code == 0 and "Usage:" in ended.out and ended.err == ""
    told = " ".join(run("--help").out.split())
    assert all(f"{row.name} {row.summary}" in told for row in COMMANDS)
    assert "0.1.0" in run("--version").out
    assert "Usage:" in run().out + run().err


def test_full_disk(run: Run, pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    one_sentence(run("train", "--data", "shapes", "--size", "8", "--out", "r", "--quiet", *TINY), 5, "disk is full")
    assert not list(Path("r").rglob("*.part"))
    one_sentence(run("data", "show", "shapes", "--size", "8", "--quiet"), 5, "sheet.png", "disk is full")


def test_a_full_disk_under_the_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(self: Path, mode: str = "r", **more: Any) -> Any:
        if self.name == "metrics.jsonl" and mode == "a":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return opened(self, mode, **more)

    monkeypatch.setattr(Path, "open", full)
    words = ["train", "--data", "shapes", "--size", "8", "--out", "r", "--quiet", *TINY]
    one_sentence(run(*words), 5, "metrics.jsonl", "disk is full")


def test_too_little_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("torchloupe.data.load", greedy)
    one_sentence(run("train", "--data", "shapes", "--quiet"), 5, "memory")


def test_divergence(run: Run, pets: Path) -> None:
    words = ["--optimizer", "sgd", "--lr", "1e12", "--warmup", "0", "--steps", "60", "--batch", "8", "--device", "cpu"]
    ended = run("train", "--data", pets, "--size", "16", "--low-size", "0", "--out", "r", "--quiet", *words)
    one_sentence(ended, 6, "diverged", "--lr", "'r'")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torchloupe", "--debug", "test", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0 and "Traceback" in done.stderr and "ModelError" in done.stderr


def test_an_unexpected_error_is_told_as_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("torchloupe.data.load", broken)
    ended = run("data", "show", "shapes")
    assert ended.code == 1 and "--debug" in ended.err and len(ended.err.splitlines()) == 1


def test_a_broken_picture_is_named_and_may_be_skipped(run: Run, pets: Path) -> None:
    (pets / "bee" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    words = ["train", "--data", pets, "--size", "16", "--out", "x/r", *TINY]
    one_sentence(run(*words, "--quiet"), 3, "bee/broken.png", "--skip-bad")
    assert not Path("x").exists()
    ended = run(*words, "--skip-bad")
    assert ended.code == 0 and "bee/broken.png" in ended.err and "Traceback" not in ended.err
    made = {path.name for path in Path("x/r").iterdir()}
    assert made >= {"model.safetensors", "config.json", "metrics.jsonl", "curves.png", "curves.svg", "README.md"}
    assert "torchloupe test x/r" in ended.err and "torchloupe test x/r" in Path("x/r/README.md").read_text()


def test_training_goes_on_where_it_was_asked_to(run: Run, pets: Path) -> None:
    words = ["train", "--data", pets, "--size", "16", "--out", "r", "--quiet", *TINY]
    assert run(*words).code == 0
    weights = Path("r/model.safetensors").read_bytes()
    one_sentence(run(*words), 2, "'r'", "--resume")
    assert run(*words, "--resume").code == 0  # the same command goes on; here there is nothing left to do
    assert Path("r/model.safetensors").read_bytes() == weights
    one_sentence(run(*words, "--seed", "9", "--resume"), 2, "seed", "9")
    ended = run("train", "--resume", "--out", "r", "--json")
    assert ended.code == 0 and json.loads(ended.out)["run"] == "r" and ended.err == ""


@pytest.mark.parametrize("more", [["--preset", "best"], ["--config", "best.toml"], ["--config", "moved.toml"]])
def test_a_preset_or_file_of_settings_that_a_run_was_not_begun_with_is_refused(
    run: Run, pets: Path, tmp_path: Path, more: list[str]
) -> None:
    (tmp_path / "best.toml").write_text('preset = "best"\n')
    (tmp_path / "moved.toml").write_text("translate = 3\n")
    words = ["train", "--data", pets, "--size", "16", "--out", "r", "--quiet", *TINY]
    assert run(*words).code == 0
    before = Path("r/config.json").read_bytes()
    one_sentence(run("train", "--resume", "--out", "r", "--quiet", *more), 2, "'r' was started with", "--out")
    assert Path("r/config.json").read_bytes() == before


def test_resuming_on_other_pictures_than_the_runs_is_refused(run: Run, pets: Path) -> None:
    assert run("train", "--data", pets, "--size", "16", "--out", "r", "--quiet", *TINY).code == 0
    words = ["train", "--resume", "--out", "r", "--quiet"]
    assert run(*words, "--data", pets).code == 0
    one_sentence(run(*words, "--data", "shapes"), 3, "other pictures")


@pytest.mark.parametrize(
    "more",
    [
        ["--optimizer", "auto"],
        ["--epochs", "2"],
        ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"],
        ["--config", "x.toml"],
        ["--out", "r", "--config", "out.toml", "--preset", "quick"],
    ],
    ids=lambda words: words[0],
)
def test_the_same_command_with_resume_goes_on(run: Run, pets: Path, tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "x.toml").write_text("std = [0.25, 0.25, 0.25]\nmean = [0.5, 0.5, 0.5]\nepochs = 2\nmin-steps = 3\n")
    (tmp_path / "out.toml").write_text('out = "elsewhere"\npreset = "study"\n')
    words = ["train", "--data", pets, "--size", "16", "--out", "r", "--quiet", *TINY, *more]
    first = run(*words)
    assert first.code == 0, first.err
    again = run(*words, "--resume")
    assert again.code == 0, again.err


def test_resume_of_nothing_is_refused_and_names_what_is_near(run: Run, pets: Path) -> None:
    words = ["train", "--data", pets, "--size", "16", "--quiet", *TINY]
    assert run(*words, "--out", "runs/pets-1").code == 0
    one_sentence(run(*words, "--out", "runs/pest-1", "--resume"), 2, "'runs/pest-1'", "did you mean 'runs/pets-1'?")
    one_sentence(run(*words, "--out", "pets-1", "--resume"), 2, "did you mean 'runs/pets-1'?")
    one_sentence(run(*words, "--out", "other", "--resume"), 2, "there is 'runs/pets-1'")
    assert not any(Path(name).exists() for name in ("runs/pest-1", "pets-1", "other"))


def test_resume_auto_begins_or_goes_on(run: Run, pets: Path) -> None:
    words = ["train", "--data", pets, "--size", "16", "--out", "r", "--quiet", "--resume", "auto", *TINY]
    assert run(*words).code == 0 and Path("r/model.safetensors").is_file()
    Path("r/model.safetensors").unlink()
    before = Path("r/config.json").stat().st_mtime_ns
    assert run(*words).code == 0 and Path("r/model.safetensors").is_file()
    assert Path("r/config.json").stat().st_mtime_ns == before, "it went on"


def test_config_file_and_flags(run: Run, pets: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        f'data = "{pets.as_posix()}"\nout = "r"\nmodel = "resnet20"\n'
        "size = 16\nsteps = 9\nbatch = 8\nema = 0.5\nlow-size = 0\n"
    )
    ended = run("train", "--config", "x.toml", "--steps", "2", "--device", "cpu", "--quiet")
    assert ended.code == 0, ended.err
    training = json.loads(Path("r/config.json").read_text())["training"]
    assert (training["model"], training["ema"], training["steps"]) == ("resnet20", 0.5, 2)  # a flag beats the file


def test_testing_says_how_good_it_is(run: Run, trained: Path) -> None:
    ended = run("test", trained / "run", "--json", "--tta", "--device", "cpu")
    figures = json.loads(ended.out)
    assert ended.code == 0 and ended.err == ""
    assert 0 <= figures["accuracy"] <= 1 and 0 <= figures["accuracy_flip_tta"] <= 1
    assert set(figures["per_class"]) == {"ant", "bee", "cat"}
    with (trained / "run" / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == figures["n"] == 6
    assert all((trained / "pets" / row["file"]).is_file() for row in rows)
    assert all(row["file"].startswith(f"{row['true']}/") for row in rows)
    assert figures["accuracy"] == pytest.approx(sum(row["true"] == row["predicted"] for row in rows) / 6)
    last = [json.loads(line) for line in (trained / "run" / "metrics.jsonl").read_text().splitlines()][-1]
    assert figures["accuracy"] == pytest.approx(last["test_accuracy"], abs=1e-5)
    assert figures["loss"] == pytest.approx(last["test_loss"], rel=1e-4)
    with (trained / "run" / "confusion.csv").open(encoding="utf-8", newline="") as stream:
        assert sum(int(cell) for row in list(csv.reader(stream))[1:] for cell in row[1:]) == 6


def test_testing_a_snapshot_or_train_keeps_the_runs_own_results(run: Run, trained: Path) -> None:
    run("test", trained / "run", "--quiet", "--device", "cpu")
    before = (trained / "run" / "test.json").read_bytes()
    for words in ([f"{trained / 'run'}@0"], [trained / "run", "--split", "train"]):
        assert run("test", *words, "--quiet", "--device", "cpu").code == 0
    assert (trained / "run" / "test.json").read_bytes() == before
    assert run("test", trained / "run", "--out", "own", "--device", "cpu").code == 0
    assert json.loads(Path("own/test.json").read_text())["n"] == 6


def test_classes_are_matched_by_name(run: Run, trained: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "fewer", ("bee", "cat"))
    ended = run("test", trained / "run", "--data", tmp_path / "fewer", "--json", "--out", "o", "--device", "cpu")
    assert json.loads(ended.out)["per_class"]["ant"] is None
    make_images(tmp_path / "others", ("ants", "bee", "cat"))
    ended = run("test", trained / "run", "--data", tmp_path / "others", "--quiet", "--out", "o", "--device", "cpu")
    one_sentence(ended, 3, "'ants'", "did you mean 'ant'")


def test_fine_tuning_on_other_classes(run: Run, trained: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "two", ("yes", "no"))
    words = ["--data", tmp_path / "two", "--size", "16", "--weights", trained / "run", *TINY]
    ended = run("train", *words, "--out", "tuned", "--json")
    assert ended.code == 0 and 0 <= json.loads(ended.out)["test_accuracy"] <= 1
    assert json.loads(run("test", "tuned", "--json", "--device", "cpu").out)["per_class"].keys() == {"yes", "no"}


def test_fine_tuning_from_last_can_be_resumed(run: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "old").symlink_to(trained / "run")
    words = [
        "train",
        "--data",
        trained / "pets",
        "--size",
        "16",
        "--weights",
        "last",
        "--out",
        "runs/new",
        "--quiet",
        *TINY,
    ]
    assert run(*words).code == 0
    Path("runs/new/model.safetensors").unlink()
    ended = run(*words, "--resume")  # now the last run is the new one
    assert ended.code == 0, ended.err


def test_a_network_that_guesses_is_told_so(run: Run, tmp_path: Path) -> None:
    for name in ("ant", "bee", "cat"):  # the same picture everywhere: whatever the network says, a third is right
        (tmp_path / "same" / name).mkdir(parents=True)
        for i in range(10):
            (tmp_path / "same" / name / f"{i}.png").write_bytes(image("RGB", (16, 16), 90))
    (tmp_path / "names.txt").write_text("cat\nant\nbee\n")
    words = [
        "--classes",
        "names.txt",
        "--mean",
        "0.5,0.5,0.5",
        "--std",
        "0.2,0.2,0.2",
        "--size",
        "16",
        "--device",
        "cpu",
    ]
    ended = run("test", "resnet20", "--data", tmp_path / "same", *words)
    assert ended.code == 0 and "no better than guessing" in ended.err and "accuracy" in ended.out


def test_data_show(run: Run, pets: Path) -> None:
    ended = run("data", "show", pets, "--out", "s.png", "--per-class", "2")
    assert ended.code == 0 and Path("s.png").read_bytes()[:4] == b"\x89PNG"
    told = {line.split()[0]: line.split()[1:] for line in ended.out.splitlines() if line}
    assert told["ant"] == ["8", "2"] and told["all"] == ["24", "6"]
    assert "s.png" in ended.err and run("data", "show", pets, "--quiet").err == ""


def test_models(run: Run) -> None:
    table = {row["name"]: row for row in json.loads(run("models", "--json").out)}
    assert table["study"]["parameters"] == 11_535_946
    assert set(table["loupe"]["minutes"]) == {"quick", "good", "best", "study"}
    assert all(minutes > 0 for row in table.values() for minutes in row["minutes"].values())


def test_convert_there_and_test_here(run: Run, pets: Path, tmp_path: Path) -> None:
    net = build("resnet20", classes=3)
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, tmp_path / "o.pth"
    )
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\n")
    words = ["--model", "resnet20", "--classes", "names.txt", "--normalize", "none", "--size", "16"]
    ended = run("convert", "o.pth", *words, "--out", "n.safetensors")
    assert ended.code == 0 and "0 missing" in ended.out and "may hold code" in ended.err
    figures = json.loads(run("test", "n.safetensors", "--data", pets, "--json", "--device", "cpu").out)
    assert figures["n"] == 6 and Path("n-test/predictions.csv").is_file()


def test_quiet_prints_results_only(run: Run, pets: Path) -> None:
    ended = run("train", "--data", pets, "--size", "16", "--out", "r", "--quiet", *TINY)
    assert (ended.code, ended.err, ended.out) == (0, "", "")
    ended = run("test", "r", "--quiet", "--device", "cpu")
    assert ended.err == "" and 0 <= float(ended.out) <= 1


def test_results_and_words_go_different_ways(run: Run, trained: Path) -> None:
    ended = run("test", trained / "run", "--device", "cpu")
    assert "accuracy" in ended.out and "Written to" in ended.err and "Written to" not in ended.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal_it_says_how_to_go_on(pets: Path, tmp_path: Path, number: int, code: int) -> None:
    words = ["--data", str(pets), "--size", "16", "--batch", "8", "--device", "cpu", "--threads", "1", "--out", "r"]
    command = [
        sys.executable,
        "-m",
        "torchloupe",
        "train",
        "--steps",
        "300",
        "--low-size",
        "0",
        "--model",
        "resnet20",
        *words,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        log = tmp_path / "r" / "metrics.jsonl"
        for _ in range(12_000):
            if process.poll() is not None or (log.exists() and log.read_bytes()):
                break
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=600)[1]
    assert process.returncode == code, said
    assert "torchloupe train --resume --out r" in said and "Traceback" not in said
    assert not (tmp_path / "r" / "model.safetensors").exists()
    command = [
        sys.executable,
        "-m",
        "torchloupe",
        "train",
        "--resume",
        "--out",
        "r",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--quiet",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line).get("step") for line in log.read_text().splitlines() if '"kind": "step"' in line]
    assert steps == list(range(1, 301))


def test_a_run_is_not_told_what_it_knows(run: Run, trained: Path) -> None:
    ended = run("test", trained / "run", "--data", trained / "pets", "--mean", "0.5,0.5,0.5", "--std", "1,1,1")
    one_sentence(ended, 2, "--mean, --std")


def test_what_is_told_to_be_written_is_there(run: Run, trained: Path) -> None:
    ended = run("test", trained / "run", "--device", "cpu", "--out", "results")
    told = re.search(r"Written to results/: (.*)", ended.err)
    assert told is not None and "Next: torchloupe " in ended.err
    assert sorted(told[1].split(", ")) == sorted(path.name for path in Path("results").iterdir())


def test_testing_on_other_data_keeps_the_runs_own_results(run: Run, trained: Path, pets: Path) -> None:
    (pets / "ant" / "0.png").write_bytes(image("RGB", (16, 16), 7))
    other = pets.rename(pets.with_name("other pets"))
    words = ["--quiet", "--device", "cpu"]
    run("test", trained / "run", *words)
    before = (trained / "run" / "test.json").read_bytes()
    ended = run("test", trained / "run", "--data", other, "--device", "cpu")
    assert ended.code == 0 and (trained / "run" / "test.json").read_bytes() == before
    folder = trained / "run" / "test-other-pets"
    assert json.loads((folder / "test.json").read_text())["data"] == "other pets" and str(folder) in ended.err
    assert run("test", f"{trained / 'run'}@0", "--data", other, *words).code == 0
    assert (trained / "run" / "snapshots" / "test-0-other-pets" / "test.json").is_file()
    same = shutil.copytree(trained / "pets", other.with_name("elsewhere"))
    (trained / "run" / "test.json").unlink()
    assert run("test", trained / "run", "--data", same, *words).code == 0
    assert (trained / "run" / "test.json").is_file(), "the same images in another place are the run's own"
    assert "other data" in " ".join(run("test", "--help").out.split())
