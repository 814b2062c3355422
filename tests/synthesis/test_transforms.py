"""Small changes of pictures against loops over pixels."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torchloupe.synthesis.transforms import jitter, shifted, wobble


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clamped(value: float, most: int) -> float:
    return min(max(value, 0), most)


@pytest.mark.parametrize("side", [(5, 7), (6, 4), (1, 3)])
@pytest.mark.parametrize("move", [(0, 0), (1, 0), (0, -2), (-3, 2), (2, 3), (9, -8)], ids=str)
def test_a_shift_pixel_by_pixel(side: tuple[int, int], move: tuple[int, int]) -> None:
    pictures = random(2, 3, *side)
    expected = torch.empty_like(pictures)
    for y in range(side[0]):
        for x in range(side[1]):
            source = (int(clamped(y - move[0], side[0] - 1)), int(clamped(x - move[1], side[1] - 1)))
            expected[:, :, y, x] = pictures[:, :, source[0], source[1]]
    assert torch.equal(shifted(pictures, *move), expected)


def move_of(change: Callable[[Tensor, int], Tensor], step: int, reach: int) -> tuple[int, int]:
    """Read a shift off a picture that holds its own coordinates, at a pixel far from the edges."""
    n = 4 * reach + 3
    y, x = torch.meshgrid(torch.arange(float(n)), torch.arange(float(n)), indexing="ij")
    moved = change(torch.stack([y, x])[None], step)[0, :, n // 2, n // 2]
    return n // 2 - int(moved[0]), n // 2 - int(moved[1])


@pytest.mark.parametrize("reach", [1, 2])
def test_jitter_takes_every_shift_within_its_reach_and_no_other(reach: int) -> None:
    found = {move_of(jitter(reach, seed=4), step, reach) for step in range(60 * (2 * reach + 1) ** 2 // 9)}
    within = range(-reach, reach + 1)
    assert found == {(down, right) for down in within for right in within}


TRANSFORMS = pytest.mark.parametrize(
    "make", [lambda seed: jitter(3, seed), lambda seed: wobble(12.0, 0.2, seed)], ids=["jitter", "wobble"]
)


@TRANSFORMS
def test_a_change_belongs_to_its_seed_and_step(make: Any) -> None:
    pictures = random(1, 2, 9, 8)
    first = [make(5)(pictures, step) for step in range(12)]
    backwards = {step: make(5)(pictures, step) for step in reversed(range(12))}
    assert all(torch.equal(first[step], backwards[step]) for step in range(12)), "neither order nor past matters"
    assert len({tuple(each.flatten().tolist()) for each in first}) > 6
    assert any(not torch.equal(first[step], make(6)(pictures, step)) for step in range(12))
    state = torch.get_rng_state()
    make(5)(pictures, 0)
    assert torch.equal(torch.get_rng_state(), state)


@TRANSFORMS
def test_every_picture_is_changed_alike(make: Any) -> None:
    pictures = random(4, 3, 9, 8)
    for step in range(5):
        alone = torch.cat([make(1)(pictures[i : i + 1], step) for i in range(4)])
        torch.testing.assert_close(make(1)(pictures, step), alone, rtol=0, atol=1e-15)
        assert torch.equal(make(1)(pictures[:1].repeat(3, 1, 1, 1), step)[0], make(1)(pictures[:1], step)[0])


@TRANSFORMS
def test_gradients_pass_in_float64(make: Any) -> None:
    pictures = random(2, 1, 5, 4).requires_grad_()
    for step in range(3):
        seen = make(2)(pictures, step)
        assert seen.dtype == torch.float64 and seen.shape == pictures.shape
        assert torch.autograd.gradcheck(lambda x, at=step: make(2)(x, at), (pictures,), fast_mode=False)


def test_without_reach_nothing_changes() -> None:
    pictures = random(2, 3, 7, 6)
    for step in range(4):
        assert torch.equal(jitter(0)(pictures, step), pictures) and torch.equal(wobble(0, 0)(pictures, step), pictures)
        near = wobble(1e-9, 1e-9)(pictures, step)
        torch.testing.assert_close(near, pictures, atol=1e-8, rtol=0)


def turn_of(change: Callable[[Tensor, int], Tensor], step: int, side: tuple[int, int]) -> tuple[float, float]:
    """Read angle (degrees) and factor off a picture of coordinates about its middle: bilinear is exact on planes."""
    height, width = side
    y = torch.arange(height, dtype=torch.float64)[:, None].expand(side) - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64)[None].expand(side) - (width - 1) / 2
    seen = change(torch.stack([y, x])[None], step)[0]
    down, right = (seen[:, height // 2, width // 2 + 1] - seen[:, height // 2, width // 2]).tolist()
    return math.degrees(math.atan2(down, right)), 1 / math.hypot(down, right)


def test_a_wobble_turns_and_scales_within_its_reach() -> None:
    found = [turn_of(wobble(8.0, 0.1, seed=3), step, (9, 13)) for step in range(150)]
    angles, factors = zip(*found, strict=True)
    assert -8 <= min(angles) < -7 and 7 < max(angles) <= 8
    assert math.exp(-0.1) <= min(factors) < 0.92 and 1.09 < max(factors) <= math.exp(0.1)
    only = [turn_of(wobble(0.0, 0.1), step, (9, 13)) for step in range(20)]
    assert max(abs(angle) for angle, _ in only) < 1e-9 and len({factor for _, factor in only}) > 10
    only = [turn_of(wobble(8.0, 0.0), step, (9, 13)) for step in range(20)]
    assert max(abs(factor - 1) for _, factor in only) < 1e-12 and len({angle for angle, _ in only}) > 10


@pytest.mark.parametrize("side", [(9, 9), (9, 13), (12, 8)], ids=str)
@pytest.mark.parametrize("reach", [(20.0, 0.0), (0.0, 0.3), (25.0, 0.2)], ids=str)
def test_a_wobble_pixel_by_pixel(side: tuple[int, int], reach: tuple[float, float]) -> None:
    change, (height, width) = wobble(*reach, seed=9), side
    pictures = random(1, 2, *side)
    for step in range(3):
        degrees, factor = turn_of(change, step, side)
        angle = math.radians(degrees)
        expected = torch.empty_like(pictures)
        for i in range(height):
            for j in range(width):
                y, x = i - (height - 1) / 2, j - (width - 1) / 2
                v = clamped((math.sin(angle) * x + math.cos(angle) * y) / factor + (height - 1) / 2, height - 1)
                u = clamped((math.cos(angle) * x - math.sin(angle) * y) / factor + (width - 1) / 2, width - 1)
                top, left = min(int(v), height - 2), min(int(u), width - 2)
                a, b = v - top, u - left
                corner = pictures[0, :, top : top + 2, left : left + 2]
                above, below = ((1 - b) * corner[:, k, 0] + b * corner[:, k, 1] for k in (0, 1))
                expected[0, :, i, j] = (1 - a) * above + a * below
        torch.testing.assert_close(change(pictures, step), expected, atol=1e-10, rtol=0)
        assert float((expected - pictures).abs().max()) > 0.01
