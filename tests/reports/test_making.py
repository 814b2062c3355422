"""Whose fault it is that a part of a report is left out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchloupe.data.subsets import spread_out
from torchloupe.errors import UsageError
from torchloupe.features.hooks import capture, frozen_eval, observe
from torchloupe.figures.colors import ramp
from torchloupe.inspection.run import run
from torchloupe.models.network import wrap
from torchloupe.reports.making import is_the_networks, why
from torchloupe.reports.report import report


class Broken(nn.Module):
    """Fails on its own line."""

    def forward(self, x: Tensor) -> Tensor:
        return x + "one"  # type: ignore[operator]


class Detached(torch.autograd.Function):
    """Fails on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise ValueError("no way back")


class Back(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Detached.apply(x)  # type: ignore[no-untyped-call]
        return out


def raised(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def looked(net: nn.Module) -> None:
    with frozen_eval(net), capture(net, "0") as seen:
        net(torch.rand(1, 3, 8, 8))
    seen["0"].sum().backward()  # type: ignore[no-untyped-call]


THEIRS: dict[str, Callable[[], object]] = {
    "its own line": lambda: looked(nn.Sequential(Broken())),
    "a layer of torch": lambda: looked(nn.Sequential(nn.Linear(3, 3))),
    "behind the normalisation": lambda: wrap(nn.Linear(3, 3), mean=[0.5] * 3, std=[0.5] * 3, classes=3)(
        torch.rand(1, 3, 8, 8)
    ),
    "a method of the catalog": lambda: run("feature-maps", nn.Sequential(Broken()), "0", torch.rand(1, 3, 8, 8)),
    "backward": lambda: run("gradient", nn.Sequential(nn.Conv2d(3, 3, 1), Back()), "1", torch.rand(1, 3, 8, 8)),
}
OURS: dict[str, Callable[[], object]] = {
    "a function of ours": lambda: ramp(3),
    "torch, called by ours": lambda: spread_out("many", "most"),  # type: ignore[arg-type]
    "a hook of ours, inside the network's forward": lambda: observed(nn.Sequential(nn.ReLU())),
}


def observed(net: nn.Module) -> None:
    with frozen_eval(net), observe(net, spread_out):  # type: ignore[arg-type]
        net(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("name", THEIRS)
def test_what_the_network_raises_is_the_networks(name: str) -> None:
    error = raised(THEIRS[name])
    assert is_the_networks(error) and why(error).startswith(f"the network fails with {type(error).__name__}: ")


@pytest.mark.usefixtures("wrong_shapes")
@pytest.mark.parametrize("name", OURS)
def test_what_torchloupe_raises_is_its_bug(name: str) -> None:
    error = raised(OURS[name])
    assert not is_the_networks(error) and why(error).startswith(f"a bug in torchloupe, {type(error).__name__}: ")


@pytest.mark.parametrize("units", ["many", "0", "-1", 0, 2.5, "1e3"])
def test_units_that_are_no_number_are_refused_in_one_sentence(units: Any, tmp_path: Any) -> None:
    with pytest.raises(UsageError, match=r"--units is a number from 1 up, or all, not"):
        report(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / "r.html", units=units)
