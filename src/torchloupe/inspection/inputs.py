"""Pictures as a user has them (paths, PIL images, arrays, tensors, `test:0-15`) -> what a network takes."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.formats.decode import decode, measured, square, to_rgb, why_not
from torchloupe.data.formats.depth import Depth, may_be_deep, window_of
from torchloupe.data.formats.layout import is_image_file
from torchloupe.data.formats.parts import Window
from torchloupe.data.samples import samples
from torchloupe.data.subsets import sample
from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, UsageError
from torchloupe.features.trace import example
from torchloupe.models.network import check_images
from torchloupe.runtime.files import open_regular, read_file

WHITE = 255
DRAWN = 16
"""Pictures that are drawn from the test split where none are named."""


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures with what they are called."""

    images: Float[Tensor, "b c h w"]
    names: tuple[str, ...]
    """File of each, or what else it is called."""
    words: tuple[str, ...] | None
    """What names them again (`test:3`, a path); None for pictures that came as tensors."""
    resized: int | None = None
    """Side to which files were brought."""
    labels: tuple[str | None, ...] | None = None
    """Class of each, where it is known."""

    @property
    def captions(self) -> tuple[str, ...]:
        """Class, where it is known, and name of each in one line.

        >>> Images(torch.zeros(1, 3, 8, 8), ("a.png",), None, labels=("cat",)).captions
        ('cat  a.png',)
        """
        labels = self.labels or (None,) * len(self.names)
        return tuple(f"{label}  {name}" if label else name for label, name in zip(labels, self.names, strict=True))

    def take(self, which: Sequence[int]) -> "Images":
        """Return some of the images, by number.

        >>> Images(torch.zeros(3, 3, 8, 8), ("a", "b", "c"), None).take([2, 0]).names
        ('c', 'a')
        """
        words = None if self.words is None else tuple(self.words[i] for i in which)
        labels = None if self.labels is None else tuple(self.labels[i] for i in which)
        names = tuple(self.names[i] for i in which)
        return Images(self.images[list(which)], names, words, self.resized, labels)


def is_from_data(word: str) -> bool:
    """Tell whether a word names pictures of a data set, and not files.

    >>> is_from_data("test:0-15"), is_from_data("samples"), is_from_data("cat.png")
    (True, True, False)
    """
    return re.fullmatch(r"(test|train|val|samples)(:[\d,-]*)?|top:\d+", word) is not None


def are_samples(word: str) -> bool:
    """Tell whether a word names pictures that come with the package.

    >>> are_samples("samples"), are_samples("samples:0-3"), are_samples("test:0")
    (True, True, False)
    """
    return word.partition(":")[0] == "samples" and is_from_data(word)


def top_count(images: Any) -> int | None:
    """Return K where pictures are asked for as `top:K`, the K that drive each channel most.

    >>> top_count(["top:9"]), top_count("test:0")
    (9, None)
    """
    word = images[0] if isinstance(images, list | tuple) and len(images) == 1 else images
    match = re.fullmatch(r"top:([1-9]\d*)", word) if isinstance(word, str) else None
    return int(match[1]) if match else None


def indices(text: str, what: str = "--channels") -> list[int]:
    """Read `0,3-9`.

    >>> indices("0,3-5")
    [0, 3, 4, 5]
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise UsageError(f"{what} {text!r} is not a list like 0,3-9.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > 1_000_000:
            raise UsageError(f"{what} {text!r}: {part.strip()!r} counts backwards or too far.")
        found.extend(range(first, last + 1))
    return found


def from_split(split: Split, which: Sequence[int], word: str, classes: Sequence[str], size: int | None) -> Images:
    """Take pictures out of a split by number; each has its class and is called by its file.

    Raises:
        UsageError: the split has no such picture.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> data = shapes(train=10, test=10)
    >>> from_split(data.test, [2], "test", data.classes, None).words
    ('test:2',)
    """
    wrong = [i for i in which if not 0 <= i < len(split)]
    if wrong or not which:
        raise UsageError(f"'{word}' has the pictures 0 to {len(split) - 1}, not {wrong[0] if wrong else 'none'}.")
    index = torch.tensor(list(which))
    names, labels = tuple(split.names[i] for i in which), tuple(classes[int(split.labels[i])] for i in which)
    return Images(to_float(split.images[index], size), names, tuple(f"{word}:{i}" for i in which), size, labels)


def need_data(images: Any) -> bool:
    """Tell whether what is asked for, a word or some of them, are pictures of the network's own data.

    >>> need_data(["samples", "cat.png"]), need_data("test:0")
    (False, True)
    """
    asked = images if isinstance(images, list | tuple) else [images]
    words = [str(word) for word in asked if isinstance(word, str | Path)]
    return any(is_from_data(word) and not are_samples(word) for word in words)


def unasked(dataset: Dataset | None, seed: int, size: int | None) -> Images | None:
    """Return what is shown where no pictures are named: some of the data, else the samples; None if neither fits.

    >>> unasked(None, 0, 32).names == fallback(32).names
    True
    """
    return fallback(size) if dataset is None else drawn(dataset, seed, size)


def fallback(size: int | None) -> Images | None:
    """Return the sample pictures for a network whose data are not at hand; None where its size is not known.

    >>> fallback(32).images.shape[1:], fallback(None)
    (torch.Size([3, 32, 32]), None)
    """
    return None if size is None else from_words(("samples",), None, size)


def colored(images: Images, model: nn.Module) -> Images:
    """Return colour pictures as grey ones for a network that takes one channel.

    >>> colored(fallback(32), nn.Conv2d(1, 4, 3)).images.shape
    torch.Size([24, 1, 32, 32])
    """
    if images.images.shape[1] != 3 or example(model, 8).shape[1] != 1:
        return images
    return replace(images, images=images.images.mean(1, keepdim=True))


def drawn(dataset: Dataset, seed: int, size: int | None, count: int = DRAWN) -> Images:
    """Draw pictures of the test split by seed.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> len(drawn(shapes(train=10, test=40), 0, None).names)
    16
    """
    split, word = (dataset.test, "test") if len(dataset.test) else (dataset.train, "train")
    return from_split(split, sample(len(split), count, seed).tolist(), word, dataset.classes, size)


def from_words(words: Sequence[str], dataset: Dataset | None, size: int | None, window: Window | None = None) -> Images:
    """Take pictures by `test:0-15`, `train:3`, `samples`, a file's path or a folder's.

    `window` says what is black and white in files of more than 8 bits; without it, it is one range for all of them.

    Raises:
        DataError: a file is missing or cannot be read.
        UsageError: a split has no such picture.
    """
    parts: list[Images] = []
    files = [path for word in words if not is_from_data(word) for path in image_files(Path(word))]
    window = window or shared_window(files)
    for word in words:
        if are_samples(word):
            shown, classes = samples()
            which = word.partition(":")[2]
            chosen = indices(which, "--pictures") if which else range(len(shown))
            parts.append(from_split(shown, chosen, "samples", classes, size))
        elif word.startswith("top:") and is_from_data(word):
            raise UsageError(f"'{word}' stands alone, and for methods that start from one position, as deconvnet does.")
        elif is_from_data(word):
            if dataset is None:
                raise UsageError(f"'{word}' needs a data set: give --data, or name picture files.")
            name, _, which = word.partition(":")
            split = dataset.split(name)
            if split is None:
                raise UsageError(f"'{dataset.name}' has no {name} pictures: name test:0-15 or train:0-15.")
            chosen = indices(which, "--pictures") if which else range(len(split))
            parts.append(from_split(split, chosen, name, dataset.classes, size))
        else:
            parts.extend(from_file(path, size, window) for path in image_files(Path(word)))
    return joined(parts)


def image_files(path: Path) -> list[Path]:
    """Return a picture's path, or those of all pictures under a folder, sorted.

    Raises:
        DataError: no such file, or a folder without pictures.

    >>> image_files(Path(__file__).parent / "views")
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: ...holds no pictures. Name a file or a folder with some.
    """
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if not file.is_dir() and is_image_file(file.name))
        if not found:
            raise DataError(f"'{path}' holds no pictures. Name a file or a folder with some.")
        return found
    if not path.exists():
        raise DataError(f"no picture '{path}'. Name a file, a folder, test:0-15 or train:0-15.")
    return [path]


def shared_window(files: Sequence[Path]) -> Window | None:
    """Return what is black and white in those of several files that have more than 8 bits; None for one or none.

    >>> shared_window([Path("a.png")])
    """
    found: list[Depth] = []
    for path in files if len(files) > 1 else ():
        with suppress(Exception):  # what cannot be read is named when it is read
            with open_regular(path) as stream:
                if not may_be_deep(stream.read(26)):
                    continue
            depth = measured(read_file(path))[1]
            found += [depth] if depth is not None and not depth.color else []
    return window_of(found) if found else None


def from_file(path: Path, size: int | None, window: Window | None = None) -> Images:
    """Read one picture; with a size, its short side is brought to that and the centre is kept.

    Raises:
        DataError: it cannot be read.

    >>> from_file(Path("missing.png"), 32)
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: cannot read the picture 'missing.png': no such file or directory...
    """
    try:
        pixels = decode(read_file(path), size, window)
    except Exception as error:  # Pillow raises whatever it likes for what it cannot read
        raise DataError(f"cannot read the picture '{path}': {why_not(error)}. Leave it out or save it again.") from None
    images = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
    return Images(to_float(images), (path.name,), (str(path),), size)


def joined(parts: Sequence[Images]) -> Images:
    """Put pictures of one size together.

    Raises:
        DataError: their sizes differ.

    >>> one = Images(torch.zeros(1, 3, 8, 8), ("a",), None)
    >>> joined([one, one]).names
    ('a', 'a')
    """
    sizes = {tuple(part.images.shape[1:]) for part in parts}
    if len(sizes) != 1:
        shown = ", ".join("x".join(map(str, size[:0:-1])) for size in sorted(sizes))
        raise DataError(
            f"the pictures have several sizes ({shown or 'there are none'}): say which with --size, "
            "or look at one at a time."
        )
    known = all(part.words is not None for part in parts)
    words = tuple(word for part in parts for word in part.words or ()) if known else None
    names = tuple(name for part in parts for name in part.names)
    labels = tuple(label for part in parts for label in part.labels or (None,) * len(part.names))
    images = torch.cat([part.images for part in parts])
    return Images(images, names, words, parts[0].resized, labels if any(labels) else None)


def from_anything(value: Any, dataset: Dataset | None, size: int | None, window: Window | None = None) -> Images:
    """Take a path, a word, a PIL image, an array `[h, w, 3]` or `[b, h, w, 3]`, a tensor `[c, h, w]` or `[b, c, h, w]`.

    Whole numbers are 0 to 255 (and not uint16), floats in [0, 1]. Files and PIL images are brought to `size`, arrays
    and tensors never.

    Raises:
        DataError: pictures that are none.

    >>> from_anything(np.zeros((5, 4, 3), np.uint8), None, 32).images.shape
    torch.Size([1, 3, 5, 4])
    """
    if isinstance(value, Images):
        return value
    if isinstance(value, str | Path):
        return from_words([str(value)], dataset, size, window)
    if isinstance(value, Image.Image):
        upright = to_rgb(value, window)
        value, names = np.asarray(upright if size is None else square(upright, size)), ("picture",)
        return Images(_plain(_from_array(value)), names, None, size)
    if isinstance(value, np.ndarray):
        value = _from_array(value)
    if isinstance(value, Tensor):
        batch = value[None] if value.ndim == 3 else value
        images = _plain(batch)
        check_images(images)
        return Images(images, tuple(f"picture {i}" for i in range(len(images))), None)
    if isinstance(value, Sequence) and value:
        if all(isinstance(part, str | Path) for part in value):
            return from_words([str(part) for part in value], dataset, size, window)
        return joined([from_anything(part, dataset, size, window) for part in value])
    raise DataError(f"pictures come as paths, PIL images, arrays or tensors, not as {type(value).__name__}.")


def _from_array(array: "np.ndarray[Any, Any]") -> Tensor:
    batch = array[None] if array.ndim == 3 else array
    if batch.ndim != 4 or batch.shape[3] not in (1, 3):
        raise DataError(
            f"an array of pictures is [h, w, 3] or [b, h, w, 3], not {list(array.shape)}; "
            "channels first go in as a tensor."
        )
    return torch.from_numpy(np.array(batch)).permute(0, 3, 1, 2)


def _plain(images: Tensor) -> Tensor:
    """Return whole numbers from 0 to 255 as floats in [0, 1]; of others it cannot be known what is white."""
    if images.is_floating_point():
        return images
    kind, wide = str(images.dtype).removeprefix("torch."), images.to(torch.int64)
    low, high = (int(wide.min()), int(wide.max())) if wide.numel() else (0, 0)
    if images.dtype == torch.uint16 or low < 0 or high > WHITE:
        raise DataError(
            f"the pictures are {kind} from {low} to {high}, where whole numbers are 0 to {WHITE}: give floats in "
            "[0, 1], divided by the value that is white (65535 for 16 bits, 4095 for 12)."
        )
    return to_float(wide)
