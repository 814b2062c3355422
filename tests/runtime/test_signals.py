"""Signals end a command wherever they come, no import installs a handler, and a command ends after its last line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import signal, sys
numbers = {numbers}

class Strike:
    seen = set()

    def find_spec(self, name, path=None, target=None):
        if name == {module!r} and name not in self.seen:
            self.seen.add(name)
            try:
                for number in numbers:
                    signal.raise_signal(number)
            except BaseException:
                if not {swallowed}:
                    raise

{setup}
sys.meta_path.insert(0, Strike())
sys.argv = ["torchloupe", *{words}]
from torchloupe.__main__ import main
main()
"""
PATCHED = """
import {module}
import torchloupe.runtime.signals
torchloupe.runtime.signals.GRACE = 0.2

def strike(*_, **__):
{body}

{module}.{name} = strike
import sys
sys.argv = ["torchloupe", *{words}]
from torchloupe.__main__ import main
main()
"""
TINY = ("train", "--data", "shapes", "--size", "8", "--steps", "3", "--batch", "8", "--device", "cpu", "--out", "r")


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder, timeout=600
    )


def struck(
    folder: Path, module: str, number: int, *, swallowed: bool = False, setup: str = "", words: tuple[str, ...] = TINY
) -> subprocess.CompletedProcess[str]:
    code = BEGIN.format(module=module, numbers=[int(number)], swallowed=swallowed, setup=setup, words=words)
    return python(code, folder)


@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("module", ["click", "torchloupe.cli.train", "torch", "torch.nn", "numpy"])
def test_ctrl_c_while_something_is_imported(tmp_path: Path, module: str, swallowed: bool) -> None:
    ended = struck(tmp_path, module, signal.SIGINT, swallowed=swallowed)
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "Stopped.\n", "")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_other_signals_while_something_is_imported(tmp_path: Path, name: str, code: int) -> None:
    ended = struck(tmp_path, "torch", getattr(signal, name))
    assert (ended.returncode, ended.stderr) == (code, "Stopped.\n")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path, name: str) -> None:
    """As `nohup` and `&` leave them."""
    ignore = f"signal.signal(signal.{name}, signal.SIG_IGN)"
    ended = struck(tmp_path, "click", getattr(signal, name), setup=ignore, words=("--version",))
    assert ended.returncode == 0 and "torchloupe" in ended.stdout, ended.stderr
    body = f"    import signal\n    signal.raise_signal(signal.{name})\n    print('went on')\n    sys.exit(7)"
    code = f"import signal\n{ignore}" + patched("torchloupe.training.loop", "Run._learn", body, TINY)
    ended = python(code, tmp_path)
    assert ended.returncode == 7 and "went on" in ended.stdout, ended.stderr


def patched(module: str, name: str, body: str, words: tuple[str, ...]) -> str:
    return PATCHED.format(module=module, name=name, body=body, words=words)


STRIKE = "    import signal\n    signal.raise_signal(signal.{})\n"


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_code_that_swallows_the_interruption_is_ended_soon(tmp_path: Path, name: str, code: int) -> None:
    body = "    import signal, time\n    try:\n        signal.raise_signal(signal.{})\n    except BaseException:\n"
    body = body.format(name) + "        time.sleep(600)"
    ended = python(patched("torchloupe.data", "load", body, TINY), tmp_path)
    assert ended.returncode == code and "Traceback" not in ended.stderr


def test_an_interrupted_command_says_so(tmp_path: Path) -> None:
    ended = python(patched("torchloupe.data", "load", STRIKE.format("SIGTERM"), TINY), tmp_path)
    assert ended.returncode == 143 and ended.stderr.splitlines()[-1] == "Stopped." and "Traceback" not in ended.stderr


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    """In a training the first one only asks it to end after its step."""
    body = (
        STRIKE.format("SIGINT") + "    print('a step goes on')\n" + STRIKE.format("SIGINT") + "    print('still here')"
    )
    ended = python(patched("torchloupe.training.loop", "Run._learn", body, TINY), tmp_path)
    assert ended.returncode == 130 and "Stopped.\n" in ended.stderr and "Traceback" not in ended.stderr
    assert "still here" not in ended.stdout


def test_ctrl_c_in_the_last_step_still_counts(tmp_path: Path) -> None:
    """So that `torchloupe run` does not go on with the test and the report."""
    body = "    import signal\n    signal.raise_signal(signal.SIGINT)\n    return {}"
    words = ("run", "--data", "shapes", "--out", "r")
    ended = python(patched("torchloupe.pipeline", "train", body, words), tmp_path)
    assert ended.returncode == 130 and "── test" not in ended.stderr and "Traceback" not in ended.stderr


def test_importing_the_library_installs_no_handler(tmp_path: Path) -> None:
    code = (
        "import signal\nnames = [n for n in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, n)]\n"
        "before = [signal.getsignal(getattr(signal, n)) for n in names]\n"
        "import torchloupe, torchloupe.runtime.signals, torchloupe.cli, torchloupe.__main__\n"
        "torchloupe.load, torchloupe.invert\n"
        "assert before == [signal.getsignal(getattr(signal, n)) for n in names]"
    )
    assert python(code, tmp_path).returncode == 0


@pytest.mark.parametrize("hang", ["threading.Thread(target=wait).start()", "atexit.register(wait)"])
def test_a_command_ends_after_its_last_line(tmp_path: Path, hang: str) -> None:
    code = (
        "import atexit, sys, threading, time\nimport torchloupe.runtime.signals\n"
        "torchloupe.runtime.signals.GRACE = 0.2\nwait = lambda: time.sleep(10_000)\n"
        f"{hang}\nsys.argv = ['torchloupe', '--version']\nfrom torchloupe.__main__ import main\nmain()"
    )
    ended = python(code, tmp_path)
    assert ended.returncode == 0 and "version" in ended.stdout, ended.stderr


def test_maximizing_ends(tmp_path: Path) -> None:
    words = ["show", "maximize", "cifar10", "--channels", "0", "--steps", "2", "--device", "cpu", "--out", "a.png"]
    command = [sys.executable, "-m", "torchloupe", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600)
    assert ended.returncode == 0 and (tmp_path / "a.png").is_file(), ended.stderr


def test_nothing_is_imported_from_the_folder_it_is_called_in(tmp_path: Path) -> None:
    for name in ("signal", "threading", "typing", "atexit", "click", "torch"):
        (tmp_path / f"{name}.py").write_text("print('a stranger')")
    command = [sys.executable, "-m", "torchloupe", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600)
    assert ended.returncode == 0 and "a stranger" not in ended.stdout, ended.stderr
