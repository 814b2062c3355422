"""Zips and tars as a `Source` of files.

Nothing is ever extracted: members are streamed into memory by name. Links, hard and symbolic, are resolved among
the members (`tree`); `..`, absolute paths and links that leave the archive lead nowhere, and are named.
"""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Self

from torchloupe.data.formats.source import MAX_BYTES, Read, Source, check_size, clean
from torchloupe.data.formats.tree import LONGEST, OUTSIDE, File, Link, Lost, Node, Tree
from torchloupe.errors import DataError

SUFFIXES = (".zip", ".tar", ".tgz", ".txz", ".tbz2", ".tar.gz", ".tar.xz", ".tar.bz2")


def is_zip(path: Path) -> bool:
    """Say whether a file is a zip, by looking into it.

    >>> is_zip(Path("no such file"))
    False
    """
    return path.is_file() and zipfile.is_zipfile(path)


def is_tar(path: Path) -> bool:
    """Say whether a file is a tar, packed or not, by looking into it.

    >>> is_tar(Path("no such file"))
    False
    """
    try:
        return path.is_file() and tarfile.is_tarfile(path)
    except (OSError, EOFError):
        return False


@contextmanager
def zip_source(path: Path) -> Iterator[Source]:
    """Open a zip; several threads may read from it.

    Raises:
        DataError: it is damaged or cut short.
    """
    with refusing_damage(path), zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        tree = Tree()
        for place, info in enumerate(infos):
            tree.add(_slashes(info), _link_of(archive, info) if _is_link(info) else File(place))
        names, nodes = _listed(tree)

        def read(wanted: Sequence[int]) -> Iterator[tuple[int, Read]]:
            for index in wanted:
                node = nodes[index]
                if isinstance(node, Lost):
                    yield index, partial(_refuse, node.why)
                else:
                    yield index, partial(_read_member, archive, infos[node.place])

        yield Source(names, read, _lost(names, nodes))


def _listed(tree: Tree) -> tuple[tuple[str, ...], tuple[File | Lost, ...]]:
    """Return the names of all files, those that lead out of the archive too, and what is there."""
    found = dict(tree.files()) | tree.outside
    return tuple(clean(name) for name in found), tuple(found.values())


def _lost(names: tuple[str, ...], nodes: tuple[File | Lost, ...]) -> tuple[tuple[str, str], ...]:
    pairs = zip(names, nodes, strict=True)
    return tuple((name, node.why) for name, node in pairs if isinstance(node, Lost) and node is not OUTSIDE)


def _refuse(why: str) -> bytes:
    raise ValueError(why)


def _link_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Link | Lost:
    """Read where a link in a zip leads: its bytes are the target."""
    if info.file_size > LONGEST:
        return Lost("a link with a target too long to be one")
    try:
        return Link(_read_member(archive, info).decode("utf-8", "surrogateescape").replace("\\", "/"))
    except (ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, OSError) as error:
        return Lost(f"a link that cannot be read: {str(error)[:60]}")


def _slashes(info: zipfile.ZipInfo) -> str:
    return info.filename.replace("\\", "/")  # some Windows tools write them


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    check_size(info.file_size)  # zipfile reads no more than this, and checks the CRC
    if info.flag_bits & 1:
        raise ValueError("locked by a password")
    return archive.read(info)


@contextmanager
def tar_source(path: Path) -> Iterator[Source]:
    """Open a tar, packed or not. It is streamed from start to end, once to list it and once for each `read`.

    Raises:
        DataError: it is damaged or cut short.
    """
    with refusing_damage(path):
        tree = Tree()
        for place, info, _ in tar_members(path):
            if not info.isdir():
                tree.add(info.name, _node_of(place, info, tree))
        names, nodes = _listed(tree)

        def read(wanted: Sequence[int]) -> Iterator[tuple[int, Read]]:
            at: dict[int, list[int]] = {}
            for index in wanted:
                node = nodes[index]
                if isinstance(node, Lost):
                    yield index, partial(_refuse, node.why)
                else:
                    at.setdefault(node.place, []).append(index)
            for place, info, archive in tar_members(path) if at else ():
                if place in at:
                    yield from zip(at[place], repeat(_reader(info, archive)))

        yield Source(names, read, _lost(names, nodes))


def _node_of(place: int, info: tarfile.TarInfo, tree: Tree) -> Node:
    if info.isreg():
        return File(place)
    if info.issym():
        return Link(info.linkname)
    if info.islnk():
        return tree.same_as(info.linkname)
    kinds = {tarfile.FIFOTYPE: "a named pipe", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device"}
    return Lost(f"{kinds.get(info.type, 'a member of unknown kind')}, not a file")


def _reader(info: tarfile.TarInfo, archive: tarfile.TarFile) -> Read:
    """Read a member now, while the tar is here; what is too large is refused when it is asked for."""
    if info.size > MAX_BYTES:
        return partial(_too_large, info.size)
    stream = archive.extractfile(info)
    return partial(bytes, stream.read() if stream is not None else b"")


def _too_large(number: int) -> bytes:
    check_size(number)
    raise AssertionError("unreachable")


def tar_members(path: Path) -> Iterator[tuple[int, tarfile.TarInfo, tarfile.TarFile]]:
    """Yield (place, member, archive) for all of a tar; at the end its checksum has been verified."""
    with tarfile.open(path, "r:*", tarinfo=_StrictInfo) as archive:
        for place, info in enumerate(archive):
            yield place, info, archive
        while archive.fileobj is not None and archive.fileobj.read(1 << 20):
            pass  # a gzip checks its CRC only when read to its end


class _StrictInfo(tarfile.TarInfo):
    """Refuses what tarfile takes for the end of an archive in silence: a broken header, and no end mark."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end mark
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


@contextmanager
def refusing_damage(path: Path) -> Iterator[None]:
    """Turn what the standard library raises on damaged archives into one sentence.

    >>> with refusing_damage(Path("a.zip")):
    ...     raise zipfile.BadZipFile("no end")
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: cannot read 'a.zip': it is damaged or cut short (no end). Fetch or make it again.
    """
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(
                f"cannot read '{path}': {error.strerror.lower()}. Check the file and its rights."
            ) from error
        text = str(error) or type(error).__name__
        raise DataError(
            f"cannot read '{path}': it is damaged or cut short ({text}). Fetch or make it again."
        ) from error
