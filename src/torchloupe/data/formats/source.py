"""Folders, zips and tars as one thing: a list of file names, and a way to read some of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

MAX_BYTES = 256 << 20
"""A larger file is refused unread: no picture needs it, and a small archive can hold terabytes of zeros."""

Read = Callable[[], bytes]


@dataclass(frozen=True)
class Source:
    """Files by name, and `read`: from indices to (index, what reads its bytes), in the source's own order."""

    names: tuple[str, ...]
    read: Callable[[Sequence[int]], Iterator[tuple[int, Read]]]


def walk(folder: str, below: str = "", above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[tuple[str, str]]:
    """Yield (name relative to the folder, path) of each visible file; links are followed, loops are not.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "cat").mkdir(), (Path(folder) / "cat" / "1.png").touch()
    ...     [name for name, path in walk(folder)]
    ['cat/1.png']
    """
    here = os.stat(folder)  # noqa: PTH116 (a Path per file costs seconds on large folders)
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        return
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            yield from walk(entry.path, f"{below}{entry.name}/", above | {identity})
        else:
            yield below + entry.name, entry.path


def clean(name: str) -> str:
    """Make a file name printable whatever bytes it was made of.

    >>> clean("caf\\udce9.png")
    'caf\\\\udce9.png'
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def folder_source(path: Path) -> Iterator[Source]:
    """Open a folder.

    >>> with folder_source(Path(__file__).parent) as source:
    ...     any(name.endswith(".py") for name in source.names)
    True
    """
    found = list(walk(str(path)))

    def read(wanted: Sequence[int]) -> Iterator[tuple[int, Read]]:
        return ((index, partial(_read_file, found[index][1])) for index in wanted)

    yield Source(tuple(clean(name) for name, _ in found), read)


def _read_file(path: str) -> bytes:
    with open(path, "rb") as stream:  # noqa: PTH123
        data = stream.read(MAX_BYTES + 1)
    check_size(len(data))
    return data


def check_size(number: int) -> None:
    """Refuse a file of more than `MAX_BYTES` bytes with a ValueError."""
    if number > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MB")
