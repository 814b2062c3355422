"""A picture and what in it spoke for its class, all maps of a sheet on one scale."""

from typing import Any

import torch

from torchloupe.attribution.maps import Attribution
from torchloupe.figures.colors import overlaid, reach, rgb
from torchloupe.figures.sheet import Sheet, pages
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.catalog import find_method
from torchloupe.inspection.views.common import called, note


def view(result: Attribution, look: FigureStyle, about: dict[str, Any]) -> list[Sheet]:
    """Return the sheets of an explanation: `scale` "per_picture" gives each map its own end, and says so."""
    own = look.scale == "per_picture"
    end = reach(result.map)
    if own:
        each = [slice(i, i + 1) for i in range(len(result.map))]
        shown = torch.cat([overlaid(result.images[i], result.map[i], reach(result.map[i])) for i in each])
    else:
        shown = overlaid(result.images, result.map, end)
    cells = torch.stack([rgb(result.images), shown], 1).flatten(0, 1)
    against = [None] * len(result.target) if result.against is None else result.against.tolist()
    captions = []
    for image, (target, other) in enumerate(zip(result.target.tolist(), against, strict=True)):
        words = named(about, target) + ("" if other is None else f" − {named(about, other)}")
        captions += [called(about, image), words]
    scale = "each map on its own scale" if own else f"one scale for all maps, full colour at ±{end:.3g}"
    text = f"orange speaks for the class, blue against it; {scale} (99.5th percentile)"
    if result.residual is not None:
        text += f"; sums miss the logit's difference by {result.residual.abs().median():.1%} (median)"
    title = find_method(result.name).title + ("" if result.layer == "output" else f" of {result.layer}")
    return pages(Sheet(list(cells), captions, title, note(about, text), 8, 2, ("picture", "for class")), 64)


def named(about: dict[str, Any], number: int) -> str:
    """Return the name of a class, or its number.

    >>> named({"classes": ("cat", "dog")}, 1), named({}, 7)
    ('dog', 'class 7')
    """
    classes = about.get("classes")
    return str(classes[number]) if classes and 0 <= number < len(classes) else f"class {number}"
