"""The cards of a layer's units: what drives each, what it answers to, what is lost without it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchloupe.data.dataset import Split
from torchloupe.data.subsets import stratified, take
from torchloupe.evaluation.ablation import ablate, rectified
from torchloupe.evaluation.accuracy import labels_of
from torchloupe.evaluation.channels import ChannelHealth
from torchloupe.evaluation.duplicates import Nearest
from torchloupe.features.hooks import OUTPUT
from torchloupe.figures.colors import rgb, signed, tinted
from torchloupe.inspection.inputs import Images, colored, fallback, from_split
from torchloupe.inspection.result import Result
from torchloupe.inspection.views.backward import crop
from torchloupe.models.network import Network
from torchloupe.reports.html.sprites import Pool, reduced, sprite
from torchloupe.reports.making import Making

Layer = dict[str, Any]


def plain(value: "float | Tensor", digits: int = 4) -> float | None:
    """Return a number with a few digits for JSON; None for what is no number.

    >>> plain(0.123456), plain(float("nan"))
    (0.1235, None)
    """
    number = float(value)
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None


def cards(units: Sequence[int], known: ChannelHealth | None, near: Nearest | None) -> list[dict[str, Any]]:
    """Return a card for each unit with what is known of its answers to the data.

    >>> cards([3], None, None)
    [{'c': 3}]
    """
    found: list[dict[str, Any]] = [{"c": unit} for unit in units]
    for card in found:
        c = card["c"]
        if known is not None:
            card["live"], card["dead"] = plain(known.live[c]), bool(known.dead[c])
            card["mean"], card["std"], card["best"] = (plain(v[c]) for v in (known.mean, known.std, known.best))
            card["selectivity"] = plain(known.selectivity[c])
            card["classes"] = [plain(v) for v in known.class_mean[c]]
        if near is not None and int(near.other[c]) >= 0:
            card["near"] = [int(near.other[c]), plain(near.correlation[c], 3)]
    return found


def maximized(making: Making, layer: str, units: list[int], found: Layer) -> None:
    """Add the pictures that drive each unit most."""
    amount = making.plan.amount
    steps = {"copies": amount.copies, "steps": amount.steps, "canvas": making.canvas}
    shown = making.show("maximize", layer, channels=units, **steps)
    if shown is None:
        return
    found["sprites"]["max"] = sprite(reduced(rgb(shown.pictures))).plain()
    found["about"]["max"] = making.about(shown)
    ratio = shown.ratio
    for i, card in enumerate(found["units"]):
        first = i * amount.copies
        card["spread"] = plain(shown.spread[first])
        card["max"] = [
            {
                "t": n,
                "a": plain(shown.activation[n]),
                "s": plain(shown.shifted[n]),
                "r": None if ratio is None else plain(ratio[n], 3),
                "dead": bool(shown.dead[n]),
            }
            for n in range(first, first + amount.copies)
        ]


def driven(making: Making, layer: str, units: list[int], found: Layer) -> None:
    """Add the pictures of the data (or, without them, of the samples) that drive each unit most, walked back."""
    split = making.split()
    looked: Any = split
    if split is None:
        every = fallback(making.studied.size)
        every = making.samples if every is None else colored(every, making.studied.model)
        images = (every.images * 255).round().to(torch.uint8)
        looked = Split(images, torch.zeros(len(images), dtype=torch.int64), every.captions)
    count = min(making.plan.amount.examples, len(looked.images))
    shown = making.show("top-examples", layer, looked, channels=units, count=count)
    if shown is None:
        return
    found["about"]["top"] = {**making.about(shown), "looked_through": len(looked.images)}
    index = shown.index if split is None else making.index_in_split(shown.index)
    pool = Pool()
    height, width = looked.images.shape[2:]
    for i, card in enumerate(found["units"]):
        card["top"] = [
            {
                "p": pool.place(int(index[i, k]), shown.images[i, k]),
                "a": plain(shown.activation[i, k]),
                "b": [round(v / side, 4) for v, side in zip(box, (height, width, height, width), strict=True)],
                "n": shown.names[i][k],
            }
            for k, box in enumerate(shown.box[i].tolist())
        ]
    made = pool.sprite()
    if made is not None:
        found["sprites"]["photos"] = made.plain()
    if layer != OUTPUT:
        _walked(making, layer, units, looked, shown, found)


def _walked(making: Making, layer: str, units: list[int], looked: Split, top: Result, found: Layer) -> None:
    """Add for each unit its strongest examples walked back from the strongest position, cropped to what that sees."""
    traced = min(making.plan.amount.traced, top.index.shape[1])
    which = top.index[:, :traced].flatten().tolist()
    classes = [""] * (int(looked.labels.max()) + 1)
    images = from_split(looked, which, "test", classes, making.studied.size)
    given = Images(images.images, images.names, None)
    channel = torch.tensor(units).repeat_interleave(traced)
    position = top.position[:, :traced].flatten(0, 1)
    shown = making.show("deconvnet", layer, given, channels=channel, position=position, twin=False)
    if shown is None or shown.box is None:
        return
    boxes = shown.box.tolist()
    cells = [crop(cell, box, boxes) for cell, box in zip(signed(shown.signal), boxes, strict=True)]
    found["sprites"]["walk"] = sprite(reduced(torch.stack(cells))).plain()
    found["about"]["walk"] = {**making.about(shown), "position": "the strongest of the map"}
    for i, card in enumerate(found["units"]):
        card["walk"] = list(range(i * traced, (i + 1) * traced))


def mapped(making: Making, layer: str, units: list[int], found: Layer) -> None:
    """Add the units' maps of the sample pictures, and the PCA of all of the layer's maps."""
    shown = making.show("feature-maps", layer, making.samples)
    if shown is None or shown.maps.shape[2:] == (1, 1):
        return
    values = shown.maps[:, units].float()
    low, high = (getattr(values.flatten(2), end)(2)[..., None, None] for end in ("amin", "amax"))
    tiles = tinted(values, "viridis", low, high).transpose(0, 1)
    found["sprites"]["maps"] = sprite(reduced(tiles.flatten(0, 1))).plain()
    found["sprites"]["pca"] = sprite(reduced(rgb(shown.pca.float()))).plain()
    found["about"]["maps"] = {**making.about(shown), "scale": "each map from its own minimum to its maximum"}
    n = len(values)
    for i, card in enumerate(found["units"]):
        card["maps"] = list(range(i * n, (i + 1) * n))


def ablated(making: Making, layer: str, units: list[int], found: Layer, last: bool) -> None:
    """Add the drop in accuracy without each unit; the last block on all pictures, others on a stratified thousand."""
    studied = making.studied
    dataset, split = studied.dataset(), making.split()
    if layer == OUTPUT or not isinstance(studied.model, Network):
        return
    site = making.attempt("ablation", layer, lambda: rectified(studied.model, layer, making.samples.images[:1]))
    if site is None:
        return
    count = None if split is None else len(split) if last else min(making.plan.amount.ablated, len(split))
    about = {"layer": layer, "site": site, "units": units, "pictures": count, "seed": making.seed}

    def make() -> dict[str, Tensor] | None:
        if dataset is None or split is None or count is None:
            return None
        labels = labels_of(studied.model, split.labels, dataset.classes)
        chosen = stratified(labels, count, making.seed)
        some = take(split, chosen)
        result = ablate(studied.model, site, some.images, labels[chosen], channels=units, size=studied.size)
        return {
            "channel": result.channel,
            "drop": result.drop,
            "class_drop": result.class_drop,
            "accuracy": torch.tensor(result.accuracy),
            "pictures": torch.tensor(result.images),
        }

    known = making.attempt("ablation", layer, lambda: studied.once(f"ablation-{layer}", about, make))
    if known is None:
        return
    told, of = known
    rows = {int(c): i for i, c in enumerate(told["channel"].tolist())}
    found["ablation"] = {"site": of["site"], "accuracy": plain(told["accuracy"]), "pictures": int(told["pictures"])}
    found["about"]["ablation"] = {"method": "ablation", **of}
    for card in found["units"]:
        if card["c"] in rows:
            row = rows[card["c"]]
            card["drop"] = plain(told["drop"][row])
            card["drops"] = [plain(v) for v in told["class_drop"][row]]
