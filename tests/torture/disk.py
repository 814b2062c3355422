"""A disk that fails, or a process that dies, at a chosen operation on the file system."""

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
EVENTS = {"os.rename": "rename", "os.mkdir": "mkdir"}
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}


def die() -> None:
    """End at once, as by a power cut: nothing is flushed, closed or removed."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> Callable[[], None]:
    """Return what an operation does that ends with this error."""

    def failing() -> None:
        raise OSError(number, os.strerror(number))

    return failing


@dataclass
class Disk:
    """Counts operations below `home` (open to write, write, fsync, rename, mkdir), and strikes at number `at`.

    Call `watch` in a process of its own: it stays until that ends.
    """

    home: Path
    at: int = -1
    """Number of the operation, from 0; -1: none."""
    strike: Callable[[], None] = die
    seen: list[str] = field(default_factory=list)
    """What each operation was."""

    def watch(self) -> None:
        """Begin."""

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
                if isinstance(args[2], int) and args[2] & WRITING and self.is_ours(args[0]):
                    self.reach(f"open {Path(os.fsdecode(args[0])).name}")
            elif event in EVENTS and self.is_ours(args[0]):
                self.reach(f"{EVENTS[event]} {Path(os.fsdecode(args[0])).name}")

        sys.addaudithook(hook)
        opened, synced = io.open, os.fsync

        def open_(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            stream = opened(file, mode, *args, **more)
            ours = isinstance(file, int) or self.is_ours(file)
            return Stream(stream, self) if ours and set(mode) & set("wax+") else stream

        def fsync(handle: int) -> None:
            self.reach("fsync")
            synced(handle)

        setattr(io, "open", open_)  # noqa: B010 (what Path.open and os.fdopen call)
        setattr(builtins, "open", open_)  # noqa: B010
        setattr(os, "fsync", fsync)  # noqa: B010

    def is_ours(self, path: "str | bytes | os.PathLike[str]") -> bool:
        """Tell whether a path lies below `home`."""
        return os.path.abspath(os.fsdecode(path)).startswith(os.fspath(self.home))  # noqa: PTH100 (no look at the disk)

    def reach(self, what: str) -> None:
        """Count one operation."""
        self.seen.append(what)
        if len(self.seen) - 1 == self.at:
            self.strike()


class Stream:
    """A file open for writing. The write that is struck has half of its bytes on the disk."""

    def __init__(self, stream: Any, disk: Disk) -> None:
        self._stream, self._disk = stream, disk

    def write(self, data: Any) -> Any:
        if len(self._disk.seen) == self._disk.at:
            self._stream.write(data[: len(data) // 2])
            self._stream.flush()
        self._disk.reach("write")
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *args: object) -> None:
        self._stream.close()

    def __iter__(self) -> Any:
        return iter(self._stream)
