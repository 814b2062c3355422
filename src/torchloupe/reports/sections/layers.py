"""One layer of a report: what it is, what it makes of the sample pictures, and its units."""

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from torchloupe.data.subsets import spread_out
from torchloupe.evaluation.duplicates import Nearest, nearest
from torchloupe.features.hooks import OUTPUT
from torchloupe.figures.colors import rgb, signed, stretched
from torchloupe.inspection.layer_table import LayerRow, layer_table
from torchloupe.models.network import Network
from torchloupe.reports.html.charts import line_chart
from torchloupe.reports.html.sprites import reduced, sprite
from torchloupe.reports.html.tables import RULES
from torchloupe.reports.making import Making
from torchloupe.reports.plan import units_of
from torchloupe.reports.sections.units import Layer, ablated, cards, driven, mapped, maximized, plain
from torchloupe.synthesis.similarity import correlation

CLASSES = 10
"""Classes are shown up to so many, however few units of other layers are."""
COMPARED = 256
"""Pictures over which channels' maps are compared."""
PARTS = 8
"""Steps of progress of a layer."""


def all_layers(making: Making) -> list[Layer]:
    """Make every layer of the plan."""
    studied, model = making.studied, making.studied.model
    image = making.samples.images[:1]
    layers = making.plan.layers
    every = list(layers)
    looked_at = making.plan.amount.images
    known = making.attempt("health", "all", lambda: studied.health(every, most=looked_at)) or {}
    split = making.split()
    if split is None:
        looked = (making.samples.images * 255).round().to(torch.uint8)
    else:
        looked = split.images[spread_out(len(split), COMPARED)]
    near = making.attempt("near-duplicates", "all", lambda: nearest(model, looked, every, size=studied.size)) or {}
    counted = looked_at if known else 0
    table = layer_table(studied, counted, layers=every, image=image, attempt=making.attempt)
    blocks = [layer for layer in layers if layer != OUTPUT]
    found = []
    for layer, row in zip(layers, table, strict=True):
        about = _facts(row, near.get(layer))
        last = bool(blocks) and layer == blocks[-1]
        found.append(_layer(making, layer, about, known, near.get(layer), last))
    return found


def _facts(row: LayerRow, near: Nearest | None) -> Layer:
    """Return what the layer is."""
    facts: Layer = {"name": row.name, "kind": row.kind, "dead": None if row.dead is None else plain(row.dead)}
    if row.output:
        facts["shape"], facts["parameters"] = list(row.output), row.parameters
        facts["effective"] = None if row.effective_field is None else plain(row.effective_field, 3)
    if row.field is not None:
        facts["field"], facts["clipped"] = list(row.field), row.clipped
    if near is not None:
        facts["duplicates"] = plain(near.duplicate.float().mean())
    return facts


def _layer(making: Making, layer: str, found: Layer, known: dict[str, Any], near: Nearest | None, last: bool) -> Layer:
    model = making.studied.model
    health = known.get(layer)
    shown = making.show("feature-maps", layer, making.samples.images[:1])
    count = int(shown.maps.shape[1]) if shown is not None else 0
    most = making.plan.amount.units
    if layer == OUTPUT and most is not None:
        most = max(most, CLASSES)
    chosen, found["rest"] = units_of(count, most, health)
    units = list(chosen)
    found |= {"count": count, "units": cards(units, health, near), "sprites": {}, "about": {}, "samples": {}}
    if layer == OUTPUT and isinstance(model, Network):
        for card in found["units"]:
            card["name"] = model.classes[card["c"]]
    if not units:
        making.step(PARTS)
        return found
    for part in (_filters, mapped, driven, maximized):
        part(making, layer, units, found)
        making.step()
    ablated(making, layer, units, found, last)
    making.step()
    if layer != OUTPUT:
        _inverted(making, layer, found)
        making.step()
        _walked_back(making, layer, found)
    making.step(PARTS - 5 if layer == OUTPUT else PARTS - 6)
    return found


def _filters(making: Making, layer: str, units: list[int], found: Layer) -> None:
    """Add the filters of a convolution that sees colours."""
    model = making.studied.model
    module = None if layer == OUTPUT else model.get_submodule(layer)
    if not isinstance(module, nn.Conv2d) or module.in_channels not in (1, 3) or min(module.kernel_size) < 2:
        return
    shown = making.show("filters", layer, channels=units)
    if shown is None:
        return
    found["sprites"]["filters"] = sprite(stretched(shown.weight)).plain()
    found["about"]["filters"] = {**making.about(shown), "scale": "each filter from its smallest weight to its largest"}
    for i, card in enumerate(found["units"]):
        card["filter"] = i


def _inverted(making: Making, layer: str, found: Layer) -> None:
    """Add the sample pictures remade from the layer, and from the same layer with random weights."""
    shown = making.show("invert", layer, making.samples, steps=making.plan.amount.inversion_steps)
    if shown is None:
        return
    twin = shown.twin
    both = torch.cat([rgb(shown.pictures), rgb(twin.pictures)])
    found["sprites"]["invert"] = sprite(reduced(both)).plain()
    found["about"]["invert"] = making.about(shown)
    found["samples"]["invert"] = [_scores(result, i) for result in (shown.result, twin) for i in range(len(both) // 2)]
    found["psnr"] = [plain(shown.psnr.mean()), plain(twin.psnr.mean())]
    found["error"] = [plain(shown.error.nanmean()), plain(twin.error.nanmean())]
    steps = [float(i + 1) for i in range(len(shown.history))]
    curves = [("trained", "a", shown.history), ("random weights", "b", twin.history)]
    chart = line_chart(
        [(name, kind, steps, history.median(1).values.tolist()) for name, kind, history in curves],
        x_label="step",
        log=True,
        width=420,
        height=200,
    )
    found["history"] = None if chart is None else asdict(chart)


def _scores(result: Any, i: int) -> dict[str, float | None]:
    return {"error": plain(result.error[i], 3), "psnr": plain(result.psnr[i], 3), "ssim": plain(result.ssim[i], 2)}


def _walked_back(making: Making, layer: str, found: Layer) -> None:
    """Add the sample pictures walked back by every rule, through the trained network and through random weights."""
    for name in RULES:
        shown = making.show(name, layer, making.samples)
        if shown is None:
            continue
        both = torch.cat([signed(shown.signal), signed(shown.twin.signal)])
        found["sprites"][name] = sprite(reduced(both)).plain()
        alike = correlation(shown.signal, shown.twin.signal)
        known = alike[alike.isfinite()]
        about = {"scale": "each picture symmetric around mid grey, to its own strongest"}
        found["about"][name] = {**making.about(shown), **about, "correlation": [plain(v, 3) for v in alike]}
        if len(known):
            found.setdefault("twins", {})[name] = [plain(known.mean(), 2), plain(known.std(correction=0), 2)]


def sample_names(making: Making) -> list[dict[str, Any]]:
    """Return what the sample pictures are called; they are the tiles of the sprite `samples`, in this order."""
    return [{"n": name} for name in making.samples.captions]
