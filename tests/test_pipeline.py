"""The stages of a run from Python: train, test, report, and what is not made again."""

from pathlib import Path

import pytest

from torchloupe import pipeline
from torchloupe.data.dataset import Dataset
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import UsageError
from torchloupe.inspection.subject import Subject, subject
from torchloupe.reports.report import ReportFile, report
from torchloupe.runs.metrics import read_metrics
from torchloupe.runtime.files import read_json
from torchloupe.training.config import TrainConfig
from torchloupe.training.journal import Listener
from torchloupe.training.loop import Stopped

CONFIG = TrainConfig(net_width=4, epochs=2, batch=20, seed=4)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes(train=60, test=30, size=16)


def test_python_trains_as_the_command_does(data: Dataset, tmp_path: Path) -> None:
    done = pipeline.train(data, CONFIG, tmp_path / "r", device="cpu")
    made = {path.name for path in done.run.iterdir()}
    assert made >= {"model.safetensors", "curves.svg", "curves.png", "README.md", "statistics.safetensors"}
    assert done.figures["test_accuracy"] == read_metrics(done.run, "epoch")[-1]["test_accuracy"]
    assert subject(done.run).statistics()[1] == data.name and not done.network.training
    with pytest.raises(UsageError, match="already holds a run"):
        pipeline.train(data, CONFIG, tmp_path / "r", device="cpu")


def test_a_stopped_training_goes_on_from_python(data: Dataset, tmp_path: Path) -> None:
    whole = pipeline.train(data, CONFIG, tmp_path / "whole", device="cpu")
    seen: list[int] = []
    stops = Listener(step=lambda step, *_: seen.append(step), wants_stop=lambda: len(seen) == 2)
    with pytest.raises(Stopped):
        pipeline.train(data, CONFIG, tmp_path / "cut", device="cpu", listener=stops)
    assert not pipeline.is_trained(tmp_path / "cut")
    done = pipeline.train(data, CONFIG, tmp_path / "cut", device="cpu", resume=True)
    assert pipeline.is_trained(done.run) and subject(done.run).weights == subject(whole.run).weights
    assert {**done.figures, "run": ""} == {**whole.figures, "run": ""}


def test_a_test_is_of_these_weights_and_data(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("last", 4), ("b", 5)):  # a run that is called as another word is
        pipeline.train(data, TrainConfig(net_width=4, epochs=2, batch=20, seed=seed), name, device="cpu")
        assert not pipeline.is_tested(name)
    done = pipeline.test("last", data, device="cpu")
    assert pipeline.is_tested("last") and not pipeline.is_tested("b")
    assert done.figures.to_json() == read_json(Path("last/test.json"))
    assert (
        done.figures.accuracy
        == done.evaluation.accuracy
        == pytest.approx(read_metrics(Path("last"), "epoch")[-1]["test_accuracy"], abs=1e-5)
    )
    Path("b/test.json").write_bytes(Path("last/test.json").read_bytes())
    assert not pipeline.is_tested("b"), "that is of other weights"
    with pytest.raises(UsageError, match="other pictures"):
        pipeline.test("b", shapes(train=60, test=30, size=16, seed=1), device="cpu")


def test_a_report_is_made_once_and_again_where_something_changed(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pipeline.train(data, CONFIG, tmp_path / "r", device="cpu").run
    assert pipeline.report_path(run) is None
    made: list[Path] = []

    def little(studied: Subject, out: Path, *, budget: float | None, seed: int, quiet: bool) -> ReportFile:
        made.append(out)
        return report(studied, out, layers=["conv1"], units=1, budget=None, seed=seed, quiet=quiet)

    monkeypatch.setattr(pipeline, "write_report", little)
    first = pipeline.report(run, device="cpu")
    assert first is not None and pipeline.report_path(run) == first.path == run / "report.html"
    assert pipeline.report(run, device="cpu") is None and len(made) == 1
    assert pipeline.report(run, device="cpu", seed=1) is not None and len(made) == 2
    first.path.write_text("changed by hand")
    assert pipeline.report(run, device="cpu", seed=1) is not None and len(made) == 3
