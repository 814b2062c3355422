"""What a network puts out becomes one logit a class: whatever it is packed in, in any precision, however it ends."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe import wrap
from torchloupe.errors import ModelError, UsageError
from torchloupe.models.network import Network

SIDE = 9


class Net(nn.Module):
    """Three maps, and whatever a function makes of them."""

    def __init__(self, end: Callable[[Tensor], Any], outputs: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, outputs, 3)
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.conv(x))


@dataclass
class Detection:
    boxes: Tensor
    classes: Tensor


def vector(maps: Tensor) -> Tensor:
    return maps.amax((2, 3))


def net(end: Callable[[Tensor], Any], outputs: int = 3, classes: int = 3, **more: Any) -> Network:
    torch.manual_seed(0)
    return wrap(Net(end, outputs), mean=None, std=None, size=SIDE, classes=classes, **more).double()


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("end", "output"),
    [
        (lambda maps: {"aux": maps.amin((2, 3)), "out": vector(maps)}, "out"),
        (lambda maps: (maps.amin((2, 3)), vector(maps)), 1),
        (lambda maps: [maps.amin((2, 3)), vector(maps)], -1),
        (lambda maps: {"aux": maps.amin((2, 3)), "out": vector(maps)}, 1),
        (lambda maps: Detection(maps.flatten(2), vector(maps)), "classes"),
        (lambda maps: Detection(maps.flatten(2), vector(maps)), 1),
        (lambda maps: (maps, {"deep": [vector(maps)]}), lambda given: given[1]["deep"][0]),
        (lambda maps: maps, lambda given: given.amax((2, 3))),
    ],
)
def test_the_part_that_is_named_holds_the_logits(end: Callable[[Tensor], Any], output: Any) -> None:
    known = net(end, output=output)
    torch.testing.assert_close(known(images()), vector(known.bare.conv(images())))  # type: ignore[operator]


@pytest.mark.parametrize("output", [None, "out"])
def test_the_logit_of_a_map_of_classes_is_its_mean(output: str | None) -> None:
    known = net(lambda maps: maps if output is None else {"out": maps}, output=output)
    maps: Tensor = known.bare.conv(images())  # type: ignore[operator]
    by_hand = torch.tensor([[sum(maps[b, c].flatten().tolist()) / 49 for c in range(3)] for b in range(4)])
    torch.testing.assert_close(known(images()), by_hand.double(), rtol=1e-6, atol=1e-6)


def test_a_copy_keeps_what_its_output_is() -> None:
    known = net(lambda maps: {"out": vector(maps).sigmoid()}, output="out", multilabel=True)
    torch.testing.assert_close(copy.deepcopy(known)(images()), known(images()))
    assert copy.deepcopy(known).multilabel


@pytest.mark.parametrize(
    ("output", "said"),
    [("nothing", "a dict with 'out': its part 'nothing'"), (3, "its part 3"), (lambda given: None, "NoneType")],
)
def test_a_part_that_is_not_there_is_said_with_what_is(output: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        net(lambda maps: {"out": vector(maps)}, output=output)(images())
    with pytest.raises(UsageError, match="output is a key"):
        net(vector, output=1.5)


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "[b, 1]": vector,
    "[b]": lambda maps: vector(maps).squeeze(1),
    "[b, 1, h, w]": lambda maps: maps.amax((2, 3), keepdim=True),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ends", [False, True])
def test_one_logit_is_two_whose_softmax_is_the_sigmoid(shape: str, ends: bool) -> None:
    known = net(lambda maps: SHAPES[shape](maps).sigmoid() if ends else SHAPES[shape](maps), 1, 2)
    z = vector(known.bare.conv(images()))[:, 0]  # type: ignore[operator]
    p = known(images()).softmax(1)
    torch.testing.assert_close(p[:, 1], 1 / (1 + torch.exp(-z)), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(p.sum(1), torch.ones(4).double(), rtol=1e-14, atol=0)
    assert known.ending == ("sigmoid" if ends else "")


SIGMOIDS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.Sigmoid": nn.Sigmoid(),
    "torch.sigmoid": torch.sigmoid,
    "x.sigmoid()": lambda x: x.sigmoid(),
    "in place": lambda x: x.sigmoid_(),
    "F.sigmoid": F.sigmoid,
    "nn.Softmax": nn.Softmax(1),
    "F.softmax": lambda x: F.softmax(x, dim=1),
    "torch.softmax": lambda x: torch.softmax(x, -1),
    "x.softmax()": lambda x: x.softmax(1),
    "nn.LogSoftmax": nn.LogSoftmax(1),
    "F.log_softmax": lambda x: F.log_softmax(input=x, dim=1),
    "viewed": lambda x: x[:, :, None].softmax(1).flatten(1),
}


@pytest.mark.parametrize("way", SIGMOIDS)
@pytest.mark.parametrize("times", [1.0, 1e4])
def test_what_went_into_the_end_is_the_logit_even_where_the_end_is_saturated(way: str, times: float) -> None:
    known = net(lambda maps: SIGMOIDS[way](times * vector(maps)))
    z = times * vector(known.bare.conv(images()))  # type: ignore[operator]
    for _ in range(2):
        assert torch.equal(known(images()), z)
    with torch.no_grad():
        assert torch.equal(known(images()), z)


def test_a_gate_or_attention_inside_is_no_end() -> None:
    known = net(lambda maps: vector(maps) * vector(maps).sigmoid() + vector(maps).softmax(1))
    torch.testing.assert_close(known(images()), known.bare(images()))
    assert known.ending == ""


@pytest.mark.parametrize("way", ["torch.sigmoid", "nn.Softmax", "nn.LogSoftmax"])
def test_a_compiled_pass_gives_the_same_probabilities(way: str) -> None:
    known = net(lambda maps: SIGMOIDS[way](vector(maps)))
    plain = known(images())
    compiled: Tensor = torch.compile(known, backend="eager")(images())
    turn = Tensor.sigmoid if "igmoid" in way else lambda x: x.softmax(1)
    torch.testing.assert_close(turn(compiled), turn(plain))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_inside(dtype: torch.dtype) -> None:
    full = net(vector).float()
    half = copy.deepcopy(full).to(dtype)
    x = images().float().requires_grad_()
    said = half(x)
    assert said.dtype == torch.float32
    torch.testing.assert_close(said, full(x), rtol=2e-2, atol=2e-2)
    (slope,) = torch.autograd.grad(said.sum(), x)
    assert slope.dtype == torch.float32
    torch.testing.assert_close(half(x.detach().to(dtype)), said.detach())


def test_of_a_compiled_network_the_one_inside_is_taken() -> None:
    bare = Net(vector)
    known = wrap(torch.compile(bare, backend="eager"), mean=None, std=None, classes=3)  # type: ignore[arg-type]
    assert known.bare is bare and "conv" in dict(known.named_modules())
