"""One writer at a time: a lock that ends with its process, and says who holds it."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torchloupe.errors import UsageError
from torchloupe.runtime.files import atomic_write


class BusyError(UsageError):
    """Another process, or another thread of this one, holds a lock."""


class _Held(threading.local):
    """The locks that this thread holds."""

    def __init__(self) -> None:
        self.files: set[Path] = set()


_held = _Held()


@contextmanager
def locked(lock: Path, what: str, instead: str) -> Iterator[None]:
    """Be the only one, on any machine that shares the disk, who is inside with this lock file; a thread may nest it.

    The system takes the lock from a process that dies, however it dies. Folders are made as needed; they and the lock
    file are gone afterwards, unless something was written there.

    Raises:
        BusyError: another holds it. `what` is what they do, `instead` what else can be done.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with locked(Path(folder) / "a" / ".lock", "'a' is being written", "choose another folder"):
    ...         (Path(folder) / "a" / ".lock").is_file()
    ...     (Path(folder) / "a").exists()
    True
    False
    """
    from filelock import FileLock, Timeout

    lock = lock.resolve()
    if lock in _held.files:
        yield
        return
    missing = _make(lock.parent)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"{what} by {_owner(lock)}. Wait until it has ended, or {instead}.") from None
    _held.files.add(lock)
    try:
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        atomic_write(_note(lock), json.dumps(about).encode())
        yield
    finally:
        _held.files.discard(lock)
        for file in (_note(lock), lock):  # while it is held: who waits for a file that is gone opens a new one
            with suppress(OSError):  # on Windows an open file stays
                file.unlink()
        held.release()
        for folder in missing:
            with suppress(OSError):  # not empty
                folder.rmdir()


def _make(folder: Path) -> list[Path]:
    """Make a folder; returns those that had to be made, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _note(lock: Path) -> Path:
    """Return where the owner is named: on Windows nobody else can read a file that is locked."""
    return lock.with_name(f"{lock.name}.json")


def _owner(lock: Path) -> str:
    for _ in range(20):  # they may be about to write it down
        with suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads(_note(lock).read_text(encoding="utf-8"))
            return f"process {about['pid']} on {about['host']}, since {about['since']}"
        time.sleep(0.05)
    return "another process"
