"""The official CIFAR-10 and CIFAR-100 python archives, packed or unpacked; streamed by name, never extracted.

Each batch is a pickle with rows of 3,072 bytes: the red plane of 32×32, the green, the blue.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchloupe.data.formats.archive import is_tar, refusing_damage, tar_members
from torchloupe.data.formats.parts import Options, Pictures, plural
from torchloupe.data.formats.unpickle import unpickle
from torchloupe.errors import DataError
from torchloupe.runtime.files import read_file

SIDE = 32
MAX_BYTES = 400 << 20
"""The largest member, CIFAR-100's `train`, has 155 MB."""


@dataclass(frozen=True)
class Layout:
    """Which files an official data set consists of, and what they call things."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    classes: str

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.meta)


LAYOUTS = (
    Layout(
        name="cifar10",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        meta="batches.meta",
        labels="labels",
        classes="label_names",
    ),
    Layout(
        name="cifar100",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        meta="meta",
        labels="fine_labels",
        classes="fine_label_names",
    ),
)


def is_official(path: Path) -> bool:
    """Say whether a path is an official archive, its unpacked folder, or a folder around that.

    >>> is_official(Path("no such archive"))
    False
    """
    return bool(_folders(path)) if path.is_dir() else _layout_of_tar(path) is not None


def name_of(path: Path) -> str:
    """Return the name of the official set that a path holds."""
    layout = _folders(path)[0][0] if path.is_dir() else _layout_of_tar(path)
    assert layout is not None, "asked only where `is_official`"
    return layout.name


def read(path: Path, options: Options) -> Pictures:
    """Read an official archive or its unpacked folder.

    Raises:
        DataError: it is damaged, or is not what the official archives hold.
    """
    if path.is_dir():
        layout, files = _read_folder(path)
    else:
        layout, files = _read_tar(path)
    missing = [file for file in layout.files if file not in files]
    if missing:
        raise DataError(f"'{path}' lacks {', '.join(repr(file) for file in missing)}. Fetch the archive again.")
    classes = _class_names(files.pop(layout.meta), layout, path)
    batches = []
    for done, file in enumerate((*layout.train, layout.test), 1):
        split = "test" if file == layout.test else "train"
        batches.append(_batch(unpickle(files.pop(file), file), layout, f"{path}: {file}", split, len(classes)))
        if options.progress is not None:
            options.progress(done, len(layout.train) + 1)
    return Pictures(
        name=layout.name,
        images=torch.from_numpy(np.concatenate([rows for rows, _, _ in batches])),
        labels=torch.tensor([label for _, labels, _ in batches for label in labels], dtype=torch.int64),
        names=tuple(name for _, _, names in batches for name in names),
        train=sum(len(rows) for rows, _, _ in batches[:-1]),
        classes=classes,
    )


def _class_names(data: bytes, layout: Layout, path: Path) -> tuple[str, ...]:
    names = unpickle(data, f"{path}: {layout.meta}").get(layout.classes)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"'{path}: {layout.meta}' has no list '{layout.classes}'. Fetch the archive again.")
    return tuple(names)


def _batch(
    batch: dict[str, Any], layout: Layout, what: str, split: str, classes: int
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], list[int], list[str]]:
    """Check one batch, and return its pictures [n, 3, 32, 32], labels and file names."""
    rows, labels, names = batch.get("data"), batch.get(layout.labels), batch.get("filenames")
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 3 * SIDE * SIDE:
        raise DataError(f"'{what}' has no rows of {3 * SIDE * SIDE:,} bytes. Fetch the archive again.")
    if not isinstance(labels, list) or len(labels) != len(rows):
        raise DataError(f"'{what}' has not one label for each of {plural(len(rows), 'picture')}. Fetch it again.")
    if not all(isinstance(label, int) and 0 <= label < classes for label in labels):
        raise DataError(f"'{what}' has labels outside its {plural(classes, 'class')}. Fetch the archive again.")
    if not isinstance(names, list) or len(names) != len(rows):
        names = [f"{number:05}.png" for number in range(len(rows))]
    return rows.reshape(-1, 3, SIDE, SIDE), labels, [f"{split}/{name}" for name in names]


def _folders(path: Path) -> list[tuple[Layout, Path]]:
    """Return the unpacked data sets at a folder or right below it."""
    places = [(layout, place) for layout in LAYOUTS for place in (path, path / layout.folder)]
    return [(layout, place) for layout, place in places if all((place / file).is_file() for file in layout.files)]


def _read_folder(path: Path) -> tuple[Layout, dict[str, bytes]]:
    found = _folders(path)
    if len(found) > 1:
        names = " and ".join(f"'{place}'" for _, place in found)
        raise DataError(f"'{path}' holds more than one data set: {names}. Name one of them.")
    layout, place = found[0]
    return layout, {file: read_file(place / file) for file in layout.files}


def _layout_of_tar(path: Path) -> Layout | None:
    """Know an official archive by the folder of its first file; reading further would unpack it all."""
    if not is_tar(path):
        return None
    with refusing_damage(path):
        first = next((info.name for _, info, _ in tar_members(path) if info.isreg()), "")
    folder = first.removeprefix("./").rpartition("/")[0]
    return next((layout for layout in LAYOUTS if layout.folder == folder), None)


def _file_of(member: str, layout: Layout) -> str | None:
    folder, _, file = member.removeprefix("./").rpartition("/")
    return file if folder == layout.folder and file in layout.files else None


def _read_tar(path: Path) -> tuple[Layout, dict[str, bytes]]:
    layout = _layout_of_tar(path)
    assert layout is not None, "asked for only after is_official"
    with refusing_damage(path):
        return layout, dict(_tar_files(path, layout))


def _tar_files(path: Path, layout: Layout) -> Iterator[tuple[str, bytes]]:
    for _, info, archive in tar_members(path):
        file = _file_of(info.name, layout) if info.isreg() else None
        if file is None:
            continue
        if info.size > MAX_BYTES:
            raise DataError(f"'{file}' in '{path}' is larger than {MAX_BYTES >> 20} MB. Fetch the archive again.")
        stream = archive.extractfile(info)
        yield file, stream.read() if stream is not None else b""
