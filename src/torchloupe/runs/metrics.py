"""metrics.jsonl: each step, probe and epoch. Deterministic, so that resumed runs compare byte for byte.

One JSON object a line, `kind` first:
    step   step, epoch, lr, loss, accuracy           running, on augmented train pictures
    probe  step, epoch, loss, accuracy               on 1,000 pictures of the test (or val, or held-out) split
    epoch  step, epoch, train_loss, train_accuracy (running), test_loss, test_accuracy

What a recorded training did not say is NaN in the rows that must have it; such a run may also hold val_loss,
val_accuracy and numbers of other names.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError, short
from torchloupe.runtime.checks import Schema, first_unfit, is_figure, is_number, is_object, is_text
from torchloupe.runtime.files import LONGEST_PATH, atomic_write, parse_json

FILE = "metrics.jsonl"
TIMING = "timing.jsonl"

FOREVER = 1e12
"""Seconds that no training takes."""
NEEDED = {
    "step": ("step", "epoch", "loss", "accuracy"),
    "probe": ("step", "epoch", "loss", "accuracy"),
    "epoch": ("step", "epoch", "train_loss", "train_accuracy"),
}
"""What a row of each kind holds at least; rows of other kinds are of later versions."""
SPLITS = ("train", "val", "test")
"""What losses and accuracies of an epoch's end can be of."""
NUMBERS = ("lr", "loss", "accuracy", *(f"{split}_{what}" for split in SPLITS for what in ("loss", "accuracy")))
CHECKS: Schema = {
    "kind": (is_text, "a kind of row"),
    "step": (is_number, "a number"),
    "epoch": (is_number, "a number"),
    **dict.fromkeys(NUMBERS, (is_figure, "a number")),
}


def check(folder: Path, length: int) -> None:
    """Refuse a log that does not begin with so many bytes of whole rows, before a training goes on behind them.

    Raises:
        ModelError: it is shorter, or a line is damaged.

    >>> check(Path("nowhere"), 10)
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: 'nowhere/metrics.jsonl' is shorter than when the state of its training was saved...
    """
    path = folder / FILE
    data = path.read_bytes()[:length] if path.is_file() else b""
    if len(data) < length:
        raise ModelError(
            f"{short(path, LONGEST_PATH)} is shorter than when the state of its training was saved. "
            "Put the whole one back, or start again with another --out."
        )
    _rows(data, path)


def measured_on(training: dict[str, Any] | None, data: dict[str, Any] | None) -> str:
    """Say what a run was measured on while it learned, from its config: "test", "val", or "held-out" part of train.

    >>> measured_on({"holdout": 0.0}, {"train": 9, "test": 3}), measured_on({"holdout": 0.0}, {"test": 3, "val": 4})
    ('test', 'val')
    """
    if (training or {}).get("holdout"):
        return "held-out"
    return "val" if (data or {}).get("val") else "test"


def how_measured(training: dict[str, Any] | None) -> str | None:
    """Say how the numbers of a recorded run were measured, from its config; None of a run of torchloupe's own.

    >>> how_measured({"recorded": True}), how_measured({"epochs": 3.0})
    ('as the training itself reported them', None)
    """
    return "as the training itself reported them" if (training or {}).get("recorded") else None


def with_a(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the rows that have a number of that name.

    >>> with_a([{"step": 1, "loss": 2.0}, {"step": 2, "loss": math.nan}, {"step": 3}], "loss")
    [{'step': 1, 'loss': 2.0}]
    """
    return [row for row in rows if math.isfinite(row.get(name, math.nan))]


def cut(folder: Path, length: int) -> None:
    """Make sure that a run has a log, and that nothing in it lies past so many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab") as stream:
        stream.truncate(length)


def append(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows at the end of a run's log, numbers to six digits."""
    with (folder / FILE).open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(_rounded(row)) + "\n" for row in rows)


def rewrite(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write a run's log anew, atomically.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rewrite(Path(folder), [{"kind": "step", "step": 1, "epoch": 0.5, "loss": 2.0, "accuracy": 0.5}])
    ...     len(read_metrics(Path(folder)))
    1
    """
    atomic_write(folder / FILE, "".join(json.dumps(_rounded(row)) + "\n" for row in rows).encode())


def append_timing(folder: Path, row: dict[str, float]) -> None:
    """Write a row of seconds, and the time of day, at the end of a run's other log: the one that no two runs share."""
    _drop_half_a_line(folder / TIMING)
    with (folder / TIMING).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({name: round(value, 3) for name, value in {**row, "time": time.time()}.items()}) + "\n")


def _drop_half_a_line(path: Path) -> None:
    """Remove what stands behind the last end of a line: a process died while it wrote that."""
    if path.is_file() and not (data := path.read_bytes()).endswith(b"\n"):
        with path.open("ab") as stream:
            stream.truncate(data.rfind(b"\n") + 1)


def sync(folder: Path) -> int:
    """Bring a run's log to the disk; returns its length in bytes."""
    with (folder / FILE).open("ab") as stream:
        os.fsync(stream.fileno())
        return stream.tell()


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}


def read_metrics(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Read the rows of a run, all or of one kind; a last line that is only half written is left out.

    Raises:
        ModelError: a line is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     append(Path(folder), [{"kind": "probe", "step": 1, "epoch": 0.5, "loss": 0.5, "accuracy": 0.25}])
    ...     read_metrics(Path(folder), "probe")
    [{'kind': 'probe', 'step': 1, 'epoch': 0.5, 'loss': 0.5, 'accuracy': 0.25}]
    """
    path = folder / FILE
    if not path.is_file():
        return []
    return [row for row in _rows(path.read_bytes(), path) if kind is None or row["kind"] == kind]


def _rows(data: bytes, path: Path) -> list[dict[str, Any]]:
    lines = data.splitlines(keepends=True)
    return [_row(line, number, path) for number, line in enumerate(lines, 1) if line.endswith(b"\n")]


def _row(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        row = parse_json(line)
        if not is_object(row) or not {"kind", *NEEDED.get(str(row.get("kind")), ())} <= row.keys():
            raise ValueError("not a row of a training")
        if unfit := first_unfit(row, CHECKS):
            raise ValueError(f"{unfit[0]} is {short(row[unfit[0]])}, not {unfit[1]}")
    except ValueError as error:
        raise ModelError(
            f"{short(path, LONGEST_PATH)} is damaged in line {number}: {error}. Mend the line or take it out."
        ) from None
    return row


def training_seconds(folder: Path) -> float | None:
    """Return how long a training took, of timing.jsonl; None where that is not known.

    >>> training_seconds(Path("nowhere"))
    """
    try:
        last = parse_json((folder / TIMING).read_bytes().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return None
    seconds: Any = last.get("train_seconds") if is_object(last) else None
    return float(seconds) if is_number(seconds) and 0 <= seconds < FOREVER else None
