"""Pipes, sockets and devices where files should be: never opened, as opening one may block for good."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import Run, one_sentence
from pets import as_folder, pets
from torchloupe.checkpoints.file import read_tensors
from torchloupe.checkpoints.open import read_weights
from torchloupe.data import load
from torchloupe.errors import DataError, LoupeError, ModelError
from torchloupe.runtime.files import read_json
from torchloupe.training.config import from_toml

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def plug(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")  # endless
    return path


@pytest.fixture(autouse=True)
def no_hang(tmp_path: Path) -> Iterator[None]:
    """Open every pipe for writing after a long while, so that what blocks on one fails instead of blocking."""
    over = threading.Event()

    def unblock() -> None:
        if not over.wait(60):
            for path in tmp_path.rglob("*"):
                if path.is_fifo():
                    os.close(os.open(path, os.O_RDWR))

    thread = threading.Thread(target=unblock, daemon=True)
    thread.start()
    yield
    over.set()


@pytest.mark.parametrize(("make", "what"), [(pipe, "named pipe"), (plug, "socket"), (device, "device")])
def test_among_pictures_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], what: str
) -> None:
    path = as_folder(tmp_path / "mine", pets(10))
    monkeypatch.chdir(path / "cat")  # names of sockets are short
    make(Path("odd.png"))
    with pytest.raises(DataError, match=rf"1 picture of 21 .*cat/odd\.png \(a {what}, not a file\)"):
        load(path)
    assert len(load(path, skip_bad=True).train.names) == 16


@pytest.mark.parametrize("make", [pipe, device])
def test_as_the_data_set_itself(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(DataError, match=r"cannot read .*, not a file"):
        load(make(tmp_path / "mine.tar"))


def test_as_official_batches(tmp_path: Path) -> None:
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        pipe(tmp_path / "mine" / name)
    with pytest.raises(DataError):
        load(tmp_path / "mine")


@pytest.mark.parametrize(
    ("read", "name"),
    [(read_tensors, "a.safetensors"), (read_weights, "a.safetensors"), (read_json, "a.json"), (from_toml, "a.toml")],
)
def test_as_a_file_of_a_run(tmp_path: Path, read: Callable[[Path], Any], name: str) -> None:
    with pytest.raises(LoupeError, match="named pipe, not a file"):
        read(pipe(tmp_path / name))


def test_as_a_picture_or_a_model_of_the_command_line(tmp_path: Path, run: Run) -> None:
    odd = pipe(tmp_path / "odd.png")
    one_sentence(run("show", "filters", str(odd)), ModelError.exit_code, "odd.png")
    for where in (odd, tmp_path):
        ended = run("show", "invert", "cifar10", "--pictures", str(where))
        one_sentence(ended, DataError.exit_code, "odd.png", "named pipe, not a file")
    one_sentence(run("sheet", str(tmp_path)), DataError.exit_code, "odd.png")
    one_sentence(run("train", "--data", str(odd)), DataError.exit_code, "odd.png")
