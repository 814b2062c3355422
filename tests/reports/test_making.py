"""Whose fault it is that a part of a report is left out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from torchloupe.data.subsets import spread_out
from torchloupe.errors import UsageError
from torchloupe.features.hooks import frozen_eval, observe
from torchloupe.figures.colors import ramp
from torchloupe.models.forward import is_the_networks
from torchloupe.reports.making import why
from torchloupe.reports.report import report


def raised(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


OURS: dict[str, Callable[[], object]] = {
    "a function of ours": lambda: ramp(3),
    "torch, called by ours": lambda: spread_out("many", "most"),  # type: ignore[arg-type]
    "a hook of ours, inside the network's forward": lambda: observed(nn.Sequential(nn.ReLU())),
}


def observed(net: nn.Module) -> None:
    with frozen_eval(net), observe(net, spread_out):  # type: ignore[arg-type]
        net(torch.rand(1, 3, 8, 8))


@pytest.mark.usefixtures("wrong_shapes")
@pytest.mark.parametrize("name", OURS)
def test_what_torchloupe_raises_is_its_bug(name: str) -> None:
    error = raised(OURS[name])
    assert not is_the_networks(error) and why(error).startswith(f"a bug in torchloupe, {type(error).__name__}: ")


@pytest.mark.parametrize("units", ["many", "0", "-1", 0, 2.5, "1e3"])
def test_units_that_are_no_number_are_refused_in_one_sentence(units: Any, tmp_path: Any) -> None:
    with pytest.raises(UsageError, match=r"--units is a number from 1 up, or all, not"):
        report(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / "r.html", units=units)
