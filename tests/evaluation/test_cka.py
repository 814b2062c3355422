"""Debiased CKA against the estimate as it is printed, over all quadruples, and its invariances."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from torchloupe.errors import DataError
from torchloupe.evaluation.cka import cka, cka_table


def drawn(n: int, p: int, seed: int) -> Tensor:
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def printed(x: Tensor, y: Tensor) -> float:
    """Song et al. 2007, equation 5, with tables of all pairs."""
    n = len(x)
    K, L = ((z @ z.T).numpy().copy() for z in (x, y))
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    one = np.ones(n)
    ends = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
    return float((np.trace(K @ L) + ends) / (n * (n - 3)))


def quadruples(x: Tensor, y: Tensor) -> float:
    """The same as a mean over all ordered quadruples of different images: E[kl] + E[k]E[l] - 2E[kl]."""
    K, L = (z @ z.T for z in (x, y))
    total = [
        float(K[i, j] * L[i, j] + K[i, j] * L[q, r] - 2 * K[i, j] * L[i, q])
        for i, j, q, r in itertools.permutations(range(len(x)), 4)
    ]
    return sum(total) / len(total)


def ratio(estimate, x: Tensor, y: Tensor) -> float:  # type: ignore[no-untyped-def]
    return float(estimate(x, y) / np.sqrt(estimate(x, x) * estimate(y, y)))


@pytest.mark.parametrize(("n", "p", "q"), [(4, 1, 1), (7, 3, 5), (8, 2, 40), (31, 6, 4)])
def test_it_is_the_printed_estimate(n: int, p: int, q: int) -> None:
    x = drawn(n, p, 1) + 3
    y = drawn(n, q, 2) + 0.5 * x[:, :1].square() - 7
    assert cka(x, y) == pytest.approx(ratio(printed, x, y), abs=1e-10)
    if n < 9:
        assert cka(x, y) == pytest.approx(ratio(quadruples, x, y), abs=1e-9)


def test_invariances() -> None:
    x, y = drawn(40, 7, 3), drawn(40, 7, 3)[:, :5].tanh() + 0.3 * drawn(40, 5, 4)
    turned = torch.linalg.qr(drawn(7, 7, 5)).Q
    before = cka(x, y)
    assert 0.3 < before < 0.99
    for same in (x @ turned, 1e-3 * x, -x, x + 100, x[:, torch.randperm(7)]):
        assert cka(same, y) == pytest.approx(before, abs=1e-10)
        assert cka(same, x) == pytest.approx(1, abs=1e-10)
    stretched = x * torch.tensor([5.0, 1, 1, 1, 1, 1, 1])
    assert abs(cka(stretched, y) - before) > 0.01, "no invariance to other linear maps"
    assert cka(x, y) == pytest.approx(cka(y, x), abs=1e-12)


def test_independent_features_are_at_zero_however_many() -> None:
    """The biased estimate is at 0.8 here: more features than images."""
    found = torch.tensor([cka(drawn(30, 120, 2 * i), drawn(30, 120, 2 * i + 1)) for i in range(200)])
    assert abs(float(found.mean())) < 4 * float(found.std()) / 200**0.5 and float(found.std()) < 0.1
    x, y = drawn(30, 120, 0), drawn(30, 120, 1)
    x, y = x - x.mean(0), y - y.mean(0)
    K, L = x @ x.T, y @ y.T
    assert float((K * L).sum() / (K.norm() * L.norm())) > 0.7


def test_a_table_and_its_edges() -> None:
    x, still = drawn(9, 3, 0), torch.full((9, 2), 1e4) + 1e-4 * drawn(9, 2, 1).float()
    table = cka_table([x, still], [x, x.exp(), still])
    assert table.shape == (2, 3) and table[0, 1] == cka(x, x.exp())
    assert table[1].isnan().all() and bool(table[0, 2].isnan())
    with pytest.raises(DataError, match="4 images"):
        cka(drawn(3, 2, 0), drawn(3, 2, 1))
