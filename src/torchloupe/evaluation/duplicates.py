"""Which channels of a layer say the same: the correlation of their maps over pictures."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from torchloupe.data.tensors import to_float
from torchloupe.features.hooks import frozen_eval, maps_of, observe
from torchloupe.features.trace import at_once, placed
from torchloupe.models.layout import laid_out
from torchloupe.models.network import run

ALIKE = 0.95
"""Two channels are near-duplicates if their maps correlate at least so much."""
WIDEST = 2048
"""Layers of more channels are left out: the table of pairs grows with the square."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """For every channel of one layer the other channel that is most like it."""

    other: Int64[Tensor, "c"]
    """-1 where there is none: a layer of one channel, or a channel that never changes."""
    correlation: Float[Tensor, "c"]
    """Pearson's, over all positions of all pictures, in [-1, 1]; 0 where there is none."""

    @property
    def duplicate(self) -> Bool[Tensor, "c"]:
        """Correlates with another by 0.95 or more."""
        return self.correlation >= ALIKE


class _Pairs:
    """Sums of one layer's channels and of their products over positions, in float64, around the first batch's mean."""

    def __init__(self, features: Tensor) -> None:
        self.center = features.double().mean((0, 2, 3))
        self.count = 0
        self.sums = torch.zeros_like(self.center)
        self.products = self.center.new_zeros(len(self.center), len(self.center))

    def add(self, features: Tensor) -> None:
        """Take in maps."""
        rows = features.double().transpose(0, 1).flatten(1) - self.center[:, None]
        self.count += rows.shape[1]
        self.sums += rows.sum(1)
        self.products += rows @ rows.T

    def nearest(self) -> Nearest:
        """Return each channel's nearest other."""
        mean = self.sums / self.count
        covariance = self.products / self.count - mean[:, None] * mean
        std = covariance.diagonal().clamp(min=0).sqrt()
        moves = std > 1e-7 * (self.center.abs() + std.max())
        both = moves[:, None] & moves
        both.fill_diagonal_(False)
        correlation = torch.where(both, covariance / (std[:, None] * std), -torch.inf)
        value, other = correlation.max(1) if len(std) > 1 else (mean.new_full((1,), -torch.inf), mean.long())
        known = value.isfinite()
        value = torch.where(known, value, 0).clamp(-1, 1).float()
        return Nearest(torch.where(known, other, -1).cpu(), value.cpu())


def nearest(
    model: nn.Module, images: UInt8[Tensor, "n c h w"], layers: list[str], *, size: int | None = None
) -> dict[str, Nearest]:
    """Return for every channel of some layers (resolved names) the other channel whose maps are most like its own.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> _ = net[0].weight.data[3].copy_(net[0].weight.data[1])
    >>> nearest(net, torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8), ["0"])["0"].duplicate.tolist()
    [False, True, False, True]
    """
    image = placed(model, to_float(images[:1], size))
    step = at_once(model, "", image)
    pairs: dict[str, _Pairs] = {}
    seen: set[str] = set()

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> None:
        if name not in layers or name in seen:
            return
        features = maps_of(output, module, len(batch), image.shape[2:])
        if features is None:
            return
        seen.add(name)
        if features.shape[1] <= WIDEST:
            pairs.setdefault(name, _Pairs(features)).add(features)

    with frozen_eval(model), torch.no_grad(), observe(model, see):
        for start in range(0, len(images), step):
            seen.clear()
            batch = placed(model, to_float(images[start : start + step], size))
            run(model, laid_out(model, batch))
    return {name: each.nearest() for name, each in pairs.items()}
