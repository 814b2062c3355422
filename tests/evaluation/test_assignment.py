"""Assignments against all permutations, and against a proof of their own: potentials that no other can beat."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from torchloupe.evaluation.assignment import assign, solve


def drawn(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def best(score: Tensor) -> float:
    rows, columns = score.shape
    if rows > columns:
        return best(score.T)
    return max(float(score[range(rows), list(p)].sum()) for p in itertools.permutations(range(columns), rows))


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (5, 5), (3, 6), (6, 3)])
def test_no_permutation_is_better(rows: int, columns: int, seed: int) -> None:
    score = drawn(rows, columns, seed)
    if seed % 3 == 0:
        score = (2 * score).round()  # ties
    found = assign(score)
    taken = found[found >= 0]
    assert len(found) == rows and len(taken) == min(rows, columns) == len(set(taken.tolist()))
    assert float(score[found >= 0, taken].sum()) == pytest.approx(best(score), abs=1e-9)


@pytest.mark.parametrize(("rows", "columns", "seed"), [(60, 60, 0), (40, 90, 1), (128, 128, 2)])
def test_the_potentials_prove_it(rows: int, columns: int, seed: int) -> None:
    cost = drawn(rows, columns, seed).numpy()
    partner, u, v = solve(cost)
    slack = cost - u[:, None] - v
    assert slack.min() > -1e-9 and v.max() <= 1e-12
    assert np.abs(slack[np.arange(rows), partner]).max() < 1e-9
    free = np.setdiff1d(np.arange(columns), partner)
    assert len(free) == columns - rows and np.abs(v[free]).max(initial=0) == 0
    assert cost[np.arange(rows), partner].sum() == pytest.approx(u.sum() + v.sum(), abs=1e-9)


def test_a_hidden_permutation_is_found() -> None:
    order = torch.randperm(50, generator=torch.Generator().manual_seed(4))
    score = torch.eye(50)[order] + 0.9 * torch.rand(50, 50, generator=torch.Generator().manual_seed(5))
    assert assign(torch.eye(50)[order]).tolist() == order.tolist()
    assert float(score[range(50), assign(score)].sum()) >= float(score[range(50), order].sum())


def test_nothing_to_assign() -> None:
    assert assign(torch.zeros(0, 3)).tolist() == [] and assign(torch.zeros(2, 0)).tolist() == [-1, -1]
