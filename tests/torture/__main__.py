"""Try to break torchloupe, and say what was tried and what survived: `make torture`."""

import argparse
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
    "faults": (faults, 400),
    "signals": (signals, 100),
    "download": (breaks, 100),
}
"""Name -> what runs it in a folder, so many times; and how often by default."""


def main() -> int:
    """Run the parts; returns 1 where something fell."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which (default: all)")
    parser.add_argument("--count", type=int, help="trials of each part (default: its own number)")
    chosen = parser.parse_args()
    preload()
    fallen = 0
    print("| what | tried | survived |\n|---|---|---|", flush=True)
    for name in chosen.parts or PARTS:
        run, count = PARTS[name]
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"torture-{name}-") as folder:
            for tally in run(Path(folder).resolve(), chosen.count or count):
                print(tally.row, flush=True)
                for line in tally.fallen:
                    print(f"  fell: {line}", file=sys.stderr, flush=True)
                fallen += len(tally.fallen)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return int(fallen > 0)


if __name__ == "__main__":
    sys.exit(main())
