"""Intervals of shares and of their differences: the one place where an accuracy gets its ends."""

import math
from collections.abc import Sequence
from statistics import NormalDist

Z = 1.959963984540054
"""Quantile of the normal distribution for an interval of 95 %."""


def quantile(level: float = 0.95, of: int = 1) -> float:
    """Return the normal quantile of an interval; of several looked at together, so that all hold (Bonferroni).

    >>> round(quantile(), 3), round(quantile(of=10), 3)
    (1.96, 2.807)
    """
    return NormalDist().inv_cdf(1 - (1 - level) / (2 * max(1, of)))


def wilson(hits: int, n: int, z: float = Z) -> tuple[float, float]:
    """Return the 95 % interval of a share that was found as `hits` of `n` (Wilson 1927); the whole of [0, 1] for none.

    >>> [round(end, 3) for end in wilson(9, 10)], wilson(0, 0)
    ([0.596, 0.982], (0.0, 1.0))
    """
    if not n:
        return 0.0, 1.0
    share, weight = hits / n, z * z / n
    middle = share + weight / 2
    spread = z * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    low, high = (middle - spread) / (1 + weight), (middle + spread) / (1 + weight)
    return max(0.0, low) if hits else 0.0, min(1.0, high) if hits < n else 1.0


def paired_interval(only_a: int, only_b: int, n: int, z: float = Z) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two paired shares (Bonett & Price 2012), within [-1, 1].

    It is Wald's with one image added to each side, so that no difference found is not no width.

    >>> [round(end, 3) for end in paired_interval(30, 10, 100)], paired_interval(0, 0, 100)[1] > 0
    ([0.078, 0.315], True)
    """
    p, q = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    spread = z * math.sqrt(max(0.0, p + q - (p - q) ** 2) / (n + 2))
    return max(-1.0, p - q - spread), min(1.0, p - q + spread)


def words(interval: Sequence[float], digits: int = 2) -> str:
    """Write an interval of shares, a pair, in percent.

    >>> words(wilson(1000, 1000))
    '99.62 to 100.00 %'
    """
    low, high = interval
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f} %"
