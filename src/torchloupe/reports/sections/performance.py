"""How well a network does: measured once, stored beside the network, read from there afterwards."""

import csv
import io
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from torchloupe.checkpoints.open import Origin
from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.subsets import spread_out, take
from torchloupe.errors import DataError, ModelError, ResourceError
from torchloupe.evaluation.accuracy import Evaluation, examine, labels_of
from torchloupe.evaluation.intervals import wilson
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network
from torchloupe.reports.contents import Mistake, Performance
from torchloupe.reports.html.charts import line_chart, thinned
from torchloupe.runs.cells import cell
from torchloupe.runs.folder import read_environment
from torchloupe.runs.metrics import how_measured, read_metrics, training_seconds, with_a
from torchloupe.runs.results import figures_of, read_figures, write_results
from torchloupe.runtime.console import duration
from torchloupe.runtime.progress import Progress

MISTAKES = 24
MOST = 10**12
"""Images of one cell of a confusion matrix; a larger number is damage."""
SAID = {
    "preset": "Preset",
    "optimizer": "Optimizer",
    "batch": "Batch",
    "lr": "Learning rate",
    "label_smoothing": "Label smoothing",
    "weight_decay": "Weight decay",
    "translate": "Shifts, pixels",
    "cutout": "Cutout, pixels",
    "low_size": "Early crops, pixels",
    "seed": "Seed",
}
"""Settings of a training that a report tells, and what it calls them."""


def reliability_diagram(found: Performance | None) -> str:
    """Draw accuracy against confidence, before and after one temperature, as SVG; "" for equal widths of old.

    A point stands for as many images as any other; the bar through it is the 95 % interval of its accuracy.

    >>> reliability_diagram(None)
    ''
    """
    more = None if found is None else found.figures.get("calibration")
    if found is None or more is None:
        return ""
    before, after = found.figures["reliability"], more["reliability_after"]
    kinds = [("accuracy", "a", before)]
    if after:
        kinds.append((f"after T = {more['temperature']:.2f}", "b", after))
    series = [
        (label, kind, [row["confidence"] for row in bins], [row["accuracy"] for row in bins])
        for label, kind, bins in kinds
    ]
    ends = [wilson(round(row["accuracy"] * row["n"]), row["n"]) for row in before]
    return line_chart(
        "Accuracy against confidence",
        [*series, ("perfect calibration", "ideal", [0.0, 1.0], [0.0, 1.0])] if before else [],
        spans=[(row["confidence"], low, high) for row, (low, high) in zip(before, ends, strict=True)],
        x_label="confidence",
        percent=True,
        y_range=(0, 1),
        width=300,
        height=260,
        ends=False,
    )


def performance(studied: Subject, images: int, progress: Progress | None = None) -> Performance | None:
    """Return the figures of the network's test, measured if they are not kept; None without data or kept figures.

    `images`: test images, at most, that it is measured on if it has to be.

    Raises:
        DataError: the network is multi-label, so that there is no accuracy.
    """
    dataset, split = studied.dataset(), studied.split()
    chosen = spread_out(0 if split is None else len(split), images)
    for folder in _folders(studied):
        if found := _stored(folder, studied, dataset, len(chosen)):
            return found
    if dataset is None or split is None or not isinstance(studied.model, Network):
        return None
    if studied.model.multilabel:
        labels_of(studied.model, split.labels, dataset.classes)  # it says why there is none
    tested = split if len(chosen) == len(split) else take(split, chosen)
    try:
        evaluation, mirrored = examine(
            studied.model, tested.images, tested.labels, dataset.classes, tta=True, progress=progress
        )
    except DataError:  # other classes than the network's: there is nothing to count right or wrong
        return None
    figures = figures_of(
        evaluation,
        model=studied.title,
        data=dataset.name,
        split="test" if split is dataset.test else "train",
        weights=studied.weights,
        crc32=studied.crc,
        mirrored=mirrored,
    ).to_json()
    for folder in _written(studied, whole=tested is split):
        with suppress(OSError, ResourceError):
            write_results(folder, evaluation, tested, f"{studied.title} on {dataset.name}", figures)
            break
    confusion = tuple(map(tuple, evaluation.confusion.tolist()))
    return Performance(figures, evaluation.classes, confusion, _mistaken(evaluation, tested, chosen), measured=True)


def _mistaken(evaluation: Evaluation, tested: Split, chosen: Tensor) -> tuple[Mistake, ...]:
    """Return the most confident mistakes, as they would be read from predictions.csv."""
    confidence = [float(f"{value:.6g}") for value in evaluation.probabilities.amax(1).tolist()]
    wrong = (evaluation.predicted != evaluation.labels).nonzero().flatten().tolist()
    names, true, predicted = evaluation.classes, evaluation.labels.tolist(), evaluation.predicted.tolist()
    return tuple(
        Mistake(tested.names[i], names[true[i]], names[predicted[i]], confidence[i], int(chosen[i]))
        for i in sorted(wrong, key=lambda i: (-confidence[i], i))[:MISTAKES]
    )


def _folders(studied: Subject) -> list[Path]:
    """Return where figures may be stored: the run, and a folder of these weights in the cache."""
    run = studied.origin.run if studied.origin else None
    return [folder if folder == run else folder / f"test-{studied.weights}" for folder in studied.caches]


def _written(studied: Subject, *, whole: bool) -> list[Path]:
    """Return where figures may be written: into the run only its own, of all its test images."""
    run = studied.origin.run if studied.origin else None
    folders = _folders(studied)
    return folders if whole and folders[0] == run else [folder for folder in folders if folder != run]


def _stored(folder: Path, studied: Subject, dataset: Dataset | None, least: int) -> Performance | None:
    """Read the figures that were kept, if they are of these weights and data, and of pictures enough."""
    with suppress(ModelError, OSError, ValueError):  # what is damaged is measured anew
        figures = read_figures(folder)
        if not studied.holds(figures) or figures["n"] < least:
            return None
        if dataset is not None and "calibration" not in figures:  # of an earlier version: what it lacks is measured
            return None
        classes, confusion = _confusion(folder / "confusion.csv", list(figures["per_class"]))
        split = None if dataset is None else studied.split()
        return Performance(figures, classes, confusion, _mistakes(folder, split, classes), measured=False)
    return None


def _table(path: Path) -> list[list[str]]:
    """Return the rows of a CSV.

    Raises:
        ValueError: it is none.
    """
    try:
        return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _confusion(path: Path, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Read the classes, in their order, and the counts of confusion.csv.

    Raises:
        ValueError: it is not one of these classes.
    """
    head, *rows = _table(path) or [[]]
    known = {cell(name): name for name in names}
    classes = tuple(name if name in names else known.get(name, name) for name in head[1:])
    counts = tuple(tuple(map(int, row[1:])) for row in rows)
    if sorted(classes) != sorted(names) or len(counts) != len(classes):
        raise ValueError("a table of other classes")
    if any(len(row) != len(classes) or min(row) < 0 or max(row) > MOST for row in counts):
        raise ValueError("not a table of counts")
    return classes, counts


def _mistakes(folder: Path, split: Split | None, classes: Sequence[str]) -> tuple[Mistake, ...]:
    """Read the most confident mistakes from predictions.csv; none where that is not kept.

    Raises:
        ValueError: it is damaged.
    """
    path = folder / "predictions.csv"
    if not path.is_file():
        return ()
    head, *rows = _table(path) or [[]]
    places = [head.index(name) for name in ("file", "true", "predicted", "p_predicted")]
    if any(len(row) != len(head) for row in rows):
        raise ValueError("a row of another length")
    read = [[row[place] for place in places] for row in rows]
    said = [float(row[3]) for row in read]
    wrong = [i for i, row in enumerate(read) if row[1] != row[2]]
    if not all(0 <= said[i] <= 1 for i in wrong):
        raise ValueError("no probability")
    names = {} if split is None else {cell(name): i for i, name in reversed(list(enumerate(split.names)))}
    known = {cell(name): name for name in classes}
    found = []
    for i in sorted(wrong, key=lambda i: (-said[i], i))[:MISTAKES]:
        name, true, predicted, _ = read[i]
        there = split is not None and i < len(split) and name in (split.names[i], cell(split.names[i]))
        place = i if there else names.get(name, -1)
        shown = split.names[place] if split is not None and place >= 0 else name
        found.append(Mistake(shown, known.get(true, true), known.get(predicted, predicted), said[i], place))
    return tuple(found)


def training_curves(run: Path | None, other: str = "test") -> tuple[str, str]:
    """Draw loss and accuracy against epochs as SVG, of every step (smoothed) and at every epoch's end.

    `other`: what it was measured on beside train.

    >>> training_curves(None)
    ('', '')
    """
    rows = [] if run is None else read_metrics(run)
    epochs, steps = ([row for row in rows if row["kind"] == kind] for kind in ("epoch", "step"))
    if not epochs:
        return "", ""
    made = []
    for what, percent in (("loss", False), ("accuracy", True)):
        series: list[tuple[str, str, Sequence[float], Sequence[float]]] = []
        if taken := with_a(steps, what):
            places, values = thinned([row[what] for row in taken])
            series.append(("train, each step", "step", [taken[round(p)]["epoch"] for p in places], values))
        for name, kind in (("train", "a"), ("val", "c"), ("test", "b")):
            known = with_a(epochs, f"{name}_{what}")
            label = other if name == "test" else name
            series.append((label, kind, [row["epoch"] for row in known], [row[f"{name}_{what}"] for row in known]))
        made.append(
            line_chart(f"{what.title()} against epochs", series, x_label="epoch", percent=percent, log=not percent)
        )
    return made[0], made[1]


def training_facts(studied: Subject) -> list[tuple[str, str]]:
    """Return what is known of the network's training, as pairs of words.

    >>> from torch import nn
    >>> training_facts(Subject(nn.Conv2d(3, 8, 3)))
    []
    """
    origin = studied.origin
    if origin is None or not origin.config.training:
        return []
    training, data = origin.config.training, origin.config.data or {}
    facts = [("Network", f"{origin.config.model} {_arguments(origin.config.arguments)}".strip())]
    if data:
        counts = ", ".join(f"{data[split]:,} {split}" for split in ("train", "test") if split in data)
        facts.append(("Data", f"{data.get('name')}: {counts}" if counts else str(data.get("name"))))
    if (epochs := _epochs(origin)) is not None:
        facts.append(("Epochs", f"{epochs:.4g}"))
    if told := how_measured(training):
        facts.append(("Loss and accuracy", told))
    for name, called in SAID.items():
        value = training.get(name)
        if value is not None and value != "" and not (isinstance(value, float) and math.isnan(value)):
            facts.append((called, f"{value:g}" if isinstance(value, float) else str(value)))
    if origin.run is not None:
        facts += _surroundings(origin.run)
    return facts


def _epochs(origin: Origin) -> float | None:
    """Return how many epochs a training was to take; of a recorded one, how many it took."""
    training = origin.config.training or {}
    if not training.get("recorded") or origin.run is None:
        return training.get("epochs") or 0.0
    rows = read_metrics(origin.run, "epoch")
    return float(rows[-1]["epoch"]) if rows else None


def _arguments(arguments: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {'/'.join(map(str, v)) if isinstance(v, list | tuple) else v}" for name, v in arguments.items()
    )


def _surroundings(run: Path) -> list[tuple[str, str]]:
    """Return machine and seconds of a training."""
    facts = []
    with suppress(ModelError, KeyError):
        about = read_environment(run)
        device = about["device_name"] or f"{about['processor']}, {about['threads']} threads"
        bits = about.get("precision", "float32")  # of a recorded training it is not known
        facts.append(("Machine", f"{device}, {bits}" if bits else device))
        facts.append(("Versions", f"torchloupe {about['packages']['torchloupe']}, torch {about['packages']['torch']}"))
    if (seconds := training_seconds(run)) is not None:
        facts.append(("Time", f"{duration(seconds)} of training"))
    return facts
