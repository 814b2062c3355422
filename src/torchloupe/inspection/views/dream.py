"""The photograph and what the network makes of it."""

from typing import Any

import torch

from torchloupe.figures.colors import rgb
from torchloupe.figures.sheet import Sheet, pages
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.views.common import called, note
from torchloupe.synthesis.dream import Dream


def view(result: Dream, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    """Return the sheets of dreams."""
    together = torch.stack([rgb(result.images), rgb(result.pictures)], 1).flatten(0, 1)
    captions = []
    for i in range(len(result.pictures)):
        captions += [f"{called(about, i)}\n{result.before[i]:.3g}", f"\n{result.after[i]:.3g}"]
    text = "below: what was amplified, before and after"
    columns = 8 if len(result.pictures) > 4 else 4 if len(result.pictures) > 1 else 2
    title = f"Dream of {result.layer}"
    return pages(Sheet(list(together), captions, title, note(about, text), columns, 2, ("picture", "dream")), 64)
