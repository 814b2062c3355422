"""Feature visualizations, each with what it reached and what the best real picture reaches."""

from typing import Any

from torch import Tensor

from torchloupe.figures.colors import rgb
from torchloupe.figures.sheet import Sheet, pages
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.views.common import called, note, unit
from torchloupe.synthesis.maximize import Maximization

MOST = 4
"""So many copies of a unit, or fewer, stand together."""


def view(result: Maximization, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    """Return the sheets of feature visualizations."""
    shown = rgb(result.pictures)
    dead = result.dead.tolist()
    cells: list[Tensor | None] = [None if gone else cell for cell, gone in zip(shown, dead, strict=True)]
    captions = [_caption(result, i, about) for i in range(len(shown))]
    from_noise = bool((result.image < 0).all())
    known = result.best is not None
    text = f"activation: {_what(about.get('settings', {}))} on the picture as shown"
    if known:
        many = f" of {about['best_of']:,}" if about.get("best_of") else ""
        text += f"; ×: over the best test picture{many}; weaker: below it"
    if bool(result.spread.isfinite().any()):
        text += "; ±: standard deviation over seeds"
    text += f"; spectrum and colours of {about.get('statistics', 'generic')}"
    by = "all filters" if bool((result.channel < 0).any()) else "class" if result.layer == "output" else "one filter"
    copies = int(result.copy.max()) + 1
    start = "noise" if from_noise else "the photograph"
    title = f"Feature visualization of {result.layer} by {by}, from {start}"
    columns = 4 if len(shown) <= 16 else max(1, round(8 / copies)) * copies
    group = copies if 1 < copies <= MOST and columns > copies else 1
    return pages(Sheet(cells, captions, title, note(about, text), columns, group))


def _what(settings: dict[str, Any]) -> str:
    """Say what is called activation."""
    position, direction = settings.get("position"), settings.get("direction")
    where = "spatial mean of the layer's output" if position is None else f"the layer's output at position {position}"
    return where if direction is None else f"{where.replace('spatial mean of ', 'mean of ')} along the direction"


def _caption(result: Maximization, i: int, about: dict[str, Any]) -> str:
    channel, image = int(result.channel[i]), int(result.image[i])
    name = unit(about, channel) if channel >= 0 else "all"
    if image >= 0 and channel < 0:
        name = called(about, image)
    elif len(set(result.image.tolist())) > 1:
        name += f" {called(about, image)}"
    if bool(result.dead[i]):
        return f"{name}  dead\n"
    reached = f"{result.activation[i]:.2g}"
    if result.spread[i].isfinite():
        reached += f" ± {result.spread[i]:.1g}"
    if result.best is None or not result.best[i].isfinite():
        return f"{name}\n{reached}"
    ratio = float(result.activation[i] / result.best[i]) if result.best[i] > 0 else float("inf")
    times = f"{ratio:.2g}×" if ratio < 100 else ""
    weaker = "weaker" if result.activation[i] < result.best[i] else ""
    if result.spread[i].isfinite():
        return f"{name}\n{reached}\n{times}  {weaker}".rstrip()
    return f"{name}\n{reached}  {times}\n{weaker}".rstrip()
