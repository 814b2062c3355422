"""metrics.jsonl: each step, probe and epoch. Deterministic, so that resumed runs compare byte for byte.

One JSON object a line, `kind` first:
    step   step, epoch, lr, loss, accuracy           running, on augmented train pictures
    probe  step, epoch, loss, accuracy               on 1,000 pictures of the test (or held-out) split
    epoch  step, epoch, train_loss, train_accuracy (running), test_loss, test_accuracy
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchloupe.runtime import distributed

FILE = "metrics.jsonl"


class Metrics:
    """Collects losses on the device and writes them every few steps, so that no step waits for the device."""

    def __init__(self, folder: Path, keep: int = 0) -> None:
        """Open the log of a run, forgetting what lies past `keep` bytes (written after the state resumed from)."""
        self.path = folder / FILE
        self.waiting: list[tuple[dict[str, Any], Tensor]] = []
        self.writes = distributed.rank() == 0
        if self.writes:
            folder.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.truncate(keep)
        self.loss_sum = self.hits = self.seen = 0.0

    def step(self, row: dict[str, Any], sums: Tensor) -> None:
        """Note a step; `sums` is (sum of losses, right answers, pictures) of this rank, still on the device."""
        self.waiting.append((row, sums))

    def flush(self) -> list[float]:
        """Write the waiting steps; returns their losses."""
        if not self.waiting:
            return []
        rows = [row for row, _ in self.waiting]
        sums = distributed.add_up(torch.stack([sums for _, sums in self.waiting])).cpu().double()
        self.waiting = []
        self.loss_sum += sums[:, 0].sum().item()
        self.hits += sums[:, 1].sum().item()
        self.seen += sums[:, 2].sum().item()
        means = (sums[:, :2] / sums[:, 2:]).tolist()
        lines = [{**row, "loss": loss, "accuracy": hits} for row, (loss, hits) in zip(rows, means, strict=True)]
        self._write(lines)
        return [loss for loss, _ in means]

    def write(self, row: dict[str, Any]) -> None:
        """Write one row after all waiting steps."""
        self.flush()
        self._write([row])

    def running(self) -> tuple[float, float]:
        """Return the running train loss and accuracy since `start_epoch`."""
        self.flush()
        seen = max(self.seen, 1.0)
        return self.loss_sum / seen, self.hits / seen

    def start_epoch(self) -> None:
        """Forget the running figures."""
        self.flush()
        self.loss_sum = self.hits = self.seen = 0.0

    def sync(self) -> int:
        """Bring everything to the disk; returns the file's length in bytes."""
        self.flush()
        if not self.writes:
            return 0
        with self.path.open("ab") as stream:
            os.fsync(stream.fileno())
            return stream.tell()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if self.writes:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(_rounded(row)) + "\n" for row in rows)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}


def read_metrics(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Read the rows of a run, all or of one kind; a last line that is only half written is left out.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Metrics(Path(folder)).write({"kind": "probe", "step": 1, "loss": 0.5})
    ...     read_metrics(Path(folder), "probe")
    [{'kind': 'probe', 'step': 1, 'loss': 0.5}]
    """
    path = folder / FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in rows if kind is None or row["kind"] == kind]
