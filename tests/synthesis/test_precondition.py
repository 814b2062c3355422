"""The change of variables to the scale of nature: linear, onto, and coarse first."""

import pytest
import torch

from torchloupe.synthesis.parameterization import natural, smooth


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("sides", [(5, 7), (8, 6), (1, 4), (1, 1)])
def test_it_is_linear_and_loses_nothing(sides: tuple[int, int]) -> None:
    size = 3 * sides[0] * sides[1]
    matrix = (natural(torch.eye(size, dtype=torch.float64).view(size, 3, *sides)) - 0.5).flatten(1)
    assert torch.linalg.matrix_rank(matrix) == size
    x = numbers(2, 3, *sides)
    assert torch.allclose(natural(x).flatten(1), 0.5 + x.flatten(1) @ matrix, atol=1e-12)


def test_amplitude_falls_as_one_over_frequency() -> None:
    along = torch.arange(32, dtype=torch.float64)
    waves = torch.stack([torch.cos(2 * torch.pi * k * along / 32).expand(1, 32, 32) for k in (1, 2, 4, 8)])
    heights = (natural(waves) - 0.5).flatten(1).norm(dim=1)
    assert torch.allclose(heights / heights[0], torch.tensor([1, 1 / 2, 1 / 4, 1 / 8], dtype=torch.float64))


def test_colour_moves_less_than_brightness() -> None:
    x = numbers(1, 1, 9, 9)
    bright = natural(x.expand(1, 3, 9, 9)) - 0.5
    red_green = natural(torch.cat([x, -x, 0 * x], 1)) - 0.5
    assert torch.allclose(red_green[:, 0], 0.3 * bright[:, 0], atol=1e-12)


@pytest.mark.parametrize("sides", [(32, 32), (25, 41)])
def test_smooth_numbers_make_soft_blobs(sides: tuple[int, int]) -> None:
    made = natural(smooth(numbers(6, 3, *sides))) - 0.5
    strong = made.flatten(1).std(dim=1)
    assert torch.allclose(strong[::2], strong[0]) and torch.allclose(strong[1::2], strong[1])
    assert strong[0] < 0.75 * strong[1]
    power = torch.fft.fft2(made).abs().square()
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) * min(sides) for n in sides)
    cycles = (rows[:, None] ** 2 + columns[None, :] ** 2).sqrt()  # along the shorter side
    assert power[..., cycles > 6].sum() < 1e-3 * power.sum() < power[..., (cycles > 0) & (cycles < 3)].sum()


def test_smooth_leaves_each_picture_to_itself() -> None:
    x = numbers(3, 3, 9, 9)
    assert torch.allclose(smooth(x)[:1], smooth(x[:1]), atol=1e-12)
