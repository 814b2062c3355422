"""Zips and tars as a `Source` of files.

Nothing is ever extracted: members are streamed into memory by name, so `..`, absolute paths and
links in an archive lead nowhere.
"""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from torchloupe.data.formats.source import MAX_BYTES, Read, Source, check_size, clean
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
        members = {_slashes(info): info for info in archive.infolist() if not _is_link(info) and not info.is_dir()}
        infos = list(members.values())

        def read(wanted: Sequence[int]) -> Iterator[tuple[int, Read]]:
            return ((index, partial(_read_member, archive, infos[index])) for index in wanted)

        yield Source(tuple(clean(name) for name in members), read)


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
        # Of two members with one name the later counts, as it does when a tar is extracted.
        places = {info.name: place for place, info, _ in tar_members(path)}
        indices = {place: index for index, place in enumerate(places.values())}

        def read(wanted: Sequence[int]) -> Iterator[tuple[int, Read]]:
            chosen = set(wanted)
            for place, info, archive in tar_members(path):
                index = indices.get(place)
                if index is None or index not in chosen:
                    continue
                if info.size > MAX_BYTES:
                    yield index, partial(_too_large, info.size)
                    continue
                stream = archive.extractfile(info)
                yield index, partial(bytes, stream.read() if stream is not None else b"")

        yield Source(tuple(clean(name) for name in places), read)


def _too_large(number: int) -> bytes:
    check_size(number)
    raise AssertionError("unreachable")


def tar_members(path: Path) -> Iterator[tuple[int, tarfile.TarInfo, tarfile.TarFile]]:
    """Yield (place, member, archive) for the plain files of a tar; at the end its checksum has been verified."""
    with tarfile.open(path, "r:*", tarinfo=_StrictInfo) as archive:
        for place, info in enumerate(archive):
            if info.isreg():
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
