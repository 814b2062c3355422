"""What a person reads while a command works: lines, boxes, progress with the time left. --quiet: nothing."""

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torchloupe.errors import printable
from torchloupe.runtime.progress import Progress

PATIENCE = 0.5
"""Seconds after which a bar appears."""
LINE_EVERY = 10.0
"""Seconds between plain progress lines where the output is not a terminal."""


def duration(seconds: float) -> str:
    """Return a duration as people say it.

    >>> duration(4.2), duration(75), duration(3600 * 14 + 60)
    ('4 s', '1 min 15 s', '14 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def print_result(text: str) -> None:
    """Print a result to standard output: made visible where a person reads it, to the letter where a program does.

    >>> print_result("3 layers")
    3 layers
    """
    lines = _visible(text) if sys.stdout.isatty() else text
    try:
        print(lines, flush=True)
    except UnicodeEncodeError:  # a file's name of bytes that are no text, or letters that the terminal lacks
        known = sys.stdout.encoding or "utf-8"
        print(lines.encode(known, "backslashreplace").decode(known), flush=True)


def _visible(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


class Console:
    """Where messages go: standard error, so that standard output holds results only."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() and not quiet

    def say(self, text: str = "") -> None:
        """Print a line (or several) for people."""
        if not self.quiet:
            print(_visible(text), file=sys.stderr, flush=True)

    def box(self, text: str) -> None:
        """Print a few lines in a box.

        >>> Console(quiet=True).box("hello")
        """
        width = min(shutil.get_terminal_size().columns, 100) - 4
        lines = [part for line in _visible(text).splitlines() for part in (textwrap.wrap(line, width) or [""])]
        wide = max(map(len, lines), default=0)
        bars = "─" * (wide + 2)
        self.say("\n".join([f"╭{bars}╮", *(f"│ {line:<{wide}} │" for line in lines), f"╰{bars}╯"]))

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """Yield a function of (done, total) that shows a bar, or now and then a line, once it takes a while.

        >>> with Console(quiet=True).progress("counting") as tick:
        ...     tick(1, 2)
        """
        shown = _Bar(what) if self.terminal else _Lines(what, self.say)
        try:
            yield shown.tick if not self.quiet else _ignore
        finally:
            shown.close()


def _ignore(done: int, total: int) -> None:
    pass


class _Lines:
    def __init__(self, what: str, say: Callable[[str], None]) -> None:
        self.what, self.say = what, say
        self.began = self.last = time.monotonic()
        self.first: int | None = None

    def tick(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:  # a resumed training does not begin at nothing
            self.first, self.began = done, now
        if now - self.last < LINE_EVERY or done <= self.first:
            return
        self.last = now
        left = (now - self.began) / (done - self.first) * (total - done)
        self.say(f"{self.what}: {done:,} of {total:,} ({done / total:.0%}), about {duration(left)} left")

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, what: str) -> None:
        self.what = what
        self.began = time.monotonic()
        self.bar: Any = None

    def tick(self, done: int, total: int) -> None:
        if self.bar is None:
            if time.monotonic() - self.began < PATIENCE:
                return
            self._open()
        self.bar.update(0, completed=done, total=total)

    def _open(self) -> None:
        from rich.console import Console as Rich
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn(self.what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        aside = sys.stdout.isatty()  # results above the bar; those that go to a file or a pipe stay untouched
        self.bar = Bars(*columns, console=Rich(stderr=True), transient=True, redirect_stdout=aside)
        self.bar.add_task(self.what, total=None)
        self.bar.start()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
