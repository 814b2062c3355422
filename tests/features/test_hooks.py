"""Capturing layers: what is seen, when the pass ends, and that nothing stays."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets import hooks_of
from torchloupe.errors import LayerError, ModelError
from torchloupe.features.hooks import (
    OUTPUT,
    activations,
    as_maps,
    capture,
    channels_last,
    frozen_eval,
    intervene,
    observe,
)
from torchloupe.features.trace import resolve, trace
from torchloupe.models import build
from torchloupe.models.network import wrap


@dataclass(frozen=True)
class Output:
    """As many networks put out: fields, some empty."""

    loss: Tensor | None = None
    maps: tuple[Tensor, ...] = ()
    note: str = field(default="", init=False)


def counting() -> tuple[nn.Module, list[str]]:
    ran: list[str] = []

    class Part(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name, self.conv = name, nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            ran.append(self.name)
            out: Tensor = self.conv(x)
            return out

    return nn.Sequential(OrderedDict((name, Part(name)) for name in "abc")), ran


def test_nothing_runs_after_the_last_layer_that_is_wanted() -> None:
    net, ran = counting()
    with frozen_eval(net), capture(net, "a", "b") as seen:
        net(torch.rand(1, 3, 4, 4))
    assert ran == ["a", "b"] and list(seen) == ["a", "b"] and not hooks_of(net)


def test_a_bad_second_name_leaves_no_hook() -> None:
    net, _ = counting()
    with pytest.raises(LayerError, match="did you mean"), capture(net, "a", "bb.conv"):
        pass
    assert not hooks_of(net)


def test_an_error_in_the_network_passes_and_leaves_no_hook() -> None:
    net, _ = counting()
    with pytest.raises(RuntimeError), frozen_eval(net), capture(net, "c"):
        net(torch.rand(1, 5, 4, 4))
    assert not hooks_of(net)


def test_a_network_that_catches_everything_does_not_swallow_the_end() -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.after = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), 0

        def forward(self, x: Tensor) -> Tensor:
            try:
                x = self.a(x)
            except Exception:
                x = x * 0
            self.after += 1
            out: Tensor = self.b(x)
            return out

    net = Greedy()
    with frozen_eval(net):
        found = activations(net, "a", torch.ones(1, 3, 2, 2))
    assert net.after == 0 and bool(found.any())


def test_what_an_in_place_relu_does_later_does_not_reach_what_was_seen() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))
    x = torch.rand(1, 3, 5, 5)
    with frozen_eval(net), capture(net, "0", "2") as seen:
        net(x)
    torch.testing.assert_close(seen["0"], net[0](x))
    assert bool((seen["0"] < 0).any())


def test_the_first_call_of_a_layer_that_runs_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.relu(self.conv(self.relu(x - 0.5)))
            return out

    net, x = Twice(), torch.rand(1, 3, 4, 4)
    with frozen_eval(net):
        torch.testing.assert_close(activations(net, "relu", x), F.relu(x - 0.5))
        with capture(net, "relu", "conv") as seen:
            net(x)
    torch.testing.assert_close(seen["relu"], F.relu(x - 0.5))
    assert {call.name: call.times for call in trace(net, x)} == {"relu": 2, "conv": 1}


def test_everything_is_put_back_module_by_module() -> None:
    net: Any = build("resnet20").train()
    net.layer1.eval()
    net.conv1.weight.requires_grad_(False)
    modes = [module.training for module in net.modules()]
    flags = [parameter.requires_grad for parameter in net.parameters()]
    random = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), frozen_eval(net):
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
        torch.rand(3)
        raise ZeroDivisionError
    assert modes == [module.training for module in net.modules()]
    assert flags == [parameter.requires_grad for parameter in net.parameters()]
    assert torch.equal(random, torch.get_rng_state())


def test_the_check_of_pictures_is_off_inside_and_back_outside() -> None:
    net = wrap(build("resnet20"), mean=None, std=None, size=32, classes=10)
    with frozen_eval(net):
        net(torch.full((1, 3, 8, 8), 9.0))
    assert net.check


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_pass_where_they_are_off_outside(off: Callable[[], Any]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with off():
        made = torch.rand(1, 3, 5, 5)
        with frozen_eval(net):
            x = made.clone().requires_grad_()
            (slope,) = torch.autograd.grad(activations(net, "1", x).sum(), x)
        assert not torch.is_grad_enabled()
    assert bool(slope.any())


def test_a_network_made_in_inference_mode_is_refused_in_words() -> None:
    with torch.inference_mode():
        net = nn.Conv2d(3, 3, 1)
    with pytest.raises(ModelError, match="inference_mode"), frozen_eval(net):
        pass


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda y: (y, 1),
        lambda y: [None, y],
        lambda y: {"maps": y},
        lambda y: OrderedDict(a=None, b=(y,)),
        lambda y: Output(maps=(y,)),
    ],
)
def test_outputs_that_hold_a_tensor(wrapped: Callable[[Tensor], Any]) -> None:
    class Wraps(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return wrapped(2 * x)

    net, x = nn.Sequential(OrderedDict(part=Wraps())), torch.rand(1, 3, 2, 2)
    with frozen_eval(net):
        torch.testing.assert_close(activations(net, "part", x), 2 * x)
        torch.testing.assert_close(activations(net, OUTPUT, x), 2 * x)


@pytest.mark.parametrize(
    ("module", "shape", "last"),
    [
        (nn.Linear(4, 96), (1, 7, 7, 96), True),
        (nn.Linear(4, 7), (1, 9, 7, 7), True),
        (nn.LayerNorm(96), (1, 7, 9, 96), True),
        (nn.GELU(), (2, 7, 7, 96), True),
        (nn.GELU(), (2, 96, 7, 7), False),
        (nn.GELU(), (2, 96, 7, 9), False),
        (nn.Conv2d(3, 9, 1), (2, 7, 7, 9), False),
        (nn.BatchNorm2d(7), (2, 7, 7, 9), False),
        (nn.GroupNorm(1, 7), (2, 7, 7, 9), False),
        (nn.Identity(), (2, 8, 8, 8), False),
    ],
    ids=str,
)
def test_which_axis_holds_the_channels(module: nn.Module, shape: tuple[int, ...], last: bool) -> None:
    assert channels_last(module, torch.Size(shape)) is last
    assert as_maps(torch.zeros(shape), module).shape[1] == (shape[3] if last else shape[1])


def test_vectors_become_maps_of_one_position_and_tokens_are_refused() -> None:
    assert as_maps(torch.zeros(2, 10), nn.Linear(3, 10)).shape == (2, 10, 1, 1)
    with pytest.raises(LayerError, match="no map"):
        as_maps(torch.zeros(2, 49, 96), nn.Identity(), "tokens")


def test_a_layer_that_does_not_run_is_told() -> None:
    net = build("study")
    with frozen_eval(net), pytest.raises(LayerError, match="does not run"):
        activations(net, "resblock1_2.downsample", torch.rand(1, 3, 33, 33))


def test_observe_sees_every_layer_and_leaves_no_hook() -> None:
    net, seen = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), []
    with pytest.raises(RuntimeError), frozen_eval(net), observe(net, lambda name, *rest: seen.append(name)):
        net(torch.rand(1, 3, 5, 5))
        net(torch.rand(1, 4, 5, 5))
    assert seen == ["0", "1"] and not hooks_of(net)


@pytest.mark.parametrize(
    ("name", "side", "first", "last"),
    [
        ("loupe", 32, "conv1", "layer3.1"),
        ("resnet20", 33, "conv1", "layer3.2"),
        ("resnet18", 32, "conv1", "layer4.1"),
        ("study", 65, "conv1", "resblock4_2"),
    ],
)
def test_first_and_last(name: str, side: int, first: str, last: str) -> None:
    net = build(name)
    image = torch.rand(1, 3, side, side)
    assert (resolve(net, "first", image), resolve(net, "last", image)) == (first, last)


def test_last_of_a_plain_network_is_not_its_pooling() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    assert resolve(net, "last", torch.rand(1, 3, 16, 16)) == "4"
    named = nn.Sequential(OrderedDict(first=nn.Linear(2, 2)))
    assert resolve(named, "first") == "first", "a layer of that name comes before the word"
    for word, bare in (("first", nn.Flatten()), ("last", nn.Flatten())):
        with pytest.raises(LayerError, match=f"'{word}'"):
            resolve(nn.Sequential(bare), word, torch.rand(1, 3, 4, 4))


def test_intervene_puts_another_output_in_place_at_the_first_call_of_each_pass() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.relu(self.conv(self.relu(x)))
            return out

    net = Twice().double().eval()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = net.conv(2 * x.relu() + 1).relu()
        with intervene(net, "relu", lambda output, module: 2 * output + 1):
            assert torch.equal(net(x), expected) and torch.equal(net(x), expected), "in a second pass as well"
        assert not torch.equal(net(x), expected) and not hooks_of(net)
        with pytest.raises(ZeroDivisionError), intervene(net, "conv", lambda output, module: output / (1 // 0)):
            net(x)
    assert not hooks_of(net)
    with pytest.raises(LayerError), intervene(net, "none", lambda output, module: output):
        pass
    assert not hooks_of(net)


def test_intervening_in_a_dataclass_leaves_its_other_fields_and_the_original() -> None:
    class Part(nn.Module):
        def forward(self, x: Tensor) -> Output:
            out = Output(maps=(x, x + 1))
            object.__setattr__(out, "note", "kept")
            made.append(out)
            return out

    made: list[Output] = []
    net = nn.Sequential(Part())
    with intervene(net, "0", lambda output, module: output + 5):
        found = net(torch.zeros(1))
    assert isinstance(found, Output) and [part.item() for part in found.maps] == [5, 1] and found.note == "kept"
    assert made[0].maps[0].item() == 0


def test_a_layer_that_is_named_twice_is_captured_under_each_name() -> None:
    net, ran = counting()
    x = torch.rand(1, 3, 4, 4)
    with frozen_eval(net), capture(net, "b", "[1]", "b", "a") as seen:
        net(x)
    assert set(seen) == {"a", "b", "[1]"} and torch.equal(seen["b"], seen["[1]"]) and ran == ["a", "b"]
    both = nn.ReLU()
    shared = nn.Sequential(OrderedDict(one=both, conv=nn.Conv2d(3, 2, 1), two=both))
    with frozen_eval(shared), capture(shared, "one", "two") as seen:
        shared(x)
    assert torch.equal(seen["one"], x) and torch.equal(seen["two"], x), "one module, whose first call counts"


def test_intervene_reaches_into_tuples_lists_and_dicts() -> None:
    class Pair(NamedTuple):
        words: str
        maps: Tensor

    class Part(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind

        def forward(self, x: Tensor) -> Any:
            kinds = {"tuple": (None, x), "named": Pair("", x), "list": ["", [x, x + 9]], "dict": {"a": 1, "b": x}}
            return kinds[self.kind]

    def maps_in(value: Any, kind: str) -> Tensor:
        found: Tensor = {
            "tuple": lambda: value[1],
            "named": lambda: value.maps,
            "list": lambda: value[1][0],
            "dict": lambda: value["b"],
        }[kind]()
        return found

    for kind in ("tuple", "named", "list", "dict"):
        net = nn.Sequential(Part(kind))
        with intervene(net, "0", lambda output, module: output + 1):
            found = net(torch.zeros(1))
        assert maps_in(found, kind).item() == 1
        assert type(found) is type(Part(kind)(torch.zeros(1)))
