"""The one way anything reaches a final file name: whole, or not at all."""

import errno
import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError, ResourceError

PART = ".part"
"""How the name of a file ends that is being written; it begins with a dot and the final name."""
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write bytes to `path` so that a crash at any moment leaves the old file or the new one.

    Temp file beside it, fsync, rename, fsync of the folder. Folders are made as needed.

    Raises:
        ResourceError: the disk is full.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atomic_write(Path(folder) / "a" / "b.txt", b"whole")
    ...     (Path(folder) / "a" / "b.txt").read_bytes()
    b'whole'
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _new_beside(path)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise ResourceError(
                f"cannot write '{path}': the disk is full ({error.strerror}). Free some space and run it again."
            ) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` last through a power cut (where the system can).

    >>> sync_folder(Path("."))
    """
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _new_beside(path: Path) -> tuple[int, Path]:
    """Make a new file of another name in the same folder; returns its descriptor, open for writing, and its path.

    The system takes the umask off its mode. To read the mask one would have to set it, for the whole process.
    """
    new = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}{PART}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # Windows would translate line ends
    return os.open(new, flags, 0o666), new


def sweep(folder: Path, *begins: str, older: float = 0.0) -> None:
    """Remove what `atomic_write` left half written in a folder: files to be called so, and older than so many seconds.

    >>> sweep(Path("nowhere"))
    """
    for part in folder.glob(f".*{PART}"):
        with suppress(OSError):
            meant = part.name.startswith(tuple(f".{each}" for each in begins or ("",)))
            if meant and time.time() - part.stat().st_mtime >= older:
                part.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON, atomically.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "a.json", {"b": 1})
    ...     read_json(Path(folder) / "a.json")
    {'b': 1}
    """
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    atomic_write(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        ModelError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read '{path}': {error}. Is '{path.parent}' a run of torchloupe?") from None
