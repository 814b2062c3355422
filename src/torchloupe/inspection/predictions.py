"""What a network says of pictures, however many: files stream through in batches, and only one batch is held."""

from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.formats.parts import Window
from torchloupe.data.formats.stream import Decoded, decoded, silent_pillow
from torchloupe.data.samples import samples
from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, ModelError, UsageError, short
from torchloupe.evaluation.probabilities import Passes, at_a_time, likeliest
from torchloupe.features.trace import placed
from torchloupe.inspection.inputs import (
    Images,
    are_samples,
    colored,
    from_anything,
    from_split,
    image_files,
    indices,
    is_from_data,
    shared_window,
)
from torchloupe.inspection.subject import Subject, subject
from torchloupe.models.forward import called
from torchloupe.models.network import Network, modes_kept
from torchloupe.models.outputs import TWO, logits
from torchloupe.runtime.console import Console
from torchloupe.runtime.files import LONGEST_PATH
from torchloupe.runtime.progress import Progress

BATCH = 500
"""Images at a time, of up to 64 x 64; of larger ones as many pixels."""
UNKNOWN = 8
"""Files that are decoded ahead at their own size, which may be large."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network says of some images."""

    probabilities: Float[Tensor, "b k"]
    """Of each class: they add up to 1, those of a multi-label network are each by itself."""
    classes: tuple[str, ...]
    """Names of the k classes."""
    top: list[list[tuple[str, float]]]
    """The likeliest classes of each image with their probabilities, the likeliest first."""
    files: tuple[str, ...]
    """Path of each image, or what else names it."""
    bad: dict[str, str] = field(default_factory=dict)
    """Files that could not be read, and why; of these there are no rows."""

    def __repr__(self) -> str:
        first = [f"{row[0][0]} {row[0][1]:.1%}" for row in self.top[:3]]
        more = ", …" if len(self.top) > len(first) else ""
        return f"Predictions(b={len(self.top)}, k={len(self.classes)}: {', '.join(first)}{more})"


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images that follow one another, and what a network says of them."""

    files: list[str]
    """Of all, unreadable ones too, in order."""
    errors: dict[str, str]
    """File -> why it could not be read."""
    images: Float[Tensor, "b c h w"]
    """The others, as the network gets them before its normalisation."""
    probabilities: Float64[Tensor, "b k"]
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some images of a split, by number; `word` names it."""

    split: Split
    which: list[int]
    word: str
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """Which images are asked for, before any is read."""

    parts: list[list[Path] | Chosen | Images]
    """Files, images of a data set, images that are there already; in order."""

    @property
    def names(self) -> list[str]:
        """What each is called."""
        return [name for part in self.parts for name in _names(part)]


def _names(part: list[Path] | Chosen | Images) -> list[str]:
    if isinstance(part, Chosen):
        return [f"{part.word}:{i}" for i in part.which]
    return list(part.names) if isinstance(part, Images) else [str(path) for path in part]


def predict(
    model: "Subject | nn.Module | str | Path",
    images: Any,
    *,
    top: int = 5,
    data: "Dataset | str | Path | None" = None,
    batch: int = BATCH,
    amp: str = "off",
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Return the probability of every class of images, and the `top` likeliest of each.

    `model` is a network or MODEL. `images` are paths, folders (with all below), `test:0-15` (of `data`, else of the
    network's own), `samples`, PIL images, arrays `[h, w, 3]` or `[b, h, w, 3]` or tensors `[c, h, w]` or `[b, c, h, w]`
    in [0, 1], or a list of these. Files are brought to the network's size and read a batch at a time, so that any
    number of them goes; arrays and tensors are taken as they are. `batch` is how many go through the network at once.
    `amp`: `auto` computes in bfloat16 where the device has it, `on` always.

    Raises:
        DataError: no such image, or one that cannot be read, unless `skip_bad`.
        UsageError: `test:0-15` without data.
        ModelError: what the network gives is NaN, or no logits.

    >>> from torchloupe import load
    >>> found = predict(load("resnet20", classes=["cat", "dog"]), torch.rand(3, 3, 32, 32), top=1)
    >>> found.probabilities.shape, [len(row) for row in found.top]
    (torch.Size([3, 2]), [1, 1, 1])
    """
    studied = subject(model, data)
    words = [images] if isinstance(images, str | Path) else images
    if isinstance(words, list | tuple) and words and all(isinstance(word, str | Path) for word in words):
        asked = plan(studied, words)
    else:
        asked = Plan([from_anything(images, None, studied.size, studied.window)])
    with nullcontext(progress) if progress is not None else Console().progress("predicting") as tick:
        return _collected(answered(studied, asked, batch=batch, amp=amp, progress=tick), top, skip_bad)


def _collected(answers: Generator[Batch, None, None], top: int, skip_bad: bool) -> Predictions:
    found = []
    with silent_pillow(), closing(answers) as batches:
        for each in batches:
            if each.errors and not skip_bad:
                raise unreadable(*next(iter(each.errors.items())))
            found.append(replace(each, images=each.images[:0]))
    if not any(len(each.probabilities) for each in found):
        raise DataError("there is nothing to say: none of the pictures can be read, or there are none.")
    probabilities = torch.cat([each.probabilities for each in found if len(each.probabilities)])
    classes = next(each.classes for each in found if each.classes)
    errors = {name: why for each in found for name, why in each.errors.items()}
    files = tuple(name for each in found for name in each.files if name not in each.errors)
    return Predictions(probabilities.float(), classes, likeliest(probabilities, classes, top), files, errors)


def unreadable(file: str, error: str) -> DataError:
    """Return the error that says which picture cannot be read, why, and what to do.

    >>> str(unreadable("a.png", "the file is empty"))
    "cannot read the picture 'a.png': the file is empty. Save it again, or pass over such files: --skip-bad ..."
    """
    advice = "Save it again, or pass over such files: --skip-bad (skip_bad=True)."
    return DataError(f"cannot read the picture {short(file, LONGEST_PATH)}: {error}. {advice}")


def as_path(word: str | Path) -> str | Path:
    """Return what names files as a path, and what names pictures of a data set as it is.

    A `Path` is a path, and so is `test` where there is something of that name; `test:0-15` never.

    >>> as_path("test:0"), str(as_path("cat.png"))
    ('test:0', 'cat.png')
    >>> isinstance(as_path("cat.png"), Path)
    True
    """
    if isinstance(word, Path) or not is_from_data(word):
        return Path(word)
    return Path(word) if ":" not in word and Path(word).exists() else word


def plan(studied: Subject, words: Sequence[str | Path]) -> Plan:
    """Find out which images words mean: `test:0-15`, `samples`, files, folders with all below (see `as_path`).

    Raises:
        DataError: a folder without pictures.
        UsageError: a split without such a picture, or no data to take it from.

    >>> plan(Subject(nn.ReLU()), ["samples:0-1", Path("a.png"), "b.png"]).names
    ['samples:0', 'samples:1', 'a.png', 'b.png']
    """
    parts: list[list[Path] | Chosen | Images] = []
    for word in map(as_path, words):
        if isinstance(word, str):
            parts.append(_chosen(studied, word))
            continue
        files = image_files(word) if word.is_dir() else [word]
        if parts and isinstance(parts[-1], list):
            parts[-1] += files
        else:
            parts.append(files)
    return Plan(parts)


def _chosen(studied: Subject, word: str) -> Chosen:
    name, _, which = word.partition(":")
    split: Split | None = None
    classes: tuple[str, ...] = ()
    if are_samples(word):
        split, classes = samples()
    elif name != "top" and (known := studied.dataset()) is not None:
        split, classes = known.split(name), known.classes
    if split is None:
        raise UsageError(f"there are no pictures '{word}': give --data (data=), or name picture files.")
    chosen = Chosen(split, indices(which, "PICTURES") if which else list(range(len(split))), name, classes)
    if chosen.which:
        from_split(split, [max(chosen.which)], name, classes, None)  # one that is not there is told at once
    return chosen


def answered(
    studied: Subject, asked: Plan, *, batch: int = BATCH, amp: str = "off", progress: Progress | None = None
) -> Generator[Batch, None, None]:
    """Yield what the network says of each image, in order, a batch at a time; unreadable files stand among them.

    Files are decoded in threads, one batch ahead of the network: memory is that of a few batches, however many files
    there are. Where it runs out, fewer go through the network at once from then on.

    Raises:
        ModelError: what the network gives is NaN, or no logits.
        ResourceError: there is too little memory for a single image.

    >>> from torchloupe import load
    >>> studied = Subject(load("resnet20", classes=["cat", "dog"]))
    >>> sum(len(each.files) for each in answered(studied, plan(studied, ["samples:0-4"])))
    5
    """
    total, done = sum(len(_names(part)) for part in asked.parts), 0
    passes: Passes | None = None
    with closing(_groups(studied, asked, batch)) as groups:
        for files, errors, pixels in groups:
            if passes is None and pixels is not None:
                passes = Passes(_named(studied.model, pixels), batch, amp)
            yield _batch(passes, files, errors, pixels)
            done += len(files)
            if progress is not None:
                progress(done, total)


Group = tuple[list[str], dict[str, str], Tensor | None]
"""Names of images that follow one another, why some cannot be read, and the others: bytes, or floats in [0, 1]."""


def _groups(studied: Subject, asked: Plan, batch: int) -> Generator[Group, None, None]:
    window = studied.window or shared_window([path for part in asked.parts if isinstance(part, list) for path in part])
    for part in asked.parts:
        if isinstance(part, list):
            yield from _of_files(part, studied.size, window, batch)
        elif isinstance(part, Chosen):
            step = at_a_time(batch, studied.size or max(part.split.images.shape[2:]))
            for start in range(0, len(part.which), step):
                which = part.which[start : start + step]
                taken = from_split(part.split, which, part.word, part.classes, studied.size)
                yield list(taken.words or taken.names), {}, taken.images
        else:
            step = at_a_time(batch, max(part.images.shape[2:]))
            for start in range(0, len(part.names), step):
                yield list(part.names[start : start + step]), {}, part.images[start : start + step]


def _of_files(files: list[Path], side: int | None, window: Window | None, batch: int) -> Generator[Group, None, None]:
    """Decode files and put neighbours of one size together."""
    ahead = UNKNOWN if side is None else at_a_time(batch, side)
    waiting: list[Decoded] = []
    shape: tuple[int, ...] | None = None
    most = batch
    with closing(decoded(files, side, window, ahead=ahead)) as stream:
        for one in stream:
            here = None if one.pixels is None else one.pixels.shape
            if waiting and (len(waiting) >= most or (here is not None and shape not in (None, here))):
                group, waiting, shape, most = _group(waiting), [], None, batch
                yield group
                del group
            if here is not None:
                shape, most = here, at_a_time(batch, max(here[:2]))
            waiting.append(one)
            del one
    if waiting:
        yield _group(waiting)


def _group(found: list[Decoded]) -> Group:
    errors = {str(one.path): one.error for one in found if one.pixels is None}
    pixels = [one.pixels for one in found if one.pixels is not None]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) if pixels else None
    return [str(one.path) for one in found], errors, images


def _batch(passes: Passes | None, files: list[str], errors: dict[str, str], pixels: Tensor | None) -> Batch:
    if passes is None or pixels is None:
        classes = passes.network.classes if passes else ()
        return Batch(files, errors, torch.zeros(0, 3, 1, 1), torch.zeros(0, len(classes)).double(), classes)
    network = passes.network
    images = _as_taken(network, pixels)
    with modes_kept(network):
        network.eval()
        probabilities = passes.probabilities(images)
    broken = probabilities.isnan().any(1).tolist()
    if any(broken):
        name = [name for name in files if name not in errors][broken.index(True)]
        raise ModelError(
            f"the network gives no numbers (NaN) for {short(name, LONGEST_PATH)}: its weights hold NaN, or its values "
            "grow beyond all bounds. Take a checkpoint from before that, RUN@EPOCH."
        )
    return Batch(files, errors, images, probabilities, network.classes)


def _as_taken(network: nn.Module, pixels: Tensor) -> Float[Tensor, "b c h w"]:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    images = pixels.to(device)
    floats = images if images.is_floating_point() else to_float(images)
    return colored(Images(floats, (), None), network).images


def _named(model: nn.Module, pixels: Tensor) -> Network:
    """Return a network as it is, and a bare one, which takes [0, 1], with its classes by number."""
    if isinstance(model, Network):
        return model
    with modes_kept(model), torch.no_grad():
        given = logits(called(model.eval(), placed(model, _as_taken(model, pixels[:1]))))
    return Network(model, None, None, None, tuple(map(str, range(max(TWO, given.shape[1])))))
