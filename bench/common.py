"""What every benchmark needs: medians with spread, ratios, memory, the machine, a Markdown table in `results/`."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from torchloupe.runtime.environment import environment

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timed:
    """Seconds of several runs of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        low, high = min(self.seconds), max(self.seconds)
        return f"{self.median:.3g} ({low:.3g} to {high:.3g})" if len(self.seconds) > 1 else f"{self.median:.3g}"


def timed(call: Callable[[], object], runs: int = 3, warm: int = 1) -> Timed:
    """Time a call several times, after calls that are not counted."""
    for _ in range(warm):
        call()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return Timed(tuple(seconds))


def ratio(slow: Timed, fast: Timed) -> str:
    """Return how many times faster, from the medians, with the range over all pairs."""
    pairs = [a / b for a in slow.seconds for b in fast.seconds]
    return f"{slow.median / fast.median:,.3g} × ({min(pairs):,.3g} to {max(pairs):,.3g})"


def memory_now() -> float:
    """Return this process's memory in MB, and let its peak count from here (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def memory_peak() -> float:
    """Return the largest memory in MB since `memory_now`."""
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def machine() -> str:
    """Say in one line what this ran on."""
    about = environment("cpu")
    versions = ", ".join(f"{name} {about['packages'][name]}" for name in ("torchloupe", "torch", "numpy"))
    return f"{about['processor']}, {torch.get_num_threads()} threads, Python {about['python']}, {versions}"


def write(name: str, title: str, parts: Sequence[str], command: str) -> Path:
    """Write a page of results and print it."""
    page = "\n\n".join([f"# {title}", f"`{command}` on {machine()}.", *parts]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.md"
    path.write_text(page, encoding="utf-8")
    print(page)
    return path
