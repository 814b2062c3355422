"""Tests of many units: McNemar against the binomial formula, Benjamini and Hochberg against an example by hand."""

import math
from fractions import Fraction

import pytest
import torch

from torchloupe.evaluation.significance import discovered, mcnemar, mcnemar_each, paired_error


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


PAIRS = [(0, 0), (1, 0), (0, 5), (3, 3), (2, 7), (11, 4), (59, 41), (120, 300), (4000, 4300)]


def test_many_pairs_at_once_are_each_the_binomial_test() -> None:
    a, b = torch.tensor(PAIRS).T
    expected = [float(binomial(*pair)) if sum(pair) < 1000 else mcnemar(*pair) for pair in PAIRS]
    assert mcnemar_each(a, b).tolist() == pytest.approx(expected, rel=1e-8)
    assert mcnemar_each(a[:0], b[:0]).shape == (0,)
    assert mcnemar_each(torch.tensor([0]), torch.tensor([40_000])).item() == 0.0


def test_benjamini_and_hochberg_by_hand() -> None:
    """Fifteen p-values of Benjamini and Hochberg (1995, section 3.2): the four smallest are found at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    assert discovered(torch.tensor(p)[order]).tolist() == (order < 4).tolist()


def test_a_p_value_above_its_own_line_is_found_with_a_larger_one_below_its_line() -> None:
    assert discovered(torch.tensor([0.03, 0.031, 0.032, 0.9])).all(0).logical_not()
    assert discovered(torch.tensor([0.03, 0.031, 0.032, 0.9])).tolist() == [True, True, True, False]
    assert discovered(torch.tensor([0.06])).tolist() == [False] and discovered(torch.tensor([])).tolist() == []


def test_of_units_without_an_effect_few_are_found() -> None:
    """Fair coins only: a layer of 50 units has any discovery in 5 of 100 layers, at most."""
    chance = torch.Generator().manual_seed(1)
    flips = torch.randint(0, 2, (400 * 50, 40), generator=chance).sum(1)
    found = torch.stack([discovered(p) for p in mcnemar_each(flips, 40 - flips).view(400, 50)])
    assert found.any(1).double().mean() < 0.075


def test_the_paired_error_is_the_spread_over_draws() -> None:
    chance, n = torch.Generator().manual_seed(2), 400
    draws = torch.multinomial(torch.tensor([0.85, 0.1, 0.05]).repeat(4000, 1), n, replacement=True, generator=chance)
    lost, gained = (draws == 1).sum(1), (draws == 2).sum(1)
    drops = (lost - gained).double() / n
    assert paired_error(lost, gained, n).mean().item() == pytest.approx(drops.std().item(), rel=0.04)
    assert paired_error(torch.tensor([0]), torch.tensor([0]), n).item() > 0, "nothing changed is not: nothing can"
