"""Files decoded ahead: in order, as `decode` does, and never more of them than was said."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from alive import Alive
from pets import as_folder, png
from torchloupe.data.formats import stream
from torchloupe.data.formats.decode import decode
from torchloupe.data.formats.stream import decoded


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    as_folder(tmp_path / "f", {f"{i:03}.png": png(i, 4 + i % 3, 5) for i in range(100)})
    return sorted((tmp_path / "f").iterdir())


@pytest.mark.parametrize("ahead", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("side", [None, 3])
def test_every_picture_comes_once_in_order_as_decode_gives_it(files: list[Path], ahead: int, side: int | None) -> None:
    found = list(decoded(files, side, ahead=ahead))
    assert [one.path for one in found] == files
    for one in found:
        assert one.pixels is not None and np.array_equal(one.pixels, decode(one.path.read_bytes(), side))


@pytest.mark.parametrize("ahead", [1, 8, 24])
def test_no_more_are_held_than_was_said(monkeypatch: pytest.MonkeyPatch, files: list[Path], ahead: int) -> None:
    alive = Alive(monkeypatch)
    for one in decoded(files, 3, ahead=ahead):
        assert one.pixels is not None
        time.sleep(0.001)  # the threads go as far as they may
        del one
    assert alive.all == 100 and alive.now == 0 and alive.most <= ahead + 1


def test_a_bad_file_stands_in_its_place_and_says_why(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    names = ["empty.png", "text.png", "none.png", "."]
    found = list(decoded([files[0], *(tmp_path / name for name in names), files[1]], 3))
    assert [one.pixels is None for one in found] == [False, True, True, True, True, False]
    causes = ("the file is empty", "not a JPEG", "no such file or directory", "a folder, not a file")
    for one, cause in zip(found[1:5], causes, strict=True):
        assert cause in one.error


def test_closing_it_ends_the_threads(monkeypatch: pytest.MonkeyPatch, files: list[Path]) -> None:
    alive = Alive(monkeypatch)
    before = threading.active_count()
    some = decoded(files, 3, ahead=8)
    next(some)
    some.close()
    assert alive.all < 20 and threading.active_count() == before


def test_too_little_memory_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch, files: list[Path]) -> None:
    def none_left(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(stream, "decode", none_left)
    with pytest.raises(MemoryError):
        list(decoded(files, 3))
