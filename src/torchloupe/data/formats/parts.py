"""What goes into a reader and what comes out of it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from torchloupe.runtime.progress import Progress

Window = tuple[float, float]
"""The values that are black and white in pictures of more than 8 bits."""
DEFAULT_SIDE = 64
"""Side at which pictures of mixed or large sizes are stored when no size is asked for."""


@dataclass(frozen=True)
class LabelsFile:
    """A file of labels, unread: what it says depends on which pictures there are."""

    where: str
    data: bytes
    folder: str = ""
    """The folder of the data set that it lies in, where it was found there."""

    @property
    def mark(self) -> str:
        """Twelve digits that change when its content does, or what it is read as.

        >>> LabelsFile("a.csv", b"x").mark == LabelsFile("b.csv", b"x").mark != LabelsFile("b.csv", b"y").mark
        True
        """
        return hashlib.sha256(self.data + Path(self.where).suffix.lower().encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    size: int | None = None
    """Side in pixels, or None for the pictures' own."""
    seed: int = 0
    """Splits one tree of class folders into train and test."""
    skip_bad: bool = False
    """Leave out pictures that can't be read instead of stopping."""
    progress: Progress | None = None
    window: Window | None = None
    """What is black and white in pictures of more than 8 bits; None: as they say, or by their largest value."""
    labels: LabelsFile | None = None
    """Which picture is of which class, where their folders do not tell."""

    @property
    def side(self) -> int:
        """Side at which pictures are stored where they can't stay at their own size.

        >>> Options().side, Options(size=32).side
        (64, 32)
        """
        return self.size or DEFAULT_SIDE


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a reader hands back: the train pictures, then the test pictures, then the val pictures, in one tensor."""

    name: str
    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"] | Bool[Tensor, "n classes"]
    """One class a picture, or a table where one may have several."""
    names: tuple[str, ...]
    train: int
    """How many of them are train pictures."""
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    resized: int | None = None
    """Side to which they were brought; None when they are stored at their own size."""
    seed: int | None = None
    """Seed that split them; None where the data set says what is train and what is test."""
    skipped: bool = False
    """Some were left out because they can't be read."""
    val: int = 0
    """How many of them are val pictures."""
    window: Window | None = None
    """What is black and white in those of more than 8 bits; None where there are none."""
    asked: Window | None = None
    """What the user said of it."""


def listed(things: list[str], most: int = 20) -> str:
    """Join the first few things for a message, and count the rest.

    >>> listed(["'a'", "'b'", "'c'"], most=2)
    "'a', 'b' and 1 more"
    """
    shown = ", ".join(things[:most])
    return f"{shown} and {len(things) - most:,} more" if len(things) > most else shown


def plural(count: int, thing: str) -> str:
    """Count things in words.

    >>> plural(1, "picture"), plural(2000, "picture"), plural(2, "class")
    ('1 picture', '2,000 pictures', '2 classes')
    """
    if count == 1:
        return f"1 {thing}"
    return f"{count:,} {thing}{'es' if thing.endswith('s') else 's'}"
