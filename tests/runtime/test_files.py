"""atomic_write under every failure that can be staged: the old file or the new one, and nothing beside it."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torchloupe.errors import ResourceError
from torchloupe.runtime import files
from torchloupe.runtime.files import atomic_stream, atomic_write, sweep


def fail(number: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    return path


def only(path: Path) -> bytes:
    """The file's bytes; there is nothing beside it."""
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "os.open", "pathlib.Path.mkdir"])
def test_full_disk_keeps_the_old_file(target: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int) -> None:
    monkeypatch.setattr(step, fail(number))
    with pytest.raises(ResourceError, match="the disk is full") as raised:
        atomic_write(target, b"new")
    monkeypatch.undo()
    assert str(target) in str(raised.value) and "\n" not in str(raised.value)
    assert only(target) == b"old"


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_other_errors_and_interrupts_leave_nothing(target: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for stop, kind, said in (
        (fail(errno.EIO), ResourceError, "input/output error. Check the disk"),
        (fail(errno.EACCES), ResourceError, "permission denied. Check the permissions"),
        (interrupt, KeyboardInterrupt, None),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(step, stop)
            with pytest.raises(kind, match=said):
                atomic_write(target, b"new")
        assert only(target) == b"old"


def test_data_is_on_disk_before_it_gets_its_name(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}")
        fsync(handle)

    def note_replace(self: Path, to: Path) -> Path:
        done.append("rename")
        assert self.parent == to.parent and to.read_bytes() == b"old"
        return replace(self, to)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    atomic_write(target, b"newer")
    assert done == ["file of 5", "rename", "folder"]
    assert only(target) == b"newer"


WRITER = """
import os, sys, time
from pathlib import Path
from torchloupe.runtime import files
handle, new = files._new_beside(Path(sys.argv[1]))
print(new.name, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="there an open file cannot be removed")
def test_what_the_dead_left_is_swept_and_what_the_living_write_is_not(target: Path) -> None:
    words = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        part = target.with_name(writer.stdout.readline().strip())
        foreign = target.with_name(".b.txt.0123456789abcdef.part")
        foreign.write_bytes(b"of another file")
        atomic_write(target, b"new")
        assert part.exists(), "its writer lives"
        writer.kill()
        writer.wait()
        atomic_write(target, b"newer")
        assert not part.exists() and foreign.exists() and target.read_bytes() == b"newer"
    sweep(target.parent)
    assert only(target) == b"newer"


def test_folders_are_made_and_the_mode_is_an_ordinary_one(tmp_path: Path) -> None:
    atomic_write(tmp_path / "x" / "y" / "z.bin", b"1")
    (tmp_path / "x" / "y" / "plain").write_bytes(b"1")
    modes = {path.stat().st_mode for path in (tmp_path / "x" / "y").iterdir()}
    assert len(modes) == 1


@pytest.mark.skipif(os.name != "posix", reason="there is no umask")
@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_the_umask_is_honored_and_never_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int) -> None:
    """Another thread would make its files with whatever mask is set meanwhile."""
    before, real = os.umask(mask), os.umask
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", fail(errno.EPERM))
            atomic_write(tmp_path / "a.txt", b"1")
            atomic_write(tmp_path / "a.txt", b"2")
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask
        assert real(mask) == mask
    finally:
        real(before)


def test_many_threads_write_one_name_and_one_of_them_wins(tmp_path: Path) -> None:
    texts = [bytes([letter]) * 10_000 for letter in b"abcdefgh"]
    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(lambda text: atomic_write(tmp_path / "a.txt", text), texts))
    assert only(tmp_path / "a.txt") in texts


@pytest.mark.parametrize("name", ["é" * 120 + ".txt", "猫" * 85, "x" * 255, ".hidden", "a b\n.csv"], ids=range(5))
def test_any_name_that_the_system_takes(tmp_path: Path, name: str) -> None:
    atomic_write(tmp_path / name, b"1")
    assert only(tmp_path / name) == b"1"


def test_a_read_only_folder_is_told_and_left_alone(target: Path) -> None:
    target.parent.chmod(0o555)
    try:
        if os.access(target.parent, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(ResourceError, match="permission denied"):
            atomic_write(target, b"new")
        assert only(target) == b"old"
    finally:
        target.parent.chmod(0o755)


def test_a_file_where_a_folder_should_be(target: Path) -> None:
    with pytest.raises(ResourceError, match=r"a\.txt"):
        atomic_write(target / "b.txt", b"new")
    assert only(target) == b"old"


def test_a_stream_has_its_name_when_all_of_it_is_there(tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_stream(target) as write:
        write(b"new")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    with pytest.raises(OSError, match="elsewhere"), atomic_stream(target) as write:
        raise OSError("of another file, elsewhere")  # is not told as one of this
    with atomic_stream(target) as write:
        write(b"one, ")
        write(b"two")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"one, two" and [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_disk_that_fills_up_on_the_way_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_new_beside", lambda path: (os.open("/dev/full", os.O_WRONLY), tmp_path / ".x.part"))
        with pytest.raises(ResourceError, match="disk is full"), atomic_stream(tmp_path / "a.txt") as write:
            write(b"x" * 1_000_000)
    assert not list(tmp_path.iterdir())
