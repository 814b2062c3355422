"""How alive the channels of a network are: what each does over a whole data set, in one pass of bounded memory."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from torchloupe.data.tensors import to_float
from torchloupe.evaluation.selectivity import class_auc, class_selectivity, omega_squared
from torchloupe.features.hooks import OUTPUT, as_maps, first_tensor, frozen_eval, observe
from torchloupe.features.trace import at_once, placed, trace
from torchloupe.models.forward import called
from torchloupe.models.layout import laid_out
from torchloupe.models.network import run
from torchloupe.runtime.device import at_least_float32
from torchloupe.runtime.progress import Progress

LIVE = 0.01
"""A channel behind a rectifier is live if it is non-zero somewhere on at least this share of the pictures, or on half
as many as an even class has, where that is less: a unit that knows one class of a thousand is not dead."""
ROOM = 2**25
"""Activations that are held to be ranked, of all layers together; of more pictures evenly spread ones are."""
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
    lowest: Float[Tensor, "c"] | None = None
    """Smallest value anywhere in its maps; None of earlier versions."""
    auc: Float[Tensor, "c classes"] | None = None
    """How well it tells each class from the others (see `class_auc`); None where that was not asked for."""
    class_count: Int64[Tensor, " classes"] | None = None
    """On how many pictures of each class `auc` was measured."""

    @property
    def rectified(self) -> bool:
        """No value of the layer is below zero, so that zero is its silence (of earlier versions: no mean is)."""
        return bool(((self.mean if self.lowest is None else self.lowest) >= 0).all())

    @property
    def least(self) -> float:
        """The share of pictures on which a live channel is non-zero, at least: 1 %, less for more than 50 classes."""
        classes = int((~self.class_mean.isnan()).any(0).sum())
        return min(LIVE, 0.5 / max(1, classes))

    @property
    def dead(self) -> Bool[Tensor, "c"]:
        """Non-zero on fewer of the pictures than `least`; none of a layer that is not rectified."""
        return (self.live < self.least) & self.rectified

    @property
    def class_selectivity(self) -> Float[Tensor, "c"]:
        """The class selectivity index of Morcos et al. 2018; NaN where it does not apply: in front of a rectifier."""
        found = class_selectivity(self.class_mean)
        return found if self.rectified else torch.full_like(found, torch.nan)

    @property
    def omega_squared(self) -> Float[Tensor, "c"]:
        """`selectivity` without what chance gives it."""
        return omega_squared(self.selectivity, self.images, int((~self.class_mean.isnan()).any(0).sum()))


class _Sums:
    """Running figures of one layer: Chan's pairwise update, in float64."""

    def __init__(self, channels: int, classes: int, every: int) -> None:
        self.count, self.every = 0, every
        self.held: list[Tensor] = []
        self.held_labels: list[Tensor] = []
        self.lowest = torch.full((channels,), torch.inf)
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
        self.lowest = torch.minimum(self.lowest, features.amin((0, 2, 3)).cpu().float())
        if self.every:
            kept = slice(-start % self.every, None, self.every)
            self.held.append(activation[kept].float())
            self.held_labels.append(labels[kept])
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
        auc = class_count = None
        if self.every:
            labels, classes = torch.cat(self.held_labels), len(self.class_count)
            auc, class_count = class_auc(torch.cat(self.held), labels, classes), labels.bincount(minlength=classes)
        return ChannelHealth(
            best=self.best.float(),
            best_index=self.best_index,
            mean=self.mean.float(),
            std=std.float(),
            live=(self.alive / self.count).float(),
            class_mean=class_mean.float(),
            selectivity=selectivity.float(),
            images=self.count,
            lowest=self.lowest,
            auc=auc,
            class_count=class_count,
        )


def health(
    model: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    *,
    layers: list[str] | None = None,
    labels: Int64[Tensor, "n"] | None = None,
    ranked: bool = False,
    size: int | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> dict[str, ChannelHealth]:
    """Return what every channel of every layer (or of `layers`, resolved names) does over a data set.

    Layers that put out neither maps nor vectors are left out. A layer that runs several times counts by its first
    call. Pictures are resized to `size` where given. With `labels`, from 0 up, also what it does on each class;
    `ranked`: with the AUC of each, for which activations are held, of all pictures or (where those are many) of some.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> health(net, torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8))["1"].live.shape
    torch.Size([4])
    """
    image = to_float(images[:1], size)
    channels = {call.name: call.channels for call in trace(model, image) if call.channels is not None}
    known = set(channels)
    wanted = known if layers is None else set(layers) & (known | {OUTPUT})
    step = batch or at_once(model, "", placed(model, image))
    sums: dict[str, _Sums] = {}
    seen: set[str] = set()
    start = 0
    kinds = torch.empty(0, dtype=torch.int64) if labels is None else labels.cpu()
    classes = int(kinds.max()) + 1 if len(kinds) else 0
    activations = len(images) * sum(channels.get(name, classes) for name in wanted)
    every = max(1, -(-activations // ROOM)) if ranked and len(kinds) else 0

    def take(name: str, features: Tensor) -> None:
        if name not in sums:
            sums[name] = _Sums(features.shape[1], classes, every)
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
