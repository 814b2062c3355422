"""A run's files as a stranger may send them: checked before they are used, and told in one sentence."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from torchloupe import pipeline
from torchloupe.errors import ModelError
from torchloupe.runs.folder import read_environment
from torchloupe.runs.metrics import check, read_metrics, training_seconds
from torchloupe.runs.results import interval_of, read_figures, said_of_calibration
from torchloupe.runtime.files import parse_json, read_json

STEP = {"kind": "step", "step": 1, "epoch": 0.5, "lr": 0.1, "loss": 2.0, "accuracy": 0.25}
GOOD = json.dumps(STEP)
ROWS: dict[str, str | bytes] = {
    "no JSON": "{",
    "a list": "[1]",
    "no kind": json.dumps({"step": 1}),
    "a kind of another type": GOOD.replace('"step"', "3", 1),
    "a row that lacks its loss": json.dumps({name: value for name, value in STEP.items() if name != "loss"}),
    "a loss in words": json.dumps({**STEP, "loss": "\x1b[2J"}),
    "a step of NaN": json.dumps({**STEP, "step": float("nan")}),
    "a number of 5,000 digits": GOOD.replace("0.25", "1" * 5000),
    "nested too deep": GOOD.replace("0.25", "[" * 100_000),
    "half a character": GOOD.replace('"step"', '"\\ud800"', 1),
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_damaged_row_is_named_by_its_line(tmp_path: Path, kind: str) -> None:
    row = ROWS[kind]
    data = f"{GOOD}\n".encode() + (row if isinstance(row, bytes) else row.encode()) + b"\n"
    (tmp_path / "metrics.jsonl").write_bytes(data)
    for read in (lambda: read_metrics(tmp_path), lambda: check(tmp_path, len(data))):
        with pytest.raises(ModelError, match=r"metrics\.jsonl' is damaged in line 2: ") as raised:
            read()
        assert str(raised.value).isprintable()
    check(tmp_path, len(GOOD) + 1)  # what lies behind the state is forgotten


def test_a_diverged_loss_and_rows_of_later_versions_are_read(tmp_path: Path) -> None:
    rows = [{**STEP, "loss": float("nan")}, {"kind": "mood", "good": True}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind"')
    assert [row["kind"] for row in read_metrics(tmp_path)] == ["step", "mood"]


@pytest.mark.parametrize("threads", [0, -1, 10**6, "4", True, 1.5])
def test_threads_of_an_environment_are_a_number_of_threads(tmp_path: Path, threads: object) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({"threads": threads}))
    with pytest.raises(ModelError, match="'threads'"):
        read_environment(tmp_path)


FIGURES: dict[str, Any] = {
    "model": "m",
    "data": "d",
    "split": "test",
    "n": 3,
    "accuracy": 0.5,
    "standard_error": 0.1,
    "loss": 1.0,
    "calibration_error": 0.1,
    "per_class": {"cat": 0.5, "dog": None},
    "reliability": [{"n": 3, "confidence": 0.5, "accuracy": 0.5}],
    "weights": "0",
    "crc32": "0",
}


CALIBRATION: dict[str, Any] = {
    "by_chance": 0.01,
    "gap": -0.1,
    "gap_interval": [-0.2, -0.05],
    "verdict": "underconfident",
    "temperature": 0.6,
    "temperatures": [0.5, 0.7],
    "error_after": 0.02,
    "reliability_after": [],
}


def test_the_newer_figures_of_a_test_are_read(tmp_path: Path) -> None:
    newer = {"interval": [0.4, 0.6], "per_class_interval": {"cat": [0, 1], "dog": None}, "calibration": CALIBRATION}
    (tmp_path / "test.json").write_text(json.dumps({**FIGURES, **newer}))
    assert read_figures(tmp_path) == {**FIGURES, **newer}
    said = said_of_calibration(read_figures(tmp_path))
    assert said[1].startswith("Underconfident: confidence is on average 10.0 points below accuracy (95 %: 5.0 to 20.0)")
    assert "T = 0.60 (0.50 and 0.70" in said[2] and said[2].endswith("2.0 points.")
    (tmp_path / "test.json").write_text(json.dumps({**FIGURES, "accuracy": 1.5}))
    assert all(map(math.isnan, interval_of(read_figures(tmp_path))))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", -1),
        ("n", "3"),
        ("accuracy", None),
        ("per_class", []),
        ("per_class", {"cat": "x"}),
        ("reliability", [3]),
        ("reliability", [{"n": 3, "confidence": 0.5, "accuracy": 2}]),
        ("interval", [0.5]),
        ("per_class_interval", {"cat": 3}),
        ("calibration", {}),
        ("calibration", {**CALIBRATION, "gap": "x"}),
        ("calibration", {**CALIBRATION, "temperatures": None}),
    ],
)
def test_a_damaged_test_is_made_anew(tmp_path: Path, name: str, value: object) -> None:
    (tmp_path / "test.json").write_text(json.dumps(FIGURES))
    assert read_figures(tmp_path) == FIGURES
    (tmp_path / "test.json").write_text(json.dumps({**FIGURES, name: value}))
    with pytest.raises(ModelError, match="damaged"):
        read_figures(tmp_path)
    assert not pipeline.is_tested(tmp_path)


@pytest.mark.parametrize(
    "path", ["../evil.html", "/evil.html", "a/../../evil.html", "C:\\evil.html", "evil.exe", 3, None]
)
def test_a_report_lies_in_the_run_s_own_folder(tmp_path: Path, path: object) -> None:
    """It is opened in a browser: what report.json names outside of the run is not."""
    for known, found in ((path, None), ("report/index.html", tmp_path / "report" / "index.html")):
        (tmp_path / "report.json").write_text(json.dumps({"of": None, "path": known, "crc32": "0"}))
        assert pipeline.report_path(tmp_path) == found


@pytest.mark.parametrize(
    "last", ["", "{", "[]", '{"train_seconds": "x"}', '{"train_seconds": NaN}', '{"train_seconds": -1}']
)
def test_a_damaged_time_is_not_known(tmp_path: Path, last: str) -> None:
    (tmp_path / "timing.jsonl").write_text(f"{last}\n")
    assert training_seconds(tmp_path) is None


def test_what_comes_through_can_be_walked_and_written_again() -> None:
    deep = "[" * 63 + "1" + "]" * 63
    assert json.dumps(parse_json(deep)) == deep
    with pytest.raises(ValueError, match="deep"):
        parse_json(f"[{deep}]")
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"


def test_a_missing_file_is_told_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*config\.json': No such file"):
        read_json(tmp_path / "config.json")
