"""Knowing again what was read before, without reading it: size, mtime and the archive's own checksums."""

import hashlib
import os
import struct
from pathlib import Path

from torchloupe.data.formats.source import clean, walk
from torchloupe.runtime.files import open_regular

ENDS = 1 << 16
"""Bytes read at either end of a file; the last 8 of a gzip are its CRC and length."""

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")


def fingerprint(path: Path) -> str:
    """Return 16 hexadecimal digits that change when the data set at a path changes.

    A folder: names, sizes and mtimes of its files. A file: size, mtime, both ends, and for a zip
    its whole directory, which holds the CRC of each member.

    >>> fingerprint(Path(__file__)) == fingerprint(Path(__file__))
    True
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for name, place in walk(str(path)):
            facts = _facts(place)
            digest.update(f"{clean(name)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]
    facts = path.stat()
    digest.update(f"{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    with open_regular(path) as stream:
        digest.update(stream.read(ENDS))
        stream.seek(max(0, facts.st_size - ENDS - _END.size))
        tail = stream.read()
        digest.update(tail)
        start, size = zip_directory(tail)
        stream.seek(start)
        digest.update(stream.read(size))
    return digest.hexdigest()[:16]


def _facts(place: str) -> os.stat_result:
    """Return size and mtime of a file; of a link that leads nowhere, its own."""
    try:
        return os.stat(place)  # noqa: PTH116 (a Path per file costs seconds on large folders)
    except OSError:
        return os.lstat(place)


def zip_directory(tail: bytes) -> tuple[int, int]:
    """Return offset and size of a zip's central directory, from the last bytes of the file; (0, 0) if it is no zip.

    >>> zip_directory(b"not a zip")
    (0, 0)
    """
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        return 0, 0
    _, _, _, _, _, size, start, _ = _END.unpack_from(tail, place)
    end64 = place - _LOCATOR.size - _END64.size
    if 0xFFFFFFFF in (size, start) and end64 >= 0 and tail[end64 : end64 + 4] == b"PK\x06\x06":
        size, start = _END64.unpack_from(tail, end64)[-2:]
    return start, size
