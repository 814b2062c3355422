"""Which unit of one network does what a unit of another does: paired by the correlation of their maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, LayerError
from torchloupe.evaluation.assignment import assign
from torchloupe.features.hooks import OUTPUT, as_maps, first_tensor, frozen_eval, is_output, observe
from torchloupe.features.trace import at_once, placed
from torchloupe.models.layout import laid_out
from torchloupe.models.network import Network, run
from torchloupe.runtime.device import at_least_float32
from torchloupe.runtime.progress import Progress

STILL = 1e-7
"""A unit whose standard deviation is below this share of its layer's size never changes."""
LEAST = 4
"""Images that two halves need."""


@dataclass(frozen=True, eq=False)
class Matching:
    """For each unit of a layer of network A its twin in a layer of network B: the pairs of the largest sum of r.

    r is Pearson's correlation of the two maps over all positions of all images; of maps of different sides, averaged
    to the coarser grid. The twin that is best on some images is so by chance too, so that r of the same images is too
    high, the more the more units there are to choose from. `held_out` is not: paired on every other image, measured on
    those between.
    """

    layer_a: str
    layer_b: str
    twin: Int64[Tensor, " units"]
    """Unit of B; -1 where none is left, or the unit never changes."""
    correlation: Float[Tensor, " units"]
    """r with the twin, on all images; NaN without one."""
    held_out: Float[Tensor, " units"]
    """r on half of the images with the twin that the other half gives; NaN where there is none."""
    steady: Bool[Tensor, " units"]
    """Either half of the images gives this same twin."""
    units_b: int
    images: int

    @property
    def paired(self) -> Bool[Tensor, " units"]:
        """Which units have a twin."""
        return self.twin >= 0


def features_of(
    model: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    layers: Sequence[str],
    *,
    size: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Float[Tensor, "n _"]]:
    """Return the spatial mean of every channel of some layers (resolved names) for each image, in float64.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> features_of(net, torch.zeros(5, 3, 8, 8, dtype=torch.uint8), ["1"])["1"].shape
    torch.Size([5, 4])
    """
    step = at_once(model, "", placed(model, to_float(images[:1], size)))
    parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    with frozen_eval(model), torch.no_grad():
        for start in range(0, len(images), step):
            batch = to_float(images[start : start + step], size)
            for layer, maps in _maps(model, batch, layers).items():
                parts[layer].append(maps.cpu().double().mean((2, 3)))
            if progress is not None:
                progress(min(start + step, len(images)), len(images))
    return {layer: torch.cat(each) for layer, each in parts.items()}


def match(
    a: nn.Module,
    b: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    pairs: Sequence[tuple[str, str]],
    *,
    progress: Progress | None = None,
) -> list[Matching]:
    """Pair the units of layers of two networks (resolved names: of A, of B) by what they do on the same images.

    Each network sees the images at its own size and by its own normalization. One pass; memory does not grow with the
    images. A half is every other image, in the order given.

    Raises:
        DataError: fewer than four images.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> images = torch.randint(0, 256, (8, 3, 9, 9), dtype=torch.uint8)
    >>> match(net, net, images, [("0", "0")])[0].twin.tolist()
    [0, 1, 2, 3]
    """
    if len(images) < LEAST:
        raise DataError(f"units are matched on {LEAST} images or more, not on {len(images)}.")
    sizes = [model.size if isinstance(model, Network) else None for model in (a, b)]
    step = min(at_once(m, "", placed(m, to_float(images[:1], s))) for m, s in zip((a, b), sizes, strict=True))
    layers_a, layers_b = (list(dict.fromkeys(each)) for each in zip(*pairs, strict=True))
    sums: dict[tuple[str, str], tuple[_Sums, _Sums]] = {}
    for start in range(0, len(images), step):
        some = images[start : start + step]
        with frozen_eval(a), torch.no_grad():
            of_a = _maps(a, to_float(some, sizes[0]), layers_a)
        with frozen_eval(b), torch.no_grad():
            of_b = _maps(b, to_float(some, sizes[1]), layers_b)
        odd = torch.arange(start, start + len(some)) % 2 == 1
        for pair in pairs:
            x, y = _on_one_grid(of_a[pair[0]], of_b[pair[1]])
            halves = sums.setdefault(pair, (_Sums(x, y), _Sums(x, y)))
            for half, chosen in zip(halves, (~odd, odd), strict=True):
                half.add(x[chosen.to(x.device)], y[chosen.to(y.device)])
        if progress is not None:
            progress(min(start + step, len(images)), len(images))
    return [_matched(*pair, *sums[pair], len(images)) for pair in pairs]


def _maps(model: nn.Module, batch: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the activations of several layers by one pass, copied: what runs on may change them in place."""
    found: dict[str, Tensor] = {}
    prepared = laid_out(model, placed(model, batch))
    logits = OUTPUT in layers and is_output(model, OUTPUT)
    inner = [layer for layer in layers if layer != OUTPUT or not logits]

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        if name in inner and name not in found:
            found[name] = at_least_float32(as_maps(output, module, name, batch.shape[2:])).clone()
        return not logits and len(found) == len(inner)

    with observe(model, see):
        answer = first_tensor(model(prepared)) if logits else run(model, prepared)
        if logits and answer is not None:
            found[OUTPUT] = at_least_float32(as_maps(answer, model, OUTPUT, batch.shape[2:]))
    for layer in layers:
        if layer not in found:
            raise LayerError(f"layer {layer!r} does not run when the network sees pictures. Name one that does.")
    return found


def _on_one_grid(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Bring maps of two networks to float64 and, by averages, to the coarser grid of the two."""
    sides = (min(x.shape[2], y.shape[2]), min(x.shape[3], y.shape[3]))
    x, y = (maps if maps.shape[2:] == sides else F.adaptive_avg_pool2d(maps, sides) for maps in (x, y))
    return _exact(x), _exact(y).to(_exact(x).device)


def _exact(maps: Tensor) -> Tensor:
    return maps.cpu().double() if maps.device.type == "mps" else maps.double()


class _Sums:
    """Sums of the units of two layers and of their products over positions, around the first batch's means."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.centers = [maps.mean((0, 2, 3)) for maps in (x, y)]
        self.sums = [torch.zeros_like(center) for center in self.centers]
        self.squares = [torch.zeros_like(center) for center in self.centers]
        self.products = x.new_zeros(x.shape[1], y.shape[1])
        self.count = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in maps of the same images on one grid."""
        both = [
            maps.transpose(0, 1).flatten(1) - center[:, None] for maps, center in zip((x, y), self.centers, strict=True)
        ]
        for which, rows in enumerate(both):
            self.sums[which] += rows.sum(1)
            self.squares[which] += rows.square().sum(1)
        self.products += both[0] @ both[1].T
        self.count += both[0].shape[1]

    def __add__(self, other: "_Sums") -> "_Sums":
        whole = object.__new__(_Sums)
        whole.centers = self.centers
        whole.sums = [p + q for p, q in zip(self.sums, other.sums, strict=True)]
        whole.squares = [p + q for p, q in zip(self.squares, other.squares, strict=True)]
        whole.products, whole.count = self.products + other.products, self.count + other.count
        return whole

    def correlation(self) -> Float[Tensor, "a b"]:
        """Return r of every pair, in [-1, 1]; NaN where a unit never changes."""
        means = [total / self.count for total in self.sums]
        spreads = []
        for center, mean, squares in zip(self.centers, means, self.squares, strict=True):
            spread = (squares / self.count - mean.square()).clamp(min=0).sqrt()
            spreads.append(torch.where(spread > STILL * (center.abs() + spread.max()), spread, torch.nan))
        covariance = self.products / self.count - means[0][:, None] * means[1]
        return (covariance / (spreads[0][:, None] * spreads[1])).clamp(-1, 1).cpu()


def _matched(layer_a: str, layer_b: str, even: _Sums, odd: _Sums, images: int) -> Matching:
    whole, first, second = (sums.correlation() for sums in (even + odd, even, odd))
    twin, of_first, of_second = (_assigned(r) for r in (whole, first, second))
    steady = (twin >= 0) & (twin == of_first) & (twin == of_second)
    return Matching(
        layer_a, layer_b, twin, _of(whole, twin), _of(second, of_first), steady, int(whole.shape[1]), images
    )


def _assigned(r: Float[Tensor, "units b"]) -> Int64[Tensor, " units"]:
    """Return the twins of the largest sum of r among units that change."""
    known = r.isfinite()
    rows, columns = known.any(1).nonzero().flatten(), known.any(0).nonzero().flatten()
    found = torch.full((len(r),), -1, dtype=torch.int64)
    if len(rows) and len(columns):
        chosen = assign(r[rows][:, columns])
        found[rows] = torch.where(chosen >= 0, columns[chosen], -1)
    return found


def _of(r: Float[Tensor, "units b"], twin: Int64[Tensor, " units"]) -> Float[Tensor, " units"]:
    """Return r of each unit with its twin; NaN without one."""
    chosen = r.gather(1, twin.clamp(min=0)[:, None]).flatten() if r.shape[1] else r.new_zeros(len(r))
    return torch.where(twin >= 0, chosen, torch.nan).float()
