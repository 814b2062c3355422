"""Drawn sheets as arrays of dots, in which a picture can be found again."""

import numpy as np
from jaxtyping import Int64
from torch import Tensor

Raster = Int64[np.ndarray, "h w"]


def codes(pixels: Raster) -> Raster:
    coded: Raster = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return coded


def spot(drawn: Raster, image: Tensor) -> tuple[int, int, int]:
    """Upper and left edge of a picture and the factor of its enlargement, every dot looked at."""
    source = codes(image.permute(1, 2, 0).numpy())
    rows, columns = np.nonzero(drawn == source[0, 0])
    assert len(rows), "the picture is not there"
    upper, left, factor = int(rows.min()), int(columns.min()), int(rows.max() - rows.min() + 1)
    blocks = np.kron(source, np.ones((factor, factor), np.int64))
    assert np.array_equal(drawn[upper : upper + len(blocks), left : left + blocks.shape[1]], blocks)
    assert np.isin(drawn, source).sum() == blocks.size, "there is more of it elsewhere"
    return upper, left, factor
