"""What reaches a terminal: nothing that steers it, whatever a file said."""

import io
import os
import subprocess
import sys

import pytest

from torchloupe.errors import LONGEST_MESSAGE, LoupeError, ModelError, UsageError, short
from torchloupe.runtime.console import Console, print_result

HOSTILE = "\x1b]0;mine\x07\x1b[2J\rError: all is well\u202e\x00"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_messages_for_people_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    Console().say(f"Data   {HOSTILE}\nPlan   b")
    Console().box(f"{HOSTILE}\n{HOSTILE}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6 and all(line.isprintable() for line in lines) and lines[1] == "Plan   b"


def test_results_are_printable_where_a_person_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, told in ((Terminal(), "·]0;mine"), (io.StringIO(), HOSTILE)):
        monkeypatch.setattr(sys, "stdout", stream)
        print_result(f"a {HOSTILE}\nb")
        assert told in stream.getvalue() and stream.getvalue().endswith("\nb\n")


def test_results_of_letters_that_the_terminal_lacks_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_result("caf\udce9 é")
    assert raw.getvalue() == b"caf\\udce9 \\xe9\n"


@pytest.mark.parametrize("kind", [LoupeError, UsageError, ModelError])
def test_every_error_is_one_line_that_a_terminal_can_show(kind: type[LoupeError]) -> None:
    said = str(kind(f"'{HOSTILE * 1000}' is no model. Name another one."))
    assert said.isprintable() and len(said) == LONGEST_MESSAGE
    assert said.startswith("'·]0;mine") and said.endswith("is no model. Name another one.")


def test_a_strangers_text_is_quoted_and_cut() -> None:
    assert short(HOSTILE).isprintable() and short("x" * 10_000) == f"'{'x' * 99}…'"


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
def test_results_that_go_into_a_pipe_pass_by_a_bar_on_the_terminal() -> None:
    import pty

    code = (
        "from torchloupe.runtime import console\n"
        "console.PATIENCE = 0\n"
        "with console.Console().progress('working') as tick:\n"
        "    tick(1, 2), console.print_result('a row'), tick(2, 2)\n"
    )
    terminal, end = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=end, check=True)
        os.close(end)
        assert done.stdout == b"a row\n" and b"working" in os.read(terminal, 10_000)
    finally:
        os.close(terminal)
