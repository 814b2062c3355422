"""How well a unit tells the classes apart: AUC of each class, the class selectivity index, and ω²."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchloupe.evaluation.intervals import Z

AT_ONCE = 64
"""Channels that are ranked together."""
HALVINGS = 50


def class_auc(activation: Float[Tensor, "n c"], labels: Int64[Tensor, "n"], classes: int) -> Float[Tensor, "c classes"]:
    """Return for each channel and class the area under the ROC curve: class against all others, in [0, 1].

    It is the chance that a picture of the class activates the channel more than one of another class, where equal
    activations count half (Mann & Whitney 1947): 0.5 says nothing, 0 and 1 say everything. NaN for a class that no
    picture has, or every one.

    >>> class_auc(torch.tensor([[0.0], [1.0], [1.0], [3.0]]), torch.tensor([0, 0, 1, 1]), 3)
    tensor([[0.1250, 0.8750,    nan]])
    """
    ranks = torch.cat([_midranks(part) for part in torch.split(activation.T.contiguous(), AT_ONCE)])
    inside = torch.bincount(labels, minlength=classes).double()
    sums = ranks.new_zeros(len(ranks), classes).index_add_(1, labels, ranks)
    return ((sums - inside * (inside + 1) / 2) / (inside * (len(labels) - inside))).float()


def _midranks(rows: Float[Tensor, "c n"]) -> Float[Tensor, "c n"]:
    """Return each value's place in its row, from 1; equal ones share the mean of theirs."""
    ordered = rows.sort(1).values
    first, last = (torch.searchsorted(ordered, rows, right=right) for right in (False, True))
    return (first + last + 1).double() / 2


def auc_variance(
    auc: Float[Tensor, "*some"], inside: Int64[Tensor, "*some"], outside: Int64[Tensor, "*some"]
) -> Float[Tensor, "*some"]:
    """Return the variance of an AUC from so many pictures of a class and of others (Hanley & McNeil 1982).

    >>> auc_variance(torch.tensor(0.893), torch.tensor(51), torch.tensor(58)).sqrt()
    tensor(0.0325)
    """
    two_inside, two_outside = (1 - auc) / (2 - auc), auc / (1 + auc)  # of its Q1 and Q2, less AUC², over AUC (1 - AUC)
    return auc * (1 - auc) * (1 + (inside - 1) * two_inside + (outside - 1) * two_outside) / (inside * outside)


def auc_interval(
    auc: Float[Tensor, "*some"], inside: Int64[Tensor, "*some"], outside: Int64[Tensor, "*some"], z: float = Z
) -> tuple[Float[Tensor, "*some"], Float[Tensor, "*some"]]:
    """Return the ends of the 95 % interval of an AUC: those that lie `z` of their own standard errors from it.

    As Wilson's for shares: at 0 and 1 it has a width, and it stays within (Newcombe 2006, with the variance of Hanley &
    McNeil). NaN where the AUC is, or where there are no pictures.

    >>> low, high = auc_interval(torch.tensor(1.0), torch.tensor(10), torch.tensor(90))
    >>> round(low.item(), 3), high.item()
    (0.845, 1.0)
    """
    known = auc.double()

    def end(outermost: float) -> Tensor:
        near, far = known.clone(), torch.full_like(known, outermost)
        for _ in range(HALVINGS):
            middle = (near + far) / 2
            held = (known - middle).square() <= z * z * auc_variance(middle, inside, outside)
            near, far = torch.where(held, middle, near), torch.where(held, far, middle)
        return torch.where(known.isfinite() & (inside > 0) & (outside > 0), near, math.nan)

    return end(0.0), end(1.0)


def class_selectivity(class_mean: Float[Tensor, "c classes"]) -> Float[Tensor, "c"]:
    """Return the class selectivity index, (µmax - µ-max) / (µmax + µ-max), in [0, 1] (Morcos et al. 2018).

    µmax is the largest mean activation of a class, µ-max the mean of those of all other classes. It is made for what
    cannot be negative: NaN of a channel with a negative mean, of one that is zero, and where there is but one class.
    Classes without pictures (NaN) do not count.

    >>> class_selectivity(torch.tensor([[3.0, 1.0, 1.0], [2.0, 2.0, 2.0], [1.0, 0.0, 0.0], [1.0, -1.0, 0.0]]))
    tensor([0.5000, 0.0000, 1.0000,    nan])
    """
    known = class_mean.isfinite()
    means = torch.where(known, class_mean, 0).double()
    if not means.shape[1]:
        return torch.full((len(means),), math.nan)
    largest = torch.where(known, means, -math.inf).amax(1)
    others = (means.sum(1) - largest) / (known.sum(1) - 1)
    applies = (means >= 0).all(1) & (known.sum(1) > 1) & (largest + others > 0)
    return torch.where(applies, (largest - others) / (largest + others), math.nan).float()


def omega_squared(eta_squared: Float[Tensor, "c"], images: int, classes: int) -> Float[Tensor, "c"]:
    """Return ω², the correlation ratio η² without what chance gives it, (k - 1) / (n - 1) (Hays 1963).

    Of a unit that knows nothing of the class it is 0 on average, and may be a little below. NaN of fewer pictures than
    classes.

    >>> omega_squared(torch.tensor([1.0, 0.1]), 100, 11).mul(1000).round()
    tensor([1000.,   -1.])
    """
    if images <= classes:
        return torch.full_like(eta_squared, math.nan)
    eta = eta_squared.double()
    within = (1 - eta) / (images - classes)  # mean square within classes, over the whole sum of squares
    return ((eta - (classes - 1) * within) / (1 + within)).float()
