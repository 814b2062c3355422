"""Batched augmentation on tensors. Each draw belongs to a picture and an epoch, so that neither the batch
nor the number of ranks changes what a picture becomes."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from torchloupe.data.tensors import crop, to_float
from torchloupe.training.chance import stream
from torchloupe.training.config import TrainConfig


@dataclass(frozen=True)
class Draws:
    """The chance of one epoch, drawn for all pictures at once."""

    flip: Bool[Tensor, "n"]
    place: Float[Tensor, "n 2"]
    """Where a crop lies between its first and last place, y and x, in [0, 1)."""
    hole: Float[Tensor, "n 2"]
    """The same for the middle of the cutout square."""

    def take(self, index: Int64[Tensor, "b"]) -> "Draws":
        """Return the draws of some pictures."""
        return Draws(self.flip[index], self.place[index], self.hole[index])


def draw(config: TrainConfig, n: int, epoch: int, device: torch.device | str = "cpu") -> Draws:
    """Draw an epoch's flips, places and holes for n pictures.

    >>> first, second = (draw(TrainConfig(flip="alternating"), 9, epoch) for epoch in (0, 1))
    >>> bool((first.flip != second.flip).all())
    True
    """
    chance = stream(config, "augment", epoch)
    flip = torch.rand(n, generator=chance) < 0.5
    if config.flip == "alternating":
        flip = (torch.rand(n, generator=stream(config, "augment")) < 0.5) ^ (epoch % 2 == 1)
    elif config.flip == "none":
        flip = torch.zeros(n, dtype=torch.bool)
    place, hole = torch.rand(n, 2, generator=chance), torch.rand(n, 2, generator=chance)
    return Draws(flip.to(device), place.to(device), hole.to(device))


def augment(
    images: UInt8[Tensor, "b c h w"], draws: Draws, config: TrainConfig, *, low: bool = False
) -> Float[Tensor, "b c h w"]:
    """Return flipped, shifted, resized pictures in [0, 1], with a grey hole where cutout is on.

    `low` cuts windows of `config.low_size` instead of shifting.

    >>> images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    >>> augment(images, draw(TrainConfig(), 2, 0), TrainConfig()).shape
    torch.Size([2, 3, 8, 8])
    """
    images = torch.where(draws.flip[:, None, None, None], images.flip(3), images)
    h, w = images.shape[2:]
    if low and 0 < config.low_size < min(h, w):
        shrunk = config.size and round(config.size * config.low_size / min(h, w))  # at the scale of whole pictures
        return to_float(crop(images, draws.place, (config.low_size, config.low_size)), shrunk)
    reach = min(config.translate, h - 1, w - 1)
    if reach:
        padded = F.pad(images.float(), (reach,) * 4, mode="reflect").to(torch.uint8)
        images = crop(padded, draws.place, (h, w))
    batch = to_float(images, config.size)
    if config.cutout:
        batch = cut_out(batch, draws.hole, config.cutout)
    return batch


def cut_out(images: Float[Tensor, "b c h w"], hole: Float[Tensor, "b 2"], side: int) -> Float[Tensor, "b c h w"]:
    """Grey out a square of `side` pixels in each picture (DeVries & Taylor 2017); it may hang over the border.

    >>> cut_out(torch.ones(1, 3, 4, 4), torch.tensor([[0.0, 0.0]]), 2)[0, 0].eq(0.5).sum().item()
    1
    """
    h, w = images.shape[2:]
    middle = torch.stack([hole[:, 0] * h, hole[:, 1] * w], 1).floor()
    near_y = _within(torch.arange(h, device=hole.device), middle[:, :1], side)
    near_x = _within(torch.arange(w, device=hole.device), middle[:, 1:], side)
    inside = near_y[:, None, :, None] & near_x[:, None, None, :]
    return images.masked_fill(inside, 0.5)


def _within(line: Tensor, middle: Tensor, side: int) -> Tensor:
    start = middle - side // 2
    return (line >= start) & (line < start + side)
