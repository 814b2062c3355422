"""Pictures as parameters: where they start, what MACO holds fixed, and what noise looks like."""

import pytest
import torch
from torch import Tensor

from spectra import COLOR, SIDES, covariance, known
from torchloupe.errors import UsageError
from torchloupe.synthesis.image_statistics import ImageStatistics, generic
from torchloupe.synthesis.optimize import optimize
from torchloupe.synthesis.parameterization import Fourier, Kind, Maco, noise, parameterize, squash, unsquash

KINDS: tuple[Kind, ...] = ("fourier", "pixel", "maco")


def statistics(height: int, width: int) -> ImageStatistics:
    spectrum = known(height, width).float()
    return ImageStatistics(spectrum, COLOR.float(), torch.tensor([0.4, 0.5, 0.55]), width)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def photograph(n: int, height: int, width: int) -> Tensor:
    """Pictures not nearer than 0.01 to black or white."""
    return 0.02 + 0.96 * random(n, 3, height, width)


def decorrelated(pictures: Tensor, told: ImageStatistics) -> Tensor:
    """Undo `mean + color @ z` by solving for z, pixel by pixel."""
    n, _, h, w = pictures.shape
    columns = (pictures - told.mean.double()[:, None, None]).transpose(0, 1).flatten(1)
    z: Tensor = torch.linalg.solve(told.color.double(), columns)
    return z.view(3, n, h, w).transpose(0, 1)


def magnitudes(pictures: Tensor, told: ImageStatistics) -> Tensor:
    """Of all frequencies, not of one half: that the pictures are real is part of the claim."""
    found: Tensor = torch.fft.fft2(decorrelated(pictures, told), norm="ortho").abs()
    return found


def everywhere(spectrum: Tensor, width: int) -> Tensor:
    """Spread a half spectrum that is even in y."""
    return spectrum.double()[:, :, [min(x, width - x) for x in range(width)]]


@SIDES
@pytest.mark.parametrize("kind", ["fourier", "pixel"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_they_start_at_the_picture(kind: str, side: tuple[int, int], dtype: torch.dtype, near: float) -> None:
    start = photograph(2, *side).to(dtype)
    for told in (statistics(*side), generic(*side), statistics(11, 6)):
        made = parameterize(kind, start, told)().detach()
        assert made.dtype == dtype and float((made - start).abs().max()) < near


def test_black_and_white_are_brought_a_little_inside() -> None:
    ends = torch.tensor([0.0, 0.005, 0.01, 0.5, 0.99, 1.0], dtype=torch.float64)
    assert squash(unsquash(ends)).tolist() == pytest.approx([0.01, 0.01, 0.01, 0.5, 0.99, 0.99])
    h = 1e-6
    assert float(squash(torch.tensor(0.5 + h)) - 0.5) == pytest.approx(h, rel=0.1), "around grey nothing is stretched"


@SIDES
def test_fourier_coefficients_are_in_units_of_their_natural_strength(side: tuple[int, int]) -> None:
    told, start = statistics(*side), photograph(1, *side)
    picture = Fourier(start, told)
    with torch.no_grad():
        picture.coefficients[0, 1, 2, 1, 0] += 1
    changed, before = (decorrelated(0.5 + torch.logit(x) / 4, told) for x in (picture().detach(), start))
    found = torch.fft.rfft2(changed - before, norm="ortho")[0]
    expected = torch.zeros_like(found)
    expected[1, 2, 1] = told.spectrum[1, 2, 1]
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


@SIDES
@pytest.mark.parametrize("other", [False, True])
def test_maco_keeps_the_magnitudes_whatever_the_phases(side: tuple[int, int], other: bool) -> None:
    told = statistics(11, 6) if other else statistics(*side)
    picture = Maco(photograph(3, *side), told)
    told = told.resized(*side)
    expected = everywhere(told.spectrum, side[1])
    for seed in range(3):
        found = magnitudes(picture.unclamped().detach(), told)
        torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-6, atol=1e-9)
        with torch.no_grad():
            picture.phase.add_(20 * random(*picture.phase.shape, seed=seed) - 10)


@SIDES
def test_maco_keeps_the_magnitudes_while_it_is_optimised(side: tuple[int, int]) -> None:
    told, aim = statistics(*side), random(2, 3, *side, seed=5)
    picture = Maco(photograph(2, *side), told)
    before = picture.unclamped().detach()
    losses: list[float] = []
    optimize(
        lambda x: (x - aim).square().mean((1, 2, 3)),
        picture,
        steps=12,
        lr=0.3,
        on_step=lambda _, loss: losses.append(float(loss.sum())),
    )
    after = picture.unclamped().detach()
    found = magnitudes(after, told)
    torch.testing.assert_close(found, everywhere(told.spectrum, side[1]).expand_as(found), rtol=1e-6, atol=1e-9)
    assert losses[-1] < losses[0] and float((after - before).abs().max()) > 0.01


@SIDES
def test_maco_starts_with_the_phases_of_the_picture(side: tuple[int, int]) -> None:
    told = statistics(*side)
    start = photograph(2, *side)
    found = torch.fft.fft2(decorrelated(start, told), norm="ortho")
    z = torch.fft.ifft2(found / found.abs() * everywhere(told.spectrum, side[1]), norm="ortho")
    assert float(z.imag.abs().max()) < 1e-6, "the swap of magnitudes leaves it real"
    expected = torch.einsum("ij,njhw->nihw", told.color.double(), z.real) + told.mean.double()[:, None, None]
    torch.testing.assert_close(Maco(start, told).unclamped().detach(), expected, atol=1e-6, rtol=0)


def test_the_gradient_passes_the_clamp() -> None:
    told = statistics(9, 8)
    loud = ImageStatistics(told.spectrum, 6 * told.color, told.mean, 8)
    picture = Maco(photograph(2, 9, 8), loud)
    free, seen = picture.unclamped(), picture()
    torch.testing.assert_close(seen, free.clamp(0, 1), atol=1e-12, rtol=0)
    outside = ((free < 0) | (free > 1)).double() * random(*free.shape)
    assert 0.1 < float((outside > 0).double().mean()) < 0.9
    one, other = (torch.autograd.grad((outside * x).sum(), picture.phase)[0] for x in (seen, free))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    assert float(one.abs().max()) > 1e-3


def test_maco_leaves_the_statistics_alone() -> None:
    told = statistics(8, 8)
    told.spectrum[:, 1, 0] *= 1.5  # as after rounding, only more
    before = told.spectrum.clone()
    Maco(photograph(1, 8, 8).float(), told)
    assert torch.equal(told.spectrum, before)


@SIDES
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_singles(kind: str, side: tuple[int, int]) -> None:
    told, start, aim = statistics(*side), photograph(3, *side), random(3, *side, seed=7)

    def loss(x: Tensor) -> Tensor:
        return (x - aim).square().mean((1, 2, 3))

    together = optimize(loss, parameterize(kind, start, told), steps=4, lr=0.1)
    for i in range(3):
        alone = optimize(loss, parameterize(kind, start[i : i + 1], told), steps=4, lr=0.1)
        torch.testing.assert_close(together[i], alone[0], atol=1e-9, rtol=0)
    assert float((together - start).abs().max()) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shown_is_a_picture_and_every_parameter_has_a_gradient(kind: str) -> None:
    picture = parameterize(kind, photograph(2, 7, 10), statistics(7, 10))
    seen = picture()
    assert seen.shape == (2, 3, 7, 10) and bool(((seen > -1e-12) & (seen < 1 + 1e-12)).all())
    slopes = torch.autograd.grad((seen * random(*seen.shape)).sum(), list(picture.parameters()))
    assert slopes and all(bool(slope.any()) for slope in slopes)


@SIDES
@pytest.mark.parametrize("other", [False, True])
def test_noise_has_the_spectrum_and_the_colours(side: tuple[int, int], other: bool) -> None:
    told = statistics(11, 6) if other else statistics(*side)
    made = noise((3, *side), told, seed=3, count=1500, dtype=torch.float64)
    assert made.shape == (1500, 3, *side) and float(made.min()) > 0 and float(made.max()) < 1
    y = 0.5 + torch.logit(made) / 4
    told = told.resized(*side)
    expected = COLOR @ COLOR
    torch.testing.assert_close(covariance(y), expected, atol=0.05 * float(expected.max()), rtol=0)
    torch.testing.assert_close(y.mean((0, 2, 3)), told.mean.double(), atol=0.01, rtol=0)
    found = magnitudes(y, told).square().mean(0).sqrt()
    torch.testing.assert_close(found, everywhere(told.spectrum, side[1]), rtol=0.1, atol=0.01)


def test_noise_belongs_to_its_seed_and_type() -> None:
    told = statistics(9, 8)
    one, same, other = (noise((3, 9, 8), told, seed, 2, torch.float32) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and one.dtype == torch.float32
    assert not torch.equal(one[0], one[1])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no parameterization 'wavelet'\. It is fourier, pixel, maco"):
        parameterize("wavelet", photograph(1, 4, 4), generic(4, 4))
