"""`torchloupe run` and `torchloupe report` from the command line: stages, what is skipped, what is said beforehand."""

import json
import time
from pathlib import Path

import pytest

from commands import Run
from reporting import hostile_data, hostile_run
from test_cli import one_sentence
from torchloupe.cli.report import seconds, whole_number
from torchloupe.errors import UsageError

LITTLE = ("--budget", "20s")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_data(tmp_path_factory.mktemp("run") / "pets", train=6, test=4)


def test_one_command_and_again_nothing_is_made_twice(run: Run, pictures: Path) -> None:
    words = ("run", "--data", pictures, *LITTLE, "--out", "r")
    ended = run(*words)
    assert ended.code == 0, ended
    page = Path(ended.out.splitlines()[-1])
    assert page == Path("r/report.html") and page.stat().st_size > 50_000
    assert [line.split()[1] for line in ended.err.splitlines() if line.startswith("──")] == ["train", "test", "report"]
    assert "about" in ended.err and "estimated" in ended.err
    for name in ("model.safetensors", "test.json", "report.json", "curves.png"):
        assert (Path("r") / name).is_file()
    before = {path: path.stat().st_mtime_ns for path in Path("r").rglob("*") if path.is_file()}
    again = run(*words)
    assert again.code == 0 and again.out.splitlines()[-1] == str(page)
    assert again.err.count("already") == 3
    assert {path: path.stat().st_mtime_ns for path in Path("r").rglob("*") if path.is_file()} == before
    (Path("r") / "report.html").unlink()
    (Path("r") / "test.json").unlink()
    third = run(*words)
    assert third.err.count("already") == 1 and page.is_file(), "what is missing is made again, training is not"


def test_a_run_that_was_stopped_goes_on(run: Run, pictures: Path) -> None:
    ended = run(
        "train", "--data", pictures, "--steps", "3", "--min-steps", "0", "--net-width", "4", "--out", "r", "--quiet"
    )
    assert ended.code == 0
    (Path("r") / "model.safetensors").unlink()
    ended = run("run", "--data", pictures, *LITTLE, "--out", "r")
    assert ended.code == 0 and Path("r/report.html").is_file() and Path("r/model.safetensors").is_file()


def test_the_same_options_mean_the_same_run(run: Run, pictures: Path) -> None:
    first = run("run", "--data", pictures, *LITTLE, "--quiet")
    assert first.code == 0 and first.err == ""
    assert first.out.splitlines()[-1] == "runs/loupe-pets/report.html"
    began = time.monotonic()
    assert run("run", "--data", pictures, *LITTLE, "--quiet").out.splitlines()[-1] == first.out.splitlines()[-1]
    assert time.monotonic() - began < 60


def test_report_says_beforehand_what_it_costs_and_where_it_is(run: Run, tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / "made")
    ended = run("report", folder, *LITTLE, "--layers", "conv1,last", "--units", "2", "--json")
    assert ended.code == 0, ended
    told = json.loads(ended.out)
    assert told["report"] == str(folder / "report.html") and told["bytes"] > 50_000 and told["refused"] == []
    ended = run("report", folder, *LITTLE, "--units", "2", "--out", "elsewhere.html", "--pictures", "samples")
    lines = ended.err.splitlines()
    assert lines[0].startswith("Report 7 layers, at most 2 units each") and lines[1].startswith("Time   about")
    assert ended.out == "elsewhere.html\n" and Path("elsewhere.html").is_file()
    assert run("report", folder, "--layers", "conv9").code == 4
    for words in (["--units", "0"], ["--units", "x"], ["--budget", "soon"], ["--budget", "0s"]):
        ended = run("report", folder, *words)
        one_sentence(ended, 2)


def test_the_report_of_a_run_that_cannot_be_written_to_goes_beside(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hostile_run(tmp_path / "made")
    monkeypatch.setattr("torchloupe.runs.os.access", lambda *_: False)  # root may write anywhere
    ended = run("report", folder, *LITTLE, "--units", "2")
    assert ended.code == 0 and Path(ended.out.strip()).parent == Path()


def test_words_for_time_and_units() -> None:
    assert (seconds("2h"), seconds("15"), seconds("1.5m")) == (7200, 15, 90)
    with pytest.raises(UsageError, match="10m"):
        seconds("10 minutes")
    with pytest.raises(UsageError, match="units"):
        whole_number("-3")
