"""Commands in forked processes: no import is paid twice, and each may be killed, starved or signalled."""

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torture.disk import Disk

PRELOADED = ("torch", "torchloupe.pipeline", "torchloupe.cli.train", "torchloupe.cli.show", "torchloupe.cli.report")
LIMIT = 300.0
"""Seconds after which a process that still runs counts as hanging."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal that ended it."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def sentence(self) -> bool:
        """It ended as promised: done, or with a documented code and one sentence, and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        told = self.code == 0 or (self.code in (2, 3, 4, 5, 6) and len(lines) == 1)
        return told and "Traceback" not in self.err and "bug" not in self.err

    @property
    def last(self) -> str:
        """The last line that it said."""
        return (self.err.strip().splitlines() or [""])[-1]


def forked(
    work: Callable[[], Any], home: Path, *, disk: Disk | None = None, send: tuple[int, float] | None = None
) -> Ended:
    """Run something in a process of its own, in the folder `home`; `send`: a signal, and seconds until it is sent."""
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = home.parent / f"{home.name}.out", home.parent / f"{home.name}.err"
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        _child(work, home, out, err, disk)
    timers = [threading.Timer(LIMIT, os.kill, (process, signal.SIGKILL))]
    if send is not None:
        timers.append(threading.Timer(send[1], _signalled, (process, send[0])))
    for timer in timers:
        timer.start()
    _, status = os.waitpid(process, 0)
    for timer in timers:
        timer.cancel()
    seconds = time.monotonic() - began
    said, complained = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
    return Ended(os.waitstatus_to_exitcode(status), said, complained, seconds)


def _signalled(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it had ended
        os.kill(process, number)


def _child(work: Callable[[], Any], home: Path, out: Path, err: Path, disk: Disk | None) -> None:
    code = 1
    try:
        for stream, path in ((1, out), (2, err)):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, stream)
            os.close(handle)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.chdir(home)
        if disk is not None:
            disk.watch()
        work()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for each in (sys.stdout, sys.stderr):
            with suppress(OSError):
                each.flush()
        os._exit(code)


def preload() -> None:
    """Import once what the processes need; nothing is computed here: threads would not outlive a fork."""
    for name in PRELOADED:
        importlib.import_module(name)


def command(*words: object) -> Callable[[], None]:
    """Return a command of the command line, to be run in a process of its own."""

    def call() -> None:
        from torchloupe.cli import main

        sys.argv = ["torchloupe", *map(str, words)]
        main()

    return call


def counted(work: Callable[[], Any], home: Path) -> list[str]:
    """Return the operations on the file system that something does when nothing fails."""
    path = home.parent / f"{home.name}.operations"

    def noted() -> None:
        disk = Disk(home)
        disk.watch()
        try:
            work()
        except SystemExit as left:
            if left.code:
                raise
        path.write_text("\n".join(disk.seen))

    ended = forked(noted, home)
    assert ended.code == 0, ended
    return path.read_text().splitlines()
