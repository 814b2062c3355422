"""Folders, zips and tars as one thing: a list of file names, and a way to read some of them."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torchloupe.data.formats.tree import DEEP, DEEPEST, MOST_LINKED, too_many
from torchloupe.errors import DataError
from torchloupe.runtime.files import open_regular

MAX_BYTES = 256 << 20
"""A larger file is refused unread: no picture needs it, and a small archive can hold terabytes of zeros."""

Read = Callable[[], bytes]


@dataclass(frozen=True)
class Source:
    """Files by name, and `read`: from indices to (index, what reads its bytes), in the source's own order."""

    names: tuple[str, ...]
    read: Callable[[Sequence[int]], Iterator[tuple[int, Read]]]
    lost: tuple[tuple[str, str], ...] = ()
    """(name, why) of what cannot be read and may be a folder; of a file, `read` says why."""


Lost = list[tuple[str, str]]


def walk(folder: str, lost: Lost | None = None) -> Iterator[tuple[str, str]]:
    """Yield (name relative to the folder, path) of each visible file; links are followed, loops are not.

    To `lost` goes what cannot be followed, broken links and folders without the right to read them; broken links are
    yielded as well.

    Raises:
        DataError: links of folders multiply beyond `MOST_LINKED`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "cat").mkdir(), (Path(folder) / "cat" / "1.png").touch()
    ...     [name for name, path in walk(folder)]
    ['cat/1.png']
    """
    return _Walk([] if lost is None else lost).below(folder, "", frozenset(), through=False)


@dataclass
class _Walk:
    """One walk through a folder."""

    lost: Lost
    linked: int = 0

    def below(
        self, folder: str, shown: str, above: frozenset[tuple[int, int]], *, through: bool
    ) -> Iterator[tuple[str, str]]:
        try:
            here = os.stat(folder)  # noqa: PTH116 (a Path per file costs seconds on large folders)
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not shown:
                raise DataError(
                    f"cannot read '{folder}': {str(error.strerror).lower()}. Check the folder and its rights."
                ) from error
            self.lost.append((shown.rstrip("/"), str(error.strerror).lower()))
            return
        identity = (here.st_dev, here.st_ino)
        if identity in above:
            return
        for entry in ordered:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            self.linked += through
            if self.linked > MOST_LINKED:
                raise DataError(too_many(MOST_LINKED))
            if _is_folder(entry):
                if len(above) >= DEEPEST:
                    self.lost.append((shown + entry.name, DEEP.why))
                    continue
                by_link = through or entry.is_symlink()
                yield from self.below(entry.path, f"{shown}{entry.name}/", above | {identity}, through=by_link)
                continue
            if entry.is_symlink() and (why := broken(entry.path)):
                self.lost.append((shown + entry.name, why))
            yield shown + entry.name, entry.path


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def broken(path: str) -> str:
    """Say why a link leads nowhere; "" if it leads somewhere.

    >>> broken(__file__)
    ''
    """
    try:
        os.stat(path)  # noqa: PTH116 (a Path per file costs seconds on large folders)
    except FileNotFoundError:
        return "a link to nothing"
    except OSError as error:
        return "a link that leads back to itself" if error.errno == errno.ELOOP else str(error.strerror).lower()
    return ""


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
    lost: Lost = []
    found = list(walk(str(path), lost))

    def read(wanted: Sequence[int]) -> Iterator[tuple[int, Read]]:
        return ((index, partial(read_bounded, found[index][1])) for index in wanted)

    yield Source(tuple(clean(name) for name, _ in found), read, tuple((clean(name), why) for name, why in lost))


def read_bounded(path: str) -> bytes:
    """Read a picture's file, unless it is too large for one.

    Raises:
        ValueError: it is larger than `MAX_BYTES`, missing, or no file; it says which.

    >>> read_bounded(os.devnull)
    Traceback (most recent call last):
    ...
    ValueError: a device, not a file
    """
    try:
        with open_regular(path) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        why = broken(path) if os.path.islink(path) else ""  # noqa: PTH114 (a Path per file costs seconds on large folders)
        raise ValueError(why or str(error.strerror or error).lower()) from error
    check_size(len(data))
    return data


def check_size(number: int) -> None:
    """Refuse a file of more than `MAX_BYTES` bytes with a ValueError."""
    if number > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MB")
