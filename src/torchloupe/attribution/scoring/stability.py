"""Whether a map goes with the picture when that is shifted by a pixel or two."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from torchloupe.attribution.rank_correlation import spearman
from torchloupe.errors import UsageError

SHIFTS = ((2, 1), (-1, -2))
"""Pixels down and to the right, by default."""


def shift_stability(
    explain: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b h w"]],
    images: Float[Tensor, "b c h w"],
    maps: Float[Tensor, "b h w"] | None = None,
    *,
    shifts: Sequence[tuple[int, int]] = SHIFTS,
) -> Float[Tensor, "b"]:
    """Return Spearman's correlation of the map with that of the shifted picture shifted back: the mean over shifts.

    Pixels that have gone over the border are left out. In [-1, 1], 1 for an explanation that goes with the picture; NaN
    where a map is flat. `maps`: those of `images`, where they are known. It takes networks too that answer differently
    to the shifted picture: what is not stable may be the network.

    Raises:
        UsageError: a shift by as much as a side, or none.

    >>> shift_stability(lambda x: x.sum(1), torch.rand(2, 3, 8, 8))
    tensor([1., 1.], dtype=torch.float64)
    """
    height, width = images.shape[2:]
    if not shifts or any(abs(dy) >= height or abs(dx) >= width for dy, dx in shifts):
        raise UsageError(f"shifts are one or more, smaller than the picture of {height} x {width}, not {list(shifts)}.")
    before = explain(images) if maps is None else maps
    found = []
    for dy, dx in shifts:
        after = explain(shifted(images, dy, dx))
        rows, columns = _overlap(height, dy), _overlap(width, dx)
        moved = after[:, rows[1], columns[1]]
        found.append(spearman(before[:, rows[0], columns[0]], moved))
    return torch.stack(found).nanmean(0)


def shifted(images: Float[Tensor, "b c h w"], dy: int, dx: int) -> Float[Tensor, "b c h w"]:
    """Return images shifted down by `dy` and right by `dx` pixels; the border's pixels fill what comes free.

    >>> shifted(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 0, 1)
    tensor([[[[1., 1., 2.]]]])
    """
    height, width = images.shape[2:]
    top, bottom, left, right = max(dy, 0), max(-dy, 0), max(dx, 0), max(-dx, 0)
    wide = F.pad(images, (left, right, top, bottom), mode="replicate")
    return wide[..., bottom : bottom + height, right : right + width]


def _overlap(side: int, by: int) -> tuple[slice, slice]:
    """Return which rows are seen before and after a shift: at their places before, and after."""
    return slice(max(-by, 0), side - max(by, 0)), slice(max(by, 0), side - max(-by, 0))
