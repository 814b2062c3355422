"""Seconds from typing to answer: `import torchloupe`, `--help`, and a listing that needs no torch.

    python bench/startup.py

Each is a fresh process; the bare interpreter is there to be subtracted, `import torch` to be compared.
"""

import subprocess
import sys

from common import Timed, table, timed, write

RUNS = 15
CALLS: dict[str, list[str]] = {
    "python -c pass": ["-c", "pass"],
    "import torchloupe": ["-c", "import torchloupe"],
    "torchloupe --help": ["-m", "torchloupe", "--help"],
    "torchloupe train --help": ["-m", "torchloupe", "train", "--help"],
    "import torch": ["-c", "import torch"],
}


def start(arguments: list[str]) -> None:
    """Run Python once and wait for its end."""
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def measure(runs: int = RUNS) -> dict[str, Timed]:
    """Time every call."""
    return {name: timed(lambda words=words: start(words), runs=runs) for name, words in CALLS.items()}  # type: ignore[misc]


def startup_table(measured: dict[str, Timed]) -> str:
    """Return the milliseconds as a table."""
    rows = [(f"`{name}`", Timed(tuple(s * 1000 for s in times.seconds))) for name, times in measured.items()]
    return table(["process", "ms: median (range)"], rows)


if __name__ == "__main__":
    write(
        "startup",
        "Start",
        [f"{RUNS} fresh processes each, after one that warms the caches.", startup_table(measure())],
        "python bench/startup.py",
    )
