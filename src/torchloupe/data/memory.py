"""How much memory is free, and refusing what would not fit before it is allocated."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from torchloupe.errors import ResourceError

SHARE = 0.6
"""The part of the free memory that pictures may take."""
NO_LIMIT = 1 << 60
"""Larger limits mean that there is none."""


def free_memory(
    meminfo: Path = Path("/proc/meminfo"),
    groups: Path = Path("/proc/self/cgroup"),
    root: Path = Path("/sys/fs/cgroup"),
) -> int | None:
    """Return the bytes that can be had now: of the machine, and of each control group (v1, v2) that this process is in.

    Where a system does not say what is free it is all of its memory, and None where it does not say that.

    >>> (free_memory() or 1) > 0
    True
    """
    return min([*_of_machine(meminfo), *_of_groups(groups, root)], default=None)


def _of_machine(meminfo: Path) -> list[int]:
    with suppress(OSError, ValueError, IndexError):
        lines = meminfo.read_text(encoding="ascii").splitlines()
        return [next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))]
    with suppress(AttributeError, ValueError, OSError):  # Windows
        return [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    return []


def _of_groups(groups: Path, root: Path) -> Iterator[int]:
    """Yield what is left in each group with a limit, from that of this process up to the root."""
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        number, _, rest = line.partition(":")
        kinds, _, own = rest.partition(":")
        if number == "0" and not kinds:
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _left(root, own, names)
        elif "memory" in kinds.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _left(root / "memory", own, names)


def _left(root: Path, own: str, names: tuple[str, str, str]) -> Iterator[int]:
    """In a container the path may be the host's: then its groups are not there, and the root is the container's."""
    limit, usage, cached = names
    relative = PurePosixPath(own.lstrip("/"))
    for group in (relative, *relative.parents) if own.strip("/") else (PurePosixPath(),):
        with suppress(OSError, ValueError):  # "max" where there is no limit
            most = int((root / group / limit).read_text(encoding="ascii"))
            if 0 < most < NO_LIMIT:
                used = int((root / group / usage).read_text(encoding="ascii"))
                yield max(0, most - max(0, used - _stat(root / group / "memory.stat", cached)))


def _stat(path: Path, name: str) -> int:
    """Return a number of `memory.stat`: what is cached of files is given back when memory is needed."""
    with suppress(OSError, ValueError):
        pairs = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return next((int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == name), 0)
    return 0


def fits(number: int) -> bool:
    """Say whether that many bytes more of pictures may be held in memory.

    >>> fits(1), fits(1 << 60)
    (True, False)
    """
    memory = free_memory()
    return memory is None or number <= SHARE * memory


def check_fits(name: str, count: int, height: int, width: int) -> None:
    """Refuse pictures that would take more memory than `SHARE` of what is free.

    Raises:
        ResourceError: names the number, and the size that would fit better.

    >>> check_fits("pets", 100, 32, 32)
    """
    needed = 3 * count * height * width
    if fits(needed):
        return
    memory = f"{SHARE:.0%} of the {(free_memory() or 0) / 1e9:,.1f} GB that are free"
    side = 64 if min(height, width) > 64 else 32
    raise ResourceError(
        f"'{name}' needs {needed / 1e9:,.1f} GB of memory for {count:,} pictures of {width}×{height}, more than "
        f"{memory}. Load them smaller, with `--size {side}`, or close other programs."
    )
