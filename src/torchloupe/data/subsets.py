"""Every way of choosing part of a split."""

import torch
from jaxtyping import Int64
from torch import Tensor

from torchloupe.data.dataset import Dataset, Split
from torchloupe.errors import UsageError


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[Split, Split]:
    """Return what to learn from and what to test on; with a share, both are parts of train (by class).

    Raises:
        UsageError: the share is so small that it holds out nothing.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> [len(split) for split in hold_out(shapes(train=40, test=10), 0.25, 0)]
    [30, 10]
    """
    if share == 0:
        return dataset.train, dataset.test
    labels = dataset.train.labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(len(dataset.classes)):
        members = order[labels[order] == label]
        held[members[: round(len(members) * share)]] = True
    if len(labels) and not held.any():
        most = int(torch.bincount(labels).max())
        raise UsageError(
            f"--holdout {share} of {len(labels):,} train pictures in {len(dataset.classes)} classes is not one picture "
            f"of any class. Give more than {0.5 / most:.2g}, or leave it out to test on the test split."
        )
    return take(dataset.train, (~held).nonzero().flatten()), take(dataset.train, held.nonzero().flatten())


def take(split: Split, index: Tensor) -> Split:
    """Return some pictures of a split, in the order of the index.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> len(take(shapes(train=10, test=10).train, torch.tensor([3, 1])))
    2
    """
    names = tuple(split.names[i] for i in index.tolist())
    masks = None if split.masks is None else split.masks[index]
    return Split(split.images[index], split.labels[index], names, masks)


def spread_out(n: int, most: int) -> Int64[Tensor, "m"]:
    """Return at most so many numbers below n, evenly spread: data sets are often sorted by class.

    >>> spread_out(10, 4).tolist()
    [0, 2, 5, 7]
    """
    return torch.arange(n) if n <= most else torch.arange(most) * n // most


def stratified(labels: Int64[Tensor, "n"], count: int, seed: int = 0) -> Int64[Tensor, "m"]:
    """Return the numbers of about `count` pictures, as many of each class as can be, drawn by seed, in order.

    >>> stratified(torch.tensor([0, 0, 0, 1, 1, 1]), 4).bincount().sum().item()
    4
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    kinds = labels[order]
    rank = torch.zeros_like(kinds)
    for kind in torch.unique(kinds).tolist():
        mine = kinds == kind
        rank[mine] = torch.arange(int(mine.sum()))
    first = rank.argsort(stable=True)[:count]
    return order[first].sort().values


PROBE_PICTURES = 1000


def probe_of(split: Split, seed: int, n: int = PROBE_PICTURES) -> Split:
    """Return n pictures of a split drawn by seed, or all where there are fewer.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> len(probe_of(shapes(train=10, test=20).test, 0, n=5))
    5
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return take(split, order[:n].sort().values)
