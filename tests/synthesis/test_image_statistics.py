"""Statistics of pictures against noise whose colours and spectrum are known."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spectra import COLOR, MEAN, SIDES, covariance, known, whole
from torchloupe.errors import UsageError
from torchloupe.synthesis.image_statistics import ImageStatistics, generic, measure


def noise(spectrum: Tensor, width: int, count: int, seed: int = 0) -> Tensor:
    """Independent channels of this spectrum."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, 3, spectrum.shape[1], width, generator=generator, dtype=torch.float64)
    z: Tensor = torch.fft.irfft2(torch.fft.rfft2(white, norm="ortho") * spectrum, s=white.shape[2:], norm="ortho")
    return z


def painted(z: Tensor) -> Tensor:
    return torch.einsum("ij,njhw->nihw", COLOR, z) + MEAN[:, None, None]


@SIDES
def test_colours_and_spectrum_of_noise_are_found_again(side: tuple[int, int]) -> None:
    spectrum = known(*side)
    images = painted(noise(spectrum, side[1], 2000))
    found = measure((images.clamp(0, 1) * 255).round().to(torch.uint8))
    torch.testing.assert_close(found.mean.double(), MEAN, atol=0.01, rtol=0)
    torch.testing.assert_close(found.color.double(), COLOR, atol=0.003, rtol=0)
    torch.testing.assert_close(found.spectrum.double(), spectrum, atol=0.03, rtol=0.09)
    assert float(spectrum.max() / spectrum.min()) > 3 and found.width == side[1]


@SIDES
def test_what_is_measured_fits_its_own_pictures_exactly(side: tuple[int, int]) -> None:
    images = (painted(noise(known(*side), side[1], 40)).clamp(0, 1) * 255).round().to(torch.uint8)
    found = measure(images)
    expected = covariance(images.double() / 255)
    torch.testing.assert_close((found.color @ found.color.T).double(), expected, atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(found.color, found.color.T, atol=1e-7, rtol=0)
    power = whole(found.spectrum, side[1]).square().mean((1, 2))
    torch.testing.assert_close(power, torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)


@SIDES
def test_pictures_made_from_white_noise_have_the_covariance(side: tuple[int, int]) -> None:
    images = (painted(noise(known(*side), side[1], 300)).clamp(0, 1) * 255).round().to(torch.uint8)
    found = measure(images)
    z = noise(found.spectrum.double(), side[1], 2000, seed=1)
    made = found.mean.double()[:, None, None] + torch.einsum("ij,njhw->nihw", found.color.double(), z)
    expected = covariance(images.double() / 255)
    torch.testing.assert_close(covariance(made), expected, atol=0.05 * float(expected.max()), rtol=0.05)
    torch.testing.assert_close(made.mean((0, 2, 3)), (images.double() / 255).mean((0, 2, 3)), atol=0.01, rtol=0)


def shades(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)


def test_pictures_are_taken_evenly() -> None:
    found = measure(shades(*[0, 255] * 10), most=10)
    assert found.mean.tolist() == [0] * 3, "every second one"
    assert measure(shades(*[0, 255] * 10), most=20).mean.tolist() == pytest.approx([0.5] * 3)
    with pytest.raises(UsageError, match="no pictures"):
        measure(shades())


def test_pictures_are_taken_evenly_where_the_number_is_not_a_multiple() -> None:
    found = measure(shades(*[0] * 20, *[255] * 19), most=20)
    assert found.mean.tolist() == pytest.approx([0.5] * 3, abs=0.06)


@pytest.mark.parametrize("old", [(8, 8), (9, 7), (16, 13)], ids=str)
@pytest.mark.parametrize("new", [(8, 8), (11, 11), (10, 15), (5, 4), (33, 16)], ids=str)
def test_resized_has_unit_variance_at_odd_and_even_sizes(old: tuple[int, int], new: tuple[int, int]) -> None:
    start = ImageStatistics(known(*old).float(), COLOR.float(), MEAN.float(), old[1])
    found = start.resized(*new)
    power = whole(found.spectrum, new[1]).square().mean((1, 2))
    torch.testing.assert_close(power, torch.ones(3, dtype=torch.float64), atol=1e-5, rtol=0)
    assert found.spectrum.shape == (3, new[0], new[1] // 2 + 1) and found.width == new[1]
    assert torch.equal(found.color, start.color) and torch.equal(found.mean, start.mean)


def slope(height: int, width: int) -> Tensor:
    """A spectrum linear in the frequencies, unlike along the two axes: linear interpolation is exact on it."""
    y, x = torch.fft.fftfreq(height)[:, None].abs(), torch.fft.rfftfreq(width)[None]
    plane: Tensor = (2 - 1.5 * y - 0.6 * x).expand(3, -1, -1).contiguous()
    return plane


@pytest.mark.parametrize("old", [(16, 18), (15, 19), (11, 8)], ids=str)
@pytest.mark.parametrize("new", [(24, 26), (9, 30), (15, 12)], ids=str)
def test_resized_keeps_the_strength_at_the_same_cycles_a_pixel(old: tuple[int, int], new: tuple[int, int]) -> None:
    found = ImageStatistics(slope(*old), COLOR.float(), MEAN.float(), old[1]).resized(*new).spectrum
    ratio = found / slope(*new)
    for n, m, axis in zip(old, new, (1, 2), strict=True):  # frequencies above the old ones are not known
        known_here = [i for i in range(ratio.shape[axis]) if min(i, m - i) / m <= (n // 2) / n]
        ratio = ratio.index_select(axis, torch.tensor(known_here))
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-5, atol=0)
    assert ratio.numel() > 100


@pytest.mark.parametrize("new", [(48, 45), (33, 64), (27, 20)], ids=str)
def test_resized_keeps_one_over_f(new: tuple[int, int]) -> None:
    found = generic(32, 32).resized(*new).spectrum
    y, x = torch.fft.fftfreq(new[0])[:, None], torch.fft.rfftfreq(new[1])[None]
    frequency = (y.square() + x.square()).sqrt()
    middle = (frequency >= 4 / 32).expand_as(found)
    constant = (found * frequency)[middle]
    assert middle.sum() > 100 and float(constant.max() / constant.min()) < 1.04


def test_resized_treats_a_picture_and_its_mirror_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    place = torch.arange(16)
    stripes = torch.cos(2 * torch.pi * (3 * place[:, None] - 3 * place[None]) / 16)
    strength = 0.1 * torch.randn(200, 3, 1, 1, generator=generator)
    batch = 0.5 + strength * stripes + 0.02 * torch.randn(200, 3, 16, 16, generator=generator)
    images = (batch.clamp(0, 1) * 255).round().to(torch.uint8)
    one, mirrored = (measure(each).resized(32, 32).spectrum for each in (images, images.flip(3)))
    torch.testing.assert_close(one[:, 6, 6], mirrored[:, -6, 6], rtol=0.1, atol=0)
    torch.testing.assert_close(one[:, -6, 6], mirrored[:, 6, 6], rtol=0.1, atol=0)
    assert bool((one[:, -6, 6] > 3 * one[:, 6, 6]).all()), "the slant is kept"


@SIDES
@pytest.mark.parametrize("channels", [1, 3])
def test_generic_pictures(side: tuple[int, int], channels: int) -> None:
    found = generic(*side, channels)
    assert found.spectrum.shape == (channels, side[0], side[1] // 2 + 1)
    power = whole(found.spectrum, side[1]).square().mean((1, 2))
    torch.testing.assert_close(power, torch.ones(channels, dtype=torch.float64), atol=1e-5, rtol=0)
    for y, x in ((0, 1), (2, 0), (1, 2), (side[0] - 1, 1)):
        f = (((min(y, side[0] - y)) / side[0]) ** 2 + (x / side[1]) ** 2) ** 0.5
        lowest = 1 / max(side)
        assert found.spectrum[0, y, x] / found.spectrum[0, 0, 0] == pytest.approx(lowest / f, rel=1e-5)
    expected = torch.full((channels, channels), 0.9 / 16) + 0.1 / 16 * torch.eye(channels)
    torch.testing.assert_close(found.color @ found.color.T, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.color, found.color.T)
    assert found.mean.tolist() == [0.5] * channels and found.width == side[1]


def test_through_tensors_and_back() -> None:
    start = generic(9, 8)
    back = ImageStatistics.from_tensors(start.to_tensors())
    for name in ("spectrum", "color", "mean"):
        assert torch.equal(getattr(back, name), getattr(start, name))
    assert back.width == 8 and isinstance(back.width, int)
    odd = replace(start, width=9)
    assert ImageStatistics.from_tensors(odd.to_tensors()).width == 9
    assert start.resized(9, 8) is start and odd.resized(9, 8) is not odd
