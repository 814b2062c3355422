"""Each method of the catalog over and over: no hook, thread, file or memory may stay behind.

    cd tests && python -m torture.leaks --count 200

After `WARM` uses (lazy imports, caches of bounded size) the state is noted; after `--count` more it must be the same,
and the memory that the process holds no more than `ROOM` above. The suite runs a short one (`test_torture.py`).
"""

import argparse
import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registry

from contract import FAST, images, net, split
from nets import hooks_of
from torchloupe.features import owner
from torchloupe.inspection.catalog import METHODS, Method
from torchloupe.inspection.run import run
from torture.ground import held

WARM = 3
ROOM = 24 << 20
"""Bytes that a process may hold more after any number of uses: what allocators keep, not what grows."""


@dataclass(frozen=True)
class State:
    """What could stay behind."""

    hooks: int
    threads: int
    files: int
    locks: int
    """Networks that `owner` keeps a lock for: a copy that was made for a control goes with it."""
    tensors: int

    def differs(self, other: "State") -> list[str]:
        """Return what is more in the other."""
        names = self.__dataclass_fields__
        return [f"{getattr(other, n) - getattr(self, n)} {n}" for n in names if getattr(other, n) > getattr(self, n)]


def state(model: nn.Module) -> State:
    """Return what is there now, garbage taken away."""
    gc.collect()
    everywhere = [value for name, value in vars(registry).items() if name.startswith("_global") and "hooks" in name]
    hooks = hooks_of(model) + sum(len(value) for value in everywhere if hasattr(value, "__len__"))
    descriptors = Path("/proc/self/fd")
    files = len(os.listdir(descriptors)) if descriptors.is_dir() else 0  # noqa: PTH208 (a generator holds one open)
    tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
    return State(hooks, threading.active_count(), files, len(owner._LOCKS), tensors)


def use(row: Method, model: nn.Module) -> Callable[[], Any]:
    """Return one use of a method, with its drawing."""
    given: Any = {"pictures": images(2, torch.float32), "dataset": split()}.get(row.takes)
    channels: dict[str, Any] = {"channels": [0, 3]} if row.channels else {}

    def once() -> None:
        run(row.name, model, None, given, **channels, **FAST.get(row.name, {})).sheets()

    return once


def memory() -> int:
    """Return the bytes that this process holds, those given back that the allocator kept."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return held()


def leaked(row: Method, count: int) -> tuple[list[str], int]:
    """Use a method so many times; returns what stayed behind, and by how many bytes the memory grew."""
    model = net(torch.float32)
    once = use(row, model)
    for _ in range(WARM):
        once()
    before, bytes_before = state(model), memory()
    for _ in range(count):
        once()
    after, grown = state(model), memory() - bytes_before
    found = before.differs(after)
    return found + ([f"{grown >> 20} MB"] if grown > ROOM else []), grown


def main(words: list[str] | None = None) -> int:
    """Run a long one; the exit code says whether anything stayed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    options: Any = parser.parse_args(words)
    torch.set_num_threads(1)
    bad = 0
    print(f"{'method':<16}{'uses':>6}{'memory, MB':>12}   left behind")
    for row in METHODS:
        found, grown = leaked(row, options.count)
        bad += bool(found)
        print(f"{row.name:<16}{options.count:>6}{grown / 2**20:>12.1f}   {', '.join(found) or 'nothing'}", flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
