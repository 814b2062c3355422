"""Planted wrong labels are found, right ones are not, and a plain loop finds the same."""

import pytest
import torch
from torch import Tensor

from torchloupe.evaluation.label_errors import label_errors


def answers(n: int = 4000, classes: int = 5, skill: float = 3.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities of a classifier of some skill, and the true classes."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(0, classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator) + skill * torch.nn.functional.one_hot(true, classes)
    return logits.softmax(1), true


def planted(true: Tensor, share: float, classes: int = 5, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(true), generator=generator) < share
    moved = (true + torch.randint(1, classes, true.shape, generator=generator)) % classes
    return torch.where(wrong, moved, true), wrong


def by_loops(said: Tensor, labels: Tensor) -> list[tuple[float, int, int]]:
    thresholds = {}
    for k in range(said.shape[1]):
        mine = [said[i, k].item() for i in range(len(said)) if labels[i] == k]
        if mine:
            thresholds[k] = sum(mine) / len(mine)
    found = []
    for i, row in enumerate(said.tolist()):
        over = [(p, k) for k, p in enumerate(row) if k in thresholds and p >= thresholds[k]]
        if over and max(over)[1] != int(labels[i]):
            found.append((max(over)[0] - row[int(labels[i])], i, max(over)[1]))
    return sorted(found, reverse=True)


def test_a_plain_loop_finds_the_same() -> None:
    said, true = answers(600)
    labels, _ = planted(true, 0.1)
    which, likely = label_errors(said.double(), labels)
    expected = by_loops(said.double(), labels)
    assert len(expected) > 10
    assert which.tolist() == [i for _, i, _ in expected] and likely.tolist() == [k for _, _, k in expected]


def test_planted_errors_are_found_and_the_first_are_surest() -> None:
    said, true = answers(skill=6.0)
    labels, wrong = planted(true, 0.02)
    which, likely = label_errors(said, labels)
    hits = wrong[which]
    assert float(hits.double().mean()) > 0.8 and float(hits.sum() / wrong.sum()) > 0.75
    assert bool((likely[hits] == true[which][hits]).double().mean() > 0.95)
    assert float(hits[: len(hits) // 2].double().mean()) >= float(hits[len(hits) // 2 :].double().mean())


def test_answers_that_know_nothing_find_no_more_than_chance() -> None:
    said, true = answers(skill=0.0)
    labels, wrong = planted(true, 0.1)
    which, _ = label_errors(said, labels)
    assert abs(float(wrong[which].double().mean()) - 0.1) < 0.03


@pytest.mark.parametrize("labels", [torch.zeros(4, dtype=torch.long), torch.empty(0, dtype=torch.long)])
def test_one_class_or_no_image_has_no_errors(labels: Tensor) -> None:
    said = torch.rand(len(labels), 3).softmax(1)
    assert label_errors(said, labels)[0].tolist() == []
