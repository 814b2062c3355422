"""PSNR and SSIM against their formulas, window by window."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from torchloupe.errors import DataError
from torchloupe.synthesis.similarity import correlation, psnr, ssim


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(shape, generator=generator, dtype=torch.float64)
    return a, (a + 0.2 * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


def ssim_by_loops(a: torch.Tensor, b: torch.Tensor) -> float:
    """Wang et al. 2004, equations 6 and 13 to 16, one window at a time."""
    channels, height, width = a.shape
    rows, columns = (min(11, side if side % 2 else side - 1) for side in (height, width))
    weight = torch.zeros(rows, columns, dtype=torch.float64)
    for y in range(rows):
        for x in range(columns):
            weight[y, x] = math.exp(-((y - rows // 2) ** 2 + (x - columns // 2) ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    found = []
    for c in range(channels):
        for y in range(height - rows + 1):
            for x in range(width - columns + 1):
                p, q = a[c, y : y + rows, x : x + columns], b[c, y : y + rows, x : x + columns]
                mp, mq = (weight * p).sum(), (weight * q).sum()
                vp, vq = (weight * (p - mp) ** 2).sum(), (weight * (q - mq) ** 2).sum()
                both = (weight * (p - mp) * (q - mq)).sum()
                top = (2 * mp * mq + 0.01**2) * (2 * both + 0.03**2)
                found.append(float(top / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2))))
    return sum(found) / len(found)


@pytest.mark.parametrize("sides", [(13, 17), (11, 11), (9, 14), (4, 12), (1, 5), (8, 8)])
def test_ssim_is_the_mean_over_windows(sides: tuple[int, int]) -> None:
    a, b = pair(2, 3, *sides)
    expected = torch.tensor([ssim_by_loops(p, q) for p, q in zip(a, b, strict=True)], dtype=torch.float64)
    assert torch.allclose(ssim(a, b), expected, atol=1e-12)


def test_ssim_of_equals_is_one_and_it_is_symmetric() -> None:
    a, b = pair(3, 3, 15, 13)
    assert torch.allclose(ssim(a, a), torch.ones(3, dtype=torch.float64), atol=1e-13)
    assert torch.allclose(ssim(a, b), ssim(b, a), atol=1e-14)
    assert (ssim(a, b) < 0.98).all()
    assert (ssim(a, 1 - a) < 0).all()


def test_psnr_of_a_known_offset() -> None:
    a, _ = pair(3, 3, 5, 7)
    offsets = torch.tensor([0.1, 0.01, 1.0], dtype=torch.float64)
    found = psnr(a, a + offsets.view(3, 1, 1, 1))
    assert torch.allclose(found, torch.tensor([20, 40, 0], dtype=torch.float64), atol=1e-10)
    assert psnr(a, a).isinf().all()


def test_psnr_is_minus_ten_log_of_the_mean_square() -> None:
    a, b = pair(2, 3, 5, 7)
    expected = [
        10 * math.log10(1 / (sum(d * d for d in (p - q).flatten().tolist()) / p.numel()))
        for p, q in zip(a, b, strict=True)
    ]
    assert torch.allclose(psnr(a, b), torch.tensor(expected, dtype=torch.float64), atol=1e-10)


@pytest.mark.usefixtures("wrong_shapes")
@pytest.mark.parametrize("score", [psnr, ssim])
def test_different_shapes_are_refused(score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(DataError, match="one shape"):
        score(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8))


def test_correlation_is_numpys_and_knows_flat_pictures() -> None:
    a, b = pair(4, 3, 5, 7)
    for one, other, found in zip(a, b, correlation(a, b).tolist(), strict=True):
        expected = np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1]
        assert found == pytest.approx(expected, abs=1e-12)
    assert correlation(a, 3 - 2 * a).tolist() == pytest.approx([-1] * 4)
    assert correlation(a, torch.ones_like(a)).isnan().all()


@pytest.mark.usefixtures("wrong_shapes")
def test_correlation_of_different_shapes_is_refused() -> None:
    a, b = pair(4, 3, 5, 7)
    with pytest.raises(DataError, match="of one shape"):
        correlation(a, b[:2])
