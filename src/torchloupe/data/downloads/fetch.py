"""Fetch one known file from several mirrors: whole and right, or not at all.

What has come so far lies in `NAME.part` beside the target, also between runs. Only bytes of the right length and sha256
get the final name, so neither a mirror nor the part file needs to be trusted.
"""

import hashlib
import os
import time
from collections import deque
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from torchloupe.data.downloads.partfile import PartFile, Say, quiet
from torchloupe.data.downloads.web import MirrorError, Patience, answer, ask, first_byte
from torchloupe.errors import DataError, ResourceError
from torchloupe.runtime.files import NO_SPACE, sync_folder
from torchloupe.runtime.progress import Progress

BLOCK = 1 << 16


def download(
    urls: Sequence[str],
    path: Path,
    *,
    bytes_expected: int,
    sha256: str,
    progress: Progress = quiet,
    say: Say = quiet,
    patience: Patience | None = None,
) -> Path:
    """Fetch a file of known length (bytes) and sha256 to `path` from the first mirror that does it well; return `path`.

    A break is resumed, here or in a later run, from the `.part` file beside `path`. `progress(done, total)` is called
    with bytes, `say` with one line whenever a mirror is left. A right file at `path` is kept; any other one stays
    there until the right one takes its place.

    Raises:
        DataError: no mirror gave the right file; what came so far is kept.
        ResourceError: the disk is full, or the folder cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "abc"
    ...     _ = (Path(folder) / "abc.part").write_bytes(b"abc")  # all of it came in an earlier run
    ...     digest = hashlib.sha256(b"abc").hexdigest()
    ...     download(["https://example.org/abc"], path, bytes_expected=3, sha256=digest).read_bytes()
    b'abc'
    """
    path = Path(path)
    name = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with PartFile.open(name, bytes_expected, sha256, progress, say) as part:
            if _is_right(path, bytes_expected, sha256):  # from before, or by the process we waited for
                name.unlink(missing_ok=True)
                return path
            try:
                _fill(part, list(dict.fromkeys(urls)), say, patience or Patience())
            except DataError as error:
                raise DataError(f"cannot download '{path}': {error}{_next_step(part, urls)}") from None
            os.fsync(part.stream.fileno())
        _rename(name, path)
    except OSError as error:  # what the network does wrong is a MirrorError by now: this is the disk
        cause = "the disk is full" if error.errno in NO_SPACE else "the folder cannot be written"
        hint = "Free some space, or name another folder with TORCHLOUPE_CACHE, and run it again."
        raise ResourceError(f"cannot save '{path}': {cause} ({error.strerror or error}). {hint}") from error
    return path


def _fill(part: PartFile, urls: list[str], say: Say, patience: Patience) -> None:
    """Bring the part file to its full, right length, or raise a DataError with every mirror's reason."""
    if part.have() >= part.size and not part.right():
        part.clear()
    queue, lives, untried = deque(urls), dict.fromkeys(urls, 1), set(urls)
    reasons: dict[str, str] = {}
    began_anew: set[str] = set()
    last = ""
    while part.have() < part.size:
        if not queue:
            raise DataError("; ".join(f"{_host(url)}: {why}" for url, why in reasons.items()) or "no mirror is known")
        url = queue.popleft()
        untried.discard(url)
        before = part.have()
        try:
            _fetch(url, part, patience, may_switch=bool(untried))
        except MirrorError as fault:
            reasons[url] = fault.reason
            # A mirror that gave something new may fail once more; one that gave nothing is not asked again.
            lives[url] = 2 if part.have() > before else lives[url] - 1
            if fault.again == "fresh" and url not in began_anew:
                began_anew.add(url)
                lives[url] = 1
                queue.appendleft(url)
            elif fault.again in ("now", "later") and lives[url] > 0:
                queue.insert(0 if fault.again == "now" and last != url else len(queue), url)
            last = url
            if queue:
                say(f"{_host(url)}: {fault.reason}; going on with {_host(queue[0])}")
                time.sleep(patience.pause if queue[0] == url and part.have() == before else 0)


def _fetch(url: str, part: PartFile, patience: Patience, *, may_switch: bool) -> None:
    """Fetch what is missing from one mirror; raise a MirrorError when it does not come, or proves wrong in the end."""
    have = part.have()
    future = ask(url, f"bytes={have}-" if have else None, patience)
    with answer(future, patience.connect) as response:
        start = at = first_byte(response, have, part.size)
        window, window_at = time.monotonic(), at
        while at < part.size:
            try:
                block = response.read1(min(BLOCK, part.size - at))
            except TimeoutError:
                raise MirrorError(f"silent for {patience.silence:g} s at byte {at}", "later") from None
            except (OSError, HTTPException) as error:
                raise MirrorError(f"broke off at byte {at} ({error})", "now") from None
            if not block:
                raise MirrorError(f"broke off at byte {at}", "now")
            part.givers.add(url)
            at = part.write(at, block)
            spent = time.monotonic() - window
            if spent >= patience.slow_window:
                rate = (at - window_at) / spent
                if may_switch and rate < patience.slow_rate and at < part.size:
                    raise MirrorError(f"slow ({rate / 1000:.0f} kB/s)", "later")
                window, window_at = time.monotonic(), at
    if not part.right():
        alone = start == 0 or part.givers == {url}
        part.clear()
        raise MirrorError("wrong bytes (the sha256 differs)", "never" if alone else "fresh")


def _is_right(path: Path, size: int, sha256: str) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


def _rename(name: Path, path: Path) -> None:
    try:
        name.replace(path)
    except FileNotFoundError:
        if not path.exists():  # another process may have found it whole and renamed it
            raise
    sync_folder(path.parent)


def _next_step(part: PartFile, urls: Sequence[str]) -> str:
    kept = f" The first {part.have()} bytes are kept: running it again goes on from there." if part.have() else ""
    by_hand = f" download {urls[-1]} by hand to that path, or" if urls else ""
    return f".{kept} Try again later,{by_hand} name pictures of your own with --data DIR."


def _host(url: str) -> str:
    return urlsplit(url).netloc or url[:60]
