"""Try to break torchloupe, and say what was tried and what survived: `make torture`."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from torture.breaks import breaks
from torture.child import preload
from torture.crash import crashes
from torture.faults import faults
from torture.signals import signals
from torture.tally import Tally

PARTS: dict[str, tuple[Callable[[Path, int], Iterator[Tally]], int]] = {
    "crash": (crashes, 50),
    "faults": (faults, 150),
    "signals": (signals, 100),
    "download": (breaks, 100),
}
"""Name -> what runs it in a folder, so many times; and how often by default."""
PROGRAMS = {"data": ("fuzz_data", 10_000), "checkpoints": ("fuzz_checkpoints", 10_000), "leaks": ("leaks", 200)}
"""Name -> a program with a table of its own, and how often by default."""


def main() -> int:
    """Run the parts; returns 1 where something fell."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"{', '.join([*PARTS, *PROGRAMS])} (default: all)")
    parser.add_argument("--count", type=int, help="trials of each part (default: its own number)")
    given = parser.parse_args()
    chosen = given.parts or [*PARTS, *PROGRAMS]
    if unknown := set(chosen) - PARTS.keys() - PROGRAMS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}")
    preload()
    fallen = 0
    for name in chosen:
        began = time.monotonic()
        if name in PARTS:
            fallen += _part(name, given.count)
        else:
            program, count = PROGRAMS[name]
            words = [sys.executable, "-m", f"torture.{program}", "--count", str(given.count or count)]
            fallen += subprocess.run(words, check=False).returncode != 0
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return int(fallen > 0)


def _part(name: str, asked: int | None) -> int:
    run, count = PARTS[name]
    fallen = 0
    print("| what | tried | survived |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix=f"torture-{name}-") as folder:
        for tally in run(Path(folder).resolve(), asked or count):
            print(tally.row, flush=True)
            for line in tally.fallen:
                print(f"  fell: {line}", file=sys.stderr, flush=True)
            fallen += len(tally.fallen)
    return fallen


if __name__ == "__main__":
    sys.exit(main())
