"""Numbers -> colours. The range is always an argument or a named rule, and comes back with the colours."""

from functools import lru_cache

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from torchloupe.errors import UsageError, did_you_mean

STEPS = 256


@lru_cache(maxsize=16)
def ramp(name: str) -> UInt8[Tensor, "256 3"]:
    """Return the 256 colours of a colour map of matplotlib.

    Raises:
        UsageError: there is none of that name.

    >>> ramp("gray")[255].tolist()
    [255, 255, 255]
    """
    if name not in mpl.colormaps:
        raise UsageError(f"no colour map {name!r}{did_you_mean(name, list(mpl.colormaps)) or '.'}")
    colors = mpl.colormaps[name](np.linspace(0, 1, STEPS))[:, :3]
    return torch.from_numpy((colors * 255).round().astype(np.uint8))


def tinted(values: Float[Tensor, "*n h w"], name: str, low: Tensor, high: Tensor) -> UInt8[Tensor, "*n 3 h w"]:
    """Colour values from `low` to `high` (broadcast over pictures); a range of nothing gives the lowest colour.

    >>> tinted(torch.tensor([[[0.0, 1.0]]]), "gray", torch.tensor(0.0), torch.tensor(1.0))[0, :, 0].tolist()
    [[0, 255], [0, 255], [0, 255]]
    """
    span = high - low
    shares = torch.where(span > 0, (values - low) / torch.where(span > 0, span, 1), 0).clamp(0, 1)
    index = (shares.nan_to_num() * (STEPS - 1)).round().long()
    return ramp(name)[index].movedim(-1, -3)


def rgb(images: Float[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n 3 h w"]:
    """Turn pictures in [0, 1] into bytes; one channel becomes grey, of other numbers the mean is shown as grey.

    >>> rgb(torch.full((1, 1, 1, 1), 0.5)).flatten().tolist()
    [128, 128, 128]
    """
    channels = images.shape[-3]
    shown = images if channels == 3 else images.mean(-3, keepdim=True).expand(*images.shape[:-3], 3, -1, -1)
    return (shown.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def stretched(
    values: Float[Tensor, "n c h w"], low: Tensor | None = None, high: Tensor | None = None
) -> UInt8[Tensor, "n 3 h w"]:
    """Show values from `low` to `high`, one of each a picture or one for all; by default each picture's own ends.

    >>> stretched(torch.tensor([[[[-1.0]], [[0.0]], [[1.0]]]]))[0].flatten().tolist()
    [0, 128, 255]
    """
    values = values.float()
    start = values.flatten(1).amin(1) if low is None else low
    end = values.flatten(1).amax(1) if high is None else high
    span = (end - start).clamp(min=1e-12)
    return rgb((values - start.view(-1, 1, 1, 1)) / span.view(-1, 1, 1, 1))


CENTILE = 0.005
"""Share of the values that are not zero, the strongest, that lie beyond the end of a signed scale."""


def signed(values: Float[Tensor, "n c h w"], scale: str = "per_picture") -> UInt8[Tensor, "n 3 h w"]:
    """Show signed values around mid grey: zero is 128, the 99.5th percentile of their magnitudes an end.

    Of each picture, or of all (`shared`); zeros do not count, stronger values are shown as the end.

    >>> signed(torch.tensor([[[[-2.0, 0.0, 2.0]]]]))[0, 0].tolist()
    [[1, 128, 255]]
    """
    values = values.nan_to_num()
    sizes = values.detach().abs().reshape(1 if scale == "shared" else len(values), -1)
    beyond = (CENTILE * (sizes > 0).sum(1, keepdim=True)).long()
    end = sizes.sort(1, descending=True).values.gather(1, beyond)[:, :, None, None]
    shares = values / end.clamp(min=1e-300 if values.dtype == torch.float64 else 1e-30)
    channels = shares.shape[1]
    shown = shares if channels == 3 else shares.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return (128 + shown.detach().float().clamp(-1, 1) * 127).round().to(torch.uint8).cpu()


FOR, AGAINST = (214, 74, 20), (20, 92, 186)
"""Of what is above and below zero where a picture shows through."""


def reach(maps: Float[Tensor, "n h w"]) -> float:
    """Return the end of a scale that several signed maps share: the 99.5th percentile of their magnitudes; 0 of none.

    >>> reach(torch.tensor([[[-2.0, 0.0, 1.0]]]))
    2.0
    """
    sizes = maps.detach().abs().nan_to_num().flatten()
    sizes = sizes[sizes > 0].sort(descending=True).values
    return float(sizes[int(CENTILE * len(sizes))]) if len(sizes) else 0.0


def overlaid(images: Float[Tensor, "n c h w"], maps: Float[Tensor, "n h w"], end: float) -> UInt8[Tensor, "n 3 h w"]:
    """Lay signed maps over pictures in grey: orange above zero, blue below, full at `end`.

    >>> overlaid(torch.zeros(1, 3, 1, 1), torch.tensor([[[5.0]]]), 5.0).flatten().tolist() == list(FOR)
    True
    """
    grey = 0.35 + 0.65 * images.detach().float().clamp(0, 1).mean(1, keepdim=True).cpu()
    shares = (maps.detach().double().nan_to_num() / end if end else torch.zeros_like(maps)).clamp(-1, 1).float().cpu()
    color = torch.where(shares[:, None] >= 0, _column(FOR), _column(AGAINST))
    opacity = shares.abs()[:, None] ** 0.7
    return ((grey * (1 - opacity) + color * opacity) * 255).round().to(torch.uint8)


def _column(color: tuple[int, int, int]) -> Tensor:
    return torch.tensor(color).view(1, 3, 1, 1) / 255
