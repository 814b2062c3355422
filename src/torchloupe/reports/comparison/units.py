"""Units of two networks that were matched: the best, the worst and some between, each with what activates it most."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchloupe.data.subsets import take
from torchloupe.features.hooks import OUTPUT
from torchloupe.features.top_examples import TopExamples, top_examples
from torchloupe.models.network import Network
from torchloupe.reports.comparison.measured import Comparison, LayerPair
from torchloupe.reports.comparison.tiles import Tile, Tiles
from torchloupe.reports.html.charts import line_chart
from torchloupe.runtime.memory import halving

UNITS = 9
"""Pairs of a layer that are shown."""
EXAMPLES = 4
"""Images that activate each most."""


@dataclass(frozen=True)
class UnitPair:
    """A unit of A, its twin in B, and the images that activate each most."""

    a: str
    b: str
    r: float
    held_out: float | None
    rank: int
    """From 1, the most alike, on."""
    of_a: tuple[Tile, ...]
    of_b: tuple[Tile, ...]


def ranked(pair: LayerPair) -> list[int]:
    """Return the units of A that have a twin, those with the largest r first."""
    found = pair.matching
    if found is None:
        return []
    r = torch.where(found.paired, found.correlation, -torch.inf)
    return r.argsort(descending=True, stable=True)[: int(found.paired.sum())].tolist()


def unit_pairs(found: Comparison, pair: LayerPair, tiles: Tiles) -> tuple[UnitPair, ...]:
    """Return some of the pairs, evenly from the most to the least alike."""
    order, matching = ranked(pair), pair.matching
    if not order or matching is None:
        return ()
    most = min(UNITS, len(order))
    places = sorted({round(i * (len(order) - 1) / max(1, most - 1)) for i in range(most)})
    units = [order[place] for place in places]
    twins = [int(matching.twin[unit]) for unit in units]
    some = take(found.split, found.chosen)

    def strongest(model: nn.Module, layer: str, channels: list[int]) -> TopExamples:
        return halving(
            lambda: top_examples(model, layer, some, channels=channels, count=EXAMPLES), "the strongest pictures"
        )

    of_a, of_b = strongest(found.a.model, pair.a, units), strongest(found.b.model, pair.b, twins)
    made = []
    for i, (place, unit, twin) in enumerate(zip(places, units, twins, strict=True)):
        held = float(matching.held_out[unit])
        made.append(
            UnitPair(
                _called(found.a.model, pair.a, unit),
                _called(found.b.model, pair.b, twin),
                float(matching.correlation[unit]),
                held if math.isfinite(held) else None,
                place + 1,
                _tiles(of_a, i, found.chosen, tiles),
                _tiles(of_b, i, found.chosen, tiles),
            )
        )
    return tuple(made)


def _tiles(top: TopExamples, row: int, chosen: Tensor, tiles: Tiles) -> tuple[Tile, ...]:
    return tuple(
        tiles.place(int(chosen[int(i)]), box, name)
        for i, box, name in zip(top.index[row], top.box[row].tolist(), top.names[row], strict=True)
    )


def _called(model: nn.Module, layer: str, unit: int) -> str:
    if isinstance(model, Network) and layer == OUTPUT and unit < len(model.classes):
        return f"{unit} {model.classes[unit]}"
    return str(unit)


def curves(pair: LayerPair) -> str:
    """Draw r held out of all pairs, the largest first, beside that with random weights, as SVG."""
    if pair.matching is None:
        return ""
    kinds = [("B as trained", "a", pair.matching.held_out)]
    kinds += [] if pair.control is None else [("B with random weights", "b", pair.control.held_out)]
    series = []
    for label, kind, values in kinds:
        known = values[values.isfinite()].sort(descending=True).values.tolist()
        series.append((label, kind, [float(i + 1) for i in range(len(known))], known))
    lowest = min((min(each[3]) for each in series if each[3]), default=0.0)
    return line_chart(
        f"Correlation of the units of {pair.a} with their twins, held out, the largest first",
        series,
        x_label="rank",
        y_range=(min(0.0, lowest), 1.0),
        width=420,
        height=200,
        ends=False,
    )
