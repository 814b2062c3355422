"""What a torture attempt may do and must not: one guarded call, its verdict, and the folder where the fallen lie.

An attempt survives if it works, or ends in a LoupeError or an exit code of 2 to 6 with one printable sentence. It falls
by a traceback, by exit code 1, by the canary, by more seconds of the processor than `SECONDS` (not of the clock: other
processes slow that), or by more memory than `ROOM`.
"""

import contextlib
import io
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torchloupe import cli
from torchloupe.errors import LoupeError

SECONDS = 20.0
ROOM = 400 << 20
LONGEST = 700
"""Letters of a sentence on the terminal, with `Error: ` and a hint of click around it."""


class SlowError(BaseException):
    """The time is over; no `except Exception` holds it up."""


@dataclass(frozen=True)
class Fallen:
    why: str
    detail: str = ""


def peak() -> int:
    """Return the most bytes that this process held since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return 0


def held() -> int:
    """Return the bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End what takes more seconds of the processor than that."""

    def ring(*_: object) -> None:
        raise SlowError

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def guarded(call: Callable[[], object], canary: Path | None = None, seconds: float = SECONDS) -> Fallen | None:
    """Make a call; return how it fell, or None if it survived."""
    forget_peak()
    before = held()
    fallen = None
    try:
        with limited(seconds):
            call()
    except SlowError:
        fallen = Fallen("too slow", traceback.format_exc())
    except LoupeError as error:
        fallen = _of_text(str(error), traceback.format_exc())
    except AssertionError as error:
        fallen = Fallen(str(error).partition("\n")[0], str(error))
    except BaseException as error:
        fallen = Fallen(f"{type(error).__name__}", traceback.format_exc())
    if canary is not None and canary.exists():
        canary.rmdir() if canary.is_dir() else canary.unlink()
        return Fallen("code ran")
    if fallen is None and peak() - before > ROOM:
        return Fallen(f"{(peak() - before) >> 20} MB of memory")
    return fallen


def _of_text(text: str, detail: str) -> Fallen | None:
    if not text.isprintable():
        return Fallen("control characters in a message", detail)
    return Fallen("a long message", detail) if len(text) > LONGEST else None


def command(*words: str) -> int:
    """Call the command line; what it ends with and what it prints must be as promised. Returns the exit code."""
    out, err, met = io.StringIO(), io.StringIO(), []
    explain = cli._explain

    def noting(error: BaseException) -> int:
        met.append("".join(traceback.format_exception(error)))
        if isinstance(error, SlowError):
            raise error
        return explain(error)

    code: object = 0
    cli._explain = noting
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main(list(words))
    except SystemExit as ended:
        code = ended.code
    finally:
        cli._explain = explain
    said = err.getvalue()
    detail = "\n".join([f"torchloupe {' '.join(words)}", said, *met])
    assert isinstance(code, int) and code in (0, 2, 3, 4, 5, 6), f"exit code {code}\n{detail}"
    for line in (*said.split("\n"), *(out.getvalue().split("\n") if code else ())):
        assert line.isprintable(), f"control characters on the terminal\n{detail}"
    if code:
        last = said.strip().split("\n")[-1]
        assert last.startswith("Error: "), f"no sentence\n{detail}"
        assert len(last) <= LONGEST, f"a long message\n{detail}"
    return code


@dataclass
class Tally:
    """How many of each kind were tried, and which fell."""

    tried: dict[str, int]
    fell: dict[str, int]

    def add(self, kind: str, fallen: bool) -> None:
        self.tried[kind] = self.tried.get(kind, 0) + 1
        self.fell[kind] = self.fell.get(kind, 0) + fallen

    def table(self) -> str:
        """Return a table of the kinds.

        >>> print(Tally({"a": 2}, {"a": 1}).table().splitlines()[1])
        a                                          2         1
        """
        rows = [("kind", "tried", "survived")]
        rows += [(kind, f"{n:,}", f"{n - self.fell[kind]:,}") for kind, n in sorted(self.tried.items())]
        whole = sum(self.tried.values())
        rows.append(("all", f"{whole:,}", f"{whole - sum(self.fell.values()):,}"))
        return "\n".join(f"{a:<34}{b:>10}{c:>10}" for a, b, c in rows)
