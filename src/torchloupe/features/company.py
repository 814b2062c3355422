"""Whether what a network says of one picture depends on the others in its batch, so that it must see each alone.

So it is with BatchNorm that keeps no statistics, and with chance that is drawn for the batch. The answer is looked for,
not read off: one picture passes by itself, before two different companions, and after one.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Pass = Callable[[Float[Tensor, "b c h w"]], dict[str, Tensor]]
"""Runs the network and returns what its layers put out."""

ROUNDING = 64
"""Differences of so many units in the last place, of the largest value, are those of kernels for other batch sizes."""
LEAST = 1e-4
"""In float64 as well: a kernel may add in another order."""


def depends_on_company(run: Pass, image: Float[Tensor, "1 c h w"]) -> bool:
    """Tell whether any layer answers a picture differently in other company, or the network takes no batch at all.

    >>> image = torch.rand(1, 3, 4, 4)
    >>> depends_on_company(lambda x: {"": x - x.mean()}, image), depends_on_company(lambda x: {"": 2 * x}, image)
    (True, False)
    """
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(image)
    alone, white = run(image), torch.ones_like(image)
    pairs = [(image, noise), (image, white), (noise, image)]
    try:
        passes = [run(torch.cat(pair)) for pair in pairs]
    except Exception:  # whatever it raises: alone it ran
        return True
    places = [0, 0, 1]
    return any(_differ(out, [found.get(name) for found in passes], places, name) for name, out in alone.items())


def _differ(alone: Tensor, others: list[Tensor | None], places: list[int], name: str) -> bool:
    """Tell whether a layer's output for one picture is not its part of the output for two."""
    if alone.ndim == 0 or alone.shape[0] != 1 or not alone.is_floating_point():
        return False
    expected = (2, *alone.shape[1:])
    if any(other is None or tuple(other.shape) != expected for other in others):
        return name == ""  # a layer inside may cut pictures into parts that stand in the first axis; the output may not
    rows = [alone[0], *(other[place] for other, place in zip(others, places, strict=True) if other is not None)]
    largest = max(float(row.abs().nan_to_num(0, 0, 0).max()) if row.numel() else 0.0 for row in rows)
    room = max(LEAST, ROUNDING * torch.finfo(alone.dtype).eps) * largest
    return any(bool(((row - rows[0]).abs() > room).any()) for row in rows[1:])
