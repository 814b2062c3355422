"""Which pixels a position of a layer can see: for any network, without reading its graph.

A pixel that is not a number makes every feature that depends on it not a number (0 · NaN is NaN as well). So the whole
network runs once for each edge that is asked for, and the answer is exact for every position, strides, odd sizes,
padding, dilation and the picture's own edges included. A layer that mixes all positions (GroupNorm, a linear layer)
truly sees the whole picture.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchloupe.errors import LayerError, ModelError
from torchloupe.features.hooks import activations, frozen_eval, maps_of, observe
from torchloupe.features.trace import at_once, example, placed
from torchloupe.models.network import check_images, run

EFFECTIVE = 1 - 0.9545
"""A pixel counts if its influence is at least this share of the strongest (Luo et al. 2016)."""


@dataclass(frozen=True, eq=False)
class Field:
    """Receptive fields of one layer's positions, in pixels; ranges are half open and clipped to the picture."""

    rows: Int64[Tensor, "y 2"]
    columns: Int64[Tensor, "x 2"]
    image: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the largest field."""
        return tuple(int((r[:, 1] - r[:, 0]).max()) for r in (self.rows, self.columns))  # type: ignore[return-value]

    @property
    def clipped(self) -> bool:
        """Every field is cut by the picture's edge, so that the true size is not known from this picture."""
        return any(
            bool(((r[:, 0] == 0) | (r[:, 1] == n)).all())
            for r, n in zip((self.rows, self.columns), self.image, strict=True)
        )

    def box(self, y: int, x: int) -> tuple[int, int, int, int]:
        """Return top, left, bottom, right of what position (y, x) sees."""
        (top, bottom), (left, right) = self.rows[y].tolist(), self.columns[x].tolist()
        return top, left, bottom, right


def receptive_fields(
    model: nn.Module, size: int | tuple[int, int] | None = None, layers: list[str] | None = None
) -> dict[str, Field]:
    """Return the receptive field of every layer that puts out maps or vectors (or of `layers`), for a picture's size.

    Left out is a layer that seems to see nothing: one apart from the picture, or one behind a choice such as
    `torch.where(x > 0, x, 0)`, which swallows what is not a number.

    >>> receptive_fields(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2)), 9)["0"].rows
    tensor([[0, 3],
            [2, 5],
            [4, 7],
            [6, 9]])
    """
    image = example(model, size)
    if layers is None:
        return {name: field for name, field in _fields(model, image, None).items() if field is not None}
    about = (tuple(image.shape), tuple((name, id(module)) for name, module in model.named_modules()))
    known = _KNOWN.setdefault(model, {}).setdefault(about, {})
    missing = [layer for layer in layers if layer not in known]
    if missing:
        known.update(_fields(model, image, missing))
    return {layer: field for layer in layers if (field := known.get(layer)) is not None}


_KNOWN: WeakKeyDictionary[nn.Module, dict[Any, dict[str, Field | None]]] = WeakKeyDictionary()
"""What was found of networks that still live: it follows from the architecture alone, and takes many passes."""


def _fields(model: nn.Module, image: Tensor, layers: list[str] | None) -> dict[str, Field | None]:
    """Find the fields of layers (or of all); None for one that seems to see nothing or does not run."""
    height, width = image.shape[2:]
    edges = {axis: _reached(model, image, axis, layers) for axis in (2, 3)}
    fields: dict[str, Field | None] = dict.fromkeys(layers or edges[2])
    for name in edges[2]:
        rows, columns = (_ranges(edges[axis][name]) for axis in (2, 3))
        if rows.any() and columns.any():
            fields[name] = Field(rows, columns, (int(height), int(width)))
    return fields


def _reached(model: nn.Module, image: Tensor, axis: int, layers: list[str] | None) -> dict[str, Tensor]:
    """Return for every layer which of its lines depend on which line of the picture: `[lines of picture, lines]`."""
    n = image.shape[axis]
    found: dict[str, list[Tensor]] = {}
    seen: set[str] = set()

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        if name in seen or (layers is not None and name not in layers):
            return False
        maps = maps_of(output, module, len(spoiled), image.shape[2:])
        if maps is None:
            return False
        seen.add(name)
        features = maps.isnan().any(1)
        found.setdefault(name, []).append(features.any(2 if axis == 2 else 1).cpu())
        return layers is not None and seen >= set(layers)

    batch = max(1, at_once(model, layers[0] if layers and len(layers) == 1 else "", image) // 2)
    with frozen_eval(model), torch.no_grad():
        for start in range(0, n, batch):
            lines = torch.arange(start, min(n, start + batch), device=image.device)
            spoiled = image.repeat(len(lines), 1, 1, 1)
            spoiled.movedim(axis, 1)[torch.arange(len(lines)), lines] = torch.nan
            seen.clear()
            with observe(model, see):  # it ends the pass where all is seen
                run(model, spoiled)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _ranges(reached: Tensor) -> Int64[Tensor, "lines 2"]:
    """Turn `[lines of picture, lines]` into first and last + 1 line of the picture; 0, 0 where none is seen."""
    n = len(reached)
    first = reached.int().argmax(0)
    last = n - reached.flip(0).int().argmax(0)
    none = ~reached.any(0)
    return torch.stack([first.masked_fill(none, 0), last.masked_fill(none, 0)], 1)


def noise_images(sides: tuple[int, int], *, colors: int = 3, count: int = 4) -> Float[Tensor, "b c h w"]:
    """Return grey noise in [0, 1], always the same, over which an effective receptive field is averaged.

    >>> noise_images((5, 7)).shape
    torch.Size([4, 3, 5, 7])
    """
    generator = torch.Generator().manual_seed(0)
    return (0.5 + 0.15 * torch.randn((count, colors, *sides), generator=generator)).clamp(0, 1)


def effective_side(model: nn.Module, layer: str, images: Float[Tensor, "b c h w"]) -> float:
    """Return the side of the effective receptive field of a layer's middle position, in pixels (Luo et al. 2016).

    The absolute gradient of that position's sum over channels, averaged over pictures and colours; the square root of
    the number of pixels at which it is at least 4.55 % of its maximum.

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False))
    >>> _ = nn.init.ones_(net[0].weight)
    >>> effective_side(net, "0", torch.rand(1, 1, 9, 9))
    3.0
    """
    check_images(images)
    x = placed(model, images).clone().requires_grad_()
    with frozen_eval(model):
        try:
            features = activations(model, layer, x)
        except LayerError:
            raise
        except ModelError:  # no gradient: the layer lies apart from the picture
            return 0.0
        middle = features[:, :, features.shape[2] // 2, features.shape[3] // 2].sum()
        (signal,) = torch.autograd.grad(middle, x, allow_unused=True)
    influence = torch.zeros(1) if signal is None else signal.abs().mean((0, 1))
    if not bool(influence.any()):
        return 0.0
    return float((influence >= EFFECTIVE * influence.max()).sum().sqrt())
