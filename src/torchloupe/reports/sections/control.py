"""The parameter-randomization control of a report: what signals in the image owe to the weights.

Each number stands beside what it could lose to: two random networks, the trained weights shuffled, another training.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from torchloupe.attribution.backward import Backward
from torchloupe.attribution.randomization import Likeness, cascading_randomization, compare
from torchloupe.attribution.rank_correlation import Mean, spearman
from torchloupe.features.cascade import weighted_layers
from torchloupe.features.hooks import OUTPUT
from torchloupe.features.random_control import Kind
from torchloupe.features.trace import placed
from torchloupe.figures.colors import signed
from torchloupe.inspection.catalog import find_method, load_function
from torchloupe.inspection.inputs import colored, drawn
from torchloupe.reports.contents import Control, Interval, Layer
from torchloupe.reports.html.charts import line_chart
from torchloupe.reports.html.sprites import reduced, sprite
from torchloupe.reports.html.tables import RULES
from torchloupe.reports.making import Making
from torchloupe.reports.plan import CASCADED
from torchloupe.reports.sections.units import plain

DRAWS = 3
"""Random networks, each an independent draw, and as many of shuffled weights."""


def backpropagated(making: Making, found: Layer) -> None:
    """Add the sample images backpropagated by every rule, through the trained network and through random weights."""
    images = _images(making)
    for rule in RULES:
        shown = making.show(rule, found.name, making.samples)
        if shown is None:
            continue
        both = torch.cat([signed(shown.signal), signed(shown.randomized.signal)])
        found.sprites[rule] = sprite(reduced(both))
        scale = "each picture symmetric around mid grey, to the 99.5th percentile of its own magnitudes"
        found.about[rule] = {**making.about(shown), "scale": scale}
        found.correlations[rule] = [plain(v, 3) for v in spearman(shown.signal, shown.randomized.signal)]
        rows = making.attempt("the control", found.name, partial(_compared, making, rule, found.name, images))
        if rows:
            found.controls[rule] = [_plain(row) for row in rows]


def _images(making: Making) -> Tensor:
    """Return the images that networks are compared on: test images drawn by seed; without data, the samples."""
    known = making.studied.dataset()
    if known is None:
        return making.samples.images
    return colored(
        drawn(known, making.seed, making.studied.size, making.plan.amount.controlled), making.studied.model
    ).images


def _method(rule: str) -> Callable[..., Backward]:
    return load_function(find_method(rule).compute)


def _compared(making: Making, rule: str, layer: str, images: Tensor) -> tuple[Likeness, ...]:
    method, studied, second = _method(rule), making.studied, making.second

    def signal(net: nn.Module) -> Tensor:
        return method(net, layer, images, randomized=False).signal

    def drawn_anew(kind: Kind) -> list[Tensor]:
        return [signal(studied.control(making.seed + draw, images, kind)[0]) for draw in range(DRAWS)]

    other = None if second is None else making.attempt("the second training", layer, lambda: signal(second))
    return compare(signal(studied.model), drawn_anew("initial"), drawn_anew("permuted"), other)


def _plain(row: Likeness) -> Control:
    return Control(row.pair, row.networks, _interval(row.signed), _interval(row.absolute))


def _interval(mean: Mean) -> Interval:
    return Interval(plain(mean.mean, 3), plain(mean.low, 3), plain(mean.high, 3), mean.n)


def control_images(making: Making) -> str:
    """Return what BatchNorm statistics of random networks are measured on; empty where the network keeps none."""
    return making.studied.calibrated_on(making.samples.images) or ""


def cascade_chart(making: Making, rules: Sequence[str]) -> tuple[str, list[str]]:
    """Return curves of attributions' likeness while layers are randomized from the output down, and these layers.

    The attributions are those of the predicted class, of the sample images; empty where there are too many layers.
    """
    if not rules:
        return "", []
    found = making.attempt("the cascade", "all", lambda: _cascade(making, rules))
    if found is None:
        return "", []
    layers, means = found
    curves = [
        (rule, "abc"[RULES.index(rule)], [float(i) for i in range(len(layers) + 1)], each)
        for rule, each in zip(rules, means, strict=True)
    ]
    title = "Spearman's correlation of magnitudes with the trained network's, while layers are randomized"
    return line_chart(title, curves, x_label="layers randomized, from the output down", y_range=(-0.2, 1.0)), layers


def _cascade(making: Making, rules: Sequence[str]) -> tuple[list[str], list[list[float]]] | None:
    """Return the layers, and for each rule the mean correlation of magnitudes after each of them."""
    model = making.studied.model
    images = placed(model, making.samples.images)
    if not 1 < len(weighted_layers(model, images[:1])) <= CASCADED:
        return None
    classes = _method(rules[0])(model, OUTPUT, images, randomized=False).target

    def attribute(net: nn.Module) -> Tensor:
        made = [_method(rule)(net, OUTPUT, images, target=classes, randomized=False) for rule in rules]
        return torch.cat([each.signal for each in made])

    found = cascading_randomization(attribute, model, making.studied.calibration(images), seed=making.seed)
    means: list[list[float]] = [each.nanmean(1).tolist() for each in found.absolute.chunk(len(rules), 1)]
    return list(found.layers[1:]), means
