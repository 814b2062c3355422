"""Numbers that wait for their device, and what is none."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from torchloupe.training.recorded_log import held, read


def silent(name: str, text: str) -> None:
    raise AssertionError(text)


@pytest.mark.parametrize(
    "value",
    [
        2,
        2.0,
        np.float32(2),
        np.array(2.0),
        Fraction(2),
        torch.tensor(2),
        torch.tensor([[2.0]], dtype=torch.bfloat16),
        torch.tensor(2.0, requires_grad=True),
        torch.nn.Parameter(torch.tensor(2.0)),
    ],
)
def test_whatever_is_one_number_is_taken(value: Any) -> None:
    found = held({"loss": value}, silent)
    assert found == {"loss": 2.0} and type(found["loss"]) is float


def test_what_lies_on_a_device_is_not_waited_for() -> None:
    """A tensor without numbers stands for one on a busy GPU: to read it fails, to hold it does not."""
    given = torch.ones((1, 1), device="meta", requires_grad=True)
    found = held({"loss": given}, silent)["loss"]
    assert isinstance(found, torch.Tensor) and found.is_meta and found.shape == () and not found.requires_grad
    with pytest.raises((RuntimeError, NotImplementedError)):
        read([{"loss": found}], silent)


def test_what_waited_is_read_in_its_place() -> None:
    values = [torch.tensor(float(i)) for i in range(5)]
    rows: list[dict[str, Any]] = [{"step": i, "loss": value, "accuracy": 0.5} for i, value in enumerate(values)]
    assert read(rows, silent) == [{"step": i, "loss": float(i), "accuracy": 0.5} for i in range(5)]
    shared = torch.tensor(3.0)
    assert read([{"loss": shared, "again": shared}], silent) == [{"loss": 3.0, "again": 3.0}]
    assert read([], silent) == []


@pytest.mark.parametrize("share", [0.0, 1.0, 1 + 1e-7, math.nan])
def test_shares_are_shares(share: float) -> None:
    [row] = read([{"val_accuracy": share}], silent)
    assert row["val_accuracy"] == share or math.isnan(share)


@pytest.mark.parametrize("share", [1.5, -0.1, 87.0, math.inf])
def test_others_are_left_out(share: float) -> None:
    told: list[str] = []
    [row] = read([{"val_accuracy": share, "loss": share}], lambda name, text: told.append(name))
    assert math.isnan(row["val_accuracy"]) and row["loss"] == share and told == ["val_accuracy"]
