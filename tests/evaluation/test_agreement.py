"""Two networks' answers on the same images, against counts by hand."""

import itertools
import math

import pytest
import torch

from torchloupe.errors import DataError
from torchloupe.evaluation.accuracy import Evaluation, judge
from torchloupe.evaluation.agreement import Agreement, agreement, most_apart

CLASSES = ("ant", "bee", "cat")


def said(predicted: list[int], labels: list[int], classes: tuple[str, ...] = CLASSES) -> Evaluation:
    scores = torch.full((len(labels), len(classes)), 1e-3)
    scores[torch.arange(len(labels)), torch.tensor(predicted)] = 1
    return judge((scores / scores.sum(1, keepdim=True)).log(), torch.tensor(labels), classes)


def test_every_count_by_hand() -> None:
    labels = [0, 0, 1, 1, 2, 2, 2]
    found = agreement(said([0, 1, 1, 1, 2, 0, 0], labels), said([0, 0, 1, 2, 1, 0, 1], labels))
    assert (found.both, found.only_a.tolist(), found.only_b.tolist(), found.neither) == (2, [3, 4], [1], 2)
    assert (found.accuracy_a, found.accuracy_b) == (4 / 7, 3 / 7) and found.difference == pytest.approx(1 / 7)
    assert found.same == 3 / 7, "right or wrong"
    assert found.confusion.tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 0]] or found.confusion.sum() == 7
    for i, j in itertools.product(range(3), repeat=2):
        assert found.confusion[i, j] == int(((found.a == i) & (found.b == j)).sum())
    each = (found.right_a.double() - found.right_b.double()).numpy()
    assert found.standard_error == pytest.approx(each.std() / math.sqrt(7)), "that of the mean of the differences"
    assert most_apart(found.confusion, CLASSES, 2)[0][2] == 1


def test_classes_are_matched_by_name() -> None:
    order, turned = torch.tensor([2, 0, 1]), ("bee", "cat", "ant")
    labels, guesses = [0, 1, 2, 2], [0, 2, 2, 1]
    table = order.tolist()
    other = said([table[i] for i in guesses], [table[i] for i in labels], turned)
    found = agreement(said(guesses, labels), other)
    assert found.same == 1 and found.classes == CLASSES and found.p_value == 1
    with pytest.raises(DataError, match="only B knows 'dog'"):
        agreement(said([0], [0]), said([0], [0], ("ant", "bee", "cat", "dog")))
    with pytest.raises(DataError, match="other images"):
        agreement(said([0], [0]), said([0], [1]))


def test_no_image_of_a_class_and_one_image() -> None:
    one = Agreement(torch.tensor([0]), torch.tensor([1]), torch.tensor([0]), CLASSES)
    assert one.difference == 1 and one.standard_error == 0 and one.p_value == 1 and one.interval[0] < 1
