"""One layer of a report: what it is, what it makes of the sample pictures, and its units."""

from typing import Any

import torch
from torch import nn

from torchloupe.data.subsets import spread_out
from torchloupe.evaluation.channels import ChannelHealth
from torchloupe.evaluation.duplicates import Nearest, nearest
from torchloupe.features.hooks import OUTPUT
from torchloupe.figures.colors import rgb, stretched
from torchloupe.inspection.layer_table import LayerRow, layer_table
from torchloupe.models.network import Network
from torchloupe.reports.contents import Inversions, Layer, Score
from torchloupe.reports.html.charts import line_chart
from torchloupe.reports.html.sprites import reduced, sprite
from torchloupe.reports.making import Making
from torchloupe.reports.plan import units_of
from torchloupe.reports.sections.control import backpropagated
from torchloupe.reports.sections.units import ablated, examples, mapped, maximized, measured, plain

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
    most = making.plan.amount.images
    known = making.attempt("health", "all", lambda: studied.health(every, most=most, ranked=True)) or {}
    split = making.split()
    if split is None:
        compared = (making.samples.images * 255).round().to(torch.uint8)
    else:
        compared = split.images[spread_out(len(split), COMPARED)]
    near = making.attempt("near-duplicates", "all", lambda: nearest(model, compared, every, size=studied.size)) or {}
    table = layer_table(studied, most if known else 0, layers=every, image=image, attempt=making.attempt)
    blocks = [layer for layer in layers if layer != OUTPUT]
    found = []
    for layer, row in zip(layers, table, strict=True):
        last = bool(blocks) and layer == blocks[-1]
        found.append(_layer(making, _facts(row, near.get(layer)), known.get(layer), near.get(layer), last))
    return found


def _facts(row: LayerRow, near: Nearest | None) -> Layer:
    """Return what the layer is."""
    found = Layer(row.name, row.kind, dead=None if row.dead is None else plain(row.dead), images=row.images)
    if row.output:
        found.shape, found.parameters = tuple(row.output), row.parameters
        found.effective = None if row.effective_field is None else plain(row.effective_field, 3)
    if row.field is not None:
        found.receptive_field, found.clipped = tuple(row.field), row.clipped
    if near is not None:
        found.duplicates = plain(near.duplicate.float().mean())
    return found


def _layer(making: Making, found: Layer, health: ChannelHealth | None, near: Nearest | None, last: bool) -> Layer:
    model, layer = making.studied.model, found.name
    shown = making.show("feature-maps", layer, making.samples.images[:1])
    found.count = int(shown.maps.shape[1]) if shown is not None else 0
    most = making.plan.amount.units
    if layer == OUTPUT and most is not None:
        most = max(most, CLASSES)
    chosen, found.rest = units_of(found.count, most, health)
    found.units = measured(chosen, health, near)
    if layer == OUTPUT and isinstance(model, Network):
        for unit in found.units:
            unit.name = model.classes[unit.channel]
    if not found.units:
        making.step(PARTS)
        return found
    for part in (_filters, mapped, examples, maximized):
        part(making, found)
        making.step()
    ablated(making, found, last)
    making.step()
    if layer != OUTPUT:
        _inverted(making, found)
        making.step()
        backpropagated(making, found)
    making.step(PARTS - 5 if layer == OUTPUT else PARTS - 6)
    return found


def _filters(making: Making, found: Layer) -> None:
    """Add the filters of a convolution that sees colours."""
    module = None if found.name == OUTPUT else making.studied.model.get_submodule(found.name)
    if not isinstance(module, nn.Conv2d) or module.in_channels not in (1, 3) or min(module.kernel_size) < 2:
        return
    shown = making.show("filters", found.name, channels=[unit.channel for unit in found.units])
    if shown is None:
        return
    found.sprites["filters"] = sprite(stretched(shown.weight))
    found.about["filters"] = {**making.about(shown), "scale": "each filter from its smallest weight to its largest"}
    for i, unit in enumerate(found.units):
        unit.filter = i


def _inverted(making: Making, found: Layer) -> None:
    """Add the sample images reconstructed from the layer, and from the same layer with random weights."""
    shown = making.show("invert", found.name, making.samples, steps=making.plan.amount.inversion_steps)
    if shown is None:
        return
    control = shown.randomized
    both = torch.cat([rgb(shown.pictures), rgb(control.pictures)])
    found.sprites["invert"] = sprite(reduced(both))
    found.about["invert"] = making.about(shown)
    steps = [float(i + 1) for i in range(len(shown.history))]
    curves = [("trained", "a", shown.history), ("random weights", "b", control.history)]
    chart = line_chart(
        "Relative error of the inversion, median of the pictures",
        [(name, kind, steps, history.median(1).values.tolist()) for name, kind, history in curves],
        x_label="step",
        log=True,
        width=420,
        height=200,
    )
    scores = [_score(result, i) for result in (shown.result, control) for i in range(len(both) // 2)]
    found.inversions = Inversions(scores, plain(shown.psnr.mean()), plain(control.psnr.mean()), chart)


def _score(result: Any, i: int) -> Score:
    return Score(plain(result.error[i], 3), plain(result.psnr[i], 3), plain(result.ssim[i], 2))
