"""The files of a test: test.json, predictions.csv, confusion.csv, confusion.png, mistakes.png."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torchloupe.data.dataset import Split
from torchloupe.evaluation.accuracy import Evaluation, reliability
from torchloupe.figures.plots import confusion, save_figure, sheet, shorten
from torchloupe.runtime.files import atomic_write, write_json

FILES = ("test.json", "predictions.csv", "confusion.csv", "confusion.png", "mistakes.png")
"""What `write_verdict` writes; no `mistakes.png` where there are none."""
MISTAKES = 32


@dataclass(frozen=True)
class Bin:
    """Images of nearly one confidence."""

    n: int
    confidence: float
    """Their mean, in [0, 1]."""
    accuracy: float


@dataclass(frozen=True)
class Figures:
    """What a test found, and of what: the fields of test.json. Accuracies in [0, 1], losses in nats."""

    model: str
    data: str
    split: str
    n: int
    accuracy: float
    standard_error: float
    loss: float
    calibration_error: float
    per_class: dict[str, float | None]
    """None for a class without images."""
    reliability: tuple[Bin, ...]
    """Without empty bins."""
    weights: str | None
    """Digest of the network that was tested."""
    crc32: str | None
    """Checksum of the data."""
    accuracy_flip_tta: float | None = None
    """With mirrored images averaged in; None where that was not measured."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without what was not measured."""
        values = {**asdict(self), "reliability": [asdict(each) for each in self.reliability]}
        return {name: value for name, value in values.items() if name != "accuracy_flip_tta" or value is not None}


def figures_of(
    evaluation: Evaluation,
    *,
    model: str = "",
    data: str = "",
    split: str = "test",
    weights: str | None = None,
    crc32: str | None = None,
    mirrored: float | None = None,
) -> Figures:
    """Return the figures of a test; `mirrored` is the accuracy with mirrored images averaged in.

    >>> import torch
    >>> from torchloupe.evaluation.accuracy import judge
    >>> figures_of(judge(torch.eye(2).log(), torch.tensor([0, 0]), ["cat", "dog"])).to_json()["accuracy"]
    0.5
    """
    n, accuracy = len(evaluation.labels), evaluation.accuracy
    bins = reliability(evaluation.probabilities, evaluation.labels).tolist()
    return Figures(
        model=model,
        data=data,
        split=split,
        n=n,
        accuracy=accuracy,
        standard_error=math.sqrt(accuracy * (1 - accuracy) / max(1, n)),
        loss=evaluation.loss,
        calibration_error=evaluation.calibration_error,
        per_class=evaluation.per_class,
        reliability=tuple(Bin(int(count), confidence, right) for count, confidence, right in bins if count),
        weights=weights,
        crc32=crc32,
        accuracy_flip_tta=mirrored,
    )


def near_chance(evaluation: Evaluation) -> bool:
    """Tell whether the accuracy is no better than always naming the most frequent class.

    Within three standard errors, and at most half as much again: a handful of pictures proves nothing.

    >>> import torch
    >>> from torchloupe.evaluation.accuracy import judge
    >>> near_chance(judge(torch.eye(2).log(), torch.tensor([0, 0]), ["cat", "dog"]))
    True
    """
    return at_chance(evaluation.accuracy, evaluation.confusion.sum(1).tolist())


def at_chance(accuracy: float, counts: Sequence[int]) -> bool:
    """Tell the same of an accuracy on so many images of each class.

    >>> at_chance(0.12, [50, 50, 50, 50]), at_chance(0.9, [50, 50, 50, 50])
    (True, False)
    """
    n = max(1, sum(counts))
    guess = max(1 / max(1, len(counts)), max(counts, default=0) / n)
    return accuracy < guess + min(3 * math.sqrt(guess * (1 - guess) / n), guess / 2)


def write_predictions(path: Path, evaluation: Evaluation, names: Sequence[str]) -> None:
    """Write one row a picture: file, true, predicted, the probabilities of both, loss in nats."""
    true, predicted = evaluation.labels.tolist(), evaluation.predicted.tolist()
    said = evaluation.probabilities
    p_true = said.gather(1, evaluation.labels[:, None]).flatten().tolist()
    p_predicted = said.amax(1).tolist()
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["file", "true", "predicted", "p_true", "p_predicted", "loss"])
    for row in zip(names, true, predicted, p_true, p_predicted, evaluation.losses.tolist(), strict=True):
        name, i, j, *values = row
        kinds = [evaluation.classes[i], evaluation.classes[j]]
        writer.writerow([name, *kinds, *(f"{value:.6g}" for value in values)])
    atomic_write(path, stream.getvalue().encode())


def write_confusion(path: Path, evaluation: Evaluation) -> None:
    """Write the confusion matrix as CSV: row true class, column predicted class, counts."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["true \\ predicted", *evaluation.classes])
    for name, row in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True):
        writer.writerow([name, *row])
    atomic_write(path, stream.getvalue().encode())


def write_verdict(folder: Path, evaluation: Evaluation, split: Split, title: str, figures: dict[str, Any]) -> None:
    """Write all files of a test; `figures` goes to test.json as it is."""
    write_json(folder / "test.json", figures)
    write_predictions(folder / "predictions.csv", evaluation, split.names)
    write_confusion(folder / "confusion.csv", evaluation)
    heading = f"{title}: accuracy {evaluation.accuracy:.2%}, n = {len(evaluation.labels):,}"
    save_figure(confusion(evaluation.confusion, evaluation.classes, heading), folder / "confusion.png")
    wrong = evaluation.mistakes()
    (folder / "mistakes.png").unlink(missing_ok=True)
    if len(wrong):
        shown = wrong[:MISTAKES]
        heading = f"{title}: the {len(shown)} most confident of {len(wrong):,} mistakes"
        captions = [_caption(evaluation, split, i) for i in shown.tolist()]
        save_figure(sheet(split.images[shown], captions, columns=8, title=heading), folder / "mistakes.png")


def _caption(evaluation: Evaluation, split: Split, i: int) -> str:
    guess, true = int(evaluation.predicted[i]), int(evaluation.labels[i])
    name, sure = evaluation.classes[guess], evaluation.probabilities[i, guess].item()
    lines = (
        f"{shorten(name, 14)} {sure:.0%}",
        f"is {shorten(evaluation.classes[true], 16)}",
        shorten(split.names[i], 20),
    )
    return "\n".join(lines)
