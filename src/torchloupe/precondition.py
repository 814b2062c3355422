"""Pictures in the scale of nature: coarse shapes and brightness move first, fine grain and colour last."""

import torch
from jaxtyping import Float
from torch import Tensor

COLOUR = 0.3
"""How freely a channel parts from the mean of the channels; in photographs colours go together."""
BLOBS = 2.5
STRENGTHS = (0.15, 0.25)
"""Standard deviations of the pictures that `smooth` makes, in turn."""


def natural(numbers: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return pictures from free numbers, one each: grey for zeros, else with an amplitude that falls as 1/frequency.

    A linear change of variables and no constraint: every picture has its numbers. Photographs have such a spectrum
    (Field 1987), and so a step that is equally long in all numbers is a natural one in the picture (Olah et al. 2017,
    "Feature visualization", call it preconditioning). The gain is 1 in the mean square over all frequencies.

    >>> natural(torch.zeros(1, 3, 5, 7)).unique()
    tensor([0.5000])
    """
    height, width = numbers.shape[-2:]
    like = {"dtype": numbers.dtype, "device": numbers.device}
    rows = torch.fft.fftfreq(height, **like)[:, None]
    columns = torch.fft.fftfreq(width, **like)[None, :]
    gain = 1 / (rows**2 + columns**2).sqrt().clamp(min=1 / max(height, width))
    gain = (gain / (gain**2).mean().sqrt())[:, : width // 2 + 1]
    middle = numbers.mean(1, keepdim=True)
    mixed = middle + COLOUR * (numbers - middle)
    pictures: Tensor = 0.5 + torch.fft.irfft2(torch.fft.rfft2(mixed) * gain, s=(height, width))
    return pictures


def smooth(numbers: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return numbers whose pictures are soft blobs, of a strength between faint and strong from one to the next.

    What is finer than a few blobs across fades away, as exp(-(f/f₀)²) with f₀ = 2.5 cycles along the shorter side.

    >>> made = natural(smooth(torch.randn(2, 3, 16, 16)))
    >>> made.std((1, 2, 3)).round(decimals=2)
    tensor([0.1500, 0.2500])
    """
    height, width = numbers.shape[-2:]
    like = {"dtype": numbers.dtype, "device": numbers.device}
    rows, columns = torch.fft.fftfreq(height, **like)[:, None], torch.fft.rfftfreq(width, **like)[None, :]
    gain = torch.exp(-(rows**2 + columns**2) * (min(height, width) / BLOBS) ** 2)
    soft = torch.fft.irfft2(torch.fft.rfft2(numbers) * gain, s=(height, width))
    strength = numbers.new_tensor(STRENGTHS).repeat(len(numbers))[: len(numbers), None, None, None]
    blobs: Tensor = strength * soft / natural(soft).std((1, 2, 3), keepdim=True).clamp(min=1e-30)
    return blobs
