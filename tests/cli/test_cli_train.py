"""`torchloupe train` beside others and interrupted: one writer a run, nothing forgotten."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands import Run, one_sentence
from torchloupe.checkpoints.file import read_tensors, save_tensors
from torchloupe.checkpoints.open import load
from torchloupe.errors import BrokenWeightsWarning
from torchloupe.runs.writing import writing
from torchloupe.runtime.locks import locked

TINY = ("--data", "shapes", "--size", "8", "--device", "cpu", "--steps", "3", "--batch", "8", "--low-size", "0")


@contextmanager
def elsewhere(held: Path, *, report: bool = False) -> Iterator[None]:
    """Let another thread hold a run, or a report, as another process would."""
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(held.with_name(f".{held.name}.lock"), "x", "y") if report else writing(held):
            begun.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_who_trains_in_a_run_is_alone_and_others_may_read(run: Run) -> None:
    assert run("train", *TINY, "--out", "r", "--quiet").code == 0
    before = {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()}
    for words in (
        ("train", *TINY, "--out", "r"),
        ("train", "--resume", "--out", "r"),
        ("train", *TINY, "--resume", "auto", "--out", "r"),
        ("run", "--data", "shapes", "--out", "r"),
    ):
        with elsewhere(Path("r")):
            one_sentence(run(*words, "--quiet"), 2, "'r' is being trained by process", "since", "--out")
    with elsewhere(Path("new")):
        one_sentence(run("train", *TINY, "--out", "new", "--quiet"), 2, "'new' is being trained by process")
    assert {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()} == before
    assert not Path("new").exists()
    with elsewhere(Path("r")):
        assert run("test", "r", "--device", "cpu", "--quiet").code == 0
        assert run("show", "filters", "r", "--device", "cpu").code == 0
        assert run("report", "r", "--budget", "5s", "--layers", "conv1", "--units", "1", "--quiet").code == 0


def test_two_reports_of_one_name_are_not_written_at_once(run: Run) -> None:
    words = ("report", "cifar10", "--budget", "5s", "--layers", "conv1", "--units", "1", "--quiet")
    with elsewhere(Path("a.html"), report=True):
        one_sentence(run(*words, "--out", "a.html"), 2, "report 'a.html' is being written by process", "--out")
        Path(".b.html.0a1b.part").write_bytes(b"left by one that was killed")
        assert run(*words, "--out", "b.html").code == 0
    assert not list(Path().glob(".*html*"))


def test_of_two_trainings_at_once_one_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torchloupe", "train", *TINY, "--threads", "1", "--out", "r", "--quiet"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=600)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], said
    rows = (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == len(set(rows)) and [json.loads(row)["step"] for row in rows if '"step",' in row] == [1, 2, 3]


class Interrupted:
    """Reading the pictures is where Ctrl-C comes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.monkeypatch, self.error = monkeypatch, error

    def __call__(self, run: Run, *words: str) -> int:
        def strike(*_: object, **__: object) -> None:
            raise self.error("no")

        with self.monkeypatch.context() as patch:
            patch.setattr("torchloupe.data.load", strike)
            return run(*words).code


@pytest.mark.parametrize("out", ["r", None])
def test_a_run_that_was_stopped_before_its_data_were_read_goes_on_as_it_was_meant(
    run: Run, monkeypatch: pytest.MonkeyPatch, out: str | None
) -> None:
    assert run("train", *TINY, "--out", "runs/older", "--quiet").code == 0
    words = ("train", *TINY, "--seed", "7", "--weights", "last", *(["--out", out] if out else []))
    assert Interrupted(monkeypatch)(run, *words) == 130
    folder = Path(out or "runs/loupe-shapes-1")
    assert [path.name for path in folder.iterdir()] == ["request.json"]
    one_sentence(run("train", "--resume", "--out", folder, "--seed", "8", "--quiet"), 2, "started with seed = 7")
    assert run("train", "--resume", "--device", "cpu", "--quiet", *(["--out", out] if out else [])).code == 0
    about = json.loads((folder / "config.json").read_text())
    assert about["training"]["seed"] == 7 and about["training"]["steps"] == 3 and about["data"]["name"] == "shapes"
    assert about["training"]["weights"].endswith("runs/older/model.safetensors")
    assert not (folder / "request.json").exists()


def test_what_never_learned_may_be_begun_anew(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", *TINY, "--out", "r", "--quiet")
    assert Interrupted(monkeypatch)(run, *words, "--seed", "7") == 130
    assert run(*words).code == 0
    assert json.loads(Path("r/config.json").read_text())["training"]["seed"] == 0


def test_an_error_at_the_beginning_leaves_what_was_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("train", *TINY, "--out", "a/r", "--quiet")
    assert Interrupted(monkeypatch, OSError)(run, *words) == 1 and not Path("a").exists()
    assert Interrupted(monkeypatch)(run, *words) == 130
    before = Path("a/r/request.json").read_bytes()
    assert Interrupted(monkeypatch, OSError)(run, *words, "--seed", "7") == 1
    assert Path("a/r/request.json").read_bytes() == before


def test_run_is_on_the_disk_before_its_data_are_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Interrupted(monkeypatch)(run, "run", "--data", "shapes", "--seed", "7", "--out", "r") == 130
    assert json.loads(Path("r/request.json").read_text())["training"]["seed"] == 7


@pytest.mark.parametrize("rate", ["100", "1e6"])
def test_a_training_that_learned_nothing_says_so_and_why(run: Run, rate: str) -> None:
    words = ("train", "--data", "shapes", "--size", "8", "--device", "cpu", "--steps", "30", "--batch", "50")
    ended = run(*words, "--low-size", "0", "--lr", rate, "--out", "r")
    if ended.code == 6:
        assert "Try a lower rate, with another --out: --lr 0.1." in ended.err
        return
    assert ended.code == 0, ended.err
    assert f"no better than guessing: --lr {float(rate):.4g} is far above what works. Try --lr 0.1." in ended.err


def test_weights_that_are_no_numbers_are_told_wherever_they_are_opened(run: Run) -> None:
    assert run("train", *TINY, "--out", "r", "--quiet").code == 0
    tensors, about = read_tensors(Path("r/model.safetensors"))
    tensors["fc.weight"][0, 0] = float("nan")
    save_tensors(Path("r/model.safetensors"), tensors, about)
    for words in (("test", "r"), ("show", "filters", "r", "--layer", "conv1"), ("layers", "r")):
        ended = run(*words, "--device", "cpu")
        assert ended.code == 0, ended.err
        assert ended.err.count("Note: the weights in 'r/model.safetensors' hold NaN or infinity (fc.weight)") == 1
    with pytest.warns(BrokenWeightsWarning, match="NaN"):
        load("r")
