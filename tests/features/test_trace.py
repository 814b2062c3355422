"""One forward pass: what ran, in which order, how often; and the words `first` and `last`."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets import Calls
from torchloupe.errors import LayerError, UsageError
from torchloupe.features.hooks import OUTPUT
from torchloupe.features.trace import blocks_of, channel_list, example, placed, resolve, trace
from torchloupe.models.network import wrap


def conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2)


def image(h: int = 9, w: int = 9) -> Tensor:
    return torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(0))


def test_layers_come_in_the_order_in_which_they_end_and_idle_ones_do_not() -> None:
    late, early = conv(4, 5), nn.Sequential(conv(3, 4), nn.ReLU())
    net = Calls(lambda net, x: net.late(net.early(x)), late=late, idle=conv(3, 3), early=early)
    calls = trace(net, image(9, 7))
    assert [call.name for call in calls] == ["early.0", "early.1", "early", "late"]
    assert [call.shape for call in calls] == [(1, 4, 9, 7)] * 3 + [(1, 5, 9, 7)]
    assert [call.module for call in calls] == [early[0], early[1], early, late]


def test_a_shared_layer_counts_its_calls_and_tells_of_the_first() -> None:
    def run(net: Any, x: Tensor) -> Any:
        return net.relu(net.same(net.relu(net.same(net.same(x)))))

    net = Calls(run, same=nn.Conv2d(3, 3, 3), relu=nn.ReLU(), alias=nn.Identity())
    net.alias = net.same
    calls = {call.name: call for call in trace(net, image(9, 11))}
    assert [(name, call.times) for name, call in calls.items()] == [("same", 3), ("relu", 2)]
    assert calls["same"].shape == (1, 3, 7, 9) and calls["relu"].shape == (1, 3, 5, 7)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_container_has_the_storage_of_its_last_part(inplace: bool) -> None:
    parts = [nn.Sequential(conv(3, 3), nn.ReLU(inplace)) for _ in range(4)]
    calls = {call.name: call for call in trace(nn.Sequential(*parts), image())}
    assert list(calls) == [name for i in range(4) for name in (f"{i}.0", f"{i}.1", f"{i}")]
    assert all(calls[f"{i}"].storage == calls[f"{i}.1"].storage for i in range(4))
    assert len({calls[f"{i}"].storage for i in range(4)}) == 4, "no address comes twice"


def test_a_network_that_works_in_place_does_not_reach_the_picture() -> None:
    x = image()
    trace(Calls(lambda net, x: net.conv(x.sub_(0.5)), conv=conv(3, 4)), x)
    assert torch.equal(x, image())


@pytest.mark.parametrize(
    "wrapped",
    [lambda y: (None, y), lambda y: [[y], 1], lambda y: OrderedDict(a="text", b=y), lambda y: {"a": {"b": y}}],
)
def test_the_first_tensor_of_an_output_counts(wrapped: Callable[[Tensor], Any]) -> None:
    net = Calls(lambda net, x: net.part(x), part=Calls(lambda _, x: wrapped(F.max_pool2d(x, 2))))
    (call,) = trace(net, image(9, 7))
    assert (call.name, call.shape) == ("part", (1, 3, 4, 3))


def test_a_layer_that_puts_out_no_tensor_is_left_out() -> None:
    net = Calls(lambda net, x: (net.said(x), net.conv(x))[1], said=Calls(lambda _, x: "text"), conv=conv(3, 4))
    assert [call.name for call in trace(net, image())] == ["conv"]


@pytest.mark.parametrize(
    ("change", "channels", "sides"),
    [
        (lambda x: x[:, :, :6, :5], 3, (6, 5)),
        (lambda x: x[:, :, :5, :5].permute(0, 2, 3, 1), 3, (5, 5)),
        (lambda x: x.mean((2, 3)), 3, (1, 1)),
        (lambda x: x.flatten(2)[:, :, :7], None, (1, 1)),
        (lambda x: x[:, :, :9, :9].flatten(2).transpose(1, 2), 3, (9, 9)),
    ],
    ids=["map", "channels last", "vector", "pieces", "tokens"],
)
def test_channels_and_sides(change: Callable[[Tensor], Tensor], channels: int | None, sides: tuple[int, int]) -> None:
    (call,) = trace(Calls(lambda net, x: net.part(x), part=Calls(lambda _, x: change(x))), image())
    assert (call.channels, call.sides) == (channels, sides)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.MaxPool2d(3, 1, 1)], ids=str)
def test_as_many_channels_as_rows_are_still_channels(layer: nn.Module) -> None:
    call = trace(nn.Sequential(conv(3, 5), layer), image(5, 7))[1]
    assert (call.channels, call.sides) == (5, (5, 7))


def test_first_is_the_first_to_run_not_the_first_registered() -> None:
    net = Calls(lambda net, x: net.a(net.b(net.norm(x))), a=conv(3, 4), b=conv(3, 3), norm=nn.BatchNorm2d(3))
    assert resolve(net, "first", image()) == "b"


def test_first_sees_the_picture() -> None:
    net = Calls(lambda net, x: net.stem(x + net.embed(torch.ones_like(x))), embed=conv(3, 3), stem=conv(3, 4))
    assert resolve(net, "first", image()) == "stem"


def test_only_one_picture_is_looked_at() -> None:
    sizes: list[int] = []

    def run(net: Any, x: Tensor) -> Any:
        sizes.append(len(x))
        return net.conv(x)

    net = Calls(run, conv=conv(3, 4))
    assert resolve(net, "first", image().repeat(5, 1, 1, 1)) == "conv" and sizes == [1]


def block(inplace: bool, named: bool = False) -> nn.Module:
    """A residual block; in place, all after its second convolution is one memory; named: its halves are modules."""

    def half() -> nn.Module:
        if named:
            return Calls(lambda net, x: net.norm(net.conv(x)), conv=conv(4, 4), norm=nn.BatchNorm2d(4))
        return nn.Sequential(conv(4, 4), nn.BatchNorm2d(4))

    def add(net: Any, x: Tensor) -> Any:
        y = net.two(F.relu(net.one(x)))
        return net.relu(y.add_(x) if inplace else y + x)

    return Calls(add, one=half(), two=half(), relu=nn.ReLU(inplace))


def resnet(inplace: bool, named: bool = False) -> nn.Module:
    stages = nn.Sequential(block(inplace, named), block(inplace, named))
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(OrderedDict(stem=conv(3, 4), layer=stages, pool=pool, flat=nn.Flatten(), fc=nn.Linear(4, 2)))


def swin(norm: bool) -> nn.Module:
    """Keeps its maps as [b, h, w, c], as the transformers' hierarchical networks do."""

    def run(net: Any, x: Tensor) -> Any:
        return net.head(net.norm(net.blocks(net.patch(x).permute(0, 2, 3, 1))).mean((1, 2)))

    blocks = nn.Sequential(*(Calls(lambda net, x: x + net.mix(x), mix=nn.Linear(6, 6)) for _ in range(2)))
    last = nn.LayerNorm(6) if norm else nn.Identity()
    return Calls(run, head=nn.Linear(6, 2), patch=nn.Conv2d(3, 6, 2, 2), blocks=blocks, norm=last)


def stages() -> nn.Module:
    """Blocks in stages that are modules of their own, whose last parts put out what they do (VoVNet, GhostNet)."""

    def stage() -> nn.Module:
        inner = Calls(lambda net, x: net.act(net.conv(x)), conv=conv(4, 4), act=nn.ReLU())
        return Calls(lambda net, x: net.blocks(x), blocks=nn.Sequential(inner))

    return nn.Sequential(OrderedDict(stem=conv(3, 4), stages=nn.Sequential(stage(), stage()), pool=nn.AvgPool2d(2)))


class Padded(nn.Conv2d):
    """A convolution with a part of its own (EfficientNet's)."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__(channels, out, kernel)
        self.padding_of_its_own = nn.ZeroPad2d((0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.padding_of_its_own(x))


class Bias(nn.Module):
    """A map that no picture changes, as Swin's table of relative positions."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), 4, 6, 6, dtype=x.dtype)


def biased() -> nn.Module:
    def run(net: Any, x: Tensor) -> Any:
        x = net.blocks(net.stem(x))
        return net.fc(x.mean((2, 3))) + net.bias(x).mean()

    parts = {"stem": conv(3, 4), "fc": nn.Linear(4, 2), "bias": Bias()}
    blocks = nn.Sequential(*(Calls(lambda net, x: x + net.mix(x), mix=conv(4, 4)) for _ in range(2)))
    return Calls(run, blocks=blocks, **parts)


def segments() -> nn.Module:
    """Ends in maps of the classes, which are no features."""
    net = nn.Sequential(
        OrderedDict(stem=conv(3, 4), decoder=nn.Sequential(conv(4, 6), nn.ReLU()), classes=nn.Conv2d(6, 3, 1))
    )
    return wrap(net, mean=None, std=None, classes=3)


def dense() -> nn.Module:
    """Its last convolution puts out a part of what its block does (DenseNet)."""
    part = Calls(lambda net, x: torch.cat([x, net.conv(x)], 1), conv=conv(4, 2))
    block = Calls(lambda net, x: net.part(x) + 1, part=part)
    features = nn.Sequential(OrderedDict(stem=conv(3, 4), block=block, norm=nn.BatchNorm2d(6)))
    return nn.Sequential(OrderedDict(features=features, pool=nn.AdaptiveAvgPool2d(1)))


def plain(*tail: nn.Module, inplace: bool = False) -> nn.Module:
    return nn.Sequential(conv(3, 4), nn.MaxPool2d(2), conv(4, 4), nn.BatchNorm2d(4), nn.ReLU(inplace), *tail)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (resnet(inplace=False), "layer.1"),
        (resnet(inplace=False, named=True), "layer.1"),
        (resnet(inplace=True), "layer.1"),
        (resnet(inplace=True, named=True), "layer.1"),
        (plain(), "4"),
        (plain(inplace=True), "4"),
        (plain(nn.MaxPool2d(2)), "4"),
        (plain(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 2)), "4"),
        (plain(nn.Dropout2d(), nn.AvgPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(16, 2)), "4"),
        (plain(nn.AdaptiveAvgPool2d(1), conv(4, 2, 1), nn.Flatten()), "4"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Flatten()), "0"),
        (swin(norm=False), "blocks.1"),
        (swin(norm=True), "blocks.1"),  # the norm behind it is its head's
        (stages(), "stages.1"),
        (biased(), "blocks.1"),
        (segments(), "decoder.1"),
        (dense(), "features.block"),
        (nn.Sequential(OrderedDict(a=Padded(3, 4, 3), b=Padded(4, 4, 3), c=nn.ReLU(), d=nn.AvgPool2d(2))), "c"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_last_is_the_last_block_with_maps(net: nn.Module, expected: str) -> None:
    assert resolve(net.eval(), "last", image(10, 10)) == expected


def test_a_layer_really_called_so_comes_before_the_word() -> None:
    net = nn.Sequential(OrderedDict(stem=conv(3, 4), last=nn.Sequential(conv(4, 4)), first=conv(4, 4)))
    assert [resolve(net, word, image()) for word in ("first", "last", "last[0]")] == ["first", "last", "last.0"]
    inside = nn.Sequential(OrderedDict(stem=conv(3, 4), body=net))
    assert resolve(nn.Sequential(OrderedDict(body=inside)), "body.body.first") == "body.body.first"
    assert resolve(net, OUTPUT) == OUTPUT
    with pytest.raises(LayerError, match="no layer 'fist'; did you mean 'first'"):
        resolve(net, "fist")


def test_pictures_go_where_the_network_is() -> None:
    x = image().requires_grad_()
    assert placed(nn.Conv2d(3, 3, 1).double(), x).dtype == torch.float64
    assert placed(nn.Conv2d(3, 3, 1, device="meta"), x).device.type == "meta"
    assert torch.equal(placed(nn.ReLU(), x), x) and not placed(nn.ReLU(), x).requires_grad
    whole = nn.Module()
    whole.count = nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False)
    whole.conv = nn.Conv2d(3, 3, 1).bfloat16()
    assert placed(whole, x).dtype == torch.float32  # the cast is at the door


@pytest.mark.parametrize("net", [nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1).double()], ids=str)
def test_a_picture_of_inference_mode_becomes_an_ordinary_one(net: nn.Module) -> None:
    with torch.inference_mode():
        made = image() * 1
        inside = placed(net, made)
    for given in (inside, placed(net, made), placed(net, image())):
        (slope,) = torch.autograd.grad((given.requires_grad_() * 2).sum(), given)
        assert bool((slope == 2).all())


def test_the_example_is_grey_and_of_the_networks_kind() -> None:
    assert example(nn.Conv2d(2, 3, 1)).shape == (1, 2, 224, 224)
    gray = example(nn.Conv2d(2, 3, 1).double(), (7, 9))
    assert gray.shape == (1, 2, 7, 9) and gray.dtype == torch.float64 and bool((gray == 0.5).all())
    net = wrap(nn.Sequential(nn.Conv2d(3, 4, 1)), mean=[0.5], std=[0.5], size=11, classes=4)
    assert example(net).shape == (1, 1, 11, 11) and example(net, 5).shape == (1, 1, 5, 5)
    assert example(nn.Flatten(), 4).shape == (1, 3, 4, 4)


def test_the_example_fits_a_network_whose_head_is_registered_first() -> None:
    net = Calls(lambda net, x: net.head(net.stem(x)), head=conv(8, 2, 1), stem=conv(3, 8))
    assert example(net, 9).shape == (1, 3, 9, 9)


def test_channels_asked_for() -> None:
    assert channel_list(None, 3, "a") == [0, 1, 2] and channel_list(2, 3, "a") == [2] and channel_list(0, 3, "a") == [0]
    assert channel_list((2, 0, 2), 3, "a") == [2, 0, 2]
    for wrong, said in ((3, "3"), (-1, "-1"), ([0, 7, 9], "7"), ([], "none")):
        with pytest.raises(UsageError, match=f"layer 'a' has the channels 0 to 2, not {said}"):
            channel_list(wrong, 3, "a")


class Unit(nn.Module):
    """A residual block with parts, and a branch of its own in a row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.a(x) * self.squeeze(x)
        return out


class Branches(nn.Module):
    """An inception module: its rows hold modules with parts, its output is all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Sequential(Unit(3), Unit(3)), nn.Sequential(Unit(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.two(x)], 1)


class Stage(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Unit(channels), Unit(channels)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def blocks(net: nn.Module) -> list[str]:
    return [call.name for call in blocks_of(net, trace(net, torch.rand(1, 3, 16, 16)))]


def test_a_block_is_a_whole_and_a_stage_is_its_blocks() -> None:
    net = nn.Sequential(Branches(), nn.Sequential(Unit(6), Stage(6)), nn.Conv2d(6, 2, 1))
    assert blocks(net) == ["0", "1.0", "1.1.blocks.0", "1.1.blocks.1"]
    assert blocks(wrap(net, mean=None, std=None, size=16, classes=2)) == blocks(net)
    assert blocks(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())) == []


def test_a_network_in_another_is_looked_into() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(Unit(3), Unit(3), nn.Conv2d(3, 4, 1))
            self.head = nn.Flatten()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.inner(x))
            return out

    class Backbone(Outer):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x)
            return out

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Backbone()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.backbone(x)
            return out.flatten(1)

    assert blocks(Outer()) == ["inner.0", "inner.1"]
    assert blocks(Around()) == ["backbone.inner.0", "backbone.inner.1"]
