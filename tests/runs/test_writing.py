"""Who writes a run: one at a time, and what a killed one left half written is swept up."""

import fcntl
import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from torchloupe.errors import UsageError
from torchloupe.runs import metrics
from torchloupe.runs.folder import check_free, new_run
from torchloupe.runs.writing import sweep, writing, writing_new

LEFT = (
    ".config.json.0a.part",
    ".model.safetensors.1b.part",
    ".curves.svg.2c.part",
    "state/.step-00000020.safetensors.3d.part",
    "state/.step-00000040.safetensors.4e.part",
    "snapshots/.epoch-0.25.safetensors.5f.part",
    ".request.json.6a.part",
)
FRESH = (".report.html.7b.part", "pictures/filters/.conv1.png.8c.part", "snapshots/.report-epoch-1.html.9d.part")
"""Of a report and of images, which another process may be writing."""
WHOLE = ("config.json", "state/step-00000020.safetensors", "pictures/.hidden", "notes.part")


def fill(run: Path) -> None:
    for name in (*LEFT, *FRESH, *WHOLE):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"x")


@pytest.mark.skipif(os.name != "posix", reason="there an open file cannot be removed")
def test_the_next_who_writes_sweeps_up_but_what_is_being_written(tmp_path: Path) -> None:
    fill(tmp_path / "r")
    with ExitStack() as stack:
        for name in FRESH:
            fcntl.flock(stack.enter_context((tmp_path / "r" / name).open("rb")), fcntl.LOCK_EX)
        stack.enter_context(writing(tmp_path / "r"))
        here = {path.relative_to(tmp_path / "r").as_posix() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert here - {".lock", ".lock.json"} == {*FRESH, *WHOLE}


def test_what_nobody_writes_any_more_is_swept(tmp_path: Path) -> None:
    fill(tmp_path)
    sweep(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {*WHOLE}


def test_of_several_ranks_the_first_holds_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with writing(tmp_path / "r"):
        assert not (tmp_path / "r").exists()


def test_two_new_runs_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writing_new("loupe", "shapes", tmp_path) as first:
        names = iter([first, *[tmp_path / "other"] * 2])  # as if both had looked before either was made
        monkeypatch.setattr("torchloupe.runs.writing.new_run", lambda *_: next(names))
        monkeypatch.setattr("torchloupe.runtime.locks._held.files", set())  # as another thread
        with writing_new("loupe", "shapes", tmp_path) as second:
            assert (first.name, second.name) == ("loupe-shapes-1", "other")
    assert not list(tmp_path.iterdir())
    assert new_run("loupe", "shapes", tmp_path) == tmp_path / "loupe-shapes-1"


def test_the_run_that_is_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writing(tmp_path / "r"):
        monkeypatch.setattr("torchloupe.runtime.locks._held.files", set())
        with pytest.raises(UsageError, match=rf"'.*r' is being trained by process {os.getpid()} on .*, since .*--out"):
            writing(tmp_path / "r").__enter__()


def test_half_a_line_of_timing_is_dropped_by_the_next(tmp_path: Path) -> None:
    metrics.append_timing(tmp_path, {"step": 1})
    with (tmp_path / metrics.TIMING).open("a") as stream:
        stream.write('{"step": 2, "tra')  # died here
    metrics.append_timing(tmp_path, {"step": 3})
    rows = [json.loads(line) for line in (tmp_path / metrics.TIMING).read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 3]


def test_what_is_written_before_the_configuration_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text("{}")
    check_free(tmp_path)
