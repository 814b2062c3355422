"""Contact sheets: many small pictures in one figure, pixels crisp. One raster, placed dot by dot; text stays text."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib import font_manager
from matplotlib.figure import Figure
from torch import Tensor

from torchloupe.errors import UsageError, did_you_mean
from torchloupe.figures.colors import ramp, rgb
from torchloupe.figures.plots import fit, style, width_of
from torchloupe.figures.style import SCREEN, FigureStyle

PAGE = 64
"""Pictures on a sheet, 8 x 8."""
SMALL, LARGE = 6.5, 11.0
"""Letters in points."""
COLORS: dict[str, dict[str, Any]] = {
    "light": {
        "paper": (255, 255, 255),
        "ink": "#1d2330",
        "quiet": "#6b7280",
        "void": (238, 240, 244),
        "hatch": (214, 218, 226),
    },
    "dark": {"paper": (18, 21, 28), "ink": "#e6e9ef", "quiet": "#949cab", "void": (34, 38, 48), "hatch": (52, 58, 70)},
}


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is on one sheet."""

    cells: "Sequence[UInt8[Tensor, '3 _ _'] | None]"
    """Pictures of any sizes; None for a unit that has none (dead)."""
    captions: Sequence[str] = ()
    """Lines below each picture."""
    title: str = ""
    note: str = ""
    """How it was made."""
    columns: int = 8
    group: int = 1
    """Neighbours that belong together: a wider gap comes after each such group."""
    heads: tuple[str, ...] = ()
    """Headings of the columns of a group."""
    bar: "tuple[UInt8[Tensor, 'n 3'], str, str] | None" = None
    """Colours of the scale from low to high, and what its ends are."""
    side: int = 0
    """Least width of a picture in dots; 0: chosen by the number of columns."""
    meta: dict[str, Any] = field(default_factory=dict)


def pages(sheet: Sheet, most: int = PAGE) -> list[Sheet]:
    """Break a sheet into pages of at most `most` pictures (whole groups).

    >>> [len(page.cells) for page in pages(Sheet([None] * 130))]
    [64, 64, 2]
    """
    most = max(sheet.group, most // sheet.group * sheet.group)
    count = max(1, -(-len(sheet.cells) // most))
    if count == 1:
        return [sheet]
    return [
        replace(
            sheet,
            cells=sheet.cells[i * most : (i + 1) * most],
            captions=sheet.captions[i * most : (i + 1) * most],
            title=f"{sheet.title}   {i + 1} of {count}",
        )
        for i in range(count)
    ]


@dataclass(frozen=True)
class _Plan:
    """Where everything is, in dots."""

    columns: int
    rows: int
    factor: int
    cell: tuple[int, int]
    gap: int
    between: int
    line: int
    lines: int
    margin: int
    top: int
    foot: int
    note: tuple[str, ...]
    letters: float
    dpi: float

    def left(self, column: int, group: int) -> int:
        return self.margin + column * (self.cell[1] + self.gap) + column // group * self.between

    def upper(self, row: int) -> int:
        return self.top + row * (self.cell[0] + self.below + self.gap)

    @property
    def below(self) -> int:
        return self.lines * self.line + (self.gap // 2 if self.lines else 0)


def check(look: FigureStyle) -> FigureStyle:
    """Refuse letters and colours that are not to be had, before anything is computed for them.

    Raises:
        UsageError: no such font family or colour map.

    >>> check(FigureStyle(cmap="virids"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.UsageError: no colour map 'virids'; did you mean 'viridis'?
    """
    if look.cmap is not None:
        ramp(look.cmap)
    if look.font is not None:
        known = sorted({*font_manager.get_font_names(), "serif", "sans-serif", "monospace"})
        if look.font not in known:
            raise UsageError(f"no font {look.font!r} on this machine{did_you_mean(look.font, known) or '.'}")
    return look


def draw(sheet: Sheet, look: FigureStyle | None = None) -> Figure:
    """Draw a sheet: every picture enlarged by one whole factor, nearest pixel, nothing smoothed.

    >>> figure = draw(Sheet([torch.zeros(3, 8, 8, dtype=torch.uint8)] * 3, ["a", "b", "c"], columns=2))
    >>> len(figure.axes)
    1
    """
    look = look or FigureStyle()
    colors = COLORS[look.theme]
    columns = min(look.columns or sheet.columns, max(1, len(sheet.cells)))
    if sheet.group > 1 and look.columns is None:
        columns = max(sheet.group, columns // sheet.group * sheet.group)
    with style():
        plan = _plan(sheet, look, columns)
        width = plan.left(columns - 1, sheet.group) + plan.cell[1] + plan.margin
        if sheet.title and look.title:
            width = max(width, round(4.2 * SCREEN))
        height = plan.upper(plan.rows - 1) + plan.cell[0] + plan.below + plan.foot
        canvas = np.full((height, width, 3), colors["paper"], np.uint8)
        spots = [_place(canvas, cell, plan, i, sheet.group, colors) for i, cell in enumerate(sheet.cells)]
        figure = Figure(figsize=(width / plan.dpi, height / plan.dpi), dpi=plan.dpi, facecolor=_hex(colors["paper"]))
        axes: Any = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        _bar(canvas, sheet, look, plan, width, height)
        axes.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, width, height, 0))
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        _write(axes, sheet, look, plan, spots, (width, height))
    return figure


def _plan(sheet: Sheet, look: FigureStyle, columns: int) -> _Plan:
    shapes = [cell.shape[1:] for cell in sheet.cells if cell is not None] or [torch.Size([32, 32])]
    tall, wide = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    wanted = sheet.side or (96 if columns > 6 else 128 if columns > 3 else 192)
    factor = max(1, round(wanted / wide))
    cell = (tall * factor, wide * factor)
    gap = max(8, cell[1] // 12)
    between = 2 * gap if sheet.group > 1 else 0
    margin = 36
    natural = 2 * margin + columns * cell[1] + (columns - 1) * gap + (columns - 1) // sheet.group * between
    natural = max(natural, round(4.2 * SCREEN)) if sheet.title and look.title else natural
    inches = look.inches()
    dpi = natural / inches if inches else float(SCREEN)
    letters = max(SMALL, 5.0 * dpi / SCREEN) if inches is None else max(5.0, SMALL * SCREEN / dpi)
    dots = dpi / 72
    line = round(1.35 * letters * dots)
    lines = max((caption.count("\n") + 1 for caption in sheet.captions if caption), default=0)
    note = tuple(_wrapped(sheet.note, letters, (natural - 2 * margin) / dpi)) if look.title else ()
    head = round(1.7 * LARGE / SMALL * letters * dots) if sheet.title and look.title else 0
    top = margin + head + (line + gap // 2 if sheet.heads else 0)
    has_bar = sheet.bar is not None and look.colorbar is not False
    foot = margin + (len(note) * line + gap if note else 0) + (2 * line if has_bar else 0)
    rows = max(1, -(-len(sheet.cells) // columns))
    return _Plan(columns, rows, factor, cell, gap, between, line, lines, margin, top, foot, note, letters, dpi)


def _place(canvas: Any, cell: Tensor | None, plan: _Plan, number: int, group: int, colors: Any) -> tuple[int, int, int]:
    """Put one picture on the canvas; returns its left and lower edge and its width."""
    left, upper = plan.left(number % plan.columns, group), plan.upper(number // plan.columns)
    if cell is None:
        height, width = plan.cell
        y, x = np.mgrid[:height, :width]
        stripes = ((x + y) // 4 % 4 == 0)[..., None]
        canvas[upper : upper + height, left : left + width] = np.where(stripes, colors["hatch"], colors["void"])
        return left, upper + height, width
    pixels = cell.permute(1, 2, 0).numpy().repeat(plan.factor, 0).repeat(plan.factor, 1)
    canvas[upper : upper + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return left, upper + plan.cell[0], plan.cell[1]


def _bar(canvas: Any, sheet: Sheet, look: FigureStyle, plan: _Plan, width: int, height: int) -> None:
    if sheet.bar is None or look.colorbar is False:
        return
    colors = sheet.bar[0].numpy()
    long = min(width - 2 * plan.margin, 320)
    upper = height - plan.foot + plan.gap
    strip = colors[np.linspace(0, len(colors) - 1, long).round().astype(int)]
    canvas[upper : upper + max(8, plan.line // 2), plan.margin : plan.margin + long] = strip


def _write(
    axes: Any, sheet: Sheet, look: FigureStyle, plan: _Plan, spots: list[tuple[int, int, int]], size: tuple[int, int]
) -> None:
    colors = COLORS[look.theme]
    width, height = size
    common: dict[str, Any] = {"va": "top", "parse_math": False}
    if look.font:
        common["family"] = look.font
    large = plan.letters * LARGE / SMALL
    for (left, lower, wide), caption in zip(spots, sheet.captions, strict=False):
        for row, text in enumerate(caption.split("\n") if caption else ()):
            shown = fit(text, plan.letters, (wide + 0.8 * plan.gap) / plan.dpi)
            under = lower + plan.gap // 3 + row * plan.line
            axes.text(left, under, shown, size=plan.letters, color=colors["ink" if row == 0 else "quiet"], **common)
    groups = range(0, plan.columns, sheet.group)
    for column in groups if sheet.heads else ():
        for i, text in enumerate(sheet.heads):
            x, y = plan.left(column + i, sheet.group), plan.top - plan.line - plan.gap // 4
            beside = plan.gap // 2 + (plan.between if i == sheet.group - 1 else 0)
            shown = fit(text, plan.letters, (plan.cell[1] + beside) / plan.dpi)
            axes.text(x, y, shown, size=plan.letters, color=colors["quiet"], **common)
    if sheet.title and look.title:
        room = (width - 2 * plan.margin) / plan.dpi
        large *= max(0.7, min(1.0, 0.98 * room / width_of(sheet.title, large)))
        shown = fit(sheet.title, large, room)
        axes.text(plan.margin, 0.7 * plan.margin, shown, size=large, color=colors["ink"], **common)
    for row, text in enumerate(plan.note[::-1]):
        at = height - plan.margin - row * plan.line - plan.line // 3
        axes.text(plan.margin, at, text, size=plan.letters, color=colors["quiet"], **common)
    if sheet.bar is not None and look.colorbar is not False:
        upper, long = height - plan.foot + plan.gap + max(8, plan.line // 2) + 2, min(width - 2 * plan.margin, 320)
        ends = ((plan.margin, "left", sheet.bar[1]), (plan.margin + long, "right", sheet.bar[2]))
        for x, side, text in ends:
            axes.text(x, upper, text, size=plan.letters, color=colors["quiet"], ha=side, **common)


def _wrapped(text: str, letters: float, inches: float) -> list[str]:
    """Break a text into lines that fit, between words."""
    lines: list[str] = []
    for paragraph in text.split("\n") if text else ():
        lines.append("")
        for word in paragraph.split(" "):
            longer = f"{lines[-1]} {word}".strip()
            if width_of(longer, letters) <= inches or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(word)
    return [fit(line, letters, inches) for line in lines]


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def samples(images: Float[Tensor, "b c h w"], captions: Sequence[str], look: FigureStyle) -> Sheet:
    """Return the sheet of the pictures themselves, four in a row as the study had them.

    >>> len(samples(torch.rand(16, 3, 8, 8), ["cat"] * 16, FigureStyle()).cells)
    16
    """
    return Sheet(list(rgb(images)), captions, "Sample pictures", columns=4 if len(captions) <= 16 else 8, side=128)
