"""Ctrl-C, SIGTERM and SIGHUP of the command line: one handler, from before anything slow is imported to the end.

The first signal ends the work in order, a second Ctrl-C at once. Nothing is lost by the latter: what has a final name
is whole. Signals that were ignored when the process began (`nohup`, `&`) stay so, and importing this installs nothing.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

GRACE = 10.0
"""Seconds that a process has to end in order; then it is ended."""
NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stop(SystemExit):
    """A signal to stop, other than Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class _State:
    """What the handler knows: there is one for the process, as for its signals."""

    installed = False
    caught: tuple[int, ...] = ()
    """Signals since it was installed."""
    waiting: list[int] | None = None
    """Filled while the work ends by itself once it hears of a signal."""


@contextmanager
def handled() -> Iterator[None]:
    """Handle signals inside; within another `handled`, or in another thread than the first, nothing is done.

    >>> with handled():
    ...     signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    False
    >>> signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    True
    """
    if _State.installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in NUMBERS}
    mine = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    _State.installed, _State.caught = True, ()
    done = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        again, _State.caught = bool(_State.caught), (*_State.caught, number)
        if again and number == signal.SIGINT:
            leave(number)
        if _State.waiting is not None:
            _State.waiting.append(number)
        elif not again:
            if _may_swallow(frame):
                leave(number)
            _end_after(GRACE, 128 + number, done)
            raise KeyboardInterrupt if number == signal.SIGINT else Stop(number)

    try:
        for number in mine:
            signal.signal(number, handle)
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
        _State.installed = False
        done.set()


@contextmanager
def postponed() -> Iterator[list[int]]:
    """Let the work inside end by itself: yields a list that gets the signals that came; a second Ctrl-C ends at once.

    Where the work was done before it heard of one, that counts after it.

    >>> with handled(), postponed() as caught:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     caught.pop() == signal.SIGTERM
    True
    """
    caught: list[int] = []
    _State.waiting = caught
    try:
        with handled():
            yield caught
    finally:
        _State.waiting = None
    if caught:
        raise KeyboardInterrupt if caught[0] == signal.SIGINT else Stop(caught[0])


def leave(number: int) -> NoReturn:
    """End the process at once, as one that a signal ended."""
    with suppress(OSError):
        show_cursor = b"\x1b[?25h" if os.isatty(2) else b""  # a progress bar hides it
        os.write(2, show_cursor + b"Stopped.\n")
    os._exit(128 + number)


def finish(code: int) -> NoReturn:
    """End the process now, whatever threads are still there: what is left to do at its exit has a while to be done."""
    _end_after(GRACE, code, threading.Event())
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # whoever read it has had enough
            pass
        except OSError:
            code = code or 5
    os._exit(code)


def _end_after(seconds: float, code: int, unless: threading.Event) -> None:
    """End the process after so many seconds: code that was interrupted may have swallowed that, or wait for ever."""

    def end() -> None:
        if not unless.wait(seconds):
            os._exit(code)

    threading.Thread(target=end, daemon=True).start()


def _may_swallow(frame: FrameType | None) -> bool:
    """Tell whether an exception raised here may be swallowed, or leave a module half imported: in imports, finalizers.

    >>> import sys
    >>> _may_swallow(sys._getframe())
    False
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib") or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
