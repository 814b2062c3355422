"""Pictures whose colours and spectrum are known."""

import pytest
import torch
from torch import Tensor

MEAN = torch.tensor([0.4, 0.5, 0.55], dtype=torch.float64)

COLOR = 0.03 * torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.5, 0.8], [0.5, 0.8, 2.0]], dtype=torch.float64)
"""Symmetric and positive: the symmetric root of its own square."""

SIDES = pytest.mark.parametrize("side", [(8, 8), (9, 9), (7, 10), (12, 5)], ids=str)


def whole(spectrum: Tensor, width: int) -> Tensor:
    """Spread a half spectrum over all frequencies, one at a time: the mirror of (y, x) is (-y, -x)."""
    channels, height, half = spectrum.shape
    out = torch.zeros(channels, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            out[:, y, x] = spectrum[:, y, x] if x < half else spectrum[:, (height - y) % height, width - x]
    return out


def known(height: int, width: int) -> Tensor:
    """Three unlike spectra, falling faster along one axis than along the other; each of unit variance."""
    y, x = torch.fft.fftfreq(height).double()[:, None].abs(), torch.fft.rfftfreq(width).double()[None]
    falls = [1 / (0.1 + y + 3 * x), 1 / (0.2 + 2 * y + x), 0.3 + y * x * 8]
    shape = torch.stack(falls)
    power = whole(shape, width).square().mean((1, 2), keepdim=True)
    return shape / power.sqrt()


def covariance(images: Tensor) -> Tensor:
    return torch.cov(images.transpose(0, 1).flatten(1), correction=0)
