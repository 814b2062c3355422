"""Ridge regression from many features to many targets, by the kernel of the samples: closed form, no search."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from torchloupe.errors import DataError

PENALTIES = tuple(10.0**power for power in range(-6, 2))
"""What is tried, as shares of the features' mean square length."""
PART = 4096
"""Features whose products are summed up at once."""
LEAST = 2
"""Samples that a fit needs."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Products of centered features: of the samples fitted to with each other, and of others with those."""

    fit: Float64[Tensor, "n n"]
    others: Float64[Tensor, "m n"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What ridge regression says of the samples that it was not fitted to."""

    values: Float64[Tensor, "m targets"]
    penalty: float
    """As a share of the features' mean square length."""


def kernel(fit: Float[Tensor, "n features"], others: Float[Tensor, "m features"]) -> Kernel:
    """Return the products of samples' features about the mean of those fitted to; parts of the features add up.

    >>> x = torch.tensor([[0.0], [2.0]])
    >>> kernel(x, torch.tensor([[3.0]])).others.tolist()
    [[-2.0, 2.0]]
    """
    if len(fit) < LEAST:
        raise DataError(f"a ridge regression needs {LEAST} samples or more, not {len(fit)}.")
    middle = fit.double().mean(0).to(fit.dtype)
    found: Kernel | None = None
    for start in range(0, fit.shape[1], PART):  # short sums in the features' own precision, long ones in float64
        own = slice(start, start + PART)
        near, far = (each[:, own] - middle[own] for each in (fit, others))
        found = added(Kernel((near @ near.T).double(), (far @ near.T).double()), found)
    if found is None:
        raise DataError("a ridge regression needs features.")
    return Kernel(found.fit.cpu(), found.others.cpu())


def added(one: Kernel, other: Kernel | None) -> Kernel:
    """Return the kernel of two parts of the features together.

    >>> part = kernel(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0]]))
    >>> added(part, part).fit.tolist()
    [[2.0, -2.0], [-2.0, 2.0]]
    """
    return one if other is None else Kernel(one.fit + other.fit, one.others + other.others)


def solve(
    known: Kernel, targets: Sequence[Float[Tensor, "n _"]], penalty: float, rows: slice = slice(None)
) -> list[Float64[Tensor, "m _"]]:
    """Return each of the targets that ridge regression (with an intercept that is not penalized) gives other samples.

    Not numbers where the penalty drowns in the features' rounding.

    >>> part = kernel(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0]]))
    >>> round(float(solve(part, [torch.tensor([[1.0], [5.0]])], 1e-9)[0]), 6)
    7.0
    """
    others = known.others[rows]
    middles = [each.double().mean(0) for each in targets]
    scale = float(known.fit.diagonal().mean())
    if scale == 0:  # features that do not change
        return [middle.repeat(len(others), 1) for middle in middles]
    damped = known.fit.clone()
    damped.diagonal().add_(penalty * scale)
    root, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        return [torch.full((len(others), each.shape[1]), torch.nan, dtype=torch.float64) for each in targets]
    weights = torch.cholesky_solve(others.T, root).T
    return [middle + weights @ (each.double() - middle) for each, middle in zip(targets, middles, strict=True)]


def predict(
    known: Kernel, fit: Sequence[Float[Tensor, "n _"]], tuning: Sequence[Float[Tensor, "t _"]]
) -> list[Prediction]:
    """Return predictions of each target for the other samples; the first of them, `tuning`, choose each one's λ.

    Raises:
        DataError: features that are not finite.

    >>> x = torch.arange(12.0)[:, None]
    >>> (found,) = predict(kernel(x[:8], x[8:]), [2 * x[:8]], [2 * x[8:10]])
    >>> found.values.round(decimals=3).flatten().tolist()
    [20.0, 22.0]
    """
    tuned = len(tuning[0])
    errors = torch.tensor(
        [
            [(found - true).square().mean() for found, true in zip(each, tuning, strict=True)]
            for each in (solve(known, fit, penalty, slice(tuned)) for penalty in PENALTIES)
        ]
    ).nan_to_num(nan=math.inf)
    if not errors.isfinite().any(0).all():
        raise DataError("no penalty gives a ridge regression: the features are not finite.")
    found = []
    for number, place in enumerate(errors.argmin(0).tolist()):
        (values,) = solve(known, [fit[number]], PENALTIES[place], slice(tuned, None))
        found.append(Prediction(values, PENALTIES[place]))
    return found
