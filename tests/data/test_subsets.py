"""Choosing part of a split: what each way promises, against counting."""

import pytest
import torch

from torchloupe.data.subsets import per_class, sample, spread_out, stratified

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 3)


@pytest.mark.parametrize("seed", [0, 7])
def test_a_sample_is_in_order_without_repeats_and_by_seed(seed: int) -> None:
    chosen = sample(1000, 40, seed).tolist()
    assert len(chosen) == 40 and chosen == sorted(set(chosen)) and set(chosen) <= set(range(1000))
    assert chosen == sample(1000, 40, seed).tolist() != sample(1000, 40, seed + 1).tolist()
    assert chosen != spread_out(1000, 40).tolist()
    assert sample(5, 9, seed).tolist() == list(range(5)) and len(sample(0, 9, seed)) == 0


@pytest.mark.parametrize("seed", [0, 7])
def test_each_class_is_shown_by_as_many(seed: int) -> None:
    chosen = per_class(LABELS, 3, 5, seed)
    assert LABELS[chosen].tolist() == [0] * 5 + [1] * 5 + [2] * 3 and len(set(chosen.tolist())) == 13
    assert LABELS[per_class(LABELS, 2, 5, seed)].tolist() == [0] * 5 + [1] * 5
    assert chosen.tolist() != per_class(LABELS, 3, 5, seed + 1).tolist()


def test_a_stratified_choice_fills_up_what_small_classes_lack() -> None:
    chosen = stratified(LABELS, 23)
    assert LABELS[chosen].bincount().tolist() == [10, 10, 3] and chosen.tolist() == sorted(chosen.tolist())
