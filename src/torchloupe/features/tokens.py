"""Tokens `[b, n, c]` as maps: where each of them stands in the picture, and which stand nowhere.

A vision transformer cuts the picture into patches of a whole number of pixels, and works on one vector a patch, row by
row. Before them stand tokens of no place: a class token (ViT), a second for distillation (DeiT), registers (DINOv2).
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

MOST_EXTRA = 16
"""Tokens of no place, at most."""
FEW_EXTRA = 5
"""The same where patches do not divide the picture, so that the grid is less sure: a class token and four registers."""
FIRST_CHANNELS = (nn.Flatten, nn.Conv1d, nn.modules.batchnorm.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d)
"""Modules that put channels before places."""


class Grid(NamedTuple):
    """Where tokens stand."""

    axis: int
    """The axis of the tokens, 1 or 2; channels are on the other."""
    extra: int
    """Tokens of no place, which stand first."""
    height: int
    width: int


def grid_of(module: nn.Module, shape: Sequence[int], image: Sequence[int]) -> Grid | None:
    """Return where the tokens of a layer's output `[b, n, c]` stand in a picture (height, width); None if nowhere.

    >>> grid_of(nn.Identity(), (1, 197, 768), (224, 224)), grid_of(nn.Identity(), (1, 261, 384), (224, 224))
    (Grid(axis=1, extra=1, height=14, width=14), Grid(axis=1, extra=5, height=16, width=16))
    >>> grid_of(nn.Identity(), (1, 7, 768), (224, 224)) is None
    True
    """
    for axis in (2, 1) if isinstance(module, FIRST_CHANNELS) else (1, 2):
        extra = MOST_EXTRA if axis == 1 else 0
        if found := places(shape[axis], image, extra):
            return Grid(axis, *found)
        if isinstance(module, nn.Linear | nn.LayerNorm):
            return None
    return None


def places(tokens: int, image: Sequence[int], most: int = MOST_EXTRA) -> tuple[int, int, int] | None:
    """Return how many of so many tokens have no place, and the height and width of the grid of the others.

    Patches are squares of a whole number of pixels. Those that divide the picture come first, then those with a rest
    that is left out or padded; among them the fewest tokens of no place, less than half as many as patches.

    >>> places(65, (32, 32)), places(50, (32, 64)), places(21, (30, 30))
    ((1, 8, 8), (0, 5, 10), (5, 4, 4))
    """
    height, width = image
    found = []
    for side in range(1, max(height, width) + 1):
        down, up = (height // side, width // side), (-(-height // side), -(-width // side))
        for rank, (rows, columns) in ((0 if down == up else 1, down), (2, up)):
            extra = tokens - rows * columns
            if 0 <= extra <= (min(most, FEW_EXTRA) if rank else most) and rows * columns > max(1, 2 * extra):
                found.append((rank, extra, rows, columns))
    return min(found)[1:] if found else None
