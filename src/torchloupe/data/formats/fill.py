"""Decode many pictures in threads into one tensor."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from torchloupe.data.formats.decode import decode, measured, why_not
from torchloupe.data.formats.depth import Depth
from torchloupe.data.formats.parts import Window
from torchloupe.runtime.progress import Progress

Read = Callable[[], bytes]
Job = tuple[int, Read]
"""The row a picture goes to, and what reads its bytes."""

BATCH = 32
"""Pictures per task: few enough for a smooth bar, enough that handing over costs nothing."""


class MixedSizesError(Exception):
    """Pictures that were to stay at their own size turned out to differ in size."""


@dataclass
class Filled:
    """What is known of rows once their pictures are decoded."""

    bad: dict[int, str] = field(default_factory=dict)
    """Row -> why its picture can't be read."""
    deep: dict[int, Depth] = field(default_factory=dict)
    """Row -> what its picture of more than 8 bits holds."""


def fill(
    rows: UInt8[np.ndarray, "n 3 h w"],
    jobs: Iterator[Job],
    side: int | None,
    progress: Progress | None = None,
    window: Window | None = None,
) -> Filled:
    """Decode each job into its row; return for which rows the picture can't be read, or has more than 8 bits.

    `side` brings each picture to a square; None takes only pictures of exactly [h, w]. Without a `window` each picture
    of more than 8 bits is scaled by itself.

    Raises:
        MixedSizesError: with `side` None, a picture has another size.

    >>> fill(np.zeros((1, 3, 2, 2), np.uint8), iter([(0, lambda: b"")]), side=2)
    Filled(bad={0: 'the file is empty'}, deep={})
    """
    found = Filled()
    workers = os.cpu_count() or 1
    waiting: deque[Future[Filled]] = deque()
    done = 0

    def finish() -> None:
        nonlocal done
        some = waiting.popleft().result()
        found.bad.update(some.bad)
        found.deep.update(some.deep)
        done = min(done + BATCH, len(rows))
        if progress is not None:
            progress(done, len(rows))

    with quiet_pillow(), ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            while batch := list(islice(jobs, BATCH)):
                waiting.append(pool.submit(_decode_batch, rows, batch, side, window))
                if len(waiting) > 3 * workers:  # bounded: bytes read ahead stay in memory
                    finish()
            while waiting:
                finish()
        finally:
            for future in waiting:
                future.cancel()
    return Filled(dict(sorted(found.bad.items())), dict(sorted(found.deep.items())))


def first_shape(jobs: Iterator[Job], window: Window | None = None) -> tuple[int, int] | None:
    """Return height and width of the first picture that can be read; None when none can.

    >>> first_shape(iter([])) is None
    True
    """
    with quiet_pillow():
        for _, read in jobs:
            try:
                height, width, _ = decode(read(), window=window).shape
            except Exception:  # Pillow's decoders raise nearly anything; `fill` names the picture.
                continue
            return height, width
    return None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Make Pillow's bomb warning an error and its others silent, while threads decode.

    Set once around the pool: the filters belong to the process, so a thread must not touch them.

    >>> with quiet_pillow():
    ...     pass
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _decode_batch(
    rows: UInt8[np.ndarray, "n 3 h w"], batch: list[Job], side: int | None, window: Window | None
) -> Filled:
    found = Filled()
    for row, read in batch:
        try:
            pixels, depth = measured(read(), side, window)
        except Exception as error:  # Pillow's decoders raise nearly anything on broken files
            found.bad[row] = why_not(error)
            continue
        if pixels.shape[:2] != rows.shape[2:]:
            raise MixedSizesError
        rows[row] = pixels.transpose(2, 0, 1)
        if depth is not None:
            found.deep[row] = depth
    return found
