"""From a word or a path to a data set: which reader fits is seen by looking at what is there."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torchloupe.data import cache
from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.fingerprint import fingerprint
from torchloupe.data.formats import archive, cifar
from torchloupe.data.formats.class_names import read_class_names, shown
from torchloupe.data.formats.labels import read_labels
from torchloupe.data.formats.parts import Options, Pictures, listed
from torchloupe.data.statistics import mean_std
from torchloupe.errors import DataError, UsageError, did_you_mean
from torchloupe.runtime.files import check_regular
from torchloupe.runtime.progress import Progress

WORDS = ("auto", "cifar10", "cifar100", "shapes")


def _late(name: str) -> Callable[..., Any]:
    """Name a function of `torchloupe.data.formats.folder`, which loads Pillow; what is in the cache needs none."""

    def call(*arguments: Any) -> Any:
        from torchloupe.data.formats import folder

        return getattr(folder, name)(*arguments)

    return call


@dataclass(frozen=True)
class Reader:
    """One layout that pictures come in."""

    name: str
    recognizes: Callable[[Path], bool]
    read: Callable[[Path, Options], Pictures]
    labels: bool = True
    """A file of labels may tell the classes."""


READERS: tuple[Reader, ...] = (
    Reader("official CIFAR archive", cifar.is_official, cifar.read, labels=False),
    Reader("folder of pictures by class", _late("is_folder"), _late("read_folder")),
    Reader("zip of pictures by class", archive.is_zip, _late("read_zip")),
    Reader("tar of pictures by class", archive.is_tar, _late("read_tar")),
)
"""Asked in this order; the first that recognises a path reads it."""


def _silent(*_: object) -> None:
    """Say nothing, show nothing."""


def load(
    D: str | Path,
    size: int | None = None,
    *,
    skip_bad: bool = False,
    window: tuple[float, float] | None = None,
    labels: str | Path | None = None,
    class_names: str | Path | None = None,
    seed: int = 0,
    offline: bool = False,
    cache: bool = True,
    say: Callable[[str], None] = _silent,
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set: pictures as uint8 [n, 3, h, w], labels, names, classes, mean and std of train.

    `D` is `cifar10`, `cifar100`, `shapes`, `auto`, or a path: an official archive, or a folder, zip
    or tar of pictures by class. Pictures that share one size up to 256 are stored as they are, others
    as squares of `size` (else 64) pixels; where the stored size is not `size`, `Dataset.size` says to
    what each batch is to be resized. `window` says which values are black and white in pictures of one channel with
    more than 8 bits (below is black, above is white); without it that is what the files say, else the bits that hold
    the largest value of all. `seed` splits one tree of class folders, and draws `shapes`.

    `labels` is a CSV or JSON of which file is of which class (`formats.labels`), of pictures that lie anywhere in `D`;
    one folder of pictures that holds a `labels.csv` or `labels.json` needs no word of it. Where pictures have several
    classes, the labels of each split are a table `[n, classes]`. `class_names` is a CSV, JSON or text of what folders'
    names, such as WordNet's `n01440764`, are to be shown as.

    `progress` gets (done, total): bytes while downloading, pictures while decoding; `say` gets sentences for the user.

    Raises:
        DataError: nothing there, nothing that fits, a class in test only, pictures that can't be read, labels that do
            not fit.
        ResourceError: the pictures would not fit into memory.
        UsageError: a size that is no side of a picture, a window whose ends are not in order, or labels for
            data that have their own.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as pets:
    ...     for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
    ...         (Path(pets) / name).parent.mkdir(exist_ok=True)
    ...         Image.new("RGB", (12, 8), "white").save(Path(pets) / name)
    ...     data = load(pets, cache=False)
    >>> data.classes, data.train.images.shape, data.mean
    (('cat', 'dog'), torch.Size([2, 3, 8, 12]), (1.0, 1.0, 1.0))
    """
    if size is not None and size < 1:
        raise UsageError(f"pictures can't have the size {size}: give a side in pixels, such as `--size 32`.")
    if window is not None and not (math.isfinite(window[1] - window[0]) and window[0] < window[1]):
        raise UsageError(f"--window {window[0]:g} {window[1]:g} is no range: give LOW and HIGH, LOW below HIGH.")
    place = _find(str(D), offline, say, progress or _silent)
    if place is None:
        from torchloupe.data.drawn.shapes import shapes

        if labels is not None or class_names is not None:
            raise UsageError("shapes know their classes: leave --labels and --class-names out.")
        return shapes(seed=seed, size=size or 32)
    shown_as = None if class_names is None else read_class_names(class_names)
    told = None if labels is None else read_labels(labels)
    options = Options(size, seed, skip_bad, progress, window, told)
    images, statistics = _cached(place, options, say) if cache else _read(place, options)
    dataset = _dataset(images, statistics, size, str(D) if str(D) in ("cifar10", "cifar100") else str(place))
    dataset = replace(dataset, labels_file=None if labels is None else str(labels))
    if shown_as is None:
        return dataset
    classes, notes = shown(dataset.classes, shown_as, str(class_names))
    return replace(dataset, classes=classes, notes=dataset.notes + notes, class_names_file=str(class_names))


def find(
    D: str | Path,
    *,
    offline: bool = False,
    say: Callable[[str], None] = _silent,
    progress: Progress | None = None,
) -> tuple[str, str]:
    """Return the name of a data set, and the word to load it by; downloads what is missing, decodes nothing.

    Raises:
        DataError: there is nothing.

    >>> find("shapes")
    ('shapes', 'shapes')
    """
    word = str(D)
    place = _find(word, offline, say, progress or _silent)
    if place is None:
        return "shapes", "shapes"
    name: str = cifar.name_of(place) if cifar.is_official(place) else _late("stem")(place)
    return name, word if word in WORDS and word != "auto" else str(place)


def _find(word: str, offline: bool, say: Callable[[str], None], progress: Progress) -> Path | None:
    """Turn a word or a path into the path of what is to be read; None stands for `shapes`."""
    if word == "shapes":
        return None
    if word in WORDS:
        from torchloupe.data.auto import find

        found = find(word, offline=offline, say=say, progress=progress)
        return None if isinstance(found, str) else only_archive(found)
    path = Path(word).expanduser()
    if not path.exists():
        hint = did_you_mean(word, list(WORDS)) or "."
        words = ", ".join(WORDS)
        raise DataError(f"no data set '{word}': there is no such path{hint} Give a path, or one of {words}.")
    if not path.is_dir():
        try:
            check_regular(path.stat(), path)
        except OSError as error:
            why = str(error.strerror).lower()
            raise DataError(f"cannot read '{path}': {why}. Give a folder, a zip or a tar of pictures.") from None
    return only_archive(path)


def only_archive(path: Path) -> Path:
    """Return the one archive that a folder holds, when it holds no pictures of its own; else the path itself.

    Raises:
        DataError: it holds several archives.

    >>> only_archive(Path(__file__)).name
    'readers.py'
    """
    if not path.is_dir() or any(reader.recognizes(path) for reader in READERS):
        return path
    packed = [file for file in sorted(path.iterdir()) if _may_be_archive(file)]
    if len(packed) > 1:
        names = listed([f"'{file}'" for file in packed], 5)
        raise DataError(f"'{path}' holds {len(packed)} archives: {names}. Name the one you mean.")
    return packed[0] if packed else path


def _may_be_archive(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.name.lower().endswith(archive.SUFFIXES)


def _cached(place: Path, options: Options, say: Callable[[str], None]) -> tuple[Pictures, cache.Statistics]:
    where = cache.Place(place, fingerprint(place), options.labels.mark if options.labels else "")
    found = cache.lookup(where, options, say)
    if found is not None:
        return found
    images, statistics = _read(place, options)
    if fingerprint(place) == where.fingerprint:  # else it changed while it was read
        cache.keep(where, images, statistics, say)
    return images, statistics


def _read(place: Path, options: Options) -> tuple[Pictures, cache.Statistics]:
    for reader in READERS:
        if reader.recognizes(place):
            if options.labels and not reader.labels:
                raise UsageError(f"'{place}' is an {reader.name}, which has its own labels: leave --labels out.")
            images = reader.read(place, options)
            return images, mean_std(images.images[: images.train])
    kinds = listed([reader.name for reader in READERS])
    damaged = " (it may be cut short: fetch it again)" if _may_be_archive(place) else ""
    raise DataError(f"cannot read '{place}'{damaged}: it is none of these: {kinds}. See `torchloupe data --help`.")


def _dataset(images: Pictures, statistics: cache.Statistics, size: int | None, source: str) -> Dataset:
    cut, end = images.train, len(images.labels) - images.val
    own = tuple(images.images.shape[2:])
    return Dataset(
        name=images.name,
        train=Split(images.images[:cut], images.labels[:cut], images.names[:cut]),
        test=Split(images.images[cut:end], images.labels[cut:end], images.names[cut:end]),
        val=Split(images.images[end:], images.labels[end:], images.names[end:]) if images.val else None,
        classes=images.classes,
        mean=statistics[0],
        std=statistics[1],
        source=source,
        size=None if size is None or own == (size, size) else size,
        notes=images.notes,
        window=images.window,
    )
