"""`torchloupe run` and `torchloupe report` from the command line: stages, what is skipped, what is said beforehand."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from commands import Run, one_sentence
from reporting import SMALL, hostile_data, hostile_run
from torchloupe.cli.report import seconds, whole_number
from torchloupe.errors import UsageError
from torchloupe.inspection.subject import subject
from torchloupe.reports import plan
from torchloupe.runtime.files import read_json
from torchloupe.training.config import PRESETS

LITTLE = ("--budget", "20s")


@pytest.fixture(autouse=True)
def little_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well a network learns, and what its report shows, is not what is tested here."""
    for name, preset in PRESETS.items():
        few = replace(preset, net_width=4, epochs=1.0 if name == "quick" else 2.0, min_steps=0)
        monkeypatch.setitem(PRESETS, name, few)
    little = replace(SMALL, units=1, copies=1, steps=2, samples=1, inversion_steps=2, examples=2, traced=1, learned=1)
    monkeypatch.setattr(plan, "TIERS", (little,))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_data(tmp_path_factory.mktemp("run") / "pets", train=6, test=4)


def test_one_command_and_again_nothing_is_made_twice(run: Run, images: Path) -> None:
    words = ("run", "--data", images, *LITTLE, "--out", "r")
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


def test_a_run_that_was_stopped_goes_on(run: Run, images: Path) -> None:
    ended = run(
        "train", "--data", images, "--steps", "3", "--min-steps", "0", "--net-width", "4", "--out", "r", "--quiet"
    )
    assert ended.code == 0
    (Path("r") / "model.safetensors").unlink()
    ended = run("run", "--data", images, *LITTLE, "--out", "r")
    assert ended.code == 0 and Path("r/report.html").is_file() and Path("r/model.safetensors").is_file()


def test_the_same_options_mean_the_same_run(run: Run, images: Path) -> None:
    first = run("run", "--data", images, *LITTLE, "--quiet")
    assert first.code == 0 and first.err == ""
    assert first.out.splitlines()[-1] == "runs/loupe-pets/report.html"
    began = time.monotonic()
    assert run("run", "--data", images, *LITTLE, "--quiet").out.splitlines()[-1] == first.out.splitlines()[-1]
    assert time.monotonic() - began < 60


def test_a_run_is_not_taken_for_one_with_other_settings(run: Run, images: Path) -> None:
    words = ("run", "--data", images, *LITTLE, "--out", "r", "--quiet")
    assert run(*words, "--seed", "3").code == 0
    for other in (("--seed", "4"), ("--model", "resnet20"), ("--preset", "study")):
        ended = run(*words, *other)
        one_sentence(ended, 2, "was started with")
    assert run(*words, "--seed", "3").code == 0 and run(*words).code == 0


@pytest.mark.parametrize("name", ["cifar10", "loupe", "last"])
def test_a_run_of_any_name_is_that_run(run: Run, images: Path, name: str) -> None:
    ended = run("run", "--data", images, *LITTLE, "--out", name, "--quiet")
    assert ended.code == 0 and ended.out.splitlines()[-1] == f"{name}/report.html", ended
    assert read_json(Path(name) / "report.json")["of"]["weights"] == subject(Path(name).resolve()).weights


def test_a_test_on_other_pictures_is_not_taken_for_the_runs(run: Run, images: Path, tmp_path: Path) -> None:
    words = ("run", "--data", images, *LITTLE, "--out", "r", "--quiet")
    assert run(*words).code == 0
    own = read_json(Path("r/test.json"))
    other = hostile_data(tmp_path / "other", train=2, test=3)
    assert run("test", "r", "--data", other, "--out", "r").code == 0
    assert read_json(Path("r/test.json"))["n"] != own["n"]
    assert run(*words).code == 0 and read_json(Path("r/test.json"))["n"] == own["n"]


def test_a_length_of_time_that_is_none_is_refused_before_the_training(run: Run, images: Path) -> None:
    ended = run("run", "--data", images, "--budget", "soon", "--out", "r")
    one_sentence(ended, 2, "--budget")
    assert not Path("r").exists()


def test_a_report_that_lacked_time_is_tried_again(run: Run, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("run", "--data", images, *LITTLE, "--out", "r")
    with monkeypatch.context() as patch:
        patch.setattr("torchloupe.reports.report.SLACK", 0.0)
        ended = run(*words)
    assert ended.code == 0 and "was used up" in ended.err
    assert "report: done already" not in run(*words).err
    assert "report: done already" in run(*words).err


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
    monkeypatch.setattr("torchloupe.runs.folder.os.access", lambda *_: False)  # root may write anywhere
    ended = run("report", folder, *LITTLE, "--units", "2")
    assert ended.code == 0 and Path(ended.out.strip()).parent == Path()


def test_words_for_time_and_units() -> None:
    assert (seconds("2h"), seconds("15"), seconds("1.5m")) == (7200, 15, 90)
    with pytest.raises(UsageError, match="10m"):
        seconds("10 minutes")
    with pytest.raises(UsageError, match="units"):
        whole_number("-3")
