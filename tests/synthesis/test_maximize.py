"""Maximisation: towards a bound that is known, and every number found again from the pictures alone."""

import statistics
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchloupe.errors import DataError, LayerError, UsageError
from torchloupe.models.network import Network, wrap
from torchloupe.synthesis.image_statistics import generic
from torchloupe.synthesis.maximize import maximize
from torchloupe.synthesis.parameterization import noise

QUICK: dict[str, Any] = {"steps": 3, "copies": 2, "lr": 0.1}
KINDS = pytest.mark.parametrize("kind", ["fourier", "pixel", "maco"])


def net(seed: int = 0) -> nn.Sequential:
    """Nonlinear, strided; channel 2 of the last layer is dead."""
    torch.manual_seed(seed)
    last = nn.Conv2d(6, 5, 3, stride=2, padding=1)
    with torch.no_grad():
        last.weight[2] = 0
        assert last.bias is not None
        last.bias.add_(0.3)
        last.bias[2] = -100
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), last, nn.ReLU(inplace=True)).double()


def photographs(n: int = 2, side: tuple[int, int] = (14, 9)) -> Tensor:
    return 0.05 + 0.9 * torch.rand(n, 3, *side, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def on(model: nn.Module, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(pictures)
        return out


def bounds(conv: nn.Conv2d, channel: int, side: int) -> tuple[float, float, Tensor]:
    """Least and largest mean of a channel over all pictures in [0, 1], and what each pixel weighs in it."""
    weight, kernel = conv.weight.detach()[channel], conv.kernel_size[0]
    many = side - kernel + 1
    each = torch.zeros(3, side, side, dtype=torch.float64)
    for y, x in product(range(many), repeat=2):
        each[:, y : y + kernel, x : x + kernel] += weight / many**2
    assert conv.bias is not None
    bias = float(conv.bias.detach()[channel])
    return float(each.clamp(max=0).sum()) + bias, float(each.clamp(min=0).sum()) + bias, each


@pytest.mark.parametrize(("kind", "share"), [("pixel", 0.97), ("fourier", 0.8), ("maco", 0.5)])
def test_a_linear_unit_is_driven_towards_its_bound(kind: str, share: float) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(3, 4, 3).double()
    found = maximize(
        nn.Sequential(conv), "0", canvas=9, parameterization=kind, steps=120, lr=0.3, copies=1, transforms=False
    )
    for channel in range(4):
        least, most, each = bounds(conv, channel, 9)
        reached = float(found.activation[channel])
        assert reached <= most + 1e-9 and reached >= least + share * (most - least)
        if kind == "pixel":
            assert bool(((found.pictures[channel] > 0.5) == (each > 0)).all())


@KINDS
@pytest.mark.parametrize("transforms", [False, True])
def test_figures_are_those_of_the_pictures(kind: str, transforms: bool) -> None:
    model = net()
    found = maximize(model, "3", channels=[4, 0, 2], canvas=13, parameterization=kind, transforms=transforms, **QUICK)
    assert found.channel.tolist() == [4, 4, 0, 0, 2, 2] and found.copy.tolist() == [0, 1] * 3
    assert found.image.tolist() == [-1] * 6 and found.pictures.shape == (6, 3, 13, 13)
    assert float(found.pictures.min()) >= 0 and float(found.pictures.max()) <= 1
    features = on(model, found.pictures)
    expected = [float(features[i, c].mean()) for i, c in enumerate(found.channel)]
    assert found.activation.tolist() == pytest.approx(expected, rel=1e-9)
    assert found.dead.tolist() == [False] * 4 + [True] * 2 and found.activation[4:].tolist() == [0, 0]
    spread = [statistics.stdev(expected[i : i + 2]) for i in (0, 2, 4) for _ in range(2)]
    assert found.spread.tolist() == pytest.approx(spread, rel=1e-6)
    ends = (found.pictures < 1e-12) | (found.pictures > 1 - 1e-12)
    assert found.clipped.tolist() == pytest.approx(ends.double().mean((1, 2, 3)).tolist(), abs=1e-6)
    assert kind != "maco" or float(found.clipped.max()) > 0, "the test would show nothing"


def moved(picture: Tensor, down: int, right: int) -> Tensor:
    """Pixel by pixel; what comes in repeats the edge."""
    out, (height, width) = torch.empty_like(picture), picture.shape[1:]
    for y, x in product(range(height), range(width)):
        out[:, y, x] = picture[:, min(height - 1, max(0, y - down)), min(width - 1, max(0, x - right))]
    return out


def test_shifted_is_the_mean_over_all_shifts_of_up_to_two_pixels() -> None:
    model = net()
    found = maximize(model, "3", photographs(1), channels=[0, 3], **QUICK)
    for i, channel in enumerate(found.channel.tolist()):
        places = [(y, x) for y, x in product(range(-2, 3), repeat=2) if (y * y + x * x) ** 0.5 <= 2]
        assert len(places) == 13
        seen = torch.stack([moved(found.pictures[i], *by) for by in places])
        assert float(found.shifted[i]) == pytest.approx(float(on(model, seen)[:, channel].mean()), rel=1e-9)
    assert not torch.allclose(found.shifted, found.activation, rtol=1e-4)
    assert bool(maximize(model, "3", photographs(1), channels=[0], shifts=False, **QUICK).shifted.isnan().all())


def test_one_copy_has_no_spread() -> None:
    assert bool(maximize(net(), "3", canvas=9, steps=1, copies=1).spread.isnan().all())


@pytest.mark.parametrize(("position", "at"), [((1, 3), (1, 3)), ("center", (3, 2)), ((0, 0), (0, 0))])
def test_a_position_is_one_neuron(position: Any, at: tuple[int, int]) -> None:
    model = net()
    found = maximize(model, "3", photographs(2, (15, 11)), channels=[0, 3], position=position, **QUICK)
    features = on(model, found.pictures)
    assert features.shape[2:] == (7, 5)
    expected = [float(features[i, c, at[0], at[1]]) for i, c in enumerate(found.channel)]
    assert found.activation.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("position", [None, (2, 1)])
def test_a_direction_is_a_dot_product(position: tuple[int, int] | None) -> None:
    model, direction = net(), [0.5, -2.0, 7.0, 1.0, 0.25]
    found = maximize(model, "3", canvas=12, direction=direction, position=position, **QUICK)
    features = on(model, found.pictures)
    values = features.mean((2, 3)) if position is None else features[:, :, 2, 1]
    expected = [sum(float(v) * d for v, d in zip(row, direction, strict=True)) for row in values]
    assert found.activation.tolist() == pytest.approx(expected, rel=1e-9) and found.channel.tolist() == [-1, -1]
    other = maximize(model, "3", canvas=12, direction=[-d for d in direction], position=position, **QUICK)
    assert not torch.allclose(found.pictures, other.pictures, atol=0.01)


@pytest.mark.parametrize("channels", [None, [3, 1]])
def test_all_channels_together_are_their_mean(channels: list[int] | None) -> None:
    model = net()
    found = maximize(model, "3", photographs(3), channels=channels, each=False, **QUICK)
    asked = channels or list(range(5))
    expected = sum(on(model, found.pictures)[:, c].mean((1, 2)) for c in asked) / len(asked)
    torch.testing.assert_close(found.activation, expected, rtol=1e-9, atol=0)
    assert found.image.tolist() == [0, 0, 1, 1, 2, 2] and found.channel.tolist() == [-1] * 6


def classifier() -> Network:
    bare = nn.Sequential(net(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4).double())
    return wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, size=11, classes=4)


def test_output_is_a_class_logit_at_the_networks_own_size() -> None:
    model = classifier()
    found = maximize(model, "output", channels=[3, 1], **QUICK)
    assert found.pictures.shape == (4, 3, 11, 11) and found.layer == "output"
    logits = on(model, found.pictures)
    assert found.activation.tolist() == pytest.approx([float(logits[i, c]) for i, c in enumerate([3, 3, 1, 1])])


def test_the_best_real_picture_is_compared_with_where_that_means_something() -> None:
    model, best = net(), torch.tensor([0.5, 2.0, 0.0, 0.25, 1.0])
    found = maximize(model, "3", canvas=9, channels=[3, 1], best=best, **QUICK)
    assert found.best is not None and found.best.tolist() == [0.25, 0.25, 2.0, 2.0]
    assert found.ratio is not None
    expected = [a / b for a, b in zip(found.activation.tolist(), found.best.tolist(), strict=True)]
    assert found.ratio.tolist() == pytest.approx(expected)
    others: list[dict[str, Any]] = [{"each": False}, {"direction": [1.0] * 5}, {"position": "center"}]
    for other in others:
        apart = maximize(model, "3", canvas=9, best=best, **other, **QUICK)
        assert apart.best is None and apart.ratio is None


def test_no_ratio_to_what_is_not_above_zero() -> None:
    ratio = maximize(net(), "3", canvas=9, channels=[0, 1, 3], best=torch.tensor([-2.0, 0, 0, 1, 0]), **QUICK).ratio
    assert ratio is not None and ratio.isfinite().tolist() == [False] * 4 + [True] * 2 and not bool(ratio.isinf().any())


def test_a_unit_is_the_same_alone_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = net(), {"canvas": 10, "seed": 5, "steps": 3, "copies": 3}
    whole = maximize(model, "3", channels=[0, 3, 4], **settings)  # type: ignore[arg-type]
    alone = maximize(model, "3", channels=[3], **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(alone.pictures, whole.pictures[3:6], rtol=1e-6, atol=1e-9)
    monkeypatch.setattr("torchloupe.synthesis.maximize.at_once", lambda *_: 4)
    told: list[tuple[int, int]] = []
    parts = maximize(model, "3", channels=[0, 3, 4], progress=lambda *done: told.append(done), **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(parts.pictures, whole.pictures, rtol=1e-6, atol=1e-9)
    assert told[-1] == (27, 27) and told == sorted(set(told))


def likeness(features: Tensor) -> float:
    """Mean cosine between the Gram matrices of any two."""
    grams = [(f := each.flatten(1)) @ f.T for each in features]
    pairs = [(a, b) for i, a in enumerate(grams) for b in grams[:i]]
    return statistics.fmean(float((a * b).sum() / (a.norm() * b.norm())) for a, b in pairs)


def test_diversity_makes_copies_less_alike() -> None:
    model = net()
    alike = []
    for diversity in (0.0, 5.0):
        found = maximize(model, "3", canvas=12, channels=[0], steps=25, copies=4, diversity=diversity, transforms=False)
        alike.append(likeness(on(model, found.pictures)))
    assert alike[1] < alike[0] - 0.02


@pytest.mark.parametrize("kind", ["fourier", "pixel"])
def test_from_a_photograph_it_starts_there(kind: str) -> None:
    x = photographs(2)
    found = maximize(net(), "3", x, channels=[0, 4], steps=1, lr=1e-7, copies=3, parameterization=kind)
    assert found.image.tolist() == [0] * 6 + [1] * 6 and found.copy.tolist() == [0, 1, 2] * 4
    away = (found.pictures - x[found.image]).abs().mean((1, 2, 3)).view(4, 3)
    assert bool((away[:, 0] < 1e-5).all())
    assert bool((away[:, 1:] > 0.02).all() and (away[:, 1:] < 0.08).all()), "copies are grains apart"


@KINDS
def test_it_climbs(kind: str) -> None:
    settings: dict[str, Any] = {"copies": 2, "lr": 0.1, "parameterization": kind, "transforms": False}
    for start, canvas in ((None, 14), (photographs(2), None)):
        settings["canvas"] = canvas
        short, long = (maximize(net(), "3", start, channels=[0, 4], steps=s, **settings) for s in (1, 30))
        assert bool((long.activation > short.activation).all())


def test_noise_that_drives_the_unit_most_is_the_start() -> None:
    model = net()
    found = maximize(model, "3", canvas=12, channels=[0, 1, 3, 4], steps=1, lr=1e-7, copies=2, transforms=False)
    typical = on(model, noise((3, 12, 12), generic(12, 12), 77, 200, torch.float64)).mean((2, 3))
    rank = (typical[:, found.channel] < found.activation).double().mean(0)
    assert float(rank.min()) > 0.8 and float(rank.mean()) > 0.9


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps and copies are at least 1"),
        ({"copies": 0}, "steps and copies are at least 1"),
        ({"lr": 0.0}, "lr above 0"),
        ({"position": "middle"}, "'center' or"),
        ({"position": (4, 0)}, "maps of 4 x 4: there is no position"),
        ({"position": (0, -1)}, "there is no position"),
        ({"direction": [1.0, 2.0]}, "a direction in layer '3' has 5 numbers, not 2"),
        ({"channels": [5]}, "channels 0 to 4"),
        ({"parameterization": "wavelet"}, "no parameterization 'wavelet'. It is fourier, pixel, maco"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        maximize(net(), "3", canvas=9, **settings)
    with pytest.raises(LayerError):
        maximize(net(), "7", canvas=9)
    with pytest.raises(DataError):
        maximize(net(), "3", 2 * photographs())


def test_a_canvas_and_photographs_are_not_asked_together() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(UsageError, match="canvas"):
        maximize(net, "1", torch.rand(1, 3, 9, 9), canvas=12, steps=1)
