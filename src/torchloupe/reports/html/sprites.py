"""Many small pictures in one WebP file, placed in rows: what a page cuts its tiles from."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

EXACT = 64
"""Tiles up to this side are kept to the bit; larger ones are compressed with loss."""
MOST = 112
"""Larger pictures are reduced to this side for the page; raw tensors and contact sheets keep their own."""
QUALITY = 84


@dataclass(frozen=True)
class Sprite:
    """One file of tiles of one size, the first at the upper left, rows filled one after the other."""

    width: int
    height: int
    columns: int
    count: int
    data: bytes

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        text = base64.b64encode(self.data).decode()
        return {"w": self.width, "h": self.height, "columns": self.columns, "n": self.count, "webp": text}


def reduced(images: UInt8[Tensor, "n 3 h w"], most: int = MOST) -> UInt8[Tensor, "n 3 h2 w2"]:
    """Bring pictures to a longest side of at most `most`, by the mean over areas; smaller ones stay as they are.

    >>> reduced(torch.zeros(1, 3, 224, 112, dtype=torch.uint8)).shape
    torch.Size([1, 3, 112, 56])
    """
    height, width = images.shape[2:]
    scale = most / max(height, width)
    if scale >= 1:
        return images
    sides = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(images.float(), sides, mode="area").round().to(torch.uint8)


def sprite(images: UInt8[Tensor, "n 3 h w"]) -> Sprite:
    """Put pictures of one size into one file; without loss up to 64 pixels a side.

    >>> sprite(torch.zeros(5, 3, 8, 8, dtype=torch.uint8)).columns
    3
    """
    n, _, height, width = images.shape
    columns = max(1, round((n * height / width) ** 0.5 + 0.49)) if n else 1
    return Sprite(width, height, columns, n, webp(grid(images, columns), exact=max(height, width) <= EXACT))


def grid(images: UInt8[Tensor, "n 3 h w"], columns: int, gap: int = 0, fill: int = 0) -> UInt8[Tensor, "y x 3"]:
    """Put pictures of one size side by side, `columns` in a row, with `gap` pixels of grey `fill` between them.

    >>> grid(torch.zeros(5, 3, 8, 6, dtype=torch.uint8), 3, gap=1).shape
    torch.Size([17, 20, 3])
    """
    n, _, height, width = images.shape
    rows = max(1, -(-n // columns))
    canvas = torch.full((rows * columns, 3, height + gap, width + gap), fill, dtype=torch.uint8)
    canvas[:n, :, :height, :width] = images
    whole = canvas.view(rows, columns, 3, height + gap, width + gap).permute(0, 3, 1, 4, 2)
    whole = whole.reshape(rows * (height + gap), -1, 3)
    return whole[: len(whole) - gap, : whole.shape[1] - gap]


def webp(pixels: UInt8[Tensor, "h w 3"], *, exact: bool) -> bytes:
    """Encode one picture.

    >>> webp(torch.zeros(4, 4, 3, dtype=torch.uint8), exact=True)[:4]
    b'RIFF'
    """
    stream = io.BytesIO()
    settings: dict[str, Any] = {"lossless": True, "quality": 40, "method": 3} if exact else {"quality": QUALITY}
    Image.fromarray(pixels.contiguous().numpy()).save(stream, "WEBP", **settings)
    return stream.getvalue()


def animation(frames: UInt8[Tensor, "n h w 3"], milliseconds: int = 700) -> bytes:
    """Encode a small looping animation, without loss; the last frame stays twice as long.

    >>> animation(torch.zeros(2, 4, 4, 3, dtype=torch.uint8))[:4]
    b'RIFF'
    """
    stream = io.BytesIO()
    first, *others = [Image.fromarray(frame.contiguous().numpy()) for frame in frames]
    durations = [milliseconds] * (len(frames) - 1) + [2 * milliseconds]
    settings: dict[str, Any] = {"lossless": True, "quality": 40, "method": 3}
    first.save(
        stream, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, minimize_size=True, **settings
    )
    return stream.getvalue()


class Pool:
    """Pictures of one data set, and so of one size, that a page shows: each once, however often it is called for."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self.images: list[Tensor] = []

    def place(self, index: int, image: UInt8[Tensor, "3 h w"]) -> int:
        """Return the tile of the picture of that number."""
        if index not in self.places:
            self.places[index] = len(self.images)
            self.images.append(reduced(image[None])[0])
        return self.places[index]

    def sprite(self) -> Sprite | None:
        """Return the file of all of them; None if there are none."""
        return sprite(torch.stack(self.images)) if self.images else None
