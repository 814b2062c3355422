"""What a command of the command line ends with."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def one_sentence(ended: Ended, code: int, *parts: str) -> None:
    """One line on stderr, no traceback, nothing on stdout, the exit code as documented."""
    lines = ended.err.strip().splitlines()
    assert ended.code == code, ended
    assert len(lines) == 1 and lines[0].startswith("Error: "), ended.err
    assert ended.out == "" and "Traceback" not in ended.err and "bug" not in ended.err
    for part in parts:
        assert part in lines[0], ended.err
