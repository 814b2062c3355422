"""Intervals against their definitions, published values and draws."""

import math

import pytest
import torch
from torch import Tensor

from torchloupe.evaluation.intervals import Z, paired_interval, quantile, wilson, words


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_by_the_table_of_newcombe(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), table I, method 3: the score interval without continuity correction."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_all_right_is_not_certainty() -> None:
    """At the edge the score interval has a closed form: n / (n + z²)."""
    assert wilson(1000, 1000) == pytest.approx((1000 / (1000 + Z * Z), 1))
    assert wilson(1000, 1000)[0] > 0.996 and words(wilson(0, 0), 0) == "0 to 100 %"


def test_quantiles() -> None:
    for of in (1, 10, 1000):
        z = quantile(of=of)
        assert math.erfc(z / math.sqrt(2)) == pytest.approx(0.05 / of, rel=1e-6)
    assert quantile() == pytest.approx(Z)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 7), (9103, 10_000)])
def test_wilson_holds_the_shares_that_the_test_of_scores_keeps(hits: int, n: int) -> None:
    low, high = wilson(hits, n)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(hits / n - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / n), rel=1e-9)
    assert (low == 0) == (hits == 0) and (high == 1) == (hits == n)


def test_the_interval_of_a_difference_covers() -> None:
    """95 of 100 intervals hold the truth, or nearly: by drawing, at a difference that is not 0."""
    chance, shares, n = torch.Generator().manual_seed(3), torch.tensor([0.8, 0.12, 0.03, 0.05]), 200
    draws = torch.multinomial(shares.repeat(2000, 1), n, replacement=True, generator=chance)
    counts: Tensor = torch.stack([(draws == k).sum(1) for k in (1, 2)], 1)
    held = [low <= 0.09 <= high for low, high in (paired_interval(a, b, n) for a, b in counts.tolist())]
    assert 0.93 < sum(held) / len(held) < 0.975
    low, high = paired_interval(0, 0, 50)
    assert low == pytest.approx(-high) and high > 0
    assert paired_interval(5, 0, 5)[1] <= 1
