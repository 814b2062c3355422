"""Pictures found again from features: the original, the inversion, that of random weights, with their figures."""

import math
from typing import Any

import torch
from torch import Tensor

from torchloupe.figures.colors import rgb
from torchloupe.figures.sheet import Sheet, pages
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.views.common import called, control, note, unit
from torchloupe.synthesis.invert import Inversion


def view(result: Inversion, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    """Return the sheets of inversions."""
    text = (
        f"{len(result.history)} steps; below: error ‖Φ(x) − Φ₀‖² / ‖Φ₀‖² of the finished picture, PSNR (dB) and SSIM "
        "to the original; pixels as they are"
    )
    text += control(about) if result.randomized is not None else ""
    shown = rgb(result.pictures)
    if bool((result.channel >= 0).any()):
        cells = [None if math.isnan(error) else cell for cell, error in zip(shown, result.error.tolist(), strict=True)]
        one = len(set(result.image.tolist())) == 1
        captions = []
        for c, i, e, p, s in zip(*(t.tolist() for t in (result.channel, result.image, *_scores(result))), strict=True):
            name = unit(about, c) if one else f"{unit(about, c)} {called(about, i)}"
            captions.append(f"{name}  silent\n" if math.isnan(e) else f"{name}   {_error(e)}\n{p:.1f} dB {s: .2f}")
        title = f"Inversion of {result.layer} by one filter"
        title += f": {called(about, int(result.image[0]))}" if one else ""
        return pages(Sheet(cells, captions, title, note(about, text)))
    originals = rgb(result.images[result.image])
    names = [called(about, i) for i in result.image.tolist()]
    columns = [originals, shown] if result.randomized is None else [originals, shown, rgb(result.randomized.pictures)]
    captions = []
    for i, name in enumerate(names):
        captions += [name, _figures(result, i)] + (
            [_figures(result.randomized, i)] if result.randomized is not None else []
        )
    cells_all = torch.stack(columns, 1).flatten(0, 1)
    heads = ("original", "inversion", "randomized")[: len(columns)]
    wide = len(columns) * (4 if len(names) > 8 else 2 if len(names) > 2 else 1)
    title = f"Inversion of {result.layer} by all filters"
    return pages(Sheet(list(cells_all), captions, title, note(about, text), wide, len(columns), heads), 96)


def _scores(result: Inversion) -> tuple[Tensor, Tensor, Tensor]:
    return result.error, result.psnr, result.ssim


def _figures(result: Inversion, i: int) -> str:
    return f"{_error(result.error[i].item())}\n{result.psnr[i]:.1f} dB {result.ssim[i]: .2f}"


def _error(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"
