"""Two networks' answers: counts by hand, McNemar against the binomial formula, intervals against their definitions."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from torchloupe.errors import DataError
from torchloupe.evaluation.accuracy import Evaluation, judge
from torchloupe.evaluation.agreement import Agreement, Z, agreement, mcnemar, most_apart, paired_interval, wilson

CLASSES = ("ant", "bee", "cat")


def said(predicted: list[int], labels: list[int], classes: tuple[str, ...] = CLASSES) -> Evaluation:
    scores = torch.full((len(labels), len(classes)), 1e-3)
    scores[torch.arange(len(labels)), torch.tensor(predicted)] = 1
    return judge((scores / scores.sum(1, keepdim=True)).log(), torch.tensor(labels), classes)


def test_every_count_by_hand() -> None:
    labels = [0, 0, 1, 1, 2, 2, 2]
    found = agreement(said([0, 1, 1, 1, 2, 0, 0], labels), said([0, 0, 1, 2, 1, 0, 1], labels))
    assert (found.both, found.only_a.tolist(), found.only_b.tolist(), found.neither) == (2, [3, 4], [1], 2)
    assert (found.accuracy_a, found.accuracy_b) == (4 / 7, 3 / 7) and found.difference == pytest.approx(1 / 7)
    assert found.same == 3 / 7, "right or wrong"
    assert found.confusion.tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 0]] or found.confusion.sum() == 7
    for i, j in itertools.product(range(3), repeat=2):
        assert found.confusion[i, j] == int(((found.a == i) & (found.b == j)).sum())
    each = (found.right_a.double() - found.right_b.double()).numpy()
    assert found.standard_error == pytest.approx(each.std() / math.sqrt(7)), "that of the mean of the differences"
    assert most_apart(found.confusion, CLASSES, 2)[0][2] == 1


def test_classes_are_matched_by_name() -> None:
    order, turned = torch.tensor([2, 0, 1]), ("bee", "cat", "ant")
    labels, guesses = [0, 1, 2, 2], [0, 2, 2, 1]
    table = order.tolist()
    other = said([table[i] for i in guesses], [table[i] for i in labels], turned)
    found = agreement(said(guesses, labels), other)
    assert found.same == 1 and found.classes == CLASSES and found.p_value == 1
    with pytest.raises(DataError, match="only B knows 'dog'"):
        agreement(said([0], [0]), said([0], [0], ("ant", "bee", "cat", "dog")))
    with pytest.raises(DataError, match="other images"):
        agreement(said([0], [0]), said([0], [1]))


def binomial(only_a: int, only_b: int) -> Fraction:
    """All outcomes that are no more probable than the one seen, by counting."""
    n = only_a + only_b
    weights = [math.comb(n, k) for k in range(n + 1)]
    return Fraction(sum(w for w in weights if w <= weights[only_a]), 2**n)


@pytest.mark.parametrize("pair", [(0, 0), (1, 0), (3, 3), (2, 7), (11, 4), (59, 41), (120, 300)])
def test_mcnemar_is_the_binomial_test(pair: tuple[int, int]) -> None:
    assert mcnemar(*pair) == pytest.approx(float(binomial(*pair)), rel=1e-12)
    assert mcnemar(*pair) == mcnemar(*reversed(pair))


def test_mcnemar_of_many() -> None:
    chi = 1 - math.erf(math.sqrt((abs(5300 - 5000) - 1) ** 2 / 10300 / 2))  # chi-square, one degree, corrected
    assert mcnemar(5300, 5000) == pytest.approx(chi, rel=2e-3)
    assert mcnemar(0, 40_000) == 0.0 and mcnemar(20_000, 20_000) == 1.0


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


def test_no_image_of_a_class_and_one_image() -> None:
    one = Agreement(torch.tensor([0]), torch.tensor([1]), torch.tensor([0]), CLASSES)
    assert one.difference == 1 and one.standard_error == 0 and one.p_value == 1 and one.interval[0] < 1
