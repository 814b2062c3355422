"""The photograph amplified through a layer (Mordvintsev et al. 2015, "Inceptionism")."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.errors import ForwardError, ModelError, UsageError
from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.trace import at_once, channel_list, placed, resolve
from torchloupe.models.network import check_images
from torchloupe.runtime.progress import Progress
from torchloupe.synthesis.transforms import jitter

SMALLEST = 16
"""No octave is smaller than this many pixels."""


@dataclass(frozen=True, eq=False)
class Dream:
    """Photographs and what became of them."""

    layer: str
    pictures: Float[Tensor, "b c h w"]
    images: Float[Tensor, "b c h w"]
    before: Float[Tensor, "b"]
    """Mean square of the amplified channels, in the photograph."""
    after: Float[Tensor, "b"]


def dream(
    model: nn.Module,
    layer: str,
    images: Float[Tensor, "b c h w"],
    *,
    channels: list[int] | None = None,
    octaves: int = 3,
    octave_scale: float = 1.4,
    steps: int = 12,
    step_size: float = 0.02,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dream:
    """Amplify in photographs whatever a layer sees in them, from the smallest octave to the full size.

    Each step climbs the mean square of the layer's maps along the gradient over its own mean size, by `step_size` of
    the range from black to white; detail found in one octave is carried to the next.

    Raises:
        ModelError: no such layer, or no gradient passes through it.
        UsageError: a channel or setting that there is not.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> dream(net, "1", torch.rand(2, 3, 24, 24), steps=1).pictures.shape
    torch.Size([2, 3, 24, 24])
    """
    check_images(images)
    if octaves < 1 or octave_scale <= 1 or steps < 1 or step_size <= 0:
        raise UsageError("octaves and steps are at least 1, octave_scale above 1 and step_size above 0.")
    name = resolve(model, layer, images)
    photographs = placed(model, images)
    sides = _sides(photographs, octaves, octave_scale)
    chunk = at_once(model, name, photographs)
    with frozen_eval(model):
        with torch.no_grad():
            asked = channel_list(channels, activations(model, name, photographs[:1]).shape[1], name)
        parts = []
        for start in range(0, len(photographs), chunk):
            base = photographs[start : start + chunk]

            def on_step(done: int, start: int = start, many: int = len(base)) -> None:
                if progress is not None:
                    progress(start * len(sides) * steps + done * many, len(photographs) * len(sides) * steps)

            made = _climb(model, name, asked, base, sides, steps, step_size, seed, on_step)
            parts.append((made, *(_strength(model, name, asked, x) for x in (base, made))))
    pictures, before, after = (torch.cat(each).cpu() for each in zip(*parts, strict=True))
    return Dream(name, pictures, photographs.cpu(), before, after)


def _sides(pictures: Tensor, octaves: int, scale: float) -> list[tuple[int, int]]:
    height, width = int(pictures.shape[2]), int(pictures.shape[3])
    found = [(round(height / scale**i), round(width / scale**i)) for i in range(octaves)]
    return [pair for i, pair in enumerate(found) if i == 0 or min(pair) >= SMALLEST][::-1]


def _climb(
    model: nn.Module,
    layer: str,
    channels: list[int],
    base: Tensor,
    sides: list[tuple[int, int]],
    steps: int,
    step_size: float,
    seed: int,
    on_step: Callable[[int], None],
) -> Tensor:
    detail = torch.zeros_like(_resized(base, sides[0]))
    change, done = jitter(2, seed), 0
    for side in sides:
        octave = _resized(base, side)
        detail = _resized(detail, side)
        for _ in range(steps):
            x = (octave + detail).clamp(0, 1).requires_grad_()
            try:
                features = activations(model, layer, change(x, done))[:, channels]
            except ForwardError as error:
                if side == sides[-1]:
                    raise
                small = f"{side[1]} x {side[0]} ({error.__cause__})"
                raise ModelError(f"the network does not take pictures of {small}: ask for fewer octaves.") from None
            (slope,) = torch.autograd.grad(features.square().mean((1, 2, 3)).sum(), x)
            size = slope.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)
            detail = (x.detach() + step_size * slope / size).clamp(0, 1) - octave
            done += 1
            on_step(done)
    return (base + detail).clamp(0, 1).detach()


def _resized(pictures: Tensor, side: tuple[int, int]) -> Tensor:
    if tuple(pictures.shape[2:]) == side:
        return pictures
    return F.interpolate(pictures, side, mode="bilinear", antialias=side[0] < pictures.shape[2], align_corners=False)


def _strength(model: nn.Module, layer: str, channels: list[int], pictures: Tensor) -> Tensor:
    with torch.no_grad():
        return activations(model, layer, pictures)[:, channels].square().mean((1, 2, 3))
