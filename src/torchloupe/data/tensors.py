"""Pictures as tensors: bytes to floats in [0, 1], and crops."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F


def crop(images: UInt8[Tensor, "b c h w"], place: Float[Tensor, "b 2"], side: tuple[int, int]) -> Tensor:
    """Cut a window of `side` (h, w) out of each picture, at its own place, with one gather.

    >>> images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    >>> crop(images, torch.tensor([[0.0, 0.9]]), (2, 2)).flatten().tolist()
    [2, 3, 6, 7]
    """
    b, c, h, w = images.shape
    first = torch.stack([place[:, 0] * (h - side[0] + 1), place[:, 1] * (w - side[1] + 1)], 1).long()
    rows = first[:, :1] + torch.arange(side[0], device=images.device)
    columns = first[:, 1:] + torch.arange(side[1], device=images.device)
    flat = (rows[:, :, None] * w + columns[:, None, :]).flatten(1)
    pixels = images.permute(0, 2, 3, 1).reshape(b, h * w, c)
    cut = pixels.gather(1, flat[:, :, None].expand(-1, -1, c))
    return cut.view(b, *side, c).permute(0, 3, 1, 2)


def to_float(images: UInt8[Tensor, "b c h w"], size: int | None = None) -> Float[Tensor, "b c h w"]:
    """Turn uint8 pictures into floats in [0, 1], resized to `size` x `size` if they are not (bilinear, antialiased).

    >>> to_float(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), size=4).unique()
    tensor([1.])
    """
    batch = images.to(torch.get_default_dtype()).div_(255)
    if size is None or batch.shape[2:] == (size, size):
        return batch
    shrink = max(batch.shape[2:]) > size
    return F.interpolate(batch, (size, size), mode="bilinear", antialias=shrink).clamp_(0, 1)
