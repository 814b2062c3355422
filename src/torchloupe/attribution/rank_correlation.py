"""How alike two attributions are: Spearman's rank correlation, signed and of magnitudes, with an interval over images.

Adebayo et al. (2018, "Sanity checks for saliency maps") compare the attribution of a trained network with that of a
network of other weights by both: the first sees the sign, the second what a picture of magnitudes shows.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torchloupe.errors import DataError

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571)
"""97.5th percentile of Student's t, of 1, 2, … degrees of freedom."""
NORMAL = 1.959963984540054


@dataclass(frozen=True)
class Mean:
    """A mean over images and the ends of its 95 % interval; NaN where there is too little for one."""

    mean: float
    low: float
    high: float
    n: int
    """Images."""


def ranks(values: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Return each value's rank in its row, from 1; equal ones share the mean of theirs.

    >>> ranks(torch.tensor([[10.0, 30.0, 20.0, 30.0]]))
    tensor([[1.0000, 3.5000, 2.0000, 3.5000]], dtype=torch.float64)
    """
    values = values.contiguous()
    ordered = values.sort(1).values
    first, behind = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    return (first + behind + 1).double() / 2


def spearman(a: Float[Tensor, "n ..."], b: Float[Tensor, "n ..."]) -> Float[Tensor, "n"]:
    """Return Spearman's rank correlation of each pair, over all pixels and colours; NaN where one of them is flat.

    Raises:
        DataError: the two have different shapes.

    >>> spearman(torch.tensor([[1.0, 2.0, 3.0, 9.0]]), torch.tensor([[1.0, 4.0, 9.0, 2.0]]))
    tensor([0.4000], dtype=torch.float64)
    """
    if a.shape != b.shape:
        raise DataError(f"two batches of one shape can be compared, not {list(a.shape)} and {list(b.shape)}.")
    one, other = (ranks(each.flatten(1)) for each in (a, b))
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    size = one.norm(dim=1) * other.norm(dim=1)
    return torch.where(size > 0, (one * other).sum(1) / size, torch.nan).clamp(-1, 1)


def mean_of(values: Float[Tensor, "n"], low: float = -1.0, high: float = 1.0) -> Mean:
    """Return the mean over images with its 95 % interval (Student's t), within [low, high]; NaN are left out.

    >>> found = mean_of(torch.tensor([0.1, 0.2, 0.3, torch.nan]))
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), found.n
    (0.2, -0.048, 0.448, 3)
    """
    known = values.double()[values.isfinite()]
    n = len(known)
    mean = known.mean().item() if n else math.nan
    if n < 2:
        return Mean(mean, math.nan, math.nan, n)
    half = student(n - 1) * known.std().item() / math.sqrt(n)
    return Mean(mean, max(low, mean - half), min(high, mean + half), n)


def student(freedom: int) -> float:
    """Return the 97.5th percentile of Student's t, to three digits (Cornish-Fisher's expansion from six on).

    >>> student(1), round(student(7), 3), round(student(31), 3)
    (12.706, 2.365, 2.04)
    """
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z, v = NORMAL, freedom
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    return z + (z**3 + z) / (4 * v) + second + third + fourth
