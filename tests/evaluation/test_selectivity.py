"""Selectivity against pairs counted one by one, published figures, planted units, and shuffled labels."""

import math

import pytest
import torch
from torch import Tensor

from torchloupe.evaluation.intervals import Z
from torchloupe.evaluation.selectivity import (
    auc_interval,
    auc_variance,
    class_auc,
    class_selectivity,
    omega_squared,
)


def data(n: int = 60, c: int = 70, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Activations with many ties, and labels."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=chance)
    return (torch.randn(n, c, generator=chance) + 0.2 * labels[:, None]).relu().mul(3).round(), labels


def test_auc_is_the_share_of_pairs() -> None:
    activation, labels = data()
    found = class_auc(activation, labels, 5)
    for c in range(0, 70, 23):
        for k in range(4):
            mine, other = activation[labels == k, c], activation[labels != k, c]
            pairs = (mine[:, None] > other).double() + 0.5 * (mine[:, None] == other).double()
            assert float(found[c, k]) == pytest.approx(float(pairs.mean()), abs=1e-6)
    assert found[:, 4].isnan().all()


def test_planted_units() -> None:
    labels = torch.arange(300) % 3
    activation = torch.stack([(labels == 1) * 2.0, (labels != 1) * 1.0, torch.zeros(300), labels * 1.0], 1)
    found = class_auc(activation, labels, 3)
    assert found[0].tolist() == pytest.approx([0.25, 1, 0.25]) and found[1, 1] == 0
    assert found[2].tolist() == [0.5] * 3, "a dead unit says nothing"
    assert found[3].tolist() == [0, 0.5, 1]


def test_with_shuffled_labels_nothing_is_told_apart() -> None:
    """95 of 100 intervals hold 0.5, and ω² is 0 on average, where η² is not."""
    activation, labels = data(n=400, c=500, classes=4)
    shuffled = labels[torch.randperm(400, generator=torch.Generator().manual_seed(9))]
    activation = activation + torch.rand(400, 500, generator=torch.Generator().manual_seed(8))
    found = class_auc(activation, shuffled, 4)
    inside = shuffled.bincount()
    low, high = auc_interval(found, inside.expand(500, 4), (400 - inside).expand(500, 4))
    held = ((low <= 0.5) & (high >= 0.5)).double().mean().item()
    assert 0.93 < held < 0.975 and abs(float(found.mean()) - 0.5) < 0.003
    told = class_auc(activation, labels, 4)
    assert told[:, 3].mean() > 0.55, "the labels as they are do tell"
    kinds = torch.nn.functional.one_hot(shuffled).float()
    means = activation.T @ kinds / inside
    centered = activation - activation.mean(0)
    eta = (inside * (means - activation.mean(0)[:, None]).square()).sum(1) / centered.square().sum(0)
    assert eta.mean().item() == pytest.approx(3 / 399, rel=0.1)
    assert abs(omega_squared(eta, 400, 4).mean().item()) < 6e-4


def test_omega_is_hays_formula() -> None:
    values, labels = torch.randn(90, dtype=torch.float64), torch.arange(90) % 3
    groups = [values[labels == k] for k in range(3)]
    between = sum(30 * (g.mean() - values.mean()) ** 2 for g in groups)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups)
    mean_square = within / 87
    expected = (between - 2 * mean_square) / (between + within + mean_square)
    eta = torch.as_tensor(between / (between + within))[None]
    assert omega_squared(eta, 90, 3).item() == pytest.approx(float(expected), abs=1e-6)
    assert omega_squared(eta, 3, 3).isnan().all()


def test_the_standard_error_of_hanley_and_mcneil() -> None:
    """Their own example: 0.893 from 51 abnormal and 58 normal images has 0.032 (1982)."""
    error = auc_variance(torch.tensor(0.893), torch.tensor(51), torch.tensor(58)).sqrt()
    assert error.item() == pytest.approx(0.032, abs=6e-4)
    a, m, n = 0.8, 30, 200
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    by_hand = (a * (1 - a) + (m - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (m * n)
    assert auc_variance(torch.tensor(a), torch.tensor(m), torch.tensor(n)).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("a", [0.0, 0.3, 0.5, 0.97, 1.0])
def test_ends_lie_so_many_of_their_own_errors_away(a: float) -> None:
    auc, m, n = torch.tensor([a], dtype=torch.float64), torch.tensor([12]), torch.tensor([80])
    low, high = auc_interval(auc, m, n)
    assert low < high and low >= 0 and high <= 1
    for end in (low, high):
        if 1e-9 < float(end) < 1 - 1e-9:
            assert float((auc - end).abs()) == pytest.approx(Z * float(auc_variance(end, m, n).sqrt()), rel=1e-6)
    empty = auc_interval(torch.tensor([math.nan]), torch.tensor([0]), torch.tensor([80]))
    assert empty[0].isnan().all() and empty[1].isnan().all()


def test_the_interval_covers() -> None:
    """By drawing: two normals 1.2 apart, whose AUC is known."""
    chance, m, n, shift = torch.Generator().manual_seed(5), 25, 150, 1.2
    truth = 0.5 * (1 + math.erf(shift / 2))
    values = torch.randn(m + n, 2000, generator=chance)
    values[:m] += shift
    labels = torch.tensor([1] * m + [0] * n)
    found = class_auc(values, labels, 2)[:, 1]
    low, high = auc_interval(found, torch.full((2000,), m), torch.full((2000,), n))
    assert 0.925 < ((low <= truth) & (truth <= high)).double().mean() < 0.98
    assert found.mean().item() == pytest.approx(truth, abs=0.005)


def test_the_index_of_morcos() -> None:
    means = torch.rand(6, 5, generator=torch.Generator().manual_seed(1))
    for row, value in zip(means.tolist(), class_selectivity(means).tolist(), strict=True):
        most = max(row)
        rest = [v for v in row if v != most]
        other = sum(rest) / 4
        assert value == pytest.approx((most - other) / (most + other), rel=1e-5)
    gone = means.clone()
    gone[:, 2] = math.nan
    left = means[:, [0, 1, 3, 4]]
    torch.testing.assert_close(class_selectivity(gone), class_selectivity(left))
    for nothing in (torch.zeros(2, 3), torch.ones(2, 1), torch.full((2, 3), -1.0), torch.zeros(2, 0)):
        assert class_selectivity(nothing).isnan().all() and len(class_selectivity(nothing)) == 2
