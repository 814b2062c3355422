"""Decode many pictures in threads into one tensor."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from torchloupe.data.formats.decode import decode, why_not
from torchloupe.runtime.progress import Progress

Read = Callable[[], bytes]
Job = tuple[int, Read]
"""The row a picture goes to, and what reads its bytes."""

BATCH = 32
"""Pictures per task: few enough for a smooth bar, enough that handing over costs nothing."""


class MixedSizesError(Exception):
    """Pictures that were to stay at their own size turned out to differ in size."""


def fill(
    rows: UInt8[np.ndarray, "n 3 h w"], jobs: Iterator[Job], side: int | None, progress: Progress | None = None
) -> dict[int, str]:
    """Decode each job into its row; return why, for the rows whose picture can't be read.

    `side` brings each picture to a square; None takes only pictures of exactly [h, w].

    Raises:
        MixedSizesError: with `side` None, a picture has another size.

    >>> fill(np.zeros((1, 3, 2, 2), np.uint8), iter([(0, lambda: b"")]), side=2)
    {0: 'the file is empty'}
    """
    bad: dict[int, str] = {}
    workers = os.cpu_count() or 1
    waiting: deque[Future[dict[int, str]]] = deque()
    done = 0

    def finish() -> None:
        nonlocal done
        bad.update(waiting.popleft().result())
        done = min(done + BATCH, len(rows))
        if progress is not None:
            progress(done, len(rows))

    with quiet_pillow(), ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            while batch := list(islice(jobs, BATCH)):
                waiting.append(pool.submit(_decode_batch, rows, batch, side))
                if len(waiting) > 3 * workers:  # bounded: bytes read ahead stay in memory
                    finish()
            while waiting:
                finish()
        finally:
            for future in waiting:
                future.cancel()
    return dict(sorted(bad.items()))


def first_shape(jobs: Iterator[Job]) -> tuple[int, int] | None:
    """Return height and width of the first picture that can be read; None when none can.

    >>> first_shape(iter([])) is None
    True
    """
    with quiet_pillow():
        for _, read in jobs:
            try:
                height, width, _ = decode(read()).shape
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


def _decode_batch(rows: UInt8[np.ndarray, "n 3 h w"], batch: list[Job], side: int | None) -> dict[int, str]:
    bad = {}
    for row, read in batch:
        try:
            pixels = decode(read(), side)
        except Exception as error:  # Pillow's decoders raise nearly anything on broken files
            bad[row] = why_not(error)
            continue
        if pixels.shape[:2] != rows.shape[2:]:
            raise MixedSizesError
        rows[row] = pixels.transpose(2, 0, 1)
    return bad
