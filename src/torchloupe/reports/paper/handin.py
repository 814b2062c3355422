"""Figures, tables, methods and references of a network, to hand in: LaTeX or Markdown in a .zip."""

import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from torchloupe.errors import LoupeError
from torchloupe.evaluation.intervals import words as in_percent
from torchloupe.features.hooks import OUTPUT
from torchloupe.features.trace import resolve
from torchloupe.figures.plots import confusion, curves, save_figure
from torchloupe.inspection.inputs import Images
from torchloupe.inspection.layer_table import counted, layer_table
from torchloupe.inspection.result import Result
from torchloupe.inspection.run import run
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network
from torchloupe.reports.contents import Performance
from torchloupe.reports.making import canvas_of, why
from torchloupe.reports.paper.escape import in_latex, in_markdown
from torchloupe.reports.plan import TIERS, layers_of, sentences, units_of
from torchloupe.reports.sections.performance import performance
from torchloupe.runs.metrics import how_measured, measured_on, read_metrics
from torchloupe.runs.results import interval_of, of_classes, said_of_calibration
from torchloupe.runtime.environment import __version__, environment
from torchloupe.runtime.files import atomic_write
from torchloupe.runtime.progress import Progress

AMOUNT = replace(TIERS[0], copies=1)
UNITS = 24
WIDTH = "160mm"
SAMPLES = 4
NOT_HANDED_IN = ("Zero-ablation", "Correlation ratio", "AUC", "Class selectivity index")
"""Numbers of units, which a hand-in does not tell."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every file in the .zip, so that the same report gives the same bytes."""


@dataclass(frozen=True)
class Figure:
    """One numbered figure."""

    name: str
    """Plain letters, digits and hyphens."""
    files: tuple[str, ...]
    caption: str


def hand_in(
    studied: Subject,
    out: Path,
    kind: str,
    *,
    pictures: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """Write a .zip with numbered figures, tables, a paragraph of methods and a bibliography; returns its files.

    `kind`: latex (PDF figures) or markdown (PNG). What the network refuses is left out and listed.
    """
    from torchloupe.reports.report import sample_images

    samples = sample_images(studied, pictures, SAMPLES, seed)
    one_class = not (isinstance(studied.model, Network) and studied.model.multilabel)
    tested = performance(studied, TIERS[0].images) if one_class else None
    suffix = "pdf" if kind == "latex" else "png"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made, refused = _figures(studied, samples, tested, folder, suffix, seed, progress)
        rows = layer_table(studied, 2000, image=samples.images)
        words = {
            "title": studied.title,
            "figures": made,
            "refused": refused,
            "layers": rows,
            "measured": counted(rows),
            "tested": tested,
            "classes": [] if tested is None else _classes(tested),
            "interval": "" if tested is None else in_percent(interval_of(tested.figures)),
            "calibration": "" if tested is None else " ".join(said_of_calibration(tested.figures)),
            "methods": [
                each
                for each in sentences(AMOUNT, len(samples.names), studied.dataset() is not None)
                if each[0] not in NOT_HANDED_IN
            ],
            "version": __version__,
            "machine": environment("cpu"),
            "seed": seed,
            "weights": studied.weights,
        }
        texts = {"references.bib": _asset("references.bib")}
        if kind == "latex":
            texts = {"report.tex": _environment("tex").from_string(_asset("handin.tex.j2")).render(words), **texts}
        else:
            texts = {"report.md": _environment("md").from_string(_asset("handin.md.j2")).render(words), **texts}
        content = {name: text.encode() for name, text in texts.items()}
        content |= {file: (folder / file).read_bytes() for figure in made for file in figure.files}
    atomic_write(out, _zipped(content))
    return list(content)


def _classes(tested: Performance) -> list[tuple[str, float | None, str]]:
    """Return each class with its accuracy and interval."""
    rows = zip(tested.classes, of_classes(tested.confusion), strict=True)
    shares = tested.figures["per_class"]
    return [(name, shares.get(name), "" if ends is None else in_percent(ends, 1)) for name, ends in rows]


def _zipped(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(_entry(name), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr = 0o644 << 16  # else nobody could read what unzip makes of it
    return info


def _figures(
    studied: Subject,
    samples: Images,
    tested: Performance | None,
    folder: Path,
    suffix: str,
    seed: int,
    progress: Progress | None,
) -> tuple[list[Figure], list[str]]:
    """Draw every figure that can be drawn; returns them, and sentences on the others."""
    made: list[Figure] = []
    refused: list[str] = []
    jobs = list(_jobs(studied, samples, tested, seed))
    for number, (name, caption, draw) in enumerate(jobs):
        stem = f"figure-{len(made) + 1:02d}-" + re.sub(r"[^A-Za-z0-9]+", "-", name)
        try:
            paths = draw(folder / f"{stem}.{suffix}")
        except Exception as error:  # whatever a user's network raises, the rest goes on
            refused.append(f"{name}: {why(error)}")
            continue
        if paths:
            made.append(Figure(stem, tuple(path.name for path in paths), caption))
        if progress is not None:
            progress(number + 1, len(jobs))
    return made, refused


Draw = Callable[[Path], list[Path]]


def _jobs(studied: Subject, samples: Images, tested: Performance | None, seed: int) -> Iterator[tuple[str, str, Draw]]:
    """Yield name, caption and drawing function of each figure."""
    run_folder = studied.origin.run if studied.origin else None
    rows = [] if run_folder is None else read_metrics(run_folder)
    config = studied.origin.config if studied.origin else None
    training, data = (config.training, config.data) if config else (None, None)
    other, note = measured_on(training, data), how_measured(training)
    if rows:
        yield (
            "curves",
            "Loss and accuracy while it was trained.",
            lambda path: _saved(curves(rows, other=other, note=note), path),
        )
    if tested is not None and len(tested.classes) <= 30:
        import torch

        counts = torch.tensor(tested.confusion)
        caption = f"Confusion matrix: {tested.figures['n']:,} test pictures of {tested.figures['data']}."
        yield "confusion", caption, lambda path: _saved(confusion(counts, tested.classes, ""), path)
    first, last = _ends(studied, samples)
    one = Images(samples.images[:1], samples.names[:1], None)
    if first:
        yield "filters", f"Filters of {first}, each on its own scale.", _shown(studied, "filters", first, None, seed)
        yield "maps", f"Maps of {first} for one picture.", _shown(studied, "feature-maps", first, one, seed, 1)
    if not last:
        return
    known = (studied.health([last]) or {}).get(last)
    canvas = canvas_of(studied, samples)
    units = list(units_of(_count(studied, last, one, seed), UNITS, known)[0])
    caption = f"Feature visualizations of units of {last}, from noise; ×: activation over the strongest test picture's."
    yield "units", caption, _shown(studied, "maximize", last, None, seed, channels=units, copies=1, canvas=canvas)
    caption = "Feature visualizations of the classes: pictures that make each logit large."
    classes = list(range(min(UNITS, _count(studied, OUTPUT, one, seed))))
    yield "classes", caption, _shown(studied, "maximize", OUTPUT, None, seed, channels=classes, copies=1, canvas=canvas)
    for layer in dict.fromkeys(name for name in (first, *_middle(studied, samples), last) if name):
        caption = f"Inversion of {layer}: original, reconstruction, the same through random weights."
        yield f"inversion-{layer}", caption, _shown(studied, "invert", layer, samples, seed)
    for rule, caption in (("deconvnet", "Deconvnet"), ("guided", "Guided backpropagation"), ("gradient", "Gradient")):
        text = f"{caption} from {last}: picture, trained network, random weights."
        yield rule, text, _shown(studied, rule, last, samples, seed)
    if studied.split() is not None:
        caption = (
            f"Maximally activating test pictures of units of {last}; dimmed: what the strongest position cannot see."
        )
        yield "examples", caption, _shown(studied, "top-examples", last, None, seed, channels=units[:8])


def _shown(
    studied: Subject, name: str, layer: str, images: Images | None, seed: int, pages: int | None = None, **settings: Any
) -> Draw:
    """Return a function that runs a method and saves its sheets."""

    def draw(path: Path) -> list[Path]:
        shown: Result = run(name, studied, layer, images, seed=seed, **settings)
        return shown.save(path, width=WIDTH, title=False)[:pages]

    return draw


def _saved(figure: Any, path: Path) -> list[Path]:
    save_figure(figure, path)
    return [path]


def _ends(studied: Subject, samples: Images) -> tuple[str, str]:
    found = []
    for word in ("first", "last"):
        try:
            found.append(resolve(studied.model, word, samples.images[:1]))
        except LoupeError:
            found.append("")
    return found[0], found[1]


def _middle(studied: Subject, samples: Images) -> list[str]:
    """Return the layer in the middle of those that a report shows."""
    layers = [layer for layer in layers_of(studied.model, samples.images[:1])[0] if layer != OUTPUT]
    return [layers[len(layers) // 2]] if len(layers) > 2 else []


def _count(studied: Subject, layer: str, one: Images, seed: int) -> int:
    return int(run("feature-maps", studied, layer, one, seed=seed).maps.shape[1])


@lru_cache(maxsize=4)
def _asset(name: str) -> str:
    return (files("torchloupe.reports.paper") / "templates" / name).read_text(encoding="utf-8")


def _environment(kind: str) -> Environment:
    if kind == "md":
        plain = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=in_markdown)
        return plain
    return Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        finalize=in_latex,
    )
