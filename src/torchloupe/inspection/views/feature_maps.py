"""All maps of a layer for each picture; the PCA of them as one colour picture."""

from typing import Any

import torch
from torch import Tensor

from torchloupe.features.feature_maps import FeatureMaps
from torchloupe.figures.colors import ramp, rgb, tinted
from torchloupe.figures.sheet import PAGE, Sheet, pages
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.views.common import called, heading, note, unit

MANY = 4
"""Of more pictures than this only the first 64 maps are drawn."""


def view(result: FeatureMaps, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    """Return a sheet (or pages of 64) of maps for each picture, and one of the pictures with their PCA."""
    return [page for i in range(len(result.maps)) for page in _maps(result, i, look, about)] + [_pca(result, about)]


def _maps(result: FeatureMaps, image: int, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    values = result.maps[image].float()
    low, high, text, ends = _range(values, look)
    name = look.cmap or "viridis"
    colored = tinted(values, name, low, high)
    if look.overlay:
        colored = _laid_over(colored, result.images[image].expand(len(colored), -1, -1, -1))
    cells: list[Tensor | None] = [
        None if dead else cell for cell, dead in zip(colored, result.dead.tolist(), strict=True)
    ]
    captions = [
        f"{unit(about, channel)}{'  dead' if dead else ''}"
        for channel, dead in zip(result.channel.tolist(), result.dead.tolist(), strict=True)
    ]
    dead = int(result.dead.sum())
    facts = f"{values.shape[1]} × {values.shape[2]} positions; {text}; {dead} of {len(captions)} maps dead (zero here)"
    title = f"{heading(about, 'Maps')}: {called(about, image)}"
    if len(result.maps) > MANY and len(cells) > PAGE:
        facts += f"; only the first {PAGE} are drawn for so many pictures: name fewer, or --channels"
        cells, captions = cells[:PAGE], captions[:PAGE]
    return pages(Sheet(cells, captions, title, note(about, facts), bar=(ramp(name), *ends)), PAGE)


def _range(values: Tensor, look: FigureStyle) -> tuple[Tensor, Tensor, str, tuple[str, str]]:
    """Return lower and upper ends for each map, what the note says of them, and the labels of the bar."""
    scale = look.scale or "per_picture"
    if scale == "per_picture":
        low, high = values.flatten(1).amin(1)[:, None, None], values.flatten(1).amax(1)[:, None, None]
        text, ends = "scale per map: from its own minimum to its maximum", ("map's minimum", "map's maximum")
    elif scale == "shared":
        low, high = values.amin(), values.amax()
        text, ends = "scale shared by all maps", (f"{float(low):.3g}", f"{float(high):.3g}")
    else:
        high = values.abs().amax()
        low = -high
        text, ends = "scale shared by all maps, zero in the middle", (f"{float(low):.3g}", f"{float(high):.3g}")
    if look.vmin is not None:
        low, ends, text = torch.full_like(low, look.vmin), (f"{look.vmin:g}", ends[1]), f"{text}, from {look.vmin:g}"
    if look.vmax is not None:
        high, ends, text = torch.full_like(high, look.vmax), (ends[0], f"{look.vmax:g}"), f"{text}, to {look.vmax:g}"
    return low, high, text, ends


def _pca(result: FeatureMaps, about: dict[str, Any]) -> Sheet:
    height, width = result.images.shape[2:]
    small = rgb(result.pca.float())
    factor = max(1, round(height / small.shape[2]))
    large = small.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    over = _overlay(result)
    images = rgb(result.images.float())
    cells = [cell for three in zip(images, large, over, strict=True) for cell in three]
    names = [called(about, i) for i in range(len(images))]
    captions = [text for name in names for text in (name, "", "")]
    text = (
        "PCA: the three directions in which the maps vary most, as red, green, blue, each between its 1st and 99th "
        "percentile over all pictures; activity: mean of the maps' absolute values, laid over the picture, from zero "
        "to its own maximum"
    )
    columns = 3 if len(images) < 3 else 6 if len(images) < 9 else 12
    heads = ("picture", "PCA", "activity")
    return Sheet(cells, captions, heading(about, "PCA"), note(about, text), columns, 3, heads, side=max(width, 96))


def _overlay(result: FeatureMaps) -> Tensor:
    """Lay the mean absolute map over the picture, from zero to its own maximum."""
    strength = result.maps.abs().float().mean(1)
    highest = strength.flatten(1).amax(1)[:, None, None]
    return _laid_over(tinted(strength, "inferno", torch.zeros_like(highest), highest), result.images)


def _laid_over(colored: Tensor, images: Tensor) -> Tensor:
    """Lay coloured maps over grey pictures, positions enlarged to the pictures' size without smoothing."""
    heat = torch.nn.functional.interpolate(colored.float() / 255, images.shape[2:], mode="nearest")
    gray = images.float().mean(1, keepdim=True).expand_as(heat)
    return rgb(0.45 * gray + 0.55 * heat)
