"""Numbers of a training that wait to be written: those on a device stay there until they are read, all at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchloupe.errors import short
from torchloupe.models.reference import one_line

Number = float | int | Tensor
"""A number of a training: plain, or a tensor of one element, on any device."""
Tell = Callable[[str, str], None]
"""Hears what is left out, and why."""
ROUNDING = 1e-6


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
