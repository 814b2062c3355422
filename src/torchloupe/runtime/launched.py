"""Which of several processes this is, as `torchrun` says; known before they are joined, and without torch."""

import os


def launched_rank() -> int:
    """Return the number that `torchrun` gave this process, 0 alone; also before and after they are joined.

    >>> launched_rank()
    0
    """
    return int(os.environ.get("RANK", "0"))
