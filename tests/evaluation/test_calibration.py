"""Calibration against networks whose own is known: drawn from their probabilities, or scaled by a factor."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from torchloupe.evaluation.calibration import (
    Calibration,
    at_temperature,
    calibrate,
    calibration_error,
    reliability,
    temperature,
    tempered,
)

N = 20_000


def drawn(scale: float = 1, n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities whose logits are `scale` times those that the labels are drawn from."""
    chance = torch.Generator().manual_seed(seed)
    logits = 2.5 * torch.randn(n, 5, generator=chance, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=chance)[:, 0]
    return (scale * logits).softmax(1), labels


def by_hand(said: Tensor, labels: Tensor, bins: int) -> list[tuple[int, float, float]]:
    """Sorted, cut into runs of equal length (no two confidences are equal), in numpy."""
    sure, guess = said.numpy().max(1), said.numpy().argmax(1)
    order = np.argsort(sure)
    cuts = [i * len(sure) // bins for i in range(bins + 1)]
    parts = [order[a:b] for a, b in itertools.pairwise(cuts)]
    return [(len(p), float(sure[p].mean()), float((guess[p] == labels.numpy()[p]).mean())) for p in parts]


@pytest.mark.parametrize(("n", "bins"), [(60, 7), (1000, 15), (31, 31)])
def test_bins_hold_as_many_images_each(n: int, bins: int) -> None:
    said, labels = drawn(n=n)
    rows, expected = reliability(said, labels, bins), by_hand(said, labels, bins)
    np.testing.assert_allclose(rows.numpy(), np.array(expected), atol=1e-12)
    assert rows[:, 0].max() - rows[:, 0].min() <= 1 and rows[:, 0].sum() == n
    total = sum(count / n * abs(sure - right) for count, sure, right in expected)
    assert calibration_error(said, labels, bins) == pytest.approx(total)


def test_images_of_equal_confidence_are_in_one_bin() -> None:
    said = torch.tensor([[0.9, 0.1]] * 70 + [[0.6, 0.4]] * 30)
    labels = torch.tensor([0] * 63 + [1] * 7 + [0] * 18 + [1] * 12)
    rows = reliability(said, labels, 10)
    assert rows[:, 0].tolist() == [30, 70]
    assert calibration_error(said, labels) == pytest.approx(0, abs=1e-7), "right by 0.9 and by 0.6"


def test_a_perfectly_calibrated_network_shows_what_chance_shows() -> None:
    found = [calibrate(*drawn(n=4000, seed=seed)) for seed in range(20)]
    errors = torch.tensor([each.error for each in found])
    assert errors.max() < 0.03
    assert errors.mean().item() == pytest.approx(sum(each.by_chance for each in found) / 20, rel=0.15)
    assert sum(each.verdict == "neither under- nor overconfident" for each in found) >= 17


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_temperature_of_scaled_logits_is_the_factor(scale: float) -> None:
    said, labels = drawn(scale)
    assert temperature(said, labels) == pytest.approx(scale * temperature(*drawn()), rel=1e-5)
    found = calibrate(said, labels)
    assert found.temperature == pytest.approx(scale, rel=0.03)
    assert found.verdict == ("underconfident" if scale < 1 else "overconfident")
    assert (found.gap < 0) == (scale < 1) and found.gap_interval[0] < found.gap < found.gap_interval[1]
    assert found.error_after is not None and found.error > 0.1 and found.error_after < 2 * found.by_chance


def test_each_half_gets_the_temperature_of_the_other() -> None:
    said, labels = drawn(0.5, n=200)
    found = tempered(said, labels)
    assert found is not None
    after, (a, b) = found
    logits, changed = said.log(), after.log()
    spread = (changed[:, 0] - changed[:, 1]) / (logits[:, 0] - logits[:, 1])
    first = (spread - 1 / b).abs() < 1e-9
    assert int(first.sum()) == 100 and torch.allclose(spread[~first], torch.tensor(1 / a, dtype=torch.float64))
    assert a == pytest.approx(temperature(said[first], labels[first]))
    assert torch.equal(after.argmax(1), said.argmax(1)), "no answer changes"
    torch.testing.assert_close(at_temperature(said, 0.5), (2 * logits).softmax(1))


def test_the_slope_of_the_likelihood_is_zero_there() -> None:
    said, labels = drawn(0.6, n=500)
    best = temperature(said, labels)
    losses = [
        float(torch.nn.functional.cross_entropy(said.log() / value, labels))
        for value in (0.98 * best, best, 1.02 * best)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_the_certain_and_what_is_no_number() -> None:
    sure = torch.eye(2)
    assert calibration_error(sure, torch.tensor([0, 1])) == 0
    assert calibration_error(sure, torch.tensor([1, 0])) == 1
    assert temperature(sure, torch.tensor([0, 1])) == pytest.approx(0.05, rel=1e-5)
    said, labels = drawn(n=100)
    said[::2] = math.nan
    assert calibrate(said, labels).n == 50 and int(reliability(said, labels)[:, 0].sum()) == 50
    after = tempered(said, labels)
    assert after is not None and bool(after[0][::2].isnan().all())
    nothing = calibrate(said[:0], labels[:0])
    assert isinstance(nothing, Calibration) and nothing.n == 0 and nothing.error == 0 and nothing.temperature is None
