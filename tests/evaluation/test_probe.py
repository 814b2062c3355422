"""Linear probes against what is known of their layers in closed form, and against labels that say nothing."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from torchloupe.data.dataset import Split
from torchloupe.errors import DataError
from torchloupe.evaluation import probe as module
from torchloupe.evaluation.probe import probe


def split(n: int, side: int = 6, seed: int = 0, classes: int = 5) -> Split:
    """Pictures of independent noise, whose class is which block of the first channel is bright."""
    chance = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 200, (n, 3, side, side), generator=chance, dtype=torch.uint8)
    labels = torch.arange(n) % classes
    images[torch.arange(n), 0, labels % side, labels // side] = 255
    return Split(images, labels, tuple(map(str, range(n))))


@pytest.fixture(scope="module")
def train() -> Split:
    return split(2500)


@pytest.fixture(scope="module")
def test() -> Split:
    return split(800, seed=1)


def test_the_picture_itself_keeps_everything(train: Split, test: Split) -> None:
    (found,) = probe(nn.Sequential(nn.Identity()), ["0"], train, test).probes
    assert found.features == 108 and found.pixels.value > 0.999999 and found.psnr.value > 60
    assert found.accuracy.value > 0.95


def test_average_pooling_keeps_a_quarter_of_independent_pixels(train: Split, test: Split) -> None:
    """The mean of four pixels of variance v has variance v / 4 and covariance v / 4 with each: R² = 1 / 4."""
    plain = [dataclasses.replace(s, images=split(len(s), seed=i + 5).images) for i, s in enumerate((train, test))]
    (found,) = probe(nn.Sequential(nn.AvgPool2d(2)), ["0"], *plain).probes
    assert found.features == 27
    assert found.pixels.low - 0.02 < 0.25 < found.pixels.high + 0.02


def test_a_layer_apart_from_the_picture_keeps_nothing(train: Split, test: Split) -> None:
    class Apart(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones_like(x)

    found = probe(nn.Sequential(Apart()), ["0"], train, test)
    (only,) = found.probes
    assert abs(only.pixels.value) < 1e-12
    assert only.psnr.value == pytest.approx(found.floor.mean_image, abs=1e-9)
    assert only.accuracy.value == pytest.approx(found.floor.chance, abs=0.05)


def test_shuffled_labels_are_at_chance(train: Split, test: Split) -> None:
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(3))
    shuffled = dataclasses.replace(train, labels=train.labels[order])
    (found,) = probe(nn.Sequential(nn.Identity()), ["0"], shuffled, test).probes
    assert found.accuracy.low < 0.2 < found.accuracy.high


def test_channels_may_come_in_parts(train: Split, test: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(7))
    whole = probe(net, ["0", "1"], train, test, count=300)
    monkeypatch.setattr(module, "ENTRIES", 1)
    parts = probe(net, ["0", "1"], train, test, count=300)
    for one, other in zip(whole.probes, parts.probes, strict=True):
        assert one.pixels.value == pytest.approx(other.pixels.value, abs=1e-4)
        assert one.accuracy.value == pytest.approx(other.accuracy.value, abs=0.01)


def test_the_interval_is_that_of_the_binomial(train: Split, test: Split) -> None:
    (found,) = probe(nn.Sequential(nn.AvgPool2d(3)), ["0"], train, test).probes
    p = found.accuracy.value
    wide = 1.96 * (p * (1 - p) / len(test)) ** 0.5
    assert found.accuracy.high - found.accuracy.low == pytest.approx(2 * wide, rel=0.15)


def test_the_floor_is_that_of_the_pictures(train: Split, test: Split) -> None:
    floor = probe(nn.Sequential(nn.Identity()), ["0"], train, test).floor
    shown = test.images.double() / 255
    own = shown.mean((2, 3), keepdim=True)
    assert floor.mean_color == pytest.approx(float(-10 * (shown - own).square().mean().log10()), abs=1e-5)
    assert floor.chance == pytest.approx(0.2, abs=0.01)


def test_what_cannot_be_probed_is_said(train: Split, test: Split) -> None:
    net = nn.Sequential(nn.Identity())
    many = dataclasses.replace(train, labels=torch.zeros(len(train), 3, dtype=torch.bool))
    with pytest.raises(DataError, match="one class each"):
        probe(net, ["0"], many, test)
    with pytest.raises(DataError, match="of one size"):
        probe(net, ["0"], train, split(20, side=8))
    with pytest.raises(DataError, match="not 0 and 800"):
        probe(net, ["0"], split(1), test)
