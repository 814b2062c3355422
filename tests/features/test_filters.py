"""Filters: the weights as they stand, and the input channels that matter most, found again by a loop."""

import pytest
import torch
from torch import Tensor, nn

from torchloupe.errors import LayerError, UsageError
from torchloupe.features.filters import filters
from torchloupe.models.network import wrap


class Swapped(nn.Module):
    """Made in another order than it runs; one convolution never does."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Conv2d(3, 2, 3)
        self.second = nn.Conv2d(4, 6, 3)
        self.opening = nn.Conv2d(3, 4, (5, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.opening(x))
        return out


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def conv(inputs: int, outputs: int, groups: int = 1, seed: int = 0) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, (3, 5), groups=groups).double()
    generator = torch.Generator().manual_seed(seed)
    made.weight.data = torch.randn(made.weight.shape, generator=generator, dtype=torch.float64)
    return made


def by_hand(weight: Tensor, channel: int, groups: int) -> list[tuple[int, float]]:
    """Input channels of one filter with the lengths of their kernels, strongest first."""
    outputs, inside = weight.shape[:2]
    group = channel * groups // outputs
    found = []
    for i in range(inside):
        square = sum(float(w) ** 2 for w in weight[channel, i].flatten())
        found.append((group * inside + i, square**0.5))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("channels", [None, [0], [7, 2, 11]])
def test_weights_are_as_they_stand(channels: list[int] | None) -> None:
    layer = conv(5, 12)
    found = filters(nn.Sequential(nn.ReLU(), layer), "1", channels=channels)
    asked = list(range(12)) if channels is None else channels
    assert found.layer == "1" and found.channel.tolist() == asked
    assert found.weight.shape == (len(asked), 5, 3, 5)
    for i, channel in enumerate(asked):
        assert torch.equal(found.weight[i], layer.weight[channel])


def test_what_is_shown_is_a_copy() -> None:
    layer = conv(3, 4)
    before = layer.weight.detach().clone()
    filters(nn.Sequential(layer), "0").weight.zero_()
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("groups", [1, 2, 4, 12])
@pytest.mark.parametrize("strongest", [1, 3, 99])
@pytest.mark.parametrize("channels", [None, [23, 0, 13]])
def test_the_strongest_input_channels_are_those_of_a_loop(
    groups: int, strongest: int, channels: list[int] | None
) -> None:
    layer = conv(12, 24, groups)
    found = filters(nn.Sequential(layer), "0", channels=channels, strongest=strongest)
    asked = list(range(24)) if channels is None else channels
    many = min(strongest, 12 // groups)
    assert found.strongest.shape == found.strength.shape == (len(asked), many)
    for i, channel in enumerate(asked):
        expected = by_hand(layer.weight.detach(), channel, groups)[:many]
        assert found.strongest[i].tolist() == [number for number, _ in expected]
        assert found.strength[i].tolist() == pytest.approx([length for _, length in expected], rel=1e-12)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_named_input_channel_is_the_one_that_reaches_the_filter(groups: int) -> None:
    layer = conv(9, 6, groups)
    with torch.no_grad():
        for channel in range(6):  # each filter keeps one kernel
            layer.weight[channel, torch.arange(9 // groups) != channel % (9 // groups)] = 0
        found = filters(nn.Sequential(layer), "0", strongest=1)
        alone = torch.ones(9, 9, 3, 5, dtype=torch.float64) * torch.eye(9, dtype=torch.float64)[..., None, None]
        reached = layer(alone) - layer(torch.zeros_like(alone))  # a picture for each input channel
    for channel in range(6):
        assert torch.nonzero(reached[:, channel, 0, 0]).flatten().tolist() == found.strongest[channel].tolist()


def test_of_equal_kernels_the_earlier_counts() -> None:
    layer = conv(4, 4, 2)
    nn.init.ones_(layer.weight)
    found = filters(nn.Sequential(layer), "0", strongest=2)
    assert found.strongest.tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]


def test_first_is_the_convolution_that_runs_first() -> None:
    net = Swapped()
    found = filters(net, "first")
    assert found.layer == "opening" and torch.equal(found.weight, net.opening.weight)
    wrapped = wrap(nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten()), mean=None, std=None, size=11, classes=6)
    assert filters(wrapped, "first").layer == "0.opening"


def test_a_layer_of_that_name_comes_before_the_word() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zeroth, self.first = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.first(self.zeroth(x))
            return out

    assert filters(Named(), "first").weight.shape == (5, 4, 3, 3)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("1", r"layer '1' \(ReLU\) is no convolution: name one"),
        ("2", r"layer '2' \(Sequential\) is no convolution: it holds one, '2.1'"),
        ("3", r"layer '3' \(ConvTranspose2d\) is no convolution"),
        ("4", r"layer '4' \(Linear\) is no convolution"),
        ("9", "no layer '9'"),
        ("output", "layer 'output' is no convolution"),
    ],
)
def test_what_is_no_convolution_is_refused(layer: str, said: str) -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), inner, nn.ConvTranspose2d(4, 4, 3), nn.Linear(9, 2))
    with pytest.raises(LayerError, match=said):
        filters(net, layer)


def test_a_network_without_convolutions_or_with_an_idle_one_is_refused() -> None:
    with pytest.raises(LayerError, match="the network has no convolution"):
        filters(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), "first")
    with pytest.raises(LayerError, match="the network runs no convolution"):
        filters(Idle(), "first")


@pytest.mark.parametrize("channels", [[12], [-1], [0, 99], []])
def test_channels_that_there_are_not_are_refused(channels: list[int]) -> None:
    with pytest.raises(UsageError, match="channels 0 to 11"):
        filters(nn.Sequential(conv(3, 12)), "0", channels=channels)
