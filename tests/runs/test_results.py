"""The files of a test, read back."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from torchloupe.data.dataset import Split
from torchloupe.evaluation.accuracy import Evaluation, judge
from torchloupe.runs.cells import cell
from torchloupe.runs.results import (
    FILES,
    at_chance,
    figures_of,
    write_confusion,
    write_predictions,
    write_results,
)

CLASSES = ("cat", 'a "dog", or\n two', "ünï <b>")
N = 40
NAMES = ("train/cat/1,2.png", 'say "a".png', "line\nbreak.png", "\u202e.png", *(f"cat/{i}.png" for i in range(N - 4)))


@pytest.fixture
def evaluation() -> Evaluation:
    chance = torch.Generator().manual_seed(0)
    said = (3 * torch.randn(N, 3, generator=chance)).log_softmax(1)
    return judge(said, torch.randint(0, 2, (N,), generator=chance), CLASSES)


@pytest.fixture
def split(evaluation: Evaluation) -> Split:
    images = torch.randint(0, 256, (N, 3, 8, 8), dtype=torch.uint8)
    return Split(images, evaluation.labels, NAMES)


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_predictions_say_what_was_evaluated(tmp_path: Path, evaluation: Evaluation) -> None:
    write_predictions(tmp_path / "p.csv", evaluation, NAMES)
    head, *body = rows(tmp_path / "p.csv")
    assert head == ["file", "true", "predicted", "p_true", "p_predicted", "loss"]
    assert [row[0] for row in body] == list(map(cell, NAMES))
    for i, (_, true, predicted, p_true, p_predicted, loss) in enumerate(body):
        said, label = evaluation.probabilities[i].tolist(), int(evaluation.labels[i])
        assert true == cell(CLASSES[label]) and predicted == cell(CLASSES[said.index(max(said))])
        assert float(p_true) == pytest.approx(said[label], rel=1e-5)
        assert float(p_predicted) == pytest.approx(max(said), rel=1e-5)
        assert float(loss) == pytest.approx(-math.log(said[label]), rel=1e-4, abs=1e-6)
    assert sum(row[1] == row[2] for row in body) / N == pytest.approx(evaluation.accuracy)


def test_a_name_for_each_picture_is_demanded(tmp_path: Path, evaluation: Evaluation) -> None:
    with pytest.raises(ValueError, match=r"longer|shorter"):
        write_predictions(tmp_path / "p.csv", evaluation, NAMES[:-1])
    assert not (tmp_path / "p.csv").exists()


def test_confusion_counts_true_against_predicted(tmp_path: Path, evaluation: Evaluation) -> None:
    write_predictions(tmp_path / "p.csv", evaluation, NAMES)
    write_confusion(tmp_path / "c.csv", evaluation)
    head, *body = rows(tmp_path / "c.csv")
    assert head[1:] == list(map(cell, CLASSES)) == [row[0] for row in body]
    told = [(row[1], row[2]) for row in rows(tmp_path / "p.csv")[1:]]
    for name, *counts in body:
        assert [int(count) for count in counts] == [told.count((name, other)) for other in head[1:]]


def test_a_cell_neither_steers_a_terminal_nor_runs_in_a_spreadsheet() -> None:
    for text in ("=1+1", "+1+1", "-2+3", "@SUM(1)", " =1+1", "\uff1d1+1", "=cmd|' /C calc'!A0", "\t=1", "\r=1", "--1"):
        assert cell(text)[0] in "'·", text
    for text in ("cat", "-1", "+1.5", "a=b", "", "'=", "train/cat/1,2.png"):
        assert cell(text) == text
    assert cell("a\x1b[2Jb\r\n\u202e") == "a·[2Jb···"


def test_all_files_are_written_and_stay_the_same(tmp_path: Path, evaluation: Evaluation, split: Split) -> None:
    for name in ("a", "b"):
        write_results(tmp_path / name, evaluation, split, "$t$ on <x>", figures_of(evaluation).to_json())
    made = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert set(made) == set(FILES)
    head, *body = rows(tmp_path / "a" / "label-errors.csv")
    assert head == ["file", "label", "likely", "p_label", "p_likely"] and all(row[1] != row[2] for row in body)
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert json.loads(made["test.json"])["accuracy"] == evaluation.accuracy


def test_an_old_sheet_of_mistakes_does_not_outlive_them(tmp_path: Path, evaluation: Evaluation, split: Split) -> None:
    write_results(tmp_path, evaluation, split, "t", {})
    assert (tmp_path / "mistakes.png").exists()
    perfect = judge(torch.eye(3)[evaluation.labels].clamp_min(1e-6).log(), evaluation.labels, CLASSES)
    write_results(tmp_path, perfect, split, "t", {})
    assert not (tmp_path / "mistakes.png").exists()


def test_the_figures_come_last_so_that_where_they_are_the_rest_is(
    tmp_path: Path, evaluation: Evaluation, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torchloupe.runs.results.save_figure", died)
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path, evaluation, split, "t", {})
    assert (tmp_path / "predictions.csv").exists() and not (tmp_path / "test.json").exists()


@pytest.mark.parametrize("accuracy", [1e308, -1.0, 87.0, float("nan"), float("inf")])
def test_an_accuracy_in_a_log_that_is_no_share_is_not_taken_for_guessing(accuracy: float) -> None:
    assert not at_chance(accuracy, [50, 50])
