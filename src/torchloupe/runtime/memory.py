"""Where memory runs out, the same work goes on with half as many images at a time, and says so."""

import gc
import sys
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from torchloupe.errors import ResourceError, SmallerBatchWarning

T = TypeVar("T")


@dataclass
class _Share:
    """Which part of its usual images at a time a pass may take, and the most that one took under it."""

    part: int = 1
    most: int = 0


_SHARE: ContextVar[_Share | None] = ContextVar("torchloupe_share", default=None)


def smaller(usual: int) -> int:
    """Return how many images may go at a time where `usual` many would, fewer after memory ran out: 1 at least.

    >>> smaller(128)
    128
    """
    share = _SHARE.get()
    if share is None:
        return usual
    found = max(1, usual // share.part)
    share.most = max(share.most, found)
    return found


def halving(work: Callable[[], T], what: str) -> T:
    """Return what `work` returns; where it runs out of memory, do it again with half as many images at a time.

    `work` asks `smaller` for its numbers. Within another such call it is that one which begins again.

    Raises:
        ResourceError: there is too little memory for a single image.

    >>> halving(lambda: smaller(4), "a pass")
    4
    """
    if _SHARE.get() is not None:
        return work()
    share = _Share()
    token = _SHARE.set(share)
    try:
        while True:
            share.most = 0
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if share.most <= 1:
                    raise ResourceError(
                        f"{what} takes more memory than there is, even one picture at a time. Give it smaller pictures."
                    ) from error
                now = share.most // 2
            share.part *= 2
            _release()
            warnings.warn(
                f"memory ran out: {what} goes on with {now} pictures at a time.", SmallerBatchWarning, stacklevel=2
            )
    finally:
        _SHARE.reset(token)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out: of this process, or of an accelerator.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("no"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)


WORDS = ("can't allocate memory", "out of memory", "not enough memory")
"""What torch says, by allocator."""


def _release() -> None:
    """Give back what the failed work held."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
