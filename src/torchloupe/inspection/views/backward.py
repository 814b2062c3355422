"""Signals in the picture, around mid grey: the picture, what came back, and what comes back through random weights."""

from typing import Any

import torch
from torch import Tensor

from torchloupe.attribution.backward import Backward
from torchloupe.figures.colors import rgb, signed
from torchloupe.figures.sheet import Sheet, pages
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.views.common import called, control, note, unit

NAMES = {"deconvnet": "Deconvnet", "guided": "Guided backpropagation", "gradient": "Gradient"}


def view(result: Backward, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    """Return the sheets of a backward method."""
    shown = signed(result.signal, look.scale or "per_picture")
    start = "one position each" if not result.keep else f"the strongest {result.keep:.0%} of each map"
    start = start if result.target is None else "the logit of the class named, by itself"
    if not result.keep:
        about = {**about, "settings": {**about.get("settings", {}), "keep": None}}
    scale = "shared by all of a column" if look.scale == "shared" else "per picture"
    text = f"started from {start}; signed signal around mid grey, scale {scale}, symmetric to the 99.5th percentile"
    text += control(about) if result.randomized is not None else ""
    text += f"; passed by their derivative: {', '.join(result.smooth)}" if result.smooth else ""
    title = f"{NAMES[result.rule]} from {result.layer}"
    if result.box is not None and bool((result.channel >= 0).all()):
        apart = (
            result.randomized is not None
            and result.randomized.box is not None
            and bool((result.randomized.box != result.box).any())
        )
        where = "the strongest position of each network" if apart else "the position"
        return _crops(result, look, about, title, note(about, f"{text}; cropped to what {where} sees"))
    if bool((result.channel >= 0).any()):
        cells: list[Tensor | None] = [
            None if not n else cell for cell, n in zip(shown, result.kept.tolist(), strict=True)
        ]
        captions = [
            f"{unit(about, c)}{'' if n else '  silent'}\n{called(about, i)}"
            for c, i, n in zip(result.channel.tolist(), result.image.tolist(), result.kept.tolist(), strict=True)
        ]
        return pages(Sheet(cells, captions, title, note(about, text)))
    images = rgb(result.images[result.image])
    names = [called(about, i) for i in result.image.tolist()]
    classes = [f"from {unit(about, c)}" if c >= 0 else "" for c in _targets(result)]
    if result.randomized is None:
        together = torch.stack([images, shown], 1)
        captions = [text for pair in zip(names, classes, strict=True) for text in pair]
        return pages(
            Sheet(list(together.flatten(0, 1)), captions, title, note(about, text), 8, 2, ("picture", "signal")), 64
        )
    random = signed(result.randomized.signal, look.scale or "per_picture")
    together = torch.stack([images, shown, random], 1)
    captions = [text for name, start in zip(names, classes, strict=True) for text in (name, start, "")]
    heads = ("picture", "trained", "randomized")
    columns = 12 if len(names) > 8 else 6 if len(names) > 2 else 3
    return pages(Sheet(list(together.flatten(0, 1)), captions, title, note(about, text), columns, 3, heads), 96)


def _targets(result: Backward) -> list[int]:
    return [-1] * len(result.image) if result.target is None else result.target.tolist()


def _crops(result: Backward, look: FigureStyle, about: dict[str, Any], title: str, text: str) -> list[Sheet]:
    """Show single positions cropped to what they see; where units have pictures of their own, a row of them a unit."""
    assert result.box is not None
    scale = look.scale or "per_picture"
    layers = [
        (rgb(result.images[result.image]), result.box, torch.zeros_like(result.kept)),
        (signed(result.signal, scale), result.box, result.kept == 0),
    ]
    if result.randomized is not None:
        own = result.box if result.randomized.box is None else result.randomized.box  # its maxima lie elsewhere
        layers.append((signed(result.randomized.signal, scale), own, result.randomized.kept == 0))
    heads = ("picture", "trained", "randomized")[: len(layers)]
    every = [box for _, boxes, _ in layers for box in boxes.tolist()]
    cropped = [
        [
            None if gone else crop(cell, box, every)
            for cell, box, gone in zip(shown, boxes.tolist(), none.tolist(), strict=True)
        ]
        for shown, boxes, none in layers
    ]
    units = [unit(about, channel) for channel in result.channel.tolist()]
    names = [called(about, image) for image in result.image.tolist()]
    run = next((i for i, channel in enumerate(result.channel) if channel != result.channel[0]), len(units))
    if run > 1 and len(units) % run == 0 and all(len(set(units[i : i + run])) == 1 for i in range(0, len(units), run)):
        cells = [cell for i in range(0, len(units), run) for shown in cropped for cell in shown[i : i + run]]
        captions = []
        for i in range(0, len(units), run):
            captions += [f"{f'{units[i]}   ' if k == 0 else ''}{names[i + k]}" for k in range(run)]
            captions += [head if k == 0 else "" for head in heads[1:] for k in range(run)]
        return pages(Sheet(cells, captions, title, text, run), 8 * run * len(layers))
    cells = [cell for group in zip(*cropped, strict=True) for cell in group]
    captions = [text for u, name in zip(units, names, strict=True) for text in (u, name, "")[: len(layers)]]
    return pages(Sheet(cells, captions, title, text, 4 * len(layers), len(layers), heads), 32 * len(layers))


def crop(cell: Tensor, box: list[int], boxes: list[list[int]]) -> Tensor:
    """Cut a box out of a picture and bring it to the size of the largest one; mid grey stands beyond the picture.

    >>> crop(torch.ones(3, 4, 4, dtype=torch.uint8), [0, 1, 1, 4], [[0, 1, 1, 4], [0, 0, 3, 3]])[0, :, 0].tolist()
    [128, 128, 1]
    """
    top, left, bottom, right = box
    height, width = (max(each[i + 2] - each[i] for each in boxes) for i in (0, 1))
    out = cell.new_full((cell.shape[0], height, width), 128)
    down = height - (bottom - top) if top == 0 else 0  # a field that is cut at the upper edge reaches beyond it
    along = width - (right - left) if left == 0 else 0
    out[:, down : down + bottom - top, along : along + right - left] = cell[:, top:bottom, left:right]
    return out
