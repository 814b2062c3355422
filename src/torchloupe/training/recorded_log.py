"""The log of a training that is only recorded: numbers wait, on their device, until some are written at once."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchloupe.errors import short
from torchloupe.models.reference import one_line
from torchloupe.runs import metrics

Number = float | int | Tensor
"""A number of a training: plain, or a tensor of one element, on any device."""
Tell = Callable[[str, str], None]
"""Hears what is left out, and why."""
ROUNDING = 1e-6
DUE_ROWS = 50
"""Rows after which those that wait are written: the only moments at which a training waits for its device."""
DUE_SECONDS = 10.0
MEASURED = ("loss", "accuracy")


class Log:
    """Writes what a training says of its steps and epochs into `metrics.jsonl` and `timing.jsonl` of a run."""

    def __init__(self, out: Path, tell: Tell) -> None:
        self.out, self.tell = out, tell
        self.waiting: list[dict[str, Number]] = []
        self.sums: dict[str, list[float]] = {}
        """Of the epoch so far: losses and accuracies, and of how many steps."""
        self.began = self.flushed = time.monotonic()

    def step(self, step: int, place: float, values: Mapping[str, Number | None], steps: int) -> None:
        """Note a step at a place in epochs, if there is something to say of it; of `steps` the values are the means."""
        at: dict[str, Number] = {"step": step, "epoch": place, "steps": max(1, steps)}
        if noted := held(values, self.tell):
            self.waiting.append({**noted, **at})
        if len(self.waiting) >= DUE_ROWS or time.monotonic() - self.flushed > DUE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the steps that wait."""
        self.flushed = time.monotonic()
        rows, self.waiting = read(self.waiting, self.tell), []
        for row in rows:
            count = row.pop("steps")
            for name in (name for name in MEASURED if name in row):
                total = self.sums.setdefault(name, [0.0, 0.0])
                total[0], total[1] = total[0] + count * row[name], total[1] + count
        metrics.append(self.out, [_row("step", row, MEASURED) for row in rows])

    def epoch(self, step: int, place: float, values: Mapping[str, Number | None]) -> None:
        """Write the end of an epoch, with the means over its steps where nothing else is said, and the time."""
        means = {f"train_{name}": total / max(1.0, n) for name, (total, n) in self.sums.items()}
        [row] = read([held(values, self.tell)], self.tell)
        needed = tuple(f"train_{name}" for name in MEASURED)
        metrics.append(self.out, [_row("epoch", {**means, **row, "step": step, "epoch": place}, needed)])
        metrics.append_timing(self.out, {"step": step, "train_seconds": time.monotonic() - self.began})
        self.sums = {}

    def spread(self, epochs: int, began: int, ended: int) -> None:
        """Place the steps of an epoch whose length was not known until it ended: those from `began` on."""
        rows = metrics.read_metrics(self.out)
        for row in rows:
            if row["kind"] == "step" and row["step"] > began:
                row["epoch"] = epochs + (row["step"] - began) / max(1, ended - began)
        metrics.rewrite(self.out, rows)


def _row(kind: str, row: Mapping[str, Any], needed: Sequence[str]) -> dict[str, Any]:
    """Return a row of the log: kind and place first, and NaN for what a row of that kind has and was not given."""
    at = {"kind": kind, "step": row["step"], "epoch": row["epoch"]}
    return {**at, **dict.fromkeys(needed, math.nan), **row, **at}


def held(values: Mapping[str, Number | None], tell: Tell) -> dict[str, Number]:
    """Return the numbers that were given, as they are now: of tensors on a device copies that stay there.

    >>> held({"loss": torch.tensor([2.0]), "lr": None, "f1": "good"}, print)
    f1 'f1' is no number (ValueError: could not convert string to float: 'good'): it is left out
    {'loss': 2.0}
    """
    found: dict[str, Number] = {}
    for name, value in values.items():
        if value is None:
            continue
        try:
            found[name] = _held(value)
        except Exception as error:  # whatever is no number
            tell(name, f"{short(name)} is no number ({one_line(error)}): it is left out")
    return found


def _held(value: Number) -> Number:
    if not isinstance(value, Tensor):
        return float(value)
    value = value.detach()
    if value.numel() != 1:
        raise ValueError(f"a tensor of shape {list(value.shape)}")
    return float(value) if value.device.type == "cpu" else value.reshape(()).clone().float()


def read(rows: Sequence[Mapping[str, Number]], tell: Tell) -> list[dict[str, Any]]:
    """Return rows as plain numbers; each device is waited for once. Accuracies are shares in [0, 1], or left out.

    >>> read([{"step": 3, "accuracy": 87.5}], print)
    accuracy 'accuracy' is a share in [0, 1], not 87.5: it is left out
    [{'step': 3, 'accuracy': nan}]
    """
    waiting = [value for row in rows for value in row.values() if isinstance(value, Tensor)]
    known: dict[int, float] = {}
    for device in {value.device for value in waiting}:
        there = [value for value in waiting if value.device == device]
        known |= zip(map(id, there), torch.stack(there).tolist(), strict=True)
    plain = [{name: known.get(id(value), value) for name, value in row.items()} for row in rows]
    for row in plain:
        for name, value in row.items():
            if name.endswith("accuracy") and not (-ROUNDING <= value <= 1 + ROUNDING or math.isnan(value)):
                tell(name, f"{short(name)} is a share in [0, 1], not {value:.3g}: it is left out")
                row[name] = math.nan
    return plain
