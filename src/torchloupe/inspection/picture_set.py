"""The study's whole set of pictures for any network: what is in it, and making it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torchloupe.errors import ModelError
from torchloupe.features.trace import resolve
from torchloupe.figures.plots import curves, save_figure
from torchloupe.figures.sheet import check, draw, samples
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.inputs import Images
from torchloupe.inspection.result import Result
from torchloupe.inspection.run import run
from torchloupe.inspection.subject import Subject
from torchloupe.runs.metrics import how_measured, measured_on, read_metrics
from torchloupe.runtime.progress import Progress


@dataclass(frozen=True)
class Item:
    """One sheet (or a few pages) of the set."""

    name: str
    method: str
    layer: Literal["first", "last"]
    images: Literal["none", "one", "all"] = "all"
    settings: dict[str, Any] = field(default_factory=dict)


FROM_NOISE: dict[str, Any] = {"steps": 28, "lr": 0.2, "shifts": False}
FROM_PHOTOGRAPH: dict[str, Any] = {"steps": 24, "lr": 0.2, "shifts": False}
ALONE: dict[str, Any] = {"steps": 16}
"""A last block has hundreds of channels: fewer and longer steps than by default; a photograph is half the way."""


def _of(layer: Literal["first", "last"], keep: float) -> Iterator[Item]:
    noise, photograph, alone = (FROM_NOISE, FROM_PHOTOGRAPH, ALONE) if layer == "last" else ({}, {}, {})
    yield Item("maps", "feature-maps", layer, "one")
    yield Item("inversion-by-all-filters", "invert", layer)
    yield Item("inversion-by-one-filter", "invert", layer, "one", {"each": True, "randomized": False, **alone})
    what = "maximisation-by-one-filter"
    yield Item(f"{what}-from-noise", "maximize", layer, "none", {"copies": 1, **noise})
    yield Item(f"{what}-from-photograph", "maximize", layer, "one", {"copies": 1, **photograph})
    what = "maximisation-by-all-filters"
    yield Item(f"{what}-from-noise", "maximize", layer, "none", {"each": False, "copies": 16, **noise})
    yield Item(f"{what}-from-photographs", "maximize", layer, "all", {"each": False, "copies": 1, **photograph})
    yield Item("deconvolution", "deconvnet", layer, "all", {"keep": keep})


SET: tuple[Item, ...] = (Item("filters", "filters", "first", "none"), *_of("first", 0.1), *_of("last", 0.5))
"""Of the study: kept fractions of 0.1 at the first layer and 0.5 at the last."""


@dataclass(frozen=True)
class SetItem:
    """What became of an item."""

    name: str
    files: tuple[Path, ...]
    seconds: float
    numbers: dict[str, tuple[float, float]]
    """Name -> mean and standard deviation over the pictures."""
    refused: str = ""
    """Why the network refused it."""


def make(
    studied: Subject,
    images: Images,
    folder: Path,
    *,
    seed: int = 0,
    suffix: str = "png",
    look: dict[str, Any] | None = None,
    tick: Progress | None = None,
    say: Callable[[SetItem], None] | None = None,
) -> list[SetItem]:
    """Make every picture of the set in a folder; what the network refuses is told and the rest goes on."""
    drawn, made = check(FigureStyle(**(look or {}))), []
    folder.mkdir(parents=True, exist_ok=True)
    labels = images.labels or (None,) * len(images.names)
    captions = [f"{label}\n{name}" if label else name for label, name in zip(labels, images.names, strict=True)]
    figure = draw(samples(images.images, captions, drawn), drawn)
    save_figure(figure, folder / f"samples.{suffix}", dpi=figure.dpi)
    layers = {word: resolve(studied.model, word, images.images) for word in ("first", "last")}
    studied.health(list(dict.fromkeys(layers.values())))
    for number, item in enumerate(SET):
        began = time.monotonic()
        name = item.name if item.method == "filters" else f"{item.layer}-{item.name}"
        try:
            shown = _run(studied, item, layers[item.layer], images, seed)
            files = shown.save(folder / f"{name}.{suffix}", **(look or {}))
            numbers = {key: (mean, std) for key, mean, std in shown.numbers()}
            row = SetItem(name, tuple(files), time.monotonic() - began, numbers)
        except ModelError as error:
            row = SetItem(name, (), time.monotonic() - began, {}, str(error))
        made.append(row)
        if say is not None:
            say(row)
        if tick is not None:
            tick(number + 1, len(SET))
    _curves(studied, folder, suffix)
    return made


def _run(studied: Subject, item: Item, layer: str, images: Images, seed: int) -> Result:
    given: Images | None = None
    if item.images == "all":
        given = images
    elif item.images == "one":
        given = images.take([0])
    return run(item.method, studied, layer, given, seed=seed, **item.settings)


def _curves(studied: Subject, folder: Path, suffix: str) -> None:
    """Draw the curves of the run the network comes from, if it has any."""
    origin = studied.origin
    if origin is None or origin.run is None or not (origin.run / "metrics.jsonl").is_file():
        return
    other, note = measured_on(origin.config.training, origin.config.data), how_measured(origin.config.training)
    figure = curves(read_metrics(origin.run), title=origin.title, other=other, note=note)
    save_figure(figure, folder / f"curves.{suffix}")
