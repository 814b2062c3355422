"""How a figure looks: width, letters, colours, scale. Imports no matplotlib."""

import re
from dataclasses import dataclass

from torchloupe.errors import UsageError

INCH = {"mm": 25.4, "cm": 2.54, "in": 1.0, "pt": 72.0}
SCALES = (None, "per_picture", "per_filter", "shared", "symmetric")
SCREEN = 150
"""Dots an inch of a figure whose width is not set, and what `px` counts by."""


@dataclass(frozen=True)
class FigureStyle:
    """Settings of a figure; None leaves a choice to the method."""

    width: str | None = None
    """Width of the whole figure: 89mm, 8.9cm, 3.5in, 252pt or 800px."""
    font: str | None = None
    """Family of the letters."""
    cmap: str | None = None
    """Colour map of matplotlib for maps of one channel; viridis by default, the study's was jet."""
    vmin: float | None = None
    vmax: float | None = None
    scale: str | None = None
    """Range of values that colours span: per_picture (per_filter is the same), shared or symmetric."""
    columns: int | None = None
    title: bool = True
    """Write title and note."""
    colorbar: bool | None = None
    theme: str = "light"
    overlay: bool = False
    """Lay feature maps over the picture."""

    def __post_init__(self) -> None:
        """Refuse what no figure can be."""
        self.inches()
        if self.scale == "per_filter":
            object.__setattr__(self, "scale", "per_picture")
        if self.theme not in ("light", "dark"):
            raise UsageError(f"theme is light or dark, not {self.theme!r}.")
        if self.scale not in SCALES:
            raise UsageError(f"scale is per_picture (per_filter), shared or symmetric, not {self.scale!r}.")
        if self.columns is not None and self.columns < 1:
            raise UsageError(f"columns must be 1 or more, not {self.columns}.")
        if self.vmin is not None and self.vmax is not None and not self.vmin < self.vmax:
            raise UsageError(f"vmin {self.vmin:g} must be below vmax {self.vmax:g}.")

    def inches(self) -> float | None:
        """Return the width in inches.

        >>> FigureStyle(width="89mm").inches() == 89 / 25.4
        True
        """
        if self.width is None:
            return None
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(mm|cm|in|pt|px)\s*", self.width)
        if not match or not 0 < (width := float(match[1]) / {**INCH, "px": SCREEN}[match[2]]) <= 100:
            raise UsageError(f"width {self.width!r} is not one like 89mm, 3.5in or 800px.")
        return width
