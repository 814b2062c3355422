"""How much memory there is, and refusing what would not fit before it is allocated."""

import os
from contextlib import suppress
from pathlib import Path

from torchloupe.errors import ResourceError

SHARE = 0.6
"""The part of the machine's memory that pictures may take."""
CGROUP = Path("/sys/fs/cgroup/memory.max")


def machine_memory() -> int | None:
    """Return the bytes of memory of this machine (or container), or None where the system doesn't say.

    >>> (machine_memory() or 1) > 0
    True
    """
    found = []
    with suppress(AttributeError, ValueError, OSError):  # Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        found.append(int(CGROUP.read_text(encoding="ascii")))
    return min((number for number in found if number > 0), default=None)


def fits(number: int) -> bool:
    """Say whether that many bytes of pictures may be held in memory.

    >>> fits(1), fits(1 << 60)
    (True, False)
    """
    memory = machine_memory()
    return memory is None or number <= SHARE * memory


def check_fits(name: str, count: int, height: int, width: int) -> None:
    """Refuse pictures that would take more memory than `SHARE` of what there is.

    Raises:
        ResourceError: names the number, and the size that would fit better.

    >>> check_fits("pets", 100, 32, 32)
    """
    needed = 3 * count * height * width
    if fits(needed):
        return
    memory = f"{SHARE:.0%} of this machine's {(machine_memory() or 0) / 1e9:,.1f} GB"
    side = 64 if min(height, width) > 64 else 32
    raise ResourceError(
        f"'{name}' needs {needed / 1e9:,.1f} GB of memory for {count:,} pictures of {width}×{height}, more than "
        f"{memory}. Load them smaller, with `--size {side}`."
    )
