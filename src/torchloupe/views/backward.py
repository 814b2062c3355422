"""Signals in the picture, around mid grey: the picture, what came back, and what comes back through random weights."""

from typing import Any

import torch
from torch import Tensor

from torchloupe.backward import Backward
from torchloupe.contact import Sheet, pages
from torchloupe.look import Look
from torchloupe.tint import rgb, signed
from torchloupe.views.common import called, note, unit

NAMES = {"deconvnet": "Deconvolution", "guided": "Guided backpropagation", "gradient": "Gradient"}


def view(result: Backward, look: Look, about: dict[str, Any]) -> list[Sheet]:
    """Return the sheets of a backward method."""
    shown = signed(result.signal, look.scale or "per_picture")
    kept = "one position" if not result.keep else f"strongest {result.keep:.0%} of each map"
    scale = "shared" if look.scale == "shared" else "per picture"
    said = f"started from the {kept}; signed signal around mid grey, scale {scale}, symmetric"
    title = f"{NAMES[result.rule]} from {result.layer}"
    if bool((result.channel >= 0).any()):
        cells: list[Tensor | None] = [
            None if not n else cell for cell, n in zip(shown, result.kept.tolist(), strict=True)
        ]
        captions = [
            f"{unit(about, c)}{'' if n else '  silent'}\n{called(about, i)}"
            for c, i, n in zip(result.channel.tolist(), result.image.tolist(), result.kept.tolist(), strict=True)
        ]
        return pages(Sheet(cells, captions, title, note(about, said)))
    pictures = rgb(result.images[result.image])
    names = [called(about, i) for i in result.image.tolist()]
    if result.twin is None:
        together = torch.stack([pictures, shown], 1)
        captions = [text for name in names for text in (name, "")]
        return pages(
            Sheet(list(together.flatten(0, 1)), captions, title, note(about, said), 8, 2, ("picture", "signal")), 64
        )
    random = signed(result.twin.signal, look.scale or "per_picture")
    together = torch.stack([pictures, shown, random], 1)
    captions = [text for name in names for text in (name, "", "")]
    heads = ("picture", "trained", "random weights")
    columns = 12 if len(names) > 8 else 6 if len(names) > 2 else 3
    return pages(Sheet(list(together.flatten(0, 1)), captions, title, note(about, said), columns, 3, heads), 96)
