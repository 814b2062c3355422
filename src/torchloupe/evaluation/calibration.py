"""Whether a network is as sure as it is right: over bins of as many images each, and after one temperature."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchloupe.evaluation.intervals import Z

BINS = 15
LEAST = 20
"""Images of a bin, at least: of fewer the share that is right says little."""
COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures that are looked for."""
SMALLEST = -100.0
"""Logarithm of a probability that has become zero in float32."""


@dataclass(frozen=True)
class Bin:
    """Images of nearly one confidence."""

    n: int
    confidence: float
    """Their mean, in [0, 1]."""
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How confidence and accuracy lie to each other. Errors and gaps are in [0, 1], of confidence in the answer."""

    bins: tuple[Bin, ...]
    """Of as many images each; images of equal confidence are in one."""
    error: float
    """Expected calibration error: mean gap of the bins, weighted by their images."""
    by_chance: float
    """What a perfectly calibrated network of the same confidences would show on as many images, on average."""
    gap: float
    """Mean confidence less accuracy: below zero underconfident, above overconfident."""
    gap_interval: tuple[float, float]
    """95 %, over images."""
    temperatures: tuple[float, float] | None = None
    """What makes the likelihood of either half of the images largest; None of too few images."""
    error_after: float | None = None
    """The error of each half's images at the other half's temperature, all together."""
    bins_after: tuple[Bin, ...] = ()
    """The bins of these."""

    @property
    def n(self) -> int:
        """Images whose answer is a number."""
        return sum(each.n for each in self.bins)

    @property
    def temperature(self) -> float | None:
        """The geometric mean of both; below 1 it makes the network surer."""
        return math.sqrt(math.prod(self.temperatures)) if self.temperatures else None

    @property
    def verdict(self) -> str:
        """Say on which side it errs: underconfident, overconfident, or neither where the interval holds zero."""
        low, high = self.gap_interval
        return "underconfident" if high < 0 else "overconfident" if low > 0 else "neither under- nor overconfident"


def bins_for(n: int) -> int:
    """Return how many bins so many images make: 15, or fewer, so that none has less than 20.

    >>> bins_for(10_000), bins_for(100), bins_for(3)
    (15, 5, 1)
    """
    return min(BINS, max(1, n // LEAST))


def reliability(
    probabilities: Float[Tensor, "n c"], labels: Int64[Tensor, "n"], bins: int | None = None
) -> Float[Tensor, "bins 3"]:
    """Return for bins of as many images each, from unsure to sure: how many, their mean confidence, their accuracy.

    Images of equal confidence are in one bin, so that there may be fewer bins, and some larger. Images whose answer
    is not a number are in none. Equal mass after Nixon et al. 2019.

    >>> said = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.9, 0.1]])
    >>> reliability(said, torch.tensor([0, 0, 1, 0]), bins=2).float()
    tensor([[2.0000, 0.6500, 0.5000],
            [2.0000, 0.9000, 1.0000]])
    """
    confidence, right = _answers(probabilities, labels)
    n = len(confidence)
    if not n:
        return torch.zeros(0, 3, dtype=torch.float64)
    many = min(n, bins or bins_for(n))
    ends = confidence.sort().values[torch.arange(1, many) * n // many]
    index = torch.bucketize(confidence, ends, right=True)
    count = torch.bincount(index, minlength=many).double()
    sums = [torch.bincount(index, weights=each, minlength=many) for each in (confidence, right)]
    rows = torch.stack([count, *(each / count for each in sums)], 1)
    return rows[count > 0]


def calibration_error(
    probabilities: Float[Tensor, "n c"], labels: Int64[Tensor, "n"], bins: int | None = None
) -> float:
    """Return the expected calibration error over bins of as many images each (Guo et al. 2017; Nixon et al. 2019).

    >>> said = torch.tensor([[0.75, 0.25], [0.75, 0.25]])  # sure by 0.75, right by 0.5
    >>> calibration_error(said, torch.tensor([0, 1]))
    0.25
    """
    count, confidence, right = reliability(probabilities, labels, bins).T
    return float(((confidence - right).abs() * count).sum() / count.sum().clamp_min(1))


def temperature(probabilities: Float[Tensor, "n c"], labels: Int64[Tensor, "n"]) -> float:
    """Return what the logits are to be divided by so that the labels are most likely (Guo et al. 2017).

    The likelihood is concave in 1 / T: its slope is halved in on. Where all answers are right it is the smallest that
    is looked for, 0.05.

    >>> round(temperature(torch.tensor([[0.6, 0.4]]).repeat(10, 1), torch.tensor([0] * 9 + [1])), 3)  # 0.6 -> 0.9
    0.185
    """
    logits = _logarithms(probabilities)
    true = logits.gather(1, labels[:, None]).mean()
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(30):
        middle = (low + high) / 2
        expected = (logits * (logits / math.exp(middle)).softmax(1)).sum(1).mean()
        low, high = (middle, high) if expected > true else (low, middle)
    return math.exp((low + high) / 2)


def at_temperature(probabilities: Float[Tensor, "n c"], value: float) -> Float[Tensor, "n c"]:
    """Return the probabilities of logits divided by a temperature, in float64.

    >>> at_temperature(torch.tensor([[0.8, 0.2]]), 0.5).float()
    tensor([[0.9412, 0.0588]])
    """
    return (_logarithms(probabilities) / value).softmax(1)


def tempered(
    probabilities: Float[Tensor, "n c"], labels: Int64[Tensor, "n"], seed: int = 0
) -> tuple[Float[Tensor, "n c"], tuple[float, float]] | None:
    """Return the probabilities after one temperature, fitted on one half of the images for the other, and both.

    Halves are drawn by seed. None where a half has fewer than 20 images. What is no number stays so.

    >>> tempered(torch.tensor([[0.8, 0.2]]), torch.tensor([0])) is None
    True
    """
    known = probabilities.isfinite().all(1).nonzero().flatten()
    order = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))]
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    if len(halves[0]) < LEAST:
        return None
    found = probabilities.double().clone()
    fitted = [temperature(probabilities[half], labels[half]) for half in halves]
    for half, value in zip(halves, reversed(fitted), strict=True):
        found[half] = at_temperature(probabilities[half], value)
    return found, (fitted[0], fitted[1])


def calibrate(probabilities: Float[Tensor, "n c"], labels: Int64[Tensor, "n"]) -> Calibration:
    """Measure all of it.

    >>> said = torch.tensor([[0.6, 0.4]]).repeat(1000, 1)  # sure by 0.6, right by 0.9
    >>> found = calibrate(said, torch.tensor([0] * 900 + [1] * 100))
    >>> found.verdict, round(found.error, 2), found.error_after < 0.1
    ('underconfident', 0.3, True)
    """
    rows = reliability(probabilities, labels)
    confidence, right = _answers(probabilities, labels)
    apart, n = confidence - right, len(confidence)
    gap = float(apart.mean()) if n else math.nan
    spread = Z * float(apart.std(correction=0)) / math.sqrt(n) if n else math.nan
    after = tempered(probabilities, labels)
    return Calibration(
        bins=_bins(rows),
        error=calibration_error(probabilities, labels),
        by_chance=_by_chance(rows),
        gap=gap,
        gap_interval=(gap - spread, gap + spread),
        temperatures=after and after[1],
        error_after=after and calibration_error(after[0], labels),
        bins_after=_bins(reliability(after[0], labels)) if after else (),
    )


def _bins(rows: Float[Tensor, "bins 3"]) -> tuple[Bin, ...]:
    return tuple(Bin(int(count), confidence, right) for count, confidence, right in rows.tolist())


def _by_chance(rows: Float[Tensor, "bins 3"]) -> float:
    """Mean distance of each bin's accuracy from its confidence, were that its chance of being right: half-normal."""
    count, confidence, _ = rows.T
    return float((2 / math.pi * count * confidence * (1 - confidence)).sqrt().sum() / count.sum().clamp_min(1))


def _answers(
    probabilities: Float[Tensor, "n c"], labels: Int64[Tensor, "n"]
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
    """Return confidence and 1 or 0 for right or wrong, of the images whose answer is a number, in float64."""
    if not probabilities.numel():
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    confidence, predicted = probabilities.double().max(1)
    known = confidence.isfinite()
    return confidence[known], (predicted == labels).double()[known]


def _logarithms(probabilities: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    return probabilities.double().log().clamp_min(SMALLEST)
