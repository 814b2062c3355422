"""For each unit the pictures that drive it most, the part that it sees in full light."""

from typing import Any

import torch
from torch import Tensor

from torchloupe.features.top_examples import TopExamples
from torchloupe.figures.colors import rgb
from torchloupe.figures.sheet import Sheet, pages
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.views.common import heading, note, unit


def view(result: TopExamples, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    """Return sheets with one row a unit."""
    count = result.index.shape[1]
    shown = _lit(result)
    captions = []
    for row, channel in enumerate(result.channel.tolist()):
        for k in range(count):
            name = result.names[row][k].rpartition("/")[2]
            first = f"{unit(about, channel)}   {name}" if k == 0 else name
            captions.append(f"{first}\n{result.activation[row, k]:.3g}")
    text = "one row a unit, strongest first; below: file, activation; dimmed: what the strongest position cannot see"
    sheet = Sheet(
        list(shown.flatten(0, 1)),
        captions,
        heading(about, "Maximally activating dataset examples"),
        note(about, text),
        count,
    )
    return pages(sheet, 8 * count)


def _lit(result: TopExamples) -> Tensor:
    """Dim each picture outside its box."""
    images = rgb(result.images.float() / 255).float()
    height, width = images.shape[-2:]
    rows, columns = torch.arange(height), torch.arange(width)
    top, left, bottom, right = (result.box[..., i, None] for i in range(4))
    inside = ((rows >= top) & (rows < bottom))[..., :, None] & ((columns >= left) & (columns < right))[..., None, :]
    return torch.where(inside[:, :, None], images, 0.35 * images + 0.25 * 255).round().to(torch.uint8)
