"""How like two pictures are: peak signal to noise, structural similarity (pictures in [0, 1]: range 1), correlation."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from torchloupe.errors import DataError

WINDOW, SIGMA = 11, 1.5
LUMINANCE, CONTRAST = 0.01**2, 0.03**2


def psnr(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """Return the peak signal-to-noise ratio of each pair in dB, -10 log10(mean squared difference); inf for equals.

    Raises:
        DataError: the two have different shapes.

    >>> psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1))
    tensor([20.])
    """
    _same(a, b)
    return -10 * ((a - b) ** 2).flatten(1).mean(1).log10()


def correlation(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """Return Pearson's correlation of each pair over all pixels and colours; NaN where one of them is flat.

    Raises:
        DataError: the two have different shapes.

    >>> image = torch.tensor([0.0, 1.0, 2.0, 5.0]).view(1, 1, 2, 2)
    >>> correlation(image, 3 - 2 * image).round()
    tensor([-1.])
    """
    _same(a, b)
    one, other = (each.flatten(1) - each.flatten(1).mean(1, keepdim=True) for each in (a, b))
    size = one.norm(dim=1) * other.norm(dim=1)
    return torch.where(size > 0, (one * other).sum(1) / size, torch.nan).clamp(-1, 1)


def ssim(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
    """Return the structural similarity of each pair, from -1 to 1 (Wang, Bovik, Sheikh & Simoncelli 2004).

    A Gaussian window of 11 x 11, sigma 1.5, wherever it fits wholly inside the picture; each channel by itself, then
    the mean over places and channels. Where a side is below 11 the window takes the largest odd size that fits
    there, with the same sigma.

    Raises:
        DataError: the two have different shapes.

    >>> image = torch.rand(1, 3, 16, 16)
    >>> ssim(image, image)
    tensor([1.])
    """
    _same(a, b)
    channels = a.shape[1]
    rows, columns = (_gaussian(side, a) for side in a.shape[-2:])
    down = rows.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    along = columns.view(1, 1, 1, -1).expand(channels, 1, 1, -1)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, down, groups=channels), along, groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + LUMINANCE) * (2 * both + CONTRAST)
    most = (mean_a**2 + mean_b**2 + LUMINANCE) * (var_a + var_b + CONTRAST)
    return (similar / most).flatten(1).mean(1)


def _gaussian(side: int, like: Tensor) -> Float[Tensor, "k"]:
    size = min(WINDOW, side - 1 + side % 2)
    places = torch.arange(size, dtype=like.dtype, device=like.device) - size // 2
    weights: Tensor = torch.exp(-(places**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _same(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 4:
        raise DataError(
            f"two batches of pictures [n, c, h, w] of one shape can be compared, not {list(a.shape)} and "
            f"{list(b.shape)}. Bring them to the same shape."
        )
