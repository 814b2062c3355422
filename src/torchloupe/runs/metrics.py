"""metrics.jsonl: each step, probe and epoch. Deterministic, so that resumed runs compare byte for byte.

One JSON object a line, `kind` first:
    step   step, epoch, lr, loss, accuracy           running, on augmented train pictures
    probe  step, epoch, loss, accuracy               on 1,000 pictures of the test (or val, or held-out) split
    epoch  step, epoch, train_loss, train_accuracy (running), test_loss, test_accuracy
"""

import json
import os
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


def measured_on(training: dict[str, Any] | None, data: dict[str, Any] | None) -> str:
    """Say what a run was measured on while it learned, from its config: "test", "val", or "held-out" part of train.

    >>> measured_on({"holdout": 0.0}, {"train": 9, "test": 3}), measured_on({"holdout": 0.0}, {"test": 3, "val": 4})
    ('test', 'val')
    """
    if (training or {}).get("holdout"):
        return "held-out"
    return "val" if (data or {}).get("val") else "test"


def cut(folder: Path, length: int) -> None:
    """Make sure that a run has a log, and that nothing in it lies past so many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab") as stream:
        stream.truncate(length)


def append(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows at the end of a run's log, numbers to six digits."""
    with (folder / FILE).open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(_rounded(row)) + "\n" for row in rows)


def sync(folder: Path) -> int:
    """Bring a run's log to the disk; returns its length in bytes."""
    with (folder / FILE).open("ab") as stream:
        os.fsync(stream.fileno())
        return stream.tell()


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}


def read_metrics(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Read the rows of a run, all or of one kind; a last line that is only half written is left out.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     append(Path(folder), [{"kind": "probe", "step": 1, "loss": 0.5}])
    ...     read_metrics(Path(folder), "probe")
    [{'kind': 'probe', 'step': 1, 'loss': 0.5}]
    """
    path = folder / FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in rows if kind is None or row["kind"] == kind]
