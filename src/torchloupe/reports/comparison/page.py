"""A comparison -> HTML: one file that asks nothing of any network."""

import base64
import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from torch import Tensor

from torchloupe.evaluation.agreement import most_apart
from torchloupe.evaluation.intervals import wilson
from torchloupe.reports.comparison.measured import Comparison, LayerPair
from torchloupe.reports.comparison.tiles import Tile, Tiles
from torchloupe.reports.comparison.units import UnitPair, curves, unit_pairs
from torchloupe.reports.html.page import asset, policy, template
from torchloupe.reports.html.sprites import Sprite
from torchloupe.reports.html.tables import WIDEST, matrix
from torchloupe.runtime.environment import __version__
from torchloupe.runtime.progress import Progress

SHOWN = 24
"""Pictures that changed sides, of each kind."""
LISTED = 2000
"""Files that changed sides that are listed, of each kind."""
SECTIONS = (
    ("answers", "Answers"),
    ("changed", "Changed sides"),
    ("layers", "Layers"),
    ("units", "Units"),
    ("made", "How it was made"),
)
LEVELS = 10
"""Colours of the table of layers."""


@dataclass(frozen=True)
class Changed:
    """One image that exactly one of the two has right."""

    name: str
    true: str
    a: str
    b: str
    confidence: float
    """Of the one that is wrong, in [0, 1]."""
    tile: Tile | None


@dataclass(frozen=True)
class PairRow:
    """What is said of a layer and its counterpart."""

    a: str
    b: str
    cells: tuple[str, ...]
    units: tuple[UnitPair, ...]
    """Those that are shown."""
    rows: tuple[tuple[str, ...], ...]
    """All of them, as texts."""
    chart: Markup
    words: str


def page(found: Comparison, progress: Progress | None = None) -> str:
    """Return the page of a comparison."""
    css = f"{asset('report.css')}\n{asset('comparison.css')}"
    js = asset("theme.js")
    tiles = Tiles(found.split.images)
    answers = _answers(found)
    changed = [_changed(found, which, tiles) for which in ("a", "b")] if found.agreement else []
    rows = []
    for number, pair in enumerate(found.pairs):
        rows.append(_row(found, pair, tiles))
        if progress is not None:
            progress(number + 1, len(found.pairs))
    known = [(id_, name) for id_, name in SECTIONS if found.agreement or id_ not in ("answers", "changed")]
    return template("comparison.html.j2").render(
        policy=policy(css, js),
        css=Markup(css),
        js=Markup(js),
        version=__version__,
        sections=known,
        a=found.a,
        b=found.b,
        found=found,
        n=len(found.split),
        answers=answers,
        changed=changed,
        heat=_heat(found),
        rows=rows,
        control=any(pair.cka_random is not None for pair in found.pairs),
        photos=_embedded(tiles.sprite()),
    )


def _embedded(sprite: Sprite | None) -> dict[str, Any] | None:
    if sprite is None:
        return None
    rows = -(-sprite.count // sprite.columns)
    text = base64.b64encode(sprite.data).decode()
    whole = {"width": sprite.width * sprite.columns, "height": sprite.height * rows}
    return {**whole, "w": sprite.width, "h": sprite.height, "columns": sprite.columns, "webp": text}


def percent(share: float, digits: int = 2) -> str:
    """Write a share in percent.

    >>> percent(0.91034)
    '91.03\\xa0%'
    """
    return f"{100 * share:.{digits}f}\u00a0%"


def points(share: float, digits: int = 2) -> str:
    """Write a difference of shares in points, with its sign.

    >>> points(0.0463), points(-0.001)
    ('+4.63', '−0.10')
    """
    text = f"{100 * share:+.{digits}f}"
    return text.replace("-", "−")


def chance(p: float) -> str:
    """Write a p-value.

    >>> chance(0.0312), chance(1e-9), chance(1.0)
    ('p = 0.031', 'p < 0.0001', 'p = 1')
    """
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def number(value: float | None) -> str:
    """Write a correlation.

    >>> number(0.8349), number(None), number(-0.004)
    ('0.83', '–', '0.00')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _answers(found: Comparison) -> dict[str, Any] | None:
    both = found.agreement
    if both is None:
        return None
    rows = []
    for letter, studied, accuracy, only in (
        ("A", found.a, both.accuracy_a, both.only_a),
        ("B", found.b, both.accuracy_b, both.only_b),
    ):
        low, high = wilson(both.both + len(only), both.n)
        rows.append((letter, studied.title, accuracy, percent(accuracy), f"{percent(low)} to {percent(high)}"))
    low, high = both.interval
    return {
        "rows": rows,
        "difference": points(both.difference),
        "interval": f"{points(low)} to {points(high)}",
        "error": f"{100 * both.standard_error:.2f}",
        "p": chance(both.p_value),
        "differ": both.p_value < 0.05,
        "both": both.both,
        "only_a": len(both.only_a),
        "only_b": len(both.only_b),
        "neither": both.neither,
        "same": percent(both.same, 1),
        "confusion": matrix(both.classes, both.confusion.tolist()),
        "apart": most_apart(both.confusion, both.classes, WIDEST),
    }


def _changed(found: Comparison, which: str, tiles: Tiles) -> dict[str, Any]:
    """Return the images that only one has right; those first of which the other is surest to be wrong."""
    both, tests = found.agreement, found.tests
    assert both is not None and tests is not None
    index = both.only_a if which == "a" else both.only_b
    wrong = tests[1 if which == "a" else 0].probabilities.amax(1)
    order = index[wrong[index].argsort(descending=True, stable=True)].tolist()
    names = both.classes
    rows = [
        Changed(
            found.split.names[i],
            names[int(both.labels[i])],
            names[int(both.a[i])],
            names[int(both.b[i])],
            float(wrong[i]),
            tiles.place(i) if place < SHOWN else None,
        )
        for place, i in enumerate(order[:LISTED])
    ]
    return {"who": which.upper(), "other": "B" if which == "a" else "A", "count": len(order), "rows": rows}


def _heat(found: Comparison) -> dict[str, Any]:
    """Return the table of layers by layers, with a level of colour for each cell."""
    pairs = {(pair.a, pair.b) for pair in found.pairs}
    rows = []
    for name, row in zip(found.layers_a, found.cka.tolist(), strict=True):
        cells = [_cell(value, name, other, pairs) for other, value in zip(found.layers_b, row, strict=True)]
        rows.append((name, cells))
    return {"columns": found.layers_b, "rows": rows}


def _cell(value: float, a: str, b: str, pairs: set[tuple[str, str]]) -> dict[str, str]:
    if not math.isfinite(value):
        return {"text": "–", "kind": "none", "title": f"A {a}, B {b}: one of them never changes"}
    level = min(LEVELS - 1, max(0, int(LEVELS * value)))
    kind = f"h{level}{' pair' if (a, b) in pairs else ''}"
    return {"text": number(value).removeprefix("0"), "kind": kind, "title": f"A {a}, B {b}: {value:.3f}"}


def _row(found: Comparison, pair: LayerPair, tiles: Tiles) -> PairRow:
    shares, matching = pair.shares, pair.matching
    steady = shares["steady"]
    cells = (
        number(pair.cka),
        number(pair.cka_random),
        "–" if matching is None else f"{len(matching.twin)}, {matching.units_b}",
        "–" if matching is None else str(int(matching.paired.sum())),
        number(shares["r"]),
        number(shares["held_out"]),
        number(shares["random"]),
        "–" if steady is None else percent(steady, 0),
    )
    if matching is None or not bool(matching.paired.any()):
        return PairRow(pair.a, pair.b, cells, (), (), Markup(""), "")
    texts = []
    for i, k in enumerate(matching.twin.tolist()):
        twin = str(k) if k >= 0 else "–"
        control = None if pair.control is None else _at(pair.control.held_out, i)
        steady_text = "yes" if bool(matching.steady[i]) else ""
        values = (_at(matching.correlation, i), _at(matching.held_out, i), control)
        texts.append((str(i), twin, *map(number, values), steady_text))
    words = f"median r {number(shares['held_out'])} held out"
    if shares["random"] is not None:
        words += f", {number(shares['random'])} with random weights"
    return PairRow(pair.a, pair.b, cells, unit_pairs(found, pair, tiles), tuple(texts), Markup(curves(pair)), words)


def _at(values: Tensor, i: int) -> float | None:
    value = float(values[i])
    return value if math.isfinite(value) else None
