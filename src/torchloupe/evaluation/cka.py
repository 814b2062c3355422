"""How alike two layers represent the same images: linear centered kernel alignment, debiased."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from torchloupe.errors import DataError

LEAST = 4
"""Images that the unbiased estimate needs."""
EQUAL = 1e-6
"""Features that spread by less than this share of their size do not change over the images."""


def cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float:
    """Return the debiased linear CKA of two layers' features of the same images, at most 1; NaN where one is constant.

    HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) (Kornblith et al. 2019), each by the unbiased estimate of Song et al. 2007,
    as in Nguyen et al. 2021: 0 in expectation for independent features, however many they are, so that it may be below
    0. It does not change when features are turned, mirrored, permuted, moved, or scaled all alike.

    Raises:
        DataError: fewer than four images.

    >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> round(cka(x, 3 * x.flip(1) + 1), 12)
    1.0
    """
    return float(cka_table([x], [y])[0, 0])


def cka_table(first: Sequence[Float[Tensor, "n _"]], second: Sequence[Float[Tensor, "n _"]]) -> Float[Tensor, "a b"]:
    """Return `cka` of every layer of one network with every layer of another, in float64.

    >>> x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    >>> cka_table([x, x.exp()], [x]).shape
    torch.Size([2, 1])
    """
    rows, columns = ([_centered(features) for features in each] for each in (first, second))
    own_rows, own_columns = ([_hsic(x, x) for x in each] for each in (rows, columns))
    table = torch.full((len(rows), len(columns)), torch.nan, dtype=torch.float64)
    for i, x in enumerate(rows):
        for j, y in enumerate(columns):
            scale = math.sqrt(max(0.0, own_rows[i] * own_columns[j]))
            table[i, j] = min(1.0, _hsic(x, y) / scale) if scale else torch.nan
    return table


def _centered(features: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Return features around their mean, of a size near 1, in float64; zeros where they do not change."""
    if len(features) < LEAST:
        raise DataError(f"CKA needs {LEAST} images or more, not {len(features)}.")
    exact = features.double()
    moved = exact - exact.mean(0)
    moved = torch.where(moved.abs().amax(0) > EQUAL * exact.abs().amax(0), moved, 0)
    size = moved.square().mean().sqrt()
    return moved / size if size > 0 else moved


def _hsic(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float:
    """Return the unbiased estimate of HSIC for linear kernels of centered features.

    With K = x xᵀ without its diagonal and L alike, it is [tr(KL) + (1ᵀK1)(1ᵀL1) / ((n-1)(n-2)) - 2 · 1ᵀKL1 / (n-2)] /
    (n(n-3)). Centered rows sum to 0, so that K1 is less the diagonal taken out: no table of all pairs is needed.
    """
    n = len(x)
    k, el = x.square().sum(1), y.square().sum(1)
    wide = x.shape[1] * y.shape[1] > n * n
    whole = ((x @ x.T) * (y @ y.T)).sum() if wide else (x.T @ y).square().sum()
    both = (k * el).sum()
    found = whole - both * n / (n - 2) + k.sum() * el.sum() / ((n - 1) * (n - 2))
    return float(found) / (n * (n - 3))
