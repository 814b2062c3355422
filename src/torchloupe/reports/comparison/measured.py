"""Two networks measured on the same images: answers, layers, units."""

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.subsets import spread_out
from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, ModelError, UsageError
from torchloupe.evaluation.accuracy import Evaluation, examine, labels_of, matched
from torchloupe.evaluation.agreement import Agreement, agreement, check_classes
from torchloupe.evaluation.cka import cka_table
from torchloupe.evaluation.intervals import wilson
from torchloupe.evaluation.matching import LEAST, Matching, features_of, match
from torchloupe.features.random_control import randomize
from torchloupe.features.trace import placed, resolve
from torchloupe.inspection.subject import CALIBRATION, Subject
from torchloupe.models.network import Network
from torchloupe.reports.plan import layers_of
from torchloupe.runtime.memory import halving
from torchloupe.runtime.progress import Progress

IMAGES = 1000
"""Images on which layers and units are compared where nothing is said."""
WIDEST = 2048
"""Layers of more units are not matched: the table of pairs grows with the square, the search with the cube."""
Stage = Callable[[str], AbstractContextManager[Progress]]
"""Tells what is done, and how far it is."""


@dataclass(frozen=True, eq=False)
class LayerPair:
    """A layer of A and the layer of B that it is compared with."""

    a: str
    b: str
    cka: float
    """Debiased linear CKA of the two; NaN where one is constant."""
    cka_random: float | None
    """The same of A's layer with B's when B's weights are drawn anew; None without that control."""
    matching: Matching | None
    """None for a layer of too many units."""
    control: Matching | None
    """A's units matched with those of B when B's weights are drawn anew."""

    @property
    def shares(self) -> dict[str, float | None]:
        """Medians over the units that have a twin: of r, of r held out, of r held out with random weights; share that
        is steady."""
        found, random = self.matching, self.control
        if found is None or not bool(found.paired.any()):
            return dict.fromkeys(("r", "held_out", "random", "steady"))
        return {
            "r": _median(found.correlation),
            "held_out": _median(found.held_out),
            "random": None if random is None else _median(random.held_out),
            "steady": float(found.steady[found.paired].double().mean()),
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two networks, A and B, beside each other."""

    a: Subject
    b: Subject
    data: str
    """Name of the data set."""
    split: Split
    split_name: str
    agreement: Agreement | None
    """Their answers to all images of the split; None where that cannot be said: see `notes`."""
    tests: tuple[Evaluation, Evaluation] | None
    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    cka: Float[Tensor, "a b"]
    """Debiased linear CKA of every layer of A with every layer of B; NaN where one is constant."""
    pairs: tuple[LayerPair, ...]
    by_name: bool
    """Layers are paired by their names, and not by the largest CKA."""
    chosen: Int64[Tensor, "n"]
    """Numbers, in the split, of the images that layers and units are compared on."""
    seed: int
    notes: tuple[str, ...]
    """Sentences on what is left out, and why."""
    path: Path | None = None
    """The page, if one was written."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values: shares in [0, 1], images by file name, None for what is no number."""
        return {
            "a": _who(self.a),
            "b": _who(self.b),
            "data": self.data,
            "split": self.split_name,
            "n": len(self.split),
            "answers": None if self.agreement is None else _answers(self.agreement, self.split.names),
            "images": len(self.chosen),
            "seed": self.seed,
            "layers_a": list(self.layers_a),
            "layers_b": list(self.layers_b),
            "cka": [[_number(value) for value in row] for row in self.cka.tolist()],
            "pairs": [_pair(each) for each in self.pairs],
            "notes": list(self.notes),
            "page": None if self.path is None else str(self.path),
        }


def measure(
    a: Subject,
    b: Subject,
    stage: Stage,
    *,
    layers: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    images: int = IMAGES,
    control: bool = True,
    batch: int = 500,
    seed: int = 0,
) -> Comparison:
    """Compare two networks on A's data (or B's, where A has none).

    Raises:
        UsageError: the data of neither are at hand.
        DataError: fewer than four images.
        LayerError: a layer that there is not.
    """
    dataset = a.dataset() or b.dataset()
    if dataset is None:
        raise UsageError("two networks are compared on pictures, and the data of neither are at hand: give --data.")
    word = "test" if len(dataset.test) else "train"
    split = dataset.split(word)
    assert split is not None
    chosen = spread_out(len(split), images)
    if len(chosen) < LEAST:
        raise DataError(f"two networks are compared on {LEAST} images or more, not on {len(chosen)}.")
    notes: list[str] = []
    tests, found = _tested(a, b, dataset, split, batch, stage, notes)
    some = split.images[chosen]
    names_a, names_b = _layers(a, some, layers, notes), _layers(b, some, layers_b or layers, notes)
    features_a, features_b = (_features(each, some, names, stage) for each, names in ((a, names_a), (b, names_b)))
    table = cka_table([features_a[name] for name in names_a], [features_b[name] for name in names_b])
    by_name = names_a == names_b
    pairs = [(name, name) for name in names_a] if by_name else _nearest(names_a, names_b, table)
    random = _random(b, some, seed, notes) if control else None
    made = _compared(a, b, random, some, pairs, (features_a, names_a, names_b, table), stage, notes)
    return Comparison(
        a,
        b,
        dataset.name,
        split,
        word,
        found,
        tests,
        names_a,
        names_b,
        table,
        made,
        by_name,
        chosen,
        seed,
        tuple(notes),
    )


def _tested(
    a: Subject, b: Subject, dataset: Dataset, split: Split, batch: int, stage: Stage, notes: list[str]
) -> tuple[tuple[Evaluation, Evaluation] | None, Agreement | None]:
    """Return what both say of all images; None where they have no classes in common, which is noted."""
    try:
        for each in (a, b):
            labels_of(each.model, split.labels, dataset.classes)
        networks = [each.model for each in (a, b) if isinstance(each.model, Network)]
        check_classes(*(matched(network, split.labels, dataset.classes)[1] for network in networks))
    except DataError as error:
        notes.append(f"Accuracies are left out: {error}")
        return None, None
    tests = []
    for name, network in zip("AB", networks, strict=True):
        with stage(f"testing {name}") as tick:
            tests.append(examine(network, split.images, split.labels, dataset.classes, batch=batch, progress=tick)[0])
    return (tests[0], tests[1]), agreement(*tests)


def _layers(studied: Subject, images: Tensor, asked: Sequence[str] | None, notes: list[str]) -> tuple[str, ...]:
    image = placed(studied.model, to_float(images[:1], studied.size))
    if asked:
        return tuple(dict.fromkeys(resolve(studied.model, layer, image) for layer in asked))
    found, omitted = layers_of(studied.model, image)
    notes += [f"{studied.title}: {sentence}" for sentence in omitted]
    return found


def _features(studied: Subject, images: Tensor, layers: Sequence[str], stage: Stage) -> dict[str, Tensor]:
    with stage("layers") as tick:
        return halving(
            lambda: features_of(studied.model, images, layers, size=studied.size, progress=tick), "the layers"
        )


def _nearest(rows: Sequence[str], columns: Sequence[str], table: Tensor) -> list[tuple[str, str]]:
    """Return each layer of A with the layer of B that is most like it; none for a constant one."""
    known = torch.where(table.isfinite(), table, -math.inf)
    return [(row, columns[int(each.argmax())]) for row, each in zip(rows, known, strict=True) if each.max() > -math.inf]


def _random(studied: Subject, images: Tensor, seed: int, notes: list[str]) -> nn.Module | None:
    """Return B with weights drawn anew; None where that cannot be, which is noted."""
    try:
        some = images[spread_out(len(images), CALIBRATION)]
        return randomize(studied.model, seed, placed(studied.model, to_float(some, studied.size)))
    except ModelError as error:
        notes.append(f"The control by random weights is left out: {error}")
        return None


def _compared(
    a: Subject,
    b: Subject,
    random: nn.Module | None,
    images: Tensor,
    pairs: Sequence[tuple[str, str]],
    known: tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...], Tensor],
    stage: Stage,
    notes: list[str],
) -> tuple[LayerPair, ...]:
    features, names_a, names_b, table = known
    at_random: dict[str, Tensor] = {}
    if random is not None:
        with stage("layers of the control") as tick:
            at_random = features_of(random, images, [pair[1] for pair in pairs], size=b.size, progress=tick)
    wide = [pair for pair in pairs if features[pair[0]].shape[1] > WIDEST]
    notes += [f"The units of {x} and {y} are not matched: there are more than {WIDEST:,}." for x, y in wide]
    narrow = [pair for pair in pairs if pair not in wide]
    found, controls = (_matched(a.model, other, images, narrow, stage) for other in (b.model, random))
    return tuple(
        LayerPair(
            x,
            y,
            float(table[names_a.index(x), names_b.index(y)]),
            float(cka_table([features[x]], [at_random[y]])) if at_random else None,
            found.get((x, y)),
            controls.get((x, y)),
        )
        for x, y in pairs
    )


def _matched(
    a: nn.Module, b: nn.Module | None, images: Tensor, pairs: Sequence[tuple[str, str]], stage: Stage
) -> dict[tuple[str, str], Matching]:
    if b is None or not pairs:
        return {}
    other = b
    with stage("units") as tick:
        found = halving(lambda: match(a, other, images, pairs, progress=tick), "the matching of units")
    return dict(zip(pairs, found, strict=True))


def with_path(found: Comparison, path: Path) -> Comparison:
    """Return the same with the page that was written of it."""
    return replace(found, path=path)


def _median(values: Tensor) -> float | None:
    known = values[values.isfinite()].tolist()
    return statistics.median(known) if known else None


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _who(studied: Subject) -> dict[str, Any]:
    return {
        "model": studied.origin.word if studied.origin else None,
        "title": studied.title,
        "weights": studied.weights,
        "size": studied.size,
    }


def _answers(found: Agreement, names: Sequence[str]) -> dict[str, Any]:
    hits = [found.both + len(only) for only in (found.only_a, found.only_b)]
    return {
        "accuracy_a": found.accuracy_a,
        "interval_a": list(wilson(hits[0], found.n)),
        "accuracy_b": found.accuracy_b,
        "interval_b": list(wilson(hits[1], found.n)),
        "difference": found.difference,
        "standard_error": found.standard_error,
        "interval": list(found.interval),
        "mcnemar_p": found.p_value,
        "both": found.both,
        "only_a": len(found.only_a),
        "only_b": len(found.only_b),
        "neither": found.neither,
        "same": found.same,
        "classes": list(found.classes),
        "confusion": found.confusion.tolist(),
        "files_only_a": [names[i] for i in found.only_a.tolist()],
        "files_only_b": [names[i] for i in found.only_b.tolist()],
    }


def _pair(each: LayerPair) -> dict[str, Any]:
    found = each.matching
    units = [] if found is None else _units(found)
    return {
        "a": each.a,
        "b": each.b,
        "cka": _number(each.cka),
        "cka_random": _number(each.cka_random),
        "units_a": len(units) or None,
        "units_b": None if found is None else found.units_b,
        **each.shares,
        "units": units,
    }


def _units(found: Matching) -> list[dict[str, Any]]:
    rows = zip(
        found.twin.tolist(), found.correlation.tolist(), found.held_out.tolist(), found.steady.tolist(), strict=True
    )
    return [
        {"unit": i, "twin": k if k >= 0 else None, "r": _number(r), "held_out": _number(held), "steady": steady}
        for i, (k, r, held, steady) in enumerate(rows)
    ]
