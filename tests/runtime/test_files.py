"""atomic_write under every failure that can be staged: the old file or the new one, and nothing beside it."""

import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torchloupe.errors import ResourceError
from torchloupe.runtime.files import atomic_write


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
def test_other_errors_and_interrupts_pass_and_leave_nothing(
    target: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for stop, kind in ((fail(errno.EIO), OSError), (interrupt, KeyboardInterrupt)):
        with monkeypatch.context() as patch:
            patch.setattr(step, stop)
            with pytest.raises(kind):
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
        with pytest.raises(PermissionError):
            atomic_write(target, b"new")
        assert only(target) == b"old"
    finally:
        target.parent.chmod(0o755)


def test_a_file_where_a_folder_should_be(target: Path) -> None:
    with pytest.raises(OSError, match=r"a\.txt"):
        atomic_write(target / "b.txt", b"new")
    assert only(target) == b"old"
