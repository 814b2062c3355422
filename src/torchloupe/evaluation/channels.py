"""How alive the channels of a network are: what each does over a whole data set, in one pass of bounded memory."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from torchloupe.data.tensors import to_float
from torchloupe.features.hooks import OUTPUT, as_maps, first_tensor, frozen_eval, observe
from torchloupe.features.trace import at_once, placed, trace
from torchloupe.models.forward import called
from torchloupe.models.layout import laid_out
from torchloupe.models.network import run
from torchloupe.runtime.device import at_least_float32
from torchloupe.runtime.progress import Progress

LIVE = 0.01
"""A channel is live if it is non-zero somewhere on at least this share of the pictures."""
EQUAL = 1e-7
"""Activations that spread by less than this share of the strongest are equal but for rounding."""


@dataclass(frozen=True, eq=False)
class ChannelHealth:
    """What the channels of one layer do over a data set; activation: spatial mean of the map."""

    best: Float[Tensor, "c"]
    """Strongest activation of any picture."""
    best_index: Int64[Tensor, "c"]
    """Which picture that is."""
    mean: Float[Tensor, "c"]
    std: Float[Tensor, "c"]
    live: Float[Tensor, "c"]
    """Share of pictures on which the channel is non-zero somewhere, in [0, 1]."""
    class_mean: Float[Tensor, "c classes"]
    """Mean activation over the pictures of each class; NaN for a class without any. No columns without labels."""
    selectivity: Float[Tensor, "c"]
    """Share of the activation's variance over pictures that lies between the classes (η², Pearson 1905), in [0, 1]."""
    images: int = 0
    """On how many images it was measured."""

    @property
    def dead(self) -> Bool[Tensor, "c"]:
        """Non-zero on less than 1 % of the pictures."""
        return self.live < LIVE


class _Sums:
    """Running figures of one layer: Chan's pairwise update, in float64."""

    def __init__(self, channels: int, classes: int) -> None:
        self.count = 0
        self.class_sum = torch.zeros(channels, classes, dtype=torch.float64)
        self.class_count = torch.zeros(classes, dtype=torch.float64)
        self.best = torch.full((channels,), -torch.inf, dtype=torch.float64)
        self.best_index = torch.zeros(channels, dtype=torch.int64)
        self.mean, self.squares, self.alive = (torch.zeros(channels, dtype=torch.float64) for _ in range(3))

    def add(self, features: Tensor, start: int, labels: Tensor) -> None:
        """Take in the maps of the pictures from number `start` on."""
        activation = features.mean((2, 3)).cpu().double()
        if len(labels):
            self.class_sum.index_add_(1, labels, activation.T)
            self.class_count += torch.bincount(labels, minlength=len(self.class_count))
        top, place = activation.max(0)
        better = top > self.best
        self.best = torch.where(better, top, self.best)
        self.best_index = torch.where(better, place + start, self.best_index)
        n, m = self.count, len(activation)
        center = activation.mean(0)
        shift = center - self.mean
        self.squares += (activation - center).square().sum(0) + shift.square() * (n * m / (n + m))
        self.mean += shift * (m / (n + m))
        self.alive += features.flatten(2).any(2).sum(0).cpu().double()
        self.count += m

    def health(self) -> ChannelHealth:
        """Return the figures."""
        std = (self.squares / max(1, self.count)).sqrt()
        class_mean = self.class_sum / self.class_count
        between = (self.class_count * (class_mean - self.mean[:, None]).square()).nansum(1)
        varied = self.squares > self.count * (EQUAL * self.best.abs()).square()
        selectivity = torch.where(varied, between / self.squares, 0).clamp(0, 1)
        if not len(self.class_count):
            selectivity.fill_(torch.nan)
        return ChannelHealth(
            best=self.best.float(),
            best_index=self.best_index,
            mean=self.mean.float(),
            std=std.float(),
            live=(self.alive / self.count).float(),
            class_mean=class_mean.float(),
            selectivity=selectivity.float(),
            images=self.count,
        )


def health(
    model: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    *,
    layers: list[str] | None = None,
    labels: Int64[Tensor, "n"] | None = None,
    size: int | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> dict[str, ChannelHealth]:
    """Return what every channel of every layer (or of `layers`, resolved names) does over a data set.

    Layers that put out neither maps nor vectors are left out. A layer that runs several times counts by its first
    call. Pictures are resized to `size` where given. With `labels`, from 0 up, also what it does on each class.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> health(net, torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8))["1"].live.shape
    torch.Size([4])
    """
    image = to_float(images[:1], size)
    known = {call.name for call in trace(model, image) if call.channels is not None}
    wanted = known if layers is None else set(layers) & (known | {OUTPUT})
    step = batch or at_once(model, "", placed(model, image))
    sums: dict[str, _Sums] = {}
    seen: set[str] = set()
    start = 0
    kinds = torch.empty(0, dtype=torch.int64) if labels is None else labels.cpu()
    classes = int(kinds.max()) + 1 if len(kinds) else 0

    def take(name: str, features: Tensor) -> None:
        if name not in sums:
            sums[name] = _Sums(features.shape[1], classes)
        sums[name].add(features, start, kinds[start : start + len(features)])

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> None:
        if name in wanted and name not in seen:
            seen.add(name)
            take(name, at_least_float32(as_maps(output, module, name, image.shape[2:])))

    with frozen_eval(model), torch.no_grad(), observe(model, see):
        for start in range(0, len(images), step):  # `take` reads it
            seen.clear()
            prepared = placed(model, to_float(images[start : start + step], size))
            prepared = laid_out(model, prepared)
            if OUTPUT not in wanted or OUTPUT in known:
                run(model, prepared)
                logits = None
            else:
                logits = first_tensor(called(model, prepared))
            if logits is not None:
                take(OUTPUT, at_least_float32(as_maps(logits, model, OUTPUT, image.shape[2:])))
            if progress is not None:
                progress(min(start + step, len(images)), len(images))
    return {name: sums[name].health() for name in sums}
