"""Pictures of a page that no script has to draw: each a window on one image file."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from torchloupe.figures.colors import rgb
from torchloupe.reports.html.sprites import Pool, Sprite


@dataclass(frozen=True)
class Tile:
    """One picture: its number in the file, and what of it is dimmed, as a path in shares of its sides."""

    index: int
    dim: tuple[float, float, float, float] | None = None
    """What counts: top, left, bottom, right, as shares of the sides; all else is dimmed. None: all of it counts."""
    name: str = ""


class Tiles:
    """The pictures of a split that a page shows, each stored once."""

    def __init__(self, images: UInt8[Tensor, "n c h w"]) -> None:
        self.images = images
        self.pool = Pool()

    def place(self, index: int, box: Sequence[float] | None = None, name: str = "") -> Tile:
        """Return the tile of an image of the split; `box`: what counts, in pixels."""
        image = rgb(self.images[index].float()[None] / 255)[0]
        height, width = image.shape[1:]
        dim = None
        if box is not None and tuple(box) != (0, 0, height, width):
            sides = (height, width, height, width)
            top, left, bottom, right = (min(1.0, max(0.0, v / side)) for v, side in zip(box, sides, strict=True))
            dim = (top, left, bottom, right)
        return Tile(self.pool.place(index, image), dim, name)

    def sprite(self) -> Sprite | None:
        """Return the file of all of them."""
        return self.pool.sprite()
