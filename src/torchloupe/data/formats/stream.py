"""Decode any number of picture files in threads, a few ahead of whoever takes them: in order, in bounded memory."""

import os
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from torchloupe.data.formats.decode import decode, why_not
from torchloupe.data.formats.parts import Window
from torchloupe.data.formats.source import read_bounded
from torchloupe.runtime.memory import is_out_of_memory

TOGETHER = 8
"""Pictures per task: enough that handing over costs little."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """One picture file, read."""

    path: Path
    pixels: UInt8[np.ndarray, "h w 3"] | None
    """None where it cannot be read."""
    error: str = ""
    """Why it cannot be read."""


def decoded(
    paths: Iterable[Path], side: int | None, window: Window | None = None, *, ahead: int = 64
) -> Generator[Decoded, None, None]:
    """Yield each picture, in the order of `paths`; at most `ahead` of them are held that were not yielded yet.

    With a `side` each is brought to a square of it, as `decode` does. Close the iterator to stop the threads early.

    Raises:
        MemoryError: a picture does not fit into memory.

    >>> [(one.path.name, one.error) for one in decoded([Path("no.png")], 8)]
    [('no.png', 'no such file or directory')]
    """
    rest = iter(paths)
    workers = os.cpu_count() or 1
    together = max(1, min(TOGETHER, ahead // (workers + 1)))
    most = max(1, ahead // together)
    waiting: deque[Future[deque[Decoded]]] = deque()
    stopped = threading.Event()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            while True:
                while len(waiting) < most and (some := list(islice(rest, together))):
                    waiting.append(pool.submit(_decode, some, side, window, stopped))
                if not waiting:
                    return
                done = waiting.popleft().result()
                while done:
                    yield done.popleft()
        finally:
            stopped.set()
            for future in waiting:
                future.cancel()


@contextmanager
def silent_pillow() -> Iterator[None]:
    """Let Pillow's warnings of damaged files pass unsaid, those of others as they are, while threads decode.

    >>> with silent_pillow():
    ...     pass
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _decode(paths: list[Path], side: int | None, window: Window | None, stopped: threading.Event) -> deque[Decoded]:
    found: deque[Decoded] = deque()
    for path in paths:
        if stopped.is_set():
            break
        try:
            found.append(Decoded(path, decode(read_bounded(str(path)), side, window)))
        except Exception as error:  # Pillow's decoders raise nearly anything on broken files
            if is_out_of_memory(error):
                raise
            found.append(Decoded(path, None, why_not(error)))
    return found
