"""Ridge regression by the kernel against the primal normal equations, and against what is known beforehand."""

import pytest
import torch
from torch import Tensor

from torchloupe.errors import DataError
from torchloupe.evaluation.ridge import added, kernel, predict, solve


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("features", [3, 17, 60])
@pytest.mark.parametrize("penalty", [1e-6, 0.1, 10.0])
def test_the_dual_is_the_primal(features: int, penalty: float) -> None:
    x, other, y = 5 + noise(20, features), noise(7, features, seed=1), noise(20, 4, seed=2)
    (found,) = solve(kernel(x, other), [y], penalty)
    middle = x.mean(0)
    near, far = x - middle, other - middle
    weight = near.square().sum(1).mean() * penalty
    primal = torch.linalg.solve(near.T @ near + weight * torch.eye(features, dtype=x.dtype), near.T @ (y - y.mean(0)))
    torch.testing.assert_close(found, y.mean(0) + far @ primal, rtol=1e-8, atol=1e-8)


def test_parts_of_the_features_add_up() -> None:
    x, other = noise(12, 9), noise(5, 9, seed=1)
    whole, parts = kernel(x, other), added(kernel(x[:, :4], other[:, :4]), added(kernel(x[:, 4:], other[:, 4:]), None))
    torch.testing.assert_close(parts.fit, whole.fit)
    torch.testing.assert_close(parts.others, whole.others)


def test_a_large_constant_in_float32_changes_nothing() -> None:
    x, other, y = noise(30, 4).float(), noise(6, 4, seed=1).float(), noise(30, 2, seed=2)
    (moved,), (plain,) = (solve(kernel(x + add, other + add), [y], 1e-3) for add in (64, 0))
    torch.testing.assert_close(moved, plain, rtol=1e-3, atol=1e-3)


def test_features_that_never_change_foretell_the_mean() -> None:
    y = noise(6, 3)
    (found,) = predict(kernel(torch.ones(6, 2), torch.ones(4, 2)), [y], [y[:2]])
    torch.testing.assert_close(found.values, y.mean(0).expand(2, -1))


def test_the_penalty_is_chosen_on_samples_that_are_held_out() -> None:
    """Of more features than samples, and targets that are mostly noise, a small penalty learns the noise."""
    x, truth = noise(460, 50), noise(50, 1, seed=1)
    loud = x[:40] @ truth + 40 * noise(40, 1, seed=2)
    (noisy,) = predict(kernel(x[:40], x[40:]), [loud], [x[40:240] @ truth])
    (clean,) = predict(kernel(x[:200], x[200:]), [x[:200] @ truth], [x[200:260] @ truth])
    assert noisy.penalty > 0.1 and clean.penalty < 1e-4
    torch.testing.assert_close(clean.values, x[260:] @ truth, rtol=1e-3, atol=1e-3)


def test_one_sample_is_too_few() -> None:
    with pytest.raises(DataError, match="2 samples or more, not 1"):
        kernel(torch.ones(1, 2), torch.ones(1, 2))


def test_features_that_are_not_finite_are_said() -> None:
    with pytest.raises(DataError, match="not finite"):
        predict(kernel(torch.full((4, 2), torch.nan), torch.ones(3, 2)), [noise(4, 1)], [noise(1, 1)])
