"""A layer's units: what activates each most, how it depends on the classes, what ablation costs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchloupe.data.dataset import Split
from torchloupe.data.subsets import stratified, take
from torchloupe.evaluation.ablation import Replacement, ablate, rectified
from torchloupe.evaluation.accuracy import labels_of
from torchloupe.evaluation.channels import ChannelHealth
from torchloupe.evaluation.duplicates import Nearest
from torchloupe.evaluation.intervals import quantile, wilson
from torchloupe.evaluation.selectivity import auc_interval
from torchloupe.evaluation.significance import discovered, mcnemar_each, paired_error
from torchloupe.features.hooks import OUTPUT
from torchloupe.figures.colors import rgb, signed, tinted
from torchloupe.inspection.inputs import Images, colored, fallback, from_split
from torchloupe.inspection.result import Result
from torchloupe.inspection.views.backward import crop
from torchloupe.models.network import Network
from torchloupe.reports.contents import Ablated, Effect, Example, FromNoise, Layer, Told, Unit
from torchloupe.reports.html.sprites import Pool, reduced, sprite
from torchloupe.reports.making import Making

ABLATION_FIGURES = 2
"""Changes when what is stored of an ablation does; files without it say how large a drop is, not whether it is one."""


def plain(value: "float | Tensor", digits: int = 4) -> float | None:
    """Return a number with a few digits for JSON; None for what is no number.

    >>> plain(0.123456), plain(float("nan"))
    (0.1235, None)
    """
    number = float(value)
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None


def measured(units: Sequence[int], known: ChannelHealth | None, near: Nearest | None) -> list[Unit]:
    """Return the units with what is known of their activations over the data.

    >>> measured([3], None, None)[0].channel
    3
    """
    found = [Unit(c) for c in units]
    if known is not None:
        dead, omega, index = known.dead, known.omega_squared, known.class_selectivity
        told = _told(known)
    for unit in found:
        c = unit.channel
        if known is not None:
            unit.live, unit.dead = plain(known.live[c]), bool(dead[c])
            ends = wilson(round(float(known.live[c]) * known.images), known.images)
            unit.live_ends = tuple(plain(end) for end in ends)
            unit.correlation_ratio, unit.omega_squared = plain(known.selectivity[c]), plain(omega[c])
            unit.class_selectivity = plain(index[c], 3)
            unit.class_means = [plain(v) for v in known.class_mean[c]]
            unit.told = told[c] if told else None
        if near is not None and int(near.other[c]) >= 0:
            unit.near = (int(near.other[c]), plain(near.correlation[c], 3))
    return found


def _told(known: ChannelHealth) -> list[Told] | None:
    """Return the class that each channel tells best from the others; None where that was not measured."""
    if known.auc is None or known.class_count is None:
        return None
    images, classes = int(known.class_count.sum()), int(known.auc.isfinite().any(0).sum())
    if classes < 2:
        return None
    auc, label = known.auc.nan_to_num(-1).max(1)
    inside = known.class_count[label]
    low, high = auc_interval(auc, inside, images - inside, quantile(of=classes))
    rows = zip(*(each.tolist() for each in (label, auc, low, high, inside)), strict=True)
    return [Told(int(k), plain(v, 3), plain(a, 3), plain(b, 3), classes, int(m), images) for k, v, a, b, m in rows]


def maximized(making: Making, found: Layer) -> None:
    """Add the feature visualizations of each unit."""
    amount = making.plan.amount
    steps = {"copies": amount.copies, "steps": amount.steps, "canvas": making.canvas}
    shown = making.show("maximize", found.name, channels=_channels(found), **steps)
    if shown is None:
        return
    found.sprites["maximize"] = sprite(reduced(rgb(shown.pictures)))
    found.about["maximize"] = making.about(shown)
    ratio = shown.ratio
    for i, unit in enumerate(found.units):
        first = i * amount.copies
        unit.spread = plain(shown.spread[first])
        unit.maximizing = [
            FromNoise(
                n,
                plain(shown.activation[n]),
                plain(shown.shifted[n]),
                None if ratio is None else plain(ratio[n], 3),
                bool(shown.dead[n]),
            )
            for n in range(first, first + amount.copies)
        ]


def _channels(found: Layer) -> list[int]:
    return [unit.channel for unit in found.units]


def examples(making: Making, found: Layer) -> None:
    """Add the images of the data (or, without them, of the samples) that activate each unit most, backpropagated."""
    split = making.split()
    ranked: Any = split
    if split is None:
        every = fallback(making.studied.size)
        every = making.samples if every is None else colored(every, making.studied.model)
        images = (every.images * 255).round().to(torch.uint8)
        ranked = Split(images, torch.zeros(len(images), dtype=torch.int64), every.captions)
    count = min(making.plan.amount.examples, len(ranked.images))
    shown = making.show("top-examples", found.name, ranked, channels=_channels(found), count=count)
    if shown is None:
        return
    whole = split is not None and len(split) == len(making.studied.split() or ())
    found.about["examples"] = {**making.about(shown), "looked_through": len(ranked.images), "whole": whole}
    index = shown.index if split is None else making.index_in_split(shown.index)
    dataset = making.studied.dataset()
    word = "test" if dataset is not None and len(dataset.test) else "train"
    pool = Pool()
    height, width = ranked.images.shape[2:]
    sides = (height, width, height, width)
    for i, unit in enumerate(found.units):
        unit.examples = [
            Example(
                pool.place(int(index[i, k]), shown.images[i, k]),
                plain(shown.activation[i, k]),
                tuple(round(v / side, 4) for v, side in zip(box, sides, strict=True)),
                shown.names[i][k],
                None if split is None else f"{word}:{int(index[i, k])}",
                (int(shown.position[i, k, 0]), int(shown.position[i, k, 1])),
            )
            for k, box in enumerate(shown.box[i].tolist())
        ]
    made = pool.sprite()
    if made is not None:
        found.sprites["photos"] = made
    if found.name != OUTPUT:
        _backpropagated(making, ranked, shown, found)


def _backpropagated(making: Making, ranked: Split, top: Result, found: Layer) -> None:
    """Add for each unit the deconvnet of its first examples from the strongest position, cropped to what that sees."""
    traced = min(making.plan.amount.traced, top.index.shape[1])
    which = top.index[:, :traced].flatten().tolist()
    classes = [""] * (int(ranked.labels.max()) + 1)
    images = from_split(ranked, which, "test", classes, making.studied.size)
    given = Images(images.images, images.names, None)
    channel = torch.tensor(_channels(found)).repeat_interleave(traced)
    position = top.position[:, :traced].flatten(0, 1)
    shown = making.show("deconvnet", found.name, given, channels=channel, position=position, randomized=False)
    if shown is None or shown.box is None:
        return
    boxes = shown.box.tolist()
    cells = [crop(cell, box, boxes) for cell, box in zip(signed(shown.signal), boxes, strict=True)]
    found.sprites["backpropagated"] = sprite(reduced(torch.stack(cells)))
    found.about["backpropagated"] = {**making.about(shown), "position": "the strongest of the map"}
    for i, unit in enumerate(found.units):
        unit.backpropagated = list(range(i * traced, (i + 1) * traced))


def mapped(making: Making, found: Layer) -> None:
    """Add the units' maps of the sample images, and the PCA of all of the layer's maps."""
    shown = making.show("feature-maps", found.name, making.samples)
    if shown is None or shown.maps.shape[2:] == (1, 1):
        return
    values = shown.maps[:, _channels(found)].float()
    low, high = (getattr(values.flatten(2), end)(2)[..., None, None] for end in ("amin", "amax"))
    tiles = tinted(values, "viridis", low, high).transpose(0, 1)
    found.sprites["maps"] = sprite(reduced(tiles.flatten(0, 1)))
    found.sprites["pca"] = sprite(reduced(rgb(shown.pca.float())))
    found.about["maps"] = {**making.about(shown), "scale": "each map from its own minimum to its maximum"}
    n = len(values)
    for i, unit in enumerate(found.units):
        unit.maps = list(range(i * n, (i + 1) * n))


def ablated(making: Making, found: Layer, last: bool) -> None:
    """Add what zero- and mean-ablation cost; the last block on all images, others on a stratified thousand."""
    studied, layer = making.studied, found.name
    dataset, split = studied.dataset(), making.split()
    if layer == OUTPUT or not isinstance(studied.model, Network):
        return
    site = making.attempt("ablation", layer, lambda: rectified(studied.model, layer, making.samples.images[:1]))
    if site is None:
        return
    amount = making.plan.amount
    count = None if split is None else len(split) if last else min(amount.ablated, len(split))
    kinds: list[Replacement] = ["zero", "mean"] if amount.mean_ablated or last else ["zero"]
    units = _channels(found)
    about = {
        "layer": layer,
        "site": site,
        "units": units,
        "pictures": count,
        "seed": making.seed,
        "replacements": kinds,
        "figures": ABLATION_FIGURES,
    }

    def make() -> dict[str, Tensor] | None:
        if dataset is None or split is None or count is None:
            return None
        labels = labels_of(studied.model, split.labels, dataset.classes)
        chosen = stratified(labels, count, making.seed)
        some = take(split, chosen)
        zero, *others = (
            ablate(
                studied.model, site, some.images, labels[chosen], channels=units, replacement=kind, size=studied.size
            )
            for kind in kinds
        )
        tensors = {
            "channel": zero.channel,
            "drop": zero.drop,
            "class_drop": zero.class_drop,
            "accuracy": torch.tensor(zero.accuracy),
            "pictures": torch.tensor(zero.images),
        }
        for result in (zero, *others):
            tensors |= {f"lost/{result.replacement}": result.lost, f"gained/{result.replacement}": result.gained}
        return tensors

    known = making.attempt("ablation", layer, lambda: studied.once(f"ablation-{layer}", about, make))
    if known is None:
        return
    stored, of = known
    rows = {int(c): i for i, c in enumerate(stored["channel"].tolist())}
    images = int(stored["pictures"])
    zero, mean = (_effects(stored, kind, images) for kind in ("zero", "mean"))
    found.ablated = Ablated(
        of["site"],
        plain(stored["accuracy"]),
        images,
        len(zero or ()),
        sum(each.found for each in zero or ()),
        None if mean is None else sum(each.found for each in mean),
    )
    found.about["ablation"] = {"method": "ablation", **of}
    for unit in found.units:
        if unit.channel in rows:
            row = rows[unit.channel]
            unit.drop = plain(stored["drop"][row])
            unit.class_drops = [plain(v) for v in stored["class_drop"][row]]
            unit.effect = zero[row] if zero else None
            unit.mean_effect = mean[row] if mean else None


def _effects(stored: Mapping[str, Tensor], kind: str, images: int) -> list[Effect] | None:
    """Return the effect of each unit that was ablated; None of files that do not count who changed sides."""
    if f"lost/{kind}" not in stored:
        return None
    lost, gained = stored[f"lost/{kind}"], stored[f"gained/{kind}"]
    p = mcnemar_each(lost, gained)
    rows = zip(
        *(each.tolist() for each in (lost, gained, paired_error(lost, gained, images), p, discovered(p))), strict=True
    )
    return [
        Effect(plain((a - b) / images), plain(error, 3), int(a), int(b), plain(chance, 3), bool(is_found))
        for a, b, error, chance, is_found in rows
    ]
