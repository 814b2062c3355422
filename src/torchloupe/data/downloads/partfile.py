"""The file under way: what has come of a download, kept beside its target until it is whole and right."""

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from torchloupe.runtime.progress import Progress

if sys.platform != "win32":
    import fcntl

Say = Callable[[str], object]


def quiet(*_: object) -> None:
    """Say nothing, show nothing.

    >>> quiet("a line")
    """


@dataclass
class PartFile:
    """A file of known length (bytes) and sha256 of which some bytes, from the first on, are there.

    >>> import tempfile
    >>> digest = hashlib.sha256(b"abc").hexdigest()
    >>> with tempfile.TemporaryDirectory() as folder, PartFile.open(Path(folder) / "a.part", 3, digest) as part:
    ...     part.write(0, b"ab"), part.have(), part.write(2, b"c"), part.right()
    (2, 2, 3, True)
    """

    path: Path
    size: int
    sha256: str
    stream: FileIO
    progress: Progress = quiet
    """Called with bytes done and bytes in all."""
    givers: set[str] = field(default_factory=set)
    """The mirrors its bytes came from; `""` for an earlier run."""

    @classmethod
    def open(cls, path: Path, size: int, sha256: str, progress: Progress = quiet, say: Say = quiet) -> Self:
        """Open it, alone: two processes that write one file could each spoil what the other has checked."""
        while True:
            # Unbuffered, so that kill -9 loses nothing.
            stream = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")
            try:
                _lock(stream, lambda: say(f"another process is fetching {path.stem}: waiting for it"))
                if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                    part = cls(path, size, sha256, stream, progress)
                    part.givers = {""} if part.have() else set()
                    return part
            except FileNotFoundError:
                pass  # the process we waited for has renamed it
            except BaseException:
                stream.close()
                raise
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stream.close()

    def have(self) -> int:
        """Return how many bytes are there."""
        return os.fstat(self.stream.fileno()).st_size

    def write(self, at: int, block: bytes) -> int:
        """Put bytes at a place; return where they end."""
        self.stream.seek(at)
        left = memoryview(block)
        while left:  # a write may be short
            left = left[self.stream.write(left) :]
        self.progress(at + len(block), self.size)
        return at + len(block)

    def right(self) -> bool:
        """Tell whether the length and the sha256 are right."""
        self.stream.seek(0)
        return self.have() == self.size and hashlib.file_digest(self.stream, "sha256").hexdigest() == self.sha256

    def clear(self) -> None:
        """Throw all bytes away; the file itself stays, since another process may wait for its lock."""
        self.stream.truncate(0)
        self.givers.clear()


def _lock(stream: FileIO, tell: Callable[[], object]) -> None:
    """Lock the file until it is closed; the system drops the lock of a killed process by itself."""
    if sys.platform != "win32":
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell()
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError:
            pass  # a network drive without locks
