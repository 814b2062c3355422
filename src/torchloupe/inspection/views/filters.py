"""Filters as colour pictures; those of deeper layers as their strongest kernels."""

from typing import Any

import torch
from torch import Tensor

from torchloupe.features.filters import Filters
from torchloupe.figures.colors import stretched, tinted
from torchloupe.figures.sheet import Sheet, pages
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.views.common import heading, note


def view(result: Filters, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    """Return the sheets of a convolution's filters."""
    if result.weight.shape[1] in (1, 3):
        return _colors(result, look, about)
    return _kernels(result, look, about)


def _colors(result: Filters, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    weight = result.weight.float()
    scale = look.scale or "per_picture"
    if scale == "per_picture":
        low = high = None  # each its own
        text = "scale per filter: each from its own smallest weight (black) to its largest (white)"
    elif scale == "shared":
        low, high = weight.amin(), weight.amax()
        text = f"scale shared: {float(low):.3g} (black) to {float(high):.3g} (white)"
    else:
        high = weight.abs().amax()
        low = -high
        text = f"scale symmetric: zero is mid grey, ±{float(high):.3g} the ends"
    cells = stretched(weight, low, high)
    size = f"{weight.shape[2]} × {weight.shape[3]} weights, acting on normalised pictures; {text}"
    text = note({**about, "settings": {}}, size)  # they are of deeper layers
    names = [str(c) for c in result.channel.tolist()]
    sheet = Sheet(list(cells), names, heading(about, "Filters"), text, side=80)
    return pages(sheet)


def _kernels(result: Filters, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    group = result.weight.shape[1]
    inside = result.strongest % group if group else result.strongest
    kernels = result.weight.float()[torch.arange(len(inside))[:, None], inside]
    high = kernels.abs().amax() if look.scale == "shared" else kernels.abs().flatten(1).amax(1)[:, None, None, None]
    cells: Tensor = tinted(kernels, look.cmap or "RdBu_r", -high, high)
    count = kernels.shape[1]
    captions = [
        f"{channel}←{source}\n{norm:.2g}" if i == 0 else f"←{source}\n{norm:.2g}"
        for channel, sources, norms in zip(
            result.channel.tolist(), result.strongest.tolist(), result.strength.tolist(), strict=True
        )
        for i, (source, norm) in enumerate(zip(sources, norms, strict=True))
    ]
    text = (
        "each filter's strongest input channels (number, L2 norm of the kernel); red positive, blue negative, scale "
        + ("shared" if look.scale == "shared" else "per filter, zero in the middle")
    )
    columns = max(1, 8 // count) * count
    sheet = Sheet(
        list(cells.flatten(0, 1)), captions, heading(about, "Filters"), note(about, text), columns, count, side=60
    )
    return pages(sheet, 128)
