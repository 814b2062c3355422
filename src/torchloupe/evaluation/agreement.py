"""Two networks on the same images: who is right where the other is not, and whether that could be chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from torchloupe.errors import DataError, short
from torchloupe.evaluation.accuracy import Evaluation
from torchloupe.evaluation.intervals import paired_interval
from torchloupe.evaluation.significance import mcnemar


@dataclass(frozen=True, eq=False)
class Agreement:
    """What two networks, A and B, say about the same images; classes are numbered alike."""

    a: Int64[Tensor, "n"]
    """Class that A predicts."""
    b: Int64[Tensor, "n"]
    labels: Int64[Tensor, "n"]
    classes: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def right_a(self) -> Bool[Tensor, "n"]:
        """Where A is right."""
        return self.a == self.labels

    @property
    def right_b(self) -> Bool[Tensor, "n"]:
        """Where B is right."""
        return self.b == self.labels

    @property
    def both(self) -> int:
        """Images on which both are right."""
        return int((self.right_a & self.right_b).sum())

    @property
    def neither(self) -> int:
        """Images on which both are wrong, whether they say the same or not."""
        return int((~self.right_a & ~self.right_b).sum())

    @property
    def only_a(self) -> Int64[Tensor, "m"]:
        """Indices of the images that A has right and B wrong."""
        return (self.right_a & ~self.right_b).nonzero().flatten()

    @property
    def only_b(self) -> Int64[Tensor, "m"]:
        """Indices of the images that B has right and A wrong."""
        return (~self.right_a & self.right_b).nonzero().flatten()

    @property
    def accuracy_a(self) -> float:
        """Share of images on which A is right, in [0, 1]."""
        return self.right_a.double().mean().item()

    @property
    def accuracy_b(self) -> float:
        """Share of images on which B is right, in [0, 1]."""
        return self.right_b.double().mean().item()

    @property
    def same(self) -> float:
        """Share of images of which both say the same, right or wrong, in [0, 1]."""
        return (self.a == self.b).double().mean().item()

    @property
    def difference(self) -> float:
        """Accuracy of A less that of B."""
        return (len(self.only_a) - len(self.only_b)) / self.n

    @property
    def standard_error(self) -> float:
        """Standard error of the difference, over images: paired, so that what both have right costs nothing."""
        apart = len(self.only_a) + len(self.only_b)
        return math.sqrt(apart / self.n - self.difference**2) / math.sqrt(self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference: see `paired_interval`."""
        return paired_interval(len(self.only_a), len(self.only_b), self.n)

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test: see `mcnemar`."""
        return mcnemar(len(self.only_a), len(self.only_b))

    @property
    def confusion(self) -> Int64[Tensor, "classes classes"]:
        """Counts of the two; row: what A says, column: what B says."""
        k = len(self.classes)
        return torch.bincount(self.a * k + self.b, minlength=k * k).view(k, k)


def agreement(a: Evaluation, b: Evaluation) -> Agreement:
    """Put the tests of two networks on the same images together; B's classes are matched with A's by name.

    Raises:
        DataError: they know other classes, or were tested on other images.

    >>> from torchloupe.evaluation.accuracy import judge
    >>> ant, bee = torch.eye(2).log(), torch.eye(2).flip(1).log()
    >>> a = judge(ant, torch.tensor([0, 0]), ["ant", "bee"])
    >>> agreement(a, judge(bee, torch.tensor([1, 1]), ["bee", "ant"])).both
    1
    """
    check_classes(a.classes, b.classes)
    table = torch.tensor([a.classes.index(name) for name in b.classes])
    if not torch.equal(a.labels, table[b.labels]):
        raise DataError("the two were tested on other images. Test both on the same split.")
    return Agreement(a.predicted, table[b.predicted], a.labels, a.classes)


def check_classes(a: Sequence[str], b: Sequence[str]) -> None:
    """Refuse two networks that do not know the same classes, in whatever order.

    Raises:
        DataError: one knows a class that the other does not.

    >>> check_classes(["ant", "bee"], ["bee", "ant"])
    """
    if only := sorted(set(a) ^ set(b)):
        who = "A" if only[0] in a else "B"
        raise DataError(f"their classes differ: only {who} knows {short(only[0])}. Compare networks of the same ones.")


def most_apart(confusion: Int64[Tensor, "k k"], classes: Sequence[str], most: int) -> list[tuple[str, str, int]]:
    """Return what the two disagree on most: what A says, what B says, and how often.

    >>> most_apart(torch.tensor([[9, 2], [3, 9]]), ["ant", "bee"], 1)
    [('bee', 'ant', 3)]
    """
    apart = confusion.clone().fill_diagonal_(0)
    order = apart.flatten().argsort(descending=True, stable=True)[:most].tolist()
    k = len(classes)
    return [(classes[i // k], classes[i % k], int(apart[i // k, i % k])) for i in order if apart[i // k, i % k]]
