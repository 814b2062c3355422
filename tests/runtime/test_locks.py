"""One writer at a time: refused while another lives, free as soon as it is dead."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from torchloupe.errors import UsageError
from torchloupe.runtime.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from torchloupe.runtime.locks import locked
with locked(Path(sys.argv[1]), "it is being written", "go away"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_holds_it_and_a_dead_owner_is_no_obstacle(tmp_path: Path) -> None:
    lock = tmp_path / "run" / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        said = rf"it is being written by process {other.pid} on {socket.gethostname()}, since \d{{4}}-.*, or go away"
        with pytest.raises(UsageError, match=said), locked(lock, "it is being written", "go away"):
            pass
        other.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        other.wait()
    assert lock.exists(), "what it left"
    with locked(lock, "it is being written", "go away"):
        assert str(os.getpid()) in lock.with_name(".lock.json").read_text()
    assert list(tmp_path.rglob(".*")) == []


def test_a_thread_may_nest_it_and_another_may_not(tmp_path: Path) -> None:
    lock, refused = tmp_path / ".lock", []

    def try_it() -> None:
        try:
            with locked(lock, "busy", "wait"):
                pass
        except UsageError as error:
            refused.append(str(error))

    with locked(lock, "busy", "wait"), locked(tmp_path / "." / ".lock", "busy", "wait"):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(refused) == 1 and f"process {os.getpid()}" in refused[0]
    try_it()
    assert len(refused) == 1, "free again"


def test_folders_made_for_it_go_unless_something_was_written(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b" / ".lock", "busy", "wait"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b" / ".lock", "busy", "wait"):
        (tmp_path / "a" / "b" / "letter.txt").write_text("dear")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "letter.txt"]
