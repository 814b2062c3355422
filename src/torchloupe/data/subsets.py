"""Every way of choosing part of a split. Numbers of images are chosen; `take` takes them.

| to | use | chance |
|---|---|---|
| test on a part of train, the same share of each class | `hold_out` | seed |
| look at fewer images of a split, whatever its order | `spread_out` | none |
| measure on about so many, as many of each class | `stratified` | seed |
| measure on or show so many, as they come | `sample` | seed |
| show so many of each class, class by class | `per_class` | seed |
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from torchloupe.data.dataset import Dataset, Split
from torchloupe.errors import UsageError


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[Split, Split]:
    """Return what to learn from and what to measure on meanwhile; with a share, both are parts of train (by class).

    Without one that is the val split where there is one, else the test split.

    Raises:
        UsageError: the share is so small that it holds out nothing.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> [len(split) for split in hold_out(shapes(train=40, test=10), 0.25, 0)]
    [30, 10]
    """
    if share == 0:
        return dataset.train, dataset.test if dataset.val is None else dataset.val
    labels = dataset.train.labels
    order = _shuffled(len(labels), seed)
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
    order = _shuffled(len(labels), seed)
    kinds = labels[order]
    rank = torch.zeros_like(kinds)
    for kind in torch.unique(kinds).tolist():
        mine = kinds == kind
        rank[mine] = torch.arange(int(mine.sum()))
    first = rank.argsort(stable=True)[:count]
    return order[first].sort().values


def sample(n: int, most: int, seed: int) -> Int64[Tensor, "m"]:
    """Return at most so many numbers below n, drawn by seed, in order.

    >>> sample(3, 5, seed=0).tolist(), len(sample(100, 5, seed=0))
    ([0, 1, 2], 5)
    """
    return _shuffled(n, seed)[:most].sort().values


def per_class(labels: Int64[Tensor, "n"], classes: int, each: int, seed: int) -> Int64[Tensor, "m"]:
    """Return the numbers of at most `each` images of each of the first classes, drawn by seed, class by class.

    >>> labels = torch.tensor([1, 0, 1, 1])
    >>> labels[per_class(labels, 2, 2, seed=0)].tolist()
    [0, 1, 1]
    """
    order = _shuffled(len(labels), seed)
    return torch.cat([order[labels[order] == label][:each] for label in range(classes)])


def _shuffled(n: int, seed: int) -> Int64[Tensor, "n"]:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
