"""What a data set is: uint8 pictures at their own size, labels, class names and file names."""

import zlib
from dataclasses import dataclass

from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from torchloupe.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """The pictures of one split, in a fixed order."""

    images: UInt8[Tensor, "n c h w"]
    """RGB, 0 to 255, at the pictures' own size."""
    labels: Int64[Tensor, "n"] | Bool[Tensor, "n classes"]
    """Index into `Dataset.classes`; a table of which picture has which where one may have several (`is_multilabel`)."""
    names: tuple[str, ...]
    """File name of each picture, relative to the data set, `/` between folders."""
    masks: Bool[Tensor, "n h w"] | None = None
    """Where the figure is, for data sets that know it (`shapes`)."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A train and a test split, perhaps a val split, with the same classes in the same order."""

    name: str
    """What captions and reports call it, for example `cifar10` or the folder's name."""
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of the train split, in [0, 1]."""
    std: tuple[float, ...]
    """Per channel over all pixels of the train split, in [0, 1]."""
    source: str
    """The path or name it was loaded from."""
    size: int | None = None
    """Side to which batches are resized (bilinear); None leaves pictures at their own size."""
    notes: tuple[str, ...] = ()
    """Sentences the user should see, for example which pictures were skipped."""
    val: Split | None = None
    """What one tunes on: measured while training, so that test is for the last figure alone."""

    window: tuple[float, float] | None = None
    """The values that are black and white in pictures of more than 8 bits; None where there are none."""
    labels_file: str | None = None
    """The file that told which picture is of which class, where one was named."""
    class_names_file: str | None = None
    """The file that told what the classes are called, where one was named."""

    @property
    def is_multilabel(self) -> bool:
        """A picture may have any number of classes: the labels of each split are a table [n, classes].

        >>> from torchloupe.data.drawn.shapes import shapes
        >>> shapes(train=10, test=10).is_multilabel
        False
        """
        return self.train.labels.ndim > 1

    def split(self, word: str) -> Split | None:
        """Return the split that a word names: `train`, `val` or `test`.

        >>> from torchloupe.data.drawn.shapes import shapes
        >>> shapes(train=10, test=10).split("val") is None
        True
        """
        return {"train": self.train, "val": self.val, "test": self.test}[word]


def check_one_label(dataset: Dataset, what: str) -> None:
    """Refuse pictures that may have several classes; `what` takes one each: "training".

    Raises:
        DataError: they may.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> check_one_label(shapes(train=10, test=10), "training")
    """
    if dataset.is_multilabel:
        raise DataError(
            f"the pictures of '{dataset.name}' have several classes, and {what} takes one each. "
            "What they can do is `torchloupe test MODEL --multilabel`."
        )


def checksum(dataset: Dataset) -> str:
    """Return a checksum of the pictures and labels of train and test, by which a resumed run knows its data again.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> checksum(shapes(train=10, test=10)) == checksum(shapes(train=10, test=10))
    True
    """
    value = 0
    for split in (dataset.train, dataset.test):
        for tensor in (split.images, split.labels):
            value = zlib.crc32(tensor.contiguous().numpy().data.cast("B") if tensor.numel() else b"", value)
    return f"{value:08x}"
