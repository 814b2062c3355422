"""What a network's own code raises comes as one sentence with what to do; what ours raises stays ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from commands import Run, one_sentence
from torchloupe.errors import DataError, ForwardError, ModelError
from torchloupe.evaluation.accuracy import predict
from torchloupe.features.hooks import capture, frozen_eval, observe
from torchloupe.features.trace import trace
from torchloupe.inspection.run import run as look
from torchloupe.models.forward import called
from torchloupe.models.network import wrap


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


def sized(side: int = 28, channels: int = 3) -> nn.Module:
    """Takes pictures of one size only."""
    return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * side * side, 2))


def looked(net: nn.Module) -> None:
    with frozen_eval(net), capture(net, "0"):
        net(torch.rand(1, 3, 8, 8))


PICTURE = torch.rand(1, 3, 8, 8)
THEIRS: dict[str, tuple[Callable[[], object], str]] = {
    "its own line": (
        lambda: looked(nn.Sequential(Broken())),
        r"TypeError, layer '0' \(Broken\), forward in test_forwa",
    ),
    "a layer of torch": (lambda: looked(nn.Sequential(nn.Linear(3, 3))), r"RuntimeError, layer '0' \(Linear\)"),
    "behind the normalisation": (
        lambda: wrap(sized(), mean=[0.5] * 3, std=[0.5] * 3, classes=2)(PICTURE),
        r"on pictures of 8 x 8: mat1 .*layer '3' \(Linear\).*It runs on 28 x 28: give --size 28 \(size=28\)",
    ),
    "a method": (
        lambda: look("feature-maps", nn.Sequential(Broken()), "0", PICTURE),
        r"pictures of 8 x 8: .*TypeError",
    ),
    "a method, another size": (lambda: look("feature-maps", sized(), "3", PICTURE), r"8 x 8: .* --size 28 \(size=28\)"),
    "a trace": (lambda: trace(sized(), PICTURE), r"8 x 8: .* It runs on 28 x 28"),
    "a test": (
        lambda: predict(
            wrap(sized(), mean=None, std=None, classes=2),
            torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        ),
        r"8 x 8: .* It runs on 28 x 28",
    ),
    "other channels": (lambda: trace(sized(8, channels=1), PICTURE), r"It takes pictures of 1 channel, not 3\."),
    "backwards": (
        lambda: look("gradient", nn.Sequential(nn.Conv2d(3, 3, 1), Back()), "1", PICTURE),
        r": no way back \(ValueError, backward in test_forward",
    ),
    "whole numbers": (lambda: trace(nn.Sequential(nn.Embedding(9, 3)), PICTURE), r"It takes whole numbers"),
    "more than pictures": (lambda: called(More(), PICTURE), r"missing 1 .*wrap it in a module that passes the rest"),
    "a keyword needed": (lambda: called(Needs(), PICTURE), r"missing 1 .*wrap it in a module that passes the rest"),
    "keywords only": (lambda: called(Keyword(), PICTURE), r"takes pictures by keyword only"),
    "reentrant checkpointing": (
        lambda: look("gradient", nn.Sequential(Kept()), "0", PICTURE),
        r"use_reentrant=True: take use_reentrant=False",
    ),
}


class More(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


class Needs(nn.Module):
    def forward(self, x: Tensor, *, mask: Tensor) -> Tensor:
        return x * mask


class Keyword(nn.Module):
    def forward(self, *, pixels: Tensor) -> Tensor:
        return pixels


class Kept(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.conv, x, use_reentrant=True)
        return out


@pytest.mark.filterwarnings("ignore")  # torch's, of lazy modules
@pytest.mark.parametrize("name", THEIRS)
def test_what_the_network_raises_is_one_sentence(name: str) -> None:
    call, sentence = THEIRS[name]
    with pytest.raises(ForwardError, match=f"^the network fails.*{sentence}") as caught:
        call()
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)
    assert isinstance(caught.value, RuntimeError), "whoever expects torch's errors catches ours"


@pytest.mark.filterwarnings("ignore")  # torch's, of lazy modules
@pytest.mark.parametrize(
    ("layer", "sentence"),
    [(nn.Conv2d(3, 2, 3, device="meta"), "on the meta device"), (nn.LazyConv2d(2, 3), "lazy layers have no weights")],
)
def test_a_network_without_weights_is_refused(layer: nn.Module, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        trace(nn.Sequential(layer), PICTURE)


def test_what_a_hook_of_ours_raises_inside_is_ours() -> None:
    net = nn.Sequential(nn.ReLU())

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        raise KeyError("our own")

    with pytest.raises(KeyError), frozen_eval(net), observe(net, see):
        net(PICTURE)


def test_what_torchloupe_refuses_in_a_forward_stays_as_it_is() -> None:
    net = wrap(nn.Flatten(), mean=None, std=None, classes=192)
    with pytest.raises(DataError, match="already normalised"):
        net(3 * PICTURE + 1)


def test_a_rule_that_only_hands_a_call_on_is_not_the_culprit() -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x).view(7, 7)

    with pytest.raises(ForwardError, match=r"view|invalid"):
        look("deconvnet", nn.Sequential(nn.Conv2d(3, 3, 1), Wrong()), "1", PICTURE)


def test_memory_that_runs_out_is_no_fault_of_the_network() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        called(Large(), PICTURE)


def test_a_network_that_learns_is_not_tried_on_other_pictures() -> None:
    sizes = []

    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(x.shape[-1])
            raise ValueError("no")

    with pytest.raises(ForwardError):
        called(Counts().train(), PICTURE)
    assert sizes == [8]


def test_the_command_line_says_it_in_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make(classes=2):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 28 * 28, classes))\n"
    )
    words = ("--classes", "2", "--normalize", "none", "--size", "32", "--no-data", "--quiet")
    one_sentence(run("layers", f"{tmp_path}/net.py:make", *words), 4, "It runs on 28 x 28: give --size 28")
