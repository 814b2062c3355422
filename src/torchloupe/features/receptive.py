"""Which pixels a position of a layer can see: for any network, without reading its graph.

A pixel that is not a number makes every feature that depends on it not a number (0 · NaN is NaN as well). So the
network runs once for each edge that is asked for, and the answer is exact for every position, strides, odd sizes,
padding, dilation and the picture's own edges included. A layer that mixes all positions (GroupNorm, a linear layer)
truly sees the whole picture. Rows are looked for in a narrow strip of a large picture, and columns likewise, where
the network takes one and what is found is the same in the whole picture for lines at its edges and in its middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchloupe.errors import ForwardError, LayerError, ModelError
from torchloupe.features.hooks import activations, frozen_eval, maps_of, observe, one_at_a_time
from torchloupe.features.trace import at_once, example, placed, trace
from torchloupe.models.layout import laid_out
from torchloupe.models.network import check_images, run
from torchloupe.runtime.device import at_least_float32

EFFECTIVE = 1 - 0.9545
"""A pixel counts if its influence is at least this share of the strongest (Luo et al. 2016)."""


IMAGE_AXES = 4
STRIP = 32
"""Width in pixels of the strip in which rows are looked for, and height of that for columns."""
LARGE = 3
"""A strip pays in pictures of so many times its width."""
TRIED = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
"""Lines, as shares of the picture, that a strip is compared with the whole picture for."""


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
    height, width = (int(side) for side in image.shape[2:])
    rows, columns = (_along(model, image, axis, layers) for axis in (2, 3))
    fields: dict[str, Field | None] = dict.fromkeys(layers or rows)
    for name in rows:
        if rows[name].any() and columns[name].any():
            fields[name] = Field(rows[name], columns[name], (height, width))
    return fields


def _along(model: nn.Module, image: Tensor, axis: int, layers: list[str] | None) -> dict[str, Tensor]:
    """Return for every layer the range of the picture's lines that each of its lines depends on.

    A layer all of whose lines depend on the picture's first and last line sees the whole: one pass finds those, and
    the others are looked for in passes that end behind the last of them.
    """
    n = image.shape[axis]
    ends = _reached(model, image, axis, layers, [0, n - 1])
    ranges = {name: torch.tensor([0, n]).repeat(reached.shape[1], 1) for name, reached in ends.items()}
    rest = [name for name, reached in ends.items() if not reached.all()]
    if rest:
        edges = _in_a_strip(model, image, axis, rest) or _reached(model, image, axis, rest)
        ranges |= {name: _ranges(reached) for name, reached in edges.items()}
    return ranges


def _in_a_strip(model: nn.Module, image: Tensor, axis: int, layers: list[str] | None) -> dict[str, Tensor] | None:
    """Return what `_reached` does, found in a strip of the picture; None where that differs or does not pay."""
    n, across = image.shape[axis], 5 - axis
    if image.shape[across] < LARGE * STRIP:
        return None
    lines = sorted({round(share * (n - 1)) for share in TRIED})
    order = {call.name: call.last_axis for call in trace(model, image) if len(call.shape) == IMAGE_AXES}
    try:
        found = _reached(model, image.narrow(across, 0, STRIP), axis, layers, order=order)
    except ForwardError:  # it takes no strip
        return None
    whole = _reached(model, image, axis, layers, lines)
    same = found.keys() == whole.keys() and all(
        torch.equal(found[name][lines], reached) for name, reached in whole.items()
    )
    return found if same else None


def _reached(
    model: nn.Module,
    image: Tensor,
    axis: int,
    layers: list[str] | None,
    wanted: list[int] | None = None,
    order: dict[str, bool] | None = None,
) -> dict[str, Tensor]:
    """Return for every layer which of its lines depend on which line of the picture: `[lines of picture, lines]`.

    `wanted`: of these lines of the picture only. `order`: whether a layer's maps have channels on the last axis, where
    that is known; a strip has not the proportions to tell.
    """
    wanted = list(range(image.shape[axis])) if wanted is None else wanted
    found: dict[str, list[Tensor]] = {}
    seen: set[str] = set()

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        if name in seen or (layers is not None and name not in layers):
            return False
        if order is not None and name in order and output.ndim == IMAGE_AXES and len(output) == len(spoiled):
            maps: Tensor | None = output.permute(0, 3, 1, 2) if order[name] else output
        else:
            maps = maps_of(output, module, len(spoiled), image.shape[2:])
        if maps is None:
            return False
        seen.add(name)
        features = maps.isnan().any(1)
        found.setdefault(name, []).append(features.any(2 if axis == 2 else 1).cpu())
        return layers is not None and seen >= set(layers)

    batch = max(1, at_once(model, layers[0] if layers and len(layers) == 1 else "", image) // 2)
    with frozen_eval(model), torch.no_grad():
        for start in range(0, len(wanted), batch):
            lines = torch.tensor(wanted[start : start + batch], device=image.device)
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
        except (LayerError, ForwardError):
            raise
        except ModelError:  # no gradient: the layer lies apart from the picture
            return 0.0
        return _side(features, x)


def effective_sides(model: nn.Module, layers: Sequence[str], images: Float[Tensor, "b c h w"]) -> dict[str, float]:
    """Return `effective_side` of many layers, by one forward pass for all of them; left out is what has no maps.

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3))
    >>> both = effective_sides(net, ["0", "2"], x := torch.rand(1, 1, 9, 9))
    >>> both == {name: effective_side(net, name, x) for name in both}
    True
    """
    check_images(images)
    x = placed(model, images).clone().requires_grad_()
    if one_at_a_time(model, x[:1]):
        return {layer: effective_side(model, layer, images) for layer in layers}
    kept: dict[str, Tensor] = {}
    waiting = set(layers)

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        if name in waiting:
            waiting.remove(name)
            maps = maps_of(output, module, len(images), images.shape[2:])
            if maps is not None:  # what runs on may change it in place
                kept[name] = at_least_float32(maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].clone())
        return not waiting

    with frozen_eval(model):
        with observe(model, see):
            run(model, laid_out(model, x.clone()))
        return {name: _side(kept[name][:, :, None, None], x) for name in layers if name in kept}


def _side(features: Tensor, x: Tensor) -> float:
    """Return the side of what the middle position of features sees in the images that they were made of."""
    if not features.requires_grad:
        return 0.0
    middle = features[:, :, features.shape[2] // 2, features.shape[3] // 2].sum()
    (signal,) = torch.autograd.grad(middle, x, retain_graph=True, allow_unused=True)
    influence = torch.zeros(1) if signal is None else signal.abs().mean((0, 1))
    if not bool(influence.any()):
        return 0.0
    return float((influence >= EFFECTIVE * influence.max()).sum().sqrt())
