"""The one way anything reaches a final file name: whole, or not at all."""

import errno
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from torchloupe.errors import ModelError, ResourceError, short

DEEP = 64
"""Levels of lists and objects in a JSON of ours, at most."""
DIGITS = 40
"""Of a whole number in one: all that we write fit into 64 bits."""
LONGEST_PATH = 250
HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Where a text may hold one half of a character that takes two."""
ABANDONED = 3600.0
"""Seconds after which a half-written file is nobody's where the system cannot say so: writing one takes moments."""
PART = ".part"
"""How the name of a file ends that is being written; it begins with a dot and the final name."""
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write bytes to `path` so that a crash at any moment leaves the old file or the new one.

    Temp file beside it, fsync, rename, fsync of the folder. Folders are made as needed. What a process that died left
    half written of the same file is removed.

    Raises:
        ResourceError: the disk is full, or refuses it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     atomic_write(Path(folder) / "a" / "b.txt", b"whole")
    ...     (Path(folder) / "a" / "b.txt").read_bytes()
    b'whole'
    """
    with atomic_stream(path) as write:
        write(data)


@contextmanager
def atomic_stream(path: Path) -> Iterator[Callable[[bytes | memoryview], None]]:
    """Yield a function that writes bytes on to what is `path` at the end, as `atomic_write` does; after an error never.

    Raises:
        ResourceError: the disk is full, or refuses it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_stream(Path(folder) / "a.txt") as write:
    ...         write(b"one "), write(b"two"), (Path(folder) / "a.txt").exists()
    ...     (Path(folder) / "a.txt").read_bytes()
    (None, None, False)
    b'one two'
    """
    path = Path(path)
    temporary: Path | None = None
    stream: BinaryIO | None = None
    held = -1

    def write(data: bytes | memoryview) -> None:
        assert stream is not None
        with _told(path):
            stream.write(data)

    try:
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent, _begin(path))
            handle, temporary = _new_beside(path)
            held = os.dup(handle) if os.name == "posix" else -1  # until it has its name, it is being written
            stream = os.fdopen(handle, "wb")
        yield write
        with _told(path):
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            temporary.replace(path)
            temporary = None
            sync_folder(path.parent)
    finally:
        if stream is not None:
            with suppress(OSError):  # of a full disk, which was told
                stream.close()
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if held >= 0:
            os.close(held)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the system says while `path` is written into one sentence."""
    try:
        yield
    except OSError as error:
        raise ResourceError(f"cannot write '{path}': {refused(error)}") from error


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
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # Windows would translate line ends
    while True:
        new = path.with_name(f".{_begin(path)}{secrets.token_hex(8)}{PART}")
        handle = os.open(new, flags, 0o666)
        if not _hold(handle) or os.fstat(handle).st_nlink:  # else it was swept before it was held
            return handle, new
        os.close(handle)


def _begin(path: Path) -> str:
    """Return how the names of a file's temporary files begin, after the dot."""
    return f"{path.name[:40]}."


def _hold(handle: int, *, wait: bool = True) -> bool:
    """Mark an open file as being written, while its process lives; False where another does so, or none can."""
    try:
        import fcntl
    except ImportError:  # Windows: there an open file cannot be removed
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading; never a pipe, a socket or a device, which may block for good.

    Raises:
        OSError: as `open` does; `strerror` says what it is instead of a file.

    >>> open_regular(os.devnull)
    Traceback (most recent call last):
    ...
    OSError: [Errno 22] a device, not a file: ...
    """
    check_regular(os.stat(path), path)  # noqa: PTH116 (a Path per file costs seconds on large folders)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags)
    try:
        check_regular(os.fstat(handle), path)  # it may have changed since
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(facts: os.stat_result, path: str | Path) -> None:
    """Refuse what is no plain file.

    Raises:
        OSError: it is a folder, a pipe, a socket or a device.

    >>> check_regular(os.stat("."), ".")
    Traceback (most recent call last):
    ...
    OSError: [Errno 22] a folder, not a file: '.'
    """
    if not stat.S_ISREG(facts.st_mode):
        kind = KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise OSError(errno.EINVAL, f"{kind}, not a file", str(path))


def read_file(path: str | Path) -> bytes:
    """Read a whole file; never a pipe, a socket or a device.

    Raises:
        OSError: as `open_regular` does.

    >>> read_file(__file__) == Path(__file__).read_bytes()
    True
    """
    with open_regular(path) as stream:
        return stream.read()


def sweep(folder: Path, *begins: str) -> None:
    """Remove what `atomic_write` left half written in a folder, of files whose names begin so.

    What is being written stays; where the system cannot say so (some network disks), what is younger than an hour.

    >>> sweep(Path("nowhere"))
    """
    for part in folder.glob(f".*{PART}"):
        if part.name.startswith(tuple(f".{each}" for each in begins or ("",))):
            with suppress(OSError):
                _sweep(part)


def _sweep(part: Path) -> None:
    if os.name != "posix":
        part.unlink()
        return
    handle = os.open(part, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if _hold(handle, wait=False) or time.time() - part.stat().st_mtime > ABANDONED:
            part.unlink()
    finally:
        os.close(handle)


def refused(error: OSError) -> str:
    """Say why the system refuses to write, and what helps.

    >>> refused(OSError(errno.EACCES, "Permission denied"))
    'permission denied. Check the permissions, or choose another place with --out.'
    """
    cause = (error.strerror or str(error)).lower()
    if error.errno in NO_SPACE:
        return f"the disk is full ({cause}). Free some space and run it again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{cause}. Check the permissions, or choose another place with --out."
    return f"{cause}. Check the disk and the path, and run it again."


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
        return parse_json(read_file(path))
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        file, folder = short(path, LONGEST_PATH), short(path.parent, LONGEST_PATH)
        raise ModelError(f"cannot read {file}: {cause}. Is {folder} a run of torchloupe?") from None


def parse_json(text: str | bytes, *, unique: bool = False) -> Any:
    """Return the values of a JSON text; one that is nested deep, or holds what no file of ours does, is refused.

    What comes through can be walked, copied and written again: no depth that ends the stack, no number that cannot be
    counted with, no half of a character. `unique`: no name stands in an object twice, which else the last one wins.

    Raises:
        ValueError: it is no such JSON.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ...
    ValueError: nested too deep
    """
    try:
        words = text if isinstance(text, str) else text.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not text in UTF-8") from None
    try:
        values = json.loads(words, parse_int=_counted, object_pairs_hook=_once if unique else None)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    level, depth = [values], 0
    while level:
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level, depth = [each for values in inner for each in values], depth + 1
        if depth > DEEP:
            raise ValueError("nested too deep")
    if HALF.search(words):  # else no text of it can be one
        try:
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a character in a text") from None
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{short(name)} stands in it twice")
        found[name] = value
    return found


def _counted(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)
