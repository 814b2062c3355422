"""The tables and the diagram of a report, as plain values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from torchloupe.evaluation.intervals import words
from torchloupe.reports.contents import Control, Interval, Layer, Performance, Probing
from torchloupe.runs.results import interval_of, of_classes

WIDEST = 16
"""Classes up to which the whole confusion matrix is drawn."""
WIDE = 1170
"""Pixels of a page, over which the diagram spreads."""
RULES = ("deconvnet", "guided", "gradient")


def layer_row(layer: Layer, href: str) -> dict[str, str]:
    """Return a layer's line in the table.

    >>> layer_row(Layer("a", "ReLU", 4, dead=0.25), "#/a")["dead"]
    '25 %'
    """
    field = layer.receptive_field
    sees = "" if field is None else f"{max(field)}{'*' if layer.clipped else ''}"
    sees += f", {layer.effective:.0f}" if sees and layer.effective is not None else ""
    found = layer.inversions
    return {
        "name": layer.name,
        "href": href,
        "kind": layer.kind,
        "output": " × ".join(map(str, layer.shape or (layer.count,))),
        "field": sees,
        "parameters": f"{layer.parameters:,}" if layer.parameters else "",
        "dead": "n/a" if layer.dead is None and layer.images else _share(layer.dead),
        "effect": f"{layer.ablated.found} of {layer.ablated.units}" if layer.ablated and layer.ablated.units else "",
        "duplicates": _share(layer.duplicates),
        "psnr": _decibels(found.psnr if found else None),
        "psnr_randomized": _decibels(found.psnr_randomized if found else None),
    }


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def diagram(layers: Sequence[Layer], hrefs: Mapping[str, str]) -> dict[str, Any]:
    """Return boxes for the layers: as high as the maps are (by the logarithm of their side), as wide as channels.

    >>> found = diagram([Layer("a", "Conv2d", 4, shape=(4, 8, 8))], {"a": "#/a"})
    >>> found["boxes"][0]["text"]
    '4 × 8 × 8'
    """
    step, high = max(96, min(160, WIDE // max(1, len(layers)))), 130
    boxes = []
    for number, layer in enumerate(layers):
        shape = layer.shape or (layer.count,)
        side = max(shape[1:], default=1)
        w = round(8 + 6 * math.log2(max(2, shape[0])), 1)
        h = round(12 + 13.5 * math.log2(max(1, side)), 1)
        left = number * step
        name = layer.name
        boxes.append(
            {
                "name": name,
                "short": name if len(name) <= 14 else f"…{name[-13:]}",
                "href": hrefs[name],
                "text": " × ".join(map(str, shape)),
                "left": left,
                "middle": left + step / 2,
                "x": round(left + step / 2 - w / 2, 1),
                "y": round(high / 2 - h / 2 + 4, 1),
                "w": w,
                "h": h,
            }
        )
    return {"boxes": boxes, "width": len(layers) * step, "height": high + 42, "middle": high / 2 + 4, "step": step}


def interval_words(found: Performance | None, name: str) -> str:
    """Write the 95 % interval of an accuracy; "" where it was not measured.

    >>> interval_words(None, "accuracy")
    ''
    """
    return "" if found is None or name not in found.figures else words(interval_of(found.figures, name))


def per_class(found: Performance | None) -> list[tuple[str, float | None, str]]:
    """Return class, accuracy and its 95 % interval; of many classes the worst.

    >>> per_class(None)
    []
    """
    if found is None:
        return []
    shares = found.figures["per_class"]
    ends = of_classes(found.confusion)
    rows = zip(found.classes, ends, strict=True)
    known = [(name, shares.get(name), "" if each is None else words(each, 1)) for name, each in rows]
    if len(known) <= WIDEST:
        return known
    some = [(share, row) for row in known if (share := row[1]) is not None]
    return [row for _, row in sorted(some, key=lambda each: each[0])[:WIDEST]]


def classes_left(found: Performance | None) -> int:
    """Return how many classes `per_class` leaves out.

    >>> classes_left(None)
    0
    """
    return 0 if found is None else max(0, len(found.figures["per_class"]) - WIDEST)


def confusion(found: Performance | None) -> dict[str, Any] | None:
    """Return the matrix in percent of its rows, with a level of colour for each cell; None for many classes.

    >>> confusion(None) is None
    True
    """
    return None if found is None else matrix(found.classes, found.confusion)


def matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> dict[str, Any] | None:
    """Return a table of classes by classes as `confusion` does.

    >>> matrix(["ant"], [[4]])["rows"]
    [('ant', [('100', 6, 4)])]
    """
    if len(classes) > WIDEST:
        return None
    rows: list[tuple[str, list[tuple[str, int, int]]]] = []
    for name, row in zip(classes, counts, strict=True):
        total = sum(row) or 1
        cells = [(f"{100 * n / total:.0f}" if n else "", min(6, -(-6 * n // total)) if n else 0, n) for n in row]
        place = len(rows)
        rows.append((name, [c if i == place else (c[0], _level(c[2] / total), c[2]) for i, c in enumerate(cells)]))
    return {"classes": classes, "rows": rows}


def _level(share: float) -> int:
    """Return the level of colour of a share of mistakes: 0.5 %, 2 %, 5 %, 10 % begin one."""
    return sum(share >= start for start in (0.005, 0.02, 0.05, 0.10))


def confused(found: Performance | None) -> list[tuple[str, str, int]]:
    """Return of many classes the most frequent confusions: true, predicted, images.

    >>> confused(None)
    []
    """
    if found is None or len(found.classes) <= WIDEST:
        return []
    pairs = [(n, i, j) for i, row in enumerate(found.confusion) for j, n in enumerate(row) if i != j and n]
    return [(found.classes[i], found.classes[j], n) for n, i, j in sorted(pairs, key=lambda e: -e[0])[:WIDEST]]


def controlled_layer(layers: Sequence[Layer]) -> str | None:
    """Return the last layer whose signals were compared with those through random weights.

    >>> controlled_layer([Layer("a", ""), Layer("b", "", controls={"deconvnet": []})])
    'b'
    """
    return next((layer.name for layer in reversed(layers) if layer.controls), None)


def controls(layers: Sequence[Layer]) -> dict[str, Any] | None:
    """Return how alike signals of trained and of random networks are: rows of layer, pair and a cell a rule and sign.

    >>> found = Control("random, random", 3, Interval(0.5, 0.44, 0.56, 8), Interval(0.61, None, None, 1))
    >>> controls([Layer("b", "", controls={"deconvnet": [found]})])["rows"]
    [{'layer': 'b', 'span': 1, 'pair': 'random, random', 'cells': ['0.50 [0.44, 0.56]', '0.61', '–', '–', '–', '–']}]
    """
    name = controlled_layer(layers)
    if name is None:
        return None
    rows: list[dict[str, Any]] = []
    for layer in layers:
        found = {rule: {row.pair: row for row in layer.controls.get(rule, [])} for rule in RULES}
        pairs = list(dict.fromkeys(pair for each in found.values() for pair in each))
        for place, pair in enumerate(pairs):
            cells = [cell for rule in RULES for cell in _signed_absolute(found[rule].get(pair))]
            rows.append({"layer": layer.name, "span": 0 if place else len(pairs), "pair": pair, "cells": cells})
    every = [row for layer in layers for each in layer.controls.values() for row in each]
    return {
        "layer": name,
        "rules": RULES,
        "rows": rows,
        "n": max((row.signed.n for row in every), default=0),
        "draws": next((row.networks for row in every if row.pair == "trained, random"), 0),
        "pairs": {row.pair for row in every},
    }


def probes(found: Probing) -> dict[str, Any]:
    """Return what probes read: a row a layer, its cells networks by image (dB) and networks by class (%).

    >>> row = [Interval(0.5, 0.4, 0.6, 9)]
    >>> made = Probing(["trained"], ["a"], [12], [row], [row], 1.0, 2.0, 0.1, 9, 3, 9)
    >>> probes(made)["rows"]
    [{'layer': 'a', 'features': '12', 'cells': ['0.5 [0.4, 0.6]', '50 [40, 60]']}]
    """
    rows = []
    for place, layer in enumerate(found.layers):
        cells = [_mean(row[place], "{:.1f}") for row in found.psnr]
        cells += [_mean(row[place], "{:.0f}", 100) for row in found.accuracy]
        rows.append({"layer": layer, "features": f"{found.features[place]:,}", "cells": cells})
    charts = {"psnr_chart": Markup(found.psnr_chart), "accuracy_chart": Markup(found.accuracy_chart)}
    return {"rows": rows, "networks": found.networks, "found": found, **charts}


def _signed_absolute(row: Control | None) -> tuple[str, str]:
    return ("–", "–") if row is None else (_mean(row.signed), _mean(row.absolute))


def _mean(value: Interval, form: str = "{:.2f}", times: float = 1.0) -> str:
    if value.mean is None:
        return "–"
    mean = form.format(times * value.mean)
    if value.low is None or value.high is None:
        return mean
    return f"{mean} [{form.format(times * value.low)}, {form.format(times * value.high)}]"
