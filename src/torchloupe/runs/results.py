"""The files of a test: test.json, predictions.csv, confusion.csv, label-errors.csv, confusion.png, mistakes.png."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torchloupe.data.dataset import Split
from torchloupe.errors import ModelError, short
from torchloupe.evaluation.accuracy import Evaluation
from torchloupe.evaluation.calibration import Bin, Calibration
from torchloupe.evaluation.intervals import wilson
from torchloupe.evaluation.label_errors import label_errors
from torchloupe.figures.plots import confusion, save_figure, sheet, shorten
from torchloupe.runs.cells import cell
from torchloupe.runtime.checks import (
    Schema,
    are_numbers,
    each,
    first_unfit,
    is_count,
    is_figure,
    is_number,
    is_object,
    is_text,
    none_or,
)
from torchloupe.runtime.files import LONGEST_PATH, atomic_write, read_json, write_json

FILES = ("test.json", "predictions.csv", "confusion.csv", "label-errors.csv", "confusion.png", "mistakes.png")
"""What `write_results` writes; no `mistakes.png` where there are none."""
MISTAKES = 32


@dataclass(frozen=True)
class Figures:
    """What a test found, and of what: the fields of test.json. Accuracies in [0, 1], losses in nats."""

    model: str
    data: str
    split: str
    n: int
    accuracy: float
    standard_error: float
    """Of the accuracy, as the normal distribution has it; `interval` holds near 0 and 1 as well."""
    interval: tuple[float, float]
    """Of the accuracy, 95 %, over images (Wilson 1927)."""
    loss: float
    calibration_error: float
    per_class: dict[str, float | None]
    """None for a class without images."""
    per_class_interval: dict[str, tuple[float, float] | None]
    """Of these, each 95 %."""
    reliability: tuple[Bin, ...]
    """From unsure to sure, as many images in each; those of earlier versions were of equal widths."""
    calibration: dict[str, Any]
    """More of it: see `calibration_to_json`. Files of earlier versions lack it, and intervals."""
    weights: str | None
    """Digest of the network that was tested."""
    crc32: str | None
    """Checksum of the data."""
    accuracy_flip_tta: float | None = None
    """With mirrored images averaged in; None where that was not measured."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without what was not measured."""
        values = json.loads(json.dumps(asdict(self)))  # tuples become lists, as they are read
        return {name: value for name, value in values.items() if name != "accuracy_flip_tta" or value is not None}


def _are_bins(value: Any) -> bool:
    return value == [] or each(value, _is_bin)


def _is_bin(row: Any) -> bool:
    return (
        is_object(row)
        and is_count(row.get("n"))
        and _is_share(row.get("confidence"))
        and _is_share(row.get("accuracy"))
    )


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _are_shares(value: Any) -> bool:
    return is_object(value) and all(map(none_or(is_number), value.values()))


def _is_interval(value: Any) -> bool:
    return are_numbers(value) and len(value) == 2


def _are_intervals(value: Any) -> bool:
    return is_object(value) and all(map(none_or(_is_interval), value.values()))


def _is_calibration(value: Any) -> bool:
    if not is_object(value) or value.keys() != OF_CALIBRATION.keys() or first_unfit(value, OF_CALIBRATION):
        return False
    return len({value[name] is None for name in ("temperature", "temperatures", "error_after")}) == 1


OF_CALIBRATION: Schema = {
    "by_chance": (is_figure, "a number"),
    "gap": (is_figure, "a number"),
    "gap_interval": (lambda value: each(value, is_figure) and len(value) == 2, "two numbers"),
    "verdict": (is_text, "a text"),
    "temperature": (none_or(is_number), "a number or null"),
    "temperatures": (none_or(_is_interval), "two numbers or null"),
    "error_after": (none_or(is_number), "a number or null"),
    "reliability_after": (_are_bins, "a list of bins"),
}
CHECKS: Schema = {
    **dict.fromkeys(("model", "data", "split"), (is_text, "a text")),
    **{name: (none_or(is_text), "a text or null") for name in ("weights", "crc32")},
    "n": (is_count, "a number of images"),
    **dict.fromkeys(
        ("accuracy", "standard_error", "loss", "calibration_error", "accuracy_flip_tta"), (is_figure, "a number")
    ),
    "per_class": (_are_shares, "an accuracy by class"),
    "reliability": (_are_bins, "a list of bins"),
    "interval": (_is_interval, "two numbers"),
    "per_class_interval": (_are_intervals, "an interval by class"),
    "calibration": (_is_calibration, "the figures of a calibration"),
}
NEWER = frozenset(("accuracy_flip_tta", "reliability", "interval", "per_class_interval", "calibration"))
NEEDED = frozenset(CHECKS) - NEWER
"""What every test.json holds, those of earlier versions too."""


def read_figures(folder: Path) -> dict[str, Any]:
    """Read the test.json of a folder.

    Raises:
        ModelError: there is none, or it is damaged.

    >>> read_figures(Path("nowhere"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: cannot read 'nowhere/test.json': No such file...
    """
    path = folder / "test.json"
    found = read_json(path)
    if not is_object(found) or not found.keys() >= NEEDED or first_unfit(found, CHECKS):
        raise ModelError(f"{short(path, LONGEST_PATH)} is damaged. Test the network again.")
    if "calibration" in found and "reliability" not in found:
        raise ModelError(f"{short(path, LONGEST_PATH)} is damaged. Test the network again.")
    return found


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
    calibration = evaluation.calibration
    return Figures(
        model=model,
        data=data,
        split=split,
        n=n,
        accuracy=accuracy,
        standard_error=math.sqrt(accuracy * (1 - accuracy) / max(1, n)),
        loss=evaluation.loss,
        interval=evaluation.interval,
        calibration_error=calibration.error,
        per_class=evaluation.per_class,
        per_class_interval=evaluation.per_class_interval,
        reliability=calibration.bins,
        calibration=calibration_to_json(calibration),
        weights=weights,
        crc32=crc32,
        accuracy_flip_tta=mirrored,
    )


def calibration_to_json(found: Calibration) -> dict[str, Any]:
    """Return what test.json says of a calibration beside its error and its bins.

    `by_chance`: the error of a perfectly calibrated network on as many images. `gap`: mean confidence less accuracy,
    with its 95 % interval. `temperatures`: fitted on each half; `error_after` and `reliability_after`: each half at the
    other's.

    >>> from torchloupe.evaluation.calibration import Bin
    >>> calibration_to_json(Calibration((Bin(9, 0.5, 0.9),), 0.4, 0.1, -0.4, (-0.5, -0.3)))["verdict"]
    'underconfident'
    """
    return {
        "by_chance": found.by_chance,
        "gap": found.gap,
        "gap_interval": found.gap_interval,
        "verdict": found.verdict,
        "temperature": found.temperature,
        "temperatures": found.temperatures,
        "error_after": found.error_after,
        "reliability_after": [asdict(each) for each in found.bins_after],
    }


def interval_of(figures: Mapping[str, Any], name: str = "accuracy") -> tuple[float, float]:
    """Return the 95 % interval of an accuracy of test.json, those of earlier versions too (Wilson 1927).

    >>> [round(end, 3) for end in interval_of({"accuracy": 0.9, "n": 1000})]
    [0.88, 0.917]
    """
    hits, n = figures[name] * figures["n"], figures["n"]
    return wilson(round(hits), n) if 0 <= hits <= n else (math.nan, math.nan)


def of_classes(confusion: Sequence[Sequence[int]]) -> list[tuple[float, float] | None]:
    """Return the 95 % interval of each class's accuracy from the counts of a test; None where it has no pictures.

    >>> of_classes([[9, 1], [0, 0]])[1] is None, round(of_classes([[9, 1], [0, 0]])[0][0], 3)
    (True, 0.596)
    """
    return [wilson(row[i], sum(row)) if sum(row) else None for i, row in enumerate(confusion)]


def said_of_calibration(figures: Mapping[str, Any]) -> list[str]:
    """Say in sentences what a test found of the network's calibration; of earlier versions' only the error.

    >>> said_of_calibration({"n": 9, "calibration_error": 0.082})
    ['Expected calibration error 8.2 points over 15 bins of equal width (n = 9; of an earlier version).']
    """
    error, more = 100 * figures["calibration_error"], figures.get("calibration")
    if more is None:
        return [
            f"Expected calibration error {error:.1f} points over 15 bins of equal width (n = {figures['n']:,}; of an "
            "earlier version)."
        ]
    counts = sorted(row["n"] for row in figures["reliability"])
    if not counts:
        return ["No answer is a number: there is no calibration."]
    least, most = counts[0], counts[-1]
    each_ = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    gap, (low, high) = more["gap"], more["gap_interval"]
    ends = sorted((abs(low), abs(high))) if low * high > 0 else (low, high)
    side = f"{100 * abs(gap):.1f} points {'below' if gap < 0 else 'above'} accuracy"
    said = [
        f"Expected calibration error {error:.1f} points over {len(counts)} "
        f"{'bin' if len(counts) == 1 else 'bins'} of {each_} pictures (n = {sum(counts):,}); one that is perfectly "
        f"calibrated would show {100 * more['by_chance']:.1f} by chance.",
        f"{more['verdict'].capitalize()}: confidence is on average {side} (95 %: {100 * ends[0]:.1f} to "
        f"{100 * ends[1]:.1f}).",
    ]
    if more["temperatures"]:
        first, second = more["temperatures"]
        said.append(
            f"After one temperature, T = {more['temperature']:.2f} ({first:.2f} and {second:.2f}, each fitted on "
            f"one half of the pictures for the other): {100 * more['error_after']:.1f} points."
        )
    return said


def near_chance(evaluation: Evaluation) -> bool:
    """Tell whether the accuracy is no better than always naming the most frequent class.

    Its interval at three standard errors (Wilson) holds that, and it is at most half as much again: a handful of
    pictures proves nothing.

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
    if not 0 <= accuracy <= 1:  # what a log says, which anyone may have written
        return False
    return wilson(round(accuracy * n), n, 3.0)[0] < guess and accuracy < min(1.0, 1.5 * guess)


def write_predictions(path: Path, evaluation: Evaluation, names: Sequence[str]) -> None:
    """Write one row a picture: file, true, predicted, the probabilities of both, loss in nats; texts as `cell`s."""
    true, predicted = evaluation.labels.tolist(), evaluation.predicted.tolist()
    said = evaluation.probabilities
    p_true = said.gather(1, evaluation.labels[:, None]).flatten().tolist()
    p_predicted = said.amax(1).tolist()
    classes = [cell(name) for name in evaluation.classes]
    rows: list[list[str]] = []
    for row in zip(names, true, predicted, p_true, p_predicted, evaluation.losses.tolist(), strict=True):
        name, i, j, *values = row
        rows.append([cell(name), classes[i], classes[j], *(f"{value:.6g}" for value in values)])
    _write_table(path, ["file", "true", "predicted", "p_true", "p_predicted", "loss"], rows)


def write_confusion(path: Path, evaluation: Evaluation) -> None:
    """Write the confusion matrix as CSV: row true class, column predicted class, counts."""
    names = [cell(name) for name in evaluation.classes]
    rows = [[name, *map(str, row)] for name, row in zip(names, evaluation.confusion.tolist(), strict=True)]
    _write_table(path, ["true \\ predicted", *names], rows)


def write_label_errors(path: Path, evaluation: Evaluation, names: Sequence[str]) -> int:
    """Write the images whose label is likely wrong, the likeliest first, as CSV; returns how many they are."""
    which, likely = label_errors(evaluation.probabilities, evaluation.labels)
    classes = [cell(name) for name in evaluation.classes]
    rows = []
    for i, k in zip(which.tolist(), likely.tolist(), strict=True):
        label = int(evaluation.labels[i])
        shares = (evaluation.probabilities[i, label].item(), evaluation.probabilities[i, k].item())
        rows.append([cell(names[i]), classes[label], classes[k], *(f"{share:.6g}" for share in shares)])
    _write_table(path, ["file", "label", "likely", "p_label", "p_likely"], rows)
    return len(rows)


def _write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([head, *rows])
    atomic_write(path, stream.getvalue().encode())


def write_results(folder: Path, evaluation: Evaluation, split: Split, title: str, figures: dict[str, Any]) -> None:
    """Write all files of a test; `figures` goes to test.json as it is, last: where that is, the others are."""
    write_predictions(folder / "predictions.csv", evaluation, split.names)
    write_confusion(folder / "confusion.csv", evaluation)
    if figures.get("split") != "train":  # what was learned by heart is not suspected
        write_label_errors(folder / "label-errors.csv", evaluation, split.names)
    heading = f"{title}: accuracy {evaluation.accuracy:.2%}, n = {len(evaluation.labels):,}"
    save_figure(confusion(evaluation.confusion, evaluation.classes, heading), folder / "confusion.png")
    wrong = evaluation.mistakes()
    (folder / "mistakes.png").unlink(missing_ok=True)
    if len(wrong):
        shown = wrong[:MISTAKES]
        heading = f"{title}: the {len(shown)} most confident of {len(wrong):,} mistakes"
        captions = [_caption(evaluation, split, i) for i in shown.tolist()]
        save_figure(sheet(split.images[shown], captions, columns=8, title=heading), folder / "mistakes.png")
    write_json(folder / "test.json", figures)


def _caption(evaluation: Evaluation, split: Split, i: int) -> str:
    guess, true = int(evaluation.predicted[i]), int(evaluation.labels[i])
    name, sure = evaluation.classes[guess], evaluation.probabilities[i, guess].item()
    lines = (
        f"{shorten(name, 14)} {sure:.0%}",
        f"is {shorten(evaluation.classes[true], 16)}",
        shorten(split.names[i], 20),
    )
    return "\n".join(lines)
