"""ROAD: remove and debias, with removed pixels imputed from those around them (Rong et al. 2022).

A pixel that is set to a color is still seen: as a hole of the mask's shape. So each removed pixel becomes the weighted
mean of its eight neighbors, all of them at once, which are as many linear equations as pixels; they are solved by
conjugate gradients, all images, channels and masks together.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from torchloupe.attribution.scoring.order import AT_ONCE, Answer, places, probabilities, stream
from torchloupe.errors import UsageError
from torchloupe.runtime.memory import smaller

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the pixels that are removed."""
NOISE = 0.01
"""Standard deviation of what is added to imputed pixels, of a range from 0 to 1."""
TOLERANCE = 5e-4
"""Largest residual of a pixel's equation, of a range from 0 to 1: under the noise, and half a step of 8 bits."""


def road(
    answer: Answer,
    images: Float[Tensor, "b c h w"],
    maps: Float[Tensor, "b h w"],
    target: Int64[Tensor, "b"],
    *,
    shares: Sequence[float] = SHARES,
    noise: float = NOISE,
    seed: int = 0,
) -> Float[Tensor, "b"]:
    """Return how much more the target's probability loses where the most relevant pixels go than where the least do.

    The mean over `shares` of the pixels, in [-1, 1]; higher is better, and 0 is chance. Removed pixels are imputed by
    `impute`. Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods"; their figure
    is of accuracies.

    Raises:
        UsageError: a share that is not between 0 and 1.

    >>> images = torch.rand(2, 3, 8, 8)
    >>> road(lambda x: 0 * x.mean((2, 3)), images, images[:, 0], torch.tensor([0, 1]))
    tensor([0., 0.])
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise UsageError(f"shares of removed pixels are above 0 and below 1, not {list(shares)}.")
    place, total = places(maps, seed), maps[0].numel() if len(maps) else 0
    counts = torch.tensor([min(max(1, round(total * share)), total - 1) for share in shares], device=place.device)
    each = 2 * len(shares)
    size, parts = max(1, smaller(AT_ONCE) // each), []
    for number, start in enumerate(range(0, len(images), size)):
        part = slice(start, start + size)
        now, many = place[part, None], counts.view(1, -1, 1, 1)
        removed = torch.cat([now < many, now >= total - many], 1).flatten(0, 1)
        shown = impute(
            images[part].repeat_interleave(each, 0), removed, noise=noise, seed=seed + number, tolerance=TOLERANCE
        )
        found = probabilities(answer, shown.clamp(0, 1), target[part].repeat_interleave(each)).view(-1, 2, len(shares))
        parts.append((found[:, 1] - found[:, 0]).mean(1))
    return torch.cat(parts)


def impute(
    images: Float[Tensor, "b c h w"],
    removed: Bool[Tensor, "b h w"],
    *,
    noise: float = 0.0,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> Float[Tensor, "b c h w"]:
    """Return images whose removed pixels are each the weighted mean of their neighbors, plus Gaussian `noise`.

    Neighbors beside weigh 1/6, those across a corner 1/12; at the border those that there are share the weight. Each
    removed pixel's equation holds up to `tolerance`. An image of which nothing is kept becomes its mean color.

    >>> removed = torch.zeros(1, 3, 3, dtype=torch.bool)
    >>> removed[0, 1, 1] = True
    >>> impute(torch.tensor([[[[0.0, 1.0, 0.0], [1.0, 0.5, 1.0], [0.0, 1.0, 0.0]]]]), removed)[0, 0, 1]
    tensor([1.0000, 0.6667, 1.0000])
    """
    empty = removed.flatten(1).all(1)
    hole = (removed & ~empty[:, None, None])[:, None].to(images.dtype)
    solved = _solve(images, hole, tolerance)
    solved = torch.where(empty[:, None, None, None], images.mean((2, 3), keepdim=True), solved)
    if noise:
        drawn = torch.randn(images.shape, generator=stream("noise", seed), dtype=torch.float64).to(images)
        solved = torch.where(removed[:, None], solved + noise * drawn, solved)
    return solved


def _solve(images: Tensor, hole: Float[Tensor, "b 1 h w"], tolerance: float) -> Tensor:
    """Solve the equations of the pixels where `hole` is 1 by conjugate gradients; the matrix is symmetric, positive."""
    weight = around(torch.ones_like(hole[:1]))  # of the neighbors that there are
    x = torch.where(hole > 0, _filled(images, hole), images)
    r = hole * (around(x) - weight * x)
    # scaled by the diagonal, which is 1 but at the border
    z = r / weight
    p, old = z.clone(), _dot(r, z)
    for step in range(16 * sum(images.shape[2:])):
        if step % 4 == 0 and not bool((r.abs() > tolerance * weight).any()):
            break
        ap = hole * (weight * p - around(p))
        alpha = old / _dot(p, ap).clamp_min(torch.finfo(x.dtype).tiny)
        x += alpha * p
        r -= alpha * ap
        z = r / weight
        new = _dot(r, z)
        p = z + new / old.clamp_min(torch.finfo(x.dtype).tiny) * p
        old = new
    return x


def around(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return the weighted sum of each pixel's eight neighbors: 1/6 beside, 1/12 across a corner; nothing outside.

    >>> around(torch.ones(1, 1, 3, 3))[0, 0, 1]
    tensor([0.6667, 1.0000, 0.6667])
    """
    rows = 2 * x  # 1 2 1 each way, less the middle
    rows[..., 1:, :] += x[..., :-1, :]
    rows[..., :-1, :] += x[..., 1:, :]
    both = 2 * rows
    both[..., 1:] += rows[..., :-1]
    both[..., :-1] += rows[..., 1:]
    return (both - 4 * x) / 12


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((2, 3), keepdim=True)


def _filled(images: Tensor, hole: Float[Tensor, "b 1 h w"]) -> Tensor:
    """Return a first guess: the mean of what is kept, from the finest of ever coarser grids that keeps something."""
    kept = 1 - hole
    if min(images.shape[2:]) < 2:
        share = kept.mean((2, 3), keepdim=True)
        return ((images * kept).mean((2, 3), keepdim=True) / share.clamp_min(1e-9)).expand_as(images)
    share = F.avg_pool2d(kept, 2, ceil_mode=True)
    coarse = F.avg_pool2d(images * kept, 2, ceil_mode=True) / share.clamp_min(1e-9)
    below = _filled(coarse, (share == 0).to(images.dtype))
    known = torch.where(share > 0, coarse, below)
    return F.interpolate(known, images.shape[2:], mode="bilinear")
