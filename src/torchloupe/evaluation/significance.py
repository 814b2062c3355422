"""Whether a difference could be chance: McNemar's exact test, of one pair or of many, and what survives many tests."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Q = 0.05
"""False discovery rate: of the units that are said to have an effect, so many have none, on average, at most."""


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (1947) that two networks are equally often right.

    Of the images that exactly one has right, each has as many by chance: twice the binomial tail, at most 1.

    >>> mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 1.0)
    """
    apart, least = only_a + only_b, min(only_a, only_b)
    term = total = 1
    for k in range(least):  # whole numbers: exact however many
        term = term * (apart - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / 2**apart) if only_a != only_b else 1.0


def mcnemar_each(only_a: Int64[Tensor, "n"], only_b: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Return the p-values of `mcnemar` for many pairs of counts at once, in float64.

    >>> mcnemar_each(torch.tensor([0, 3]), torch.tensor([5, 3])).tolist()
    [0.0625, 1.0]
    """
    apart, least = (only_a + only_b).double(), torch.minimum(only_a, only_b)
    k = torch.arange(int(least.max()) + 1 if len(least) else 0, dtype=torch.float64)
    ways = torch.lgamma(apart + 1)[:, None] - torch.lgamma(k + 1) - torch.lgamma((apart[:, None] - k).clamp_min(0) + 1)
    terms = torch.where(k <= least[:, None], ways, -torch.inf)
    tail = (terms.logsumexp(1) + (1 - apart) * math.log(2)).exp()
    return torch.where(only_a == only_b, 1.0, tail.clamp(max=1))


def paired_error(lost: Int64[Tensor, "n"], gained: Int64[Tensor, "n"], images: int) -> Float[Tensor, "n"]:
    """Return the standard error of each share (lost - gained) / images, over images, in float64.

    Only images that change sides count. It is that of one image more on each side (Bonett & Price 2012), so that where
    none changes it is not zero.

    >>> paired_error(torch.tensor([0, 30]), torch.tensor([0, 10]), 100).mul(1000).round().tolist()
    [14.0, 60.0]
    """
    p, q = (lost + 1).double() / (images + 2), (gained + 1).double() / (images + 2)
    return ((p + q - (p - q).square()) / (images + 2)).sqrt()


def discovered(p: Float[Tensor, "n"], q: float = Q) -> Bool[Tensor, "n"]:
    """Tell which of many tests find something at a false discovery rate of `q` (Benjamini & Hochberg 1995).

    Of the p-values in order the largest that is at most q times its share of the places, and all that are smaller.

    >>> discovered(torch.tensor([0.04, 0.01, 0.5, 0.02])).tolist()
    [False, True, False, True]
    """
    n = len(p)
    order = p.double().argsort()
    below = p.double()[order] <= q * torch.arange(1, n + 1, dtype=torch.float64) / max(1, n)
    most = int(below.nonzero().max()) + 1 if bool(below.any()) else 0
    found = torch.zeros(n, dtype=torch.bool)
    found[order[:most]] = True
    return found
