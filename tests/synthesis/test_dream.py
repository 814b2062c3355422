"""Dream: one step by hand, sizes and order of octaves, and what it promises of its strength."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.errors import DataError, ModelError, UsageError
from torchloupe.models.network import wrap
from torchloupe.synthesis.dream import dream


def pictures(n: int = 3, side: tuple[int, int] = (27, 22), seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained_like(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3, stride=2), nn.ReLU()
    )
    net(torch.randn(16, 3, 20, 20))  # statistics of its own
    return net.double().eval()


class Recorder(nn.Module):
    """Notes the size of all that passes, and may refuse sizes by an error of its own."""

    def __init__(self, only: tuple[int, int] | None = None, error: type[Exception] = RuntimeError) -> None:
        super().__init__()
        self.conv, self.only, self.error = nn.Conv2d(3, 4, 3), only, error
        seen: list[tuple[int, ...]] = []
        self.note = seen.append  # what a module holds itself is put back after a look
        self.noted: Callable[[], list[tuple[int, ...]]] = lambda: seen

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            self.note(tuple(x.shape[2:]))
        if self.only is not None and tuple(x.shape[2:]) != self.only:
            raise self.error("the picture has another size than the model")
        out: Tensor = self.conv(x)
        return out


@pytest.mark.parametrize("channels", [None, [1, 3]])
def test_one_step_of_a_linear_network_is_the_formula(channels: list[int] | None) -> None:
    """x + 0.05 g / mean|g|, g the slope of the mean square of W·shift(x), the shift one of 25."""
    net, x = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)).double(), pictures(2, (9, 7))
    weight = net[0].weight.detach()[channels or list(range(4)), :, 0, 0]  # type: ignore[operator]
    settings: dict[str, Any] = {"octaves": 1, "steps": 1, "step_size": 0.05, "channels": channels}
    found = dream(net, "0", x, **settings)
    fits = []
    for down, right in product(range(-2, 3), repeat=2):
        slope = torch.zeros_like(x)
        for y, c in product(range(9), range(7)):
            at = (..., min(8, max(0, y - down)), min(6, max(0, c - right)))  # the pixel that comes to stand here
            slope[at] += 2 * (x[at] @ weight.T) @ weight / (len(weight) * 9 * 7)
        step = 0.05 * slope / slope.abs().mean((1, 2, 3), keepdim=True)
        fits.append(bool(torch.allclose(found.pictures, (x + step).clamp(0, 1), rtol=0, atol=1e-12)))
    assert sum(fits) == 1
    before, after = (torch.einsum("oc,bcyx->boyx", weight, p).square().mean((1, 2, 3)) for p in (x, found.pictures))
    torch.testing.assert_close(found.before, before, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.after, after, rtol=1e-12, atol=0)


@pytest.mark.parametrize("layer", ["0", "2", "4"])
@pytest.mark.parametrize("channels", [None, [4]])
def test_what_is_amplified_grows(layer: str, channels: list[int] | None) -> None:
    net, x = trained_like(), pictures()
    found = dream(net, layer, x, channels=channels, steps=6)
    with torch.no_grad():
        before, after = (net[: int(layer) + 1](p)[:, channels or slice(None)] for p in (x, found.pictures))
    torch.testing.assert_close(found.before, before.square().mean((1, 2, 3)), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.after, after.square().mean((1, 2, 3)), rtol=1e-9, atol=0)
    assert bool((found.after > 1.2 * found.before).all())
    assert float(found.pictures.min()) >= 0 and float(found.pictures.max()) <= 1 and torch.equal(found.images, x)


def test_more_steps_and_longer_ones_amplify_more() -> None:
    net, x = trained_like(), pictures()
    strength = [dream(net, "4", x, octaves=1, steps=s, step_size=z).after for s, z in ((1, 0.01), (6, 0.01), (6, 0.05))]
    assert bool((strength[0] < strength[1]).all() and (strength[1] < strength[2]).all())


@pytest.mark.parametrize(
    ("side", "settings", "sides"),
    [
        ((40, 33), {"octaves": 3}, [(20, 17), (29, 24), (40, 33)]),
        ((40, 33), {"octaves": 9}, [(20, 17), (29, 24), (40, 33)]),  # 40 / 1.4³ is below 16
        ((40, 33), {"octaves": 2, "octave_scale": 2.0}, [(20, 16), (40, 33)]),
        ((40, 33), {"octaves": 1}, [(40, 33)]),
        ((64, 20), {"octaves": 3}, [(64, 20)]),  # the shorter side counts
        ((12, 9), {"octaves": 4}, [(12, 9)]),
    ],
)
def test_octaves_go_from_the_smallest_to_the_full_size(
    side: tuple[int, int], settings: dict[str, Any], sides: list[tuple[int, int]]
) -> None:
    net = Recorder().double()
    found = dream(net, "conv", pictures(2, side), steps=3, **settings)
    assert net.noted() == [each for each in sides for _ in range(3)] and found.pictures.shape[2:] == side


def test_pictures_smaller_than_any_octave_are_dreamt_at_their_own_size() -> None:
    net, x = trained_like(), pictures(2, (9, 7))
    found = dream(net, "4", x, octaves=5, steps=3)
    assert torch.equal(found.pictures, dream(net, "4", x, octaves=1, steps=3).pictures)
    assert bool((found.after > found.before).all())


class Small(nn.Module):
    """Has something to say of pictures of 16 rows only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out if x.shape[2] == 16 else 0 * out


def test_detail_of_small_octaves_is_carried_to_the_full_size() -> None:
    torch.manual_seed(0)
    net, x = Small().double(), 0.25 + 0.5 * pictures(2, (32, 40))
    found = dream(net, "output", x, octaves=2, octave_scale=2, steps=3)
    small = F.interpolate(x, (16, 20), mode="bilinear", antialias=True)
    detail = dream(net, "output", small, octaves=1, steps=3).pictures - small
    assert float(detail.abs().mean()) > 0.01
    torch.testing.assert_close(found.pictures, (x + F.interpolate(detail, (32, 40), mode="bilinear")).clamp(0, 1))


def test_a_batch_is_its_singles_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = trained_like(), pictures(5)
    x[1] *= 0.1  # a much smaller slope: each picture has a step of its own
    settings: dict[str, Any] = {"octaves": 2, "octave_scale": 1.2, "steps": 3, "seed": 4}
    whole = dream(net, "4", x, **settings)
    for i in range(5):
        torch.testing.assert_close(whole.pictures[i : i + 1], dream(net, "4", x[i : i + 1], **settings).pictures)
    monkeypatch.setattr("torchloupe.synthesis.dream.at_once", lambda *_: 2)
    told: list[tuple[int, int]] = []
    parts = dream(net, "4", x, progress=lambda done, total: told.append((done, total)), **settings)
    torch.testing.assert_close(parts.pictures, whole.pictures)
    torch.testing.assert_close(parts.after, whole.after)
    assert told[-1] == (30, 30) and told == sorted(set(told))


def test_a_unit_that_sees_nothing_leaves_the_photograph_alone() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).double(), pictures(2, (19, 17))
    nn.init.constant_(net[0].bias, -100)  # type: ignore[arg-type]
    found = dream(net, "1", x, octaves=2, octave_scale=1.05, steps=3)
    torch.testing.assert_close(found.pictures, x, rtol=0, atol=1e-12)
    assert found.before.tolist() == found.after.tolist() == [0, 0]


@pytest.mark.parametrize("error", [RuntimeError, ValueError, AssertionError])  # as transformers and torchvision refuse
def test_a_network_of_one_size_is_told_with_the_way_out(error: type[Exception]) -> None:
    net, x = Recorder((33, 30), error), pictures(1, (33, 30)).float()
    with pytest.raises(ModelError, match=r"does not take pictures of 21 x 24 \(.*\): ask for fewer octaves"):
        dream(net, "conv", x, octaves=2)
    dream(net, "conv", x, octaves=1, steps=1)


def test_a_linear_layer_of_fixed_width_is_told_too_and_a_wrong_full_size_is_no_matter_of_octaves() -> None:
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, 5))
    net = wrap(bare, mean=None, std=None, size=32, classes=5)
    with pytest.raises(ModelError, match="ask for fewer octaves"):
        dream(net, "output", pictures(1, (32, 32)).float())
    dream(net, "0", pictures(1, (32, 32)).float(), steps=1)  # the layers before it take any size
    with pytest.raises(RuntimeError, match="shapes"):
        dream(net, "output", pictures(1, (30, 30)).float(), octaves=1)


@pytest.mark.parametrize(
    "settings",
    [{"octaves": 0}, {"octave_scale": 1.0}, {"steps": 0}, {"step_size": 0.0}, {"channels": [5]}, {"channels": [-1]}],
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        dream(trained_like(), "4", pictures(), **settings)
    with pytest.raises(DataError):
        dream(trained_like(), "4", 2 * pictures())
