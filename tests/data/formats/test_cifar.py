"""The official archives, as Python 2 and Python 3 pickled them; and pickles that mean harm."""

import importlib.util
import io
import os
import pickle
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torchloupe.data import load
from torchloupe.data.formats.unpickle import unpickle
from torchloupe.errors import DataError

Array = np.ndarray[Any, np.dtype[np.uint8]]


def python2(value: Any) -> bytes:
    """Emit what Python 2's `pickle.dumps(value, 2)` does: `str` as bytes, numpy arrays by `_reconstruct`."""
    if isinstance(value, int):
        return python2_int(value)
    if isinstance(value, bytes):
        head = b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))
        return head + value
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(key) + python2(item) for key, item in value.items()) + b"u"
    assert value is None or isinstance(value, np.ndarray)
    return b"N" if value is None else python2_array(value)


def python2_int(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    return b"M" + struct.pack("<H", value) if 0 <= value < 65536 else b"J" + struct.pack("<i", value)


def python2_array(value: Array) -> bytes:
    state = (b"|", None, None, None, -1, -1, 0)
    kind = b"cnumpy\ndtype\n" + python2(b"u1") + b"K\x00K\x01\x87R" + b"(K\x03"
    kind += b"".join(map(python2, state)) + b"tb"
    blank = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + b"K\x00\x85" + python2(b"b") + b"\x87R"
    shape = b"".join(map(python2, value.shape)) + b"\x86"
    return blank + b"(K\x01" + shape + kind + b"\x89" + python2(value.tobytes()) + b"tb"


def dumped2(value: Any) -> bytes:
    return b"\x80\x02" + python2(value) + b"."


def batch(count: int, seed: int, key: str = "labels", classes: int = 10) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "data": random.integers(0, 256, (count, 3072), np.uint8),
        key: [int(label) for label in random.integers(0, classes, count)],
        "filenames": [f"picture_s_{seed:02}{number:04}.png" for number in range(count)],
    }


def as_bytes(value: Any) -> Any:
    match value:
        case str():
            return value.encode()
        case list():
            return [as_bytes(item) for item in value]
        case dict():
            return {as_bytes(key): as_bytes(item) for key, item in value.items()}
    return value


CLASSES = [f"class{number}" for number in range(10)]


def cifar10() -> dict[str, dict[str, Any]]:
    made = {f"data_batch_{number}": batch(4, number) for number in range(1, 6)}
    return {**made, "test_batch": batch(3, 6), "batches.meta": {"label_names": CLASSES}}


def cifar100() -> dict[str, dict[str, Any]]:
    train, test = (batch(count, count, "fine_labels", 100) for count in (7, 5))
    train["coarse_labels"], test["coarse_labels"] = [0] * 7, [0] * 5
    meta = {"fine_label_names": [f"fine{number}" for number in range(100)], "coarse_label_names": ["coarse"]}
    return {"train": train, "test": test, "meta": meta}


def pack(path: Path, folder: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        top = tarfile.TarInfo(folder)
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        for name, payload in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(payload)
            archive.addfile(info, io.BytesIO(payload))
    return path


def unpack(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, payload in files.items():
        (folder / name).write_bytes(payload)
    return folder


def planes(rows: Array) -> Array:
    """Red, green and blue plane of each row: worked out by position, not by reshaping as the reader does."""
    found = np.zeros((len(rows), 3, 32, 32), np.uint8)
    for color in range(3):
        for line in range(32):
            start = 1024 * color + 32 * line
            found[:, color, line] = rows[:, start : start + 32]
    return found


def check10(path: Path) -> None:
    data = load(path, cache=False)
    files = cifar10()
    train = [files[f"data_batch_{number}"] for number in range(1, 6)]
    assert data.name == "cifar10"
    assert data.classes == tuple(CLASSES)
    assert np.array_equal(data.train.images.numpy(), planes(np.concatenate([part["data"] for part in train])))
    assert np.array_equal(data.test.images.numpy(), planes(files["test_batch"]["data"]))
    assert data.train.labels.tolist() == [label for part in train for label in part["labels"]]
    assert data.test.labels.tolist() == files["test_batch"]["labels"]
    assert data.train.labels.dtype == torch.int64
    assert data.test.names == tuple(f"test/{name}" for name in files["test_batch"]["filenames"])
    assert data.train.names[4] == "train/picture_s_020000.png"


def test_emitter_writes_what_pickle_reads() -> None:
    found = pickle.loads(dumped2({b"a": [1, 300, 70_000, b"x" * 300, None]}), encoding="bytes")
    assert found == {b"a": [1, 300, 70_000, b"x" * 300, None]}


@pytest.mark.parametrize("place", ["archive", "folder", "around"])
def test_true_python_2_pickles(tmp_path: Path, place: str) -> None:
    files = {name: dumped2(as_bytes(value)) for name, value in cifar10().items()}
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in files["test_batch"]
    if place == "archive":
        check10(pack(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", files))
    elif place == "folder":
        check10(unpack(tmp_path / "renamed", files))
    else:
        unpack(tmp_path / "cifar-10-batches-py", files)
        check10(tmp_path)


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_python_3_pickles(tmp_path: Path, module: bytes) -> None:
    written = {name: pickle.dumps(value, protocol=2) for name, value in cifar10().items()}
    now = b"numpy._core.multiarray" if b"numpy._core.multiarray" in written["test_batch"] else b"numpy.core.multiarray"
    files = {name: value.replace(now, module) for name, value in written.items()}
    check10(pack(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", files))


@pytest.mark.parametrize("by", ["python2", "python3"])
def test_cifar100(tmp_path: Path, by: str) -> None:
    made = cifar100()
    files = {name: dumped2(as_bytes(v)) if by == "python2" else pickle.dumps(v, 2) for name, v in made.items()}
    files = {"file.txt~": b"", **files}  # the official archive starts with it
    data = load(pack(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", files), cache=False)
    assert (data.name, len(data.classes), data.classes[99]) == ("cifar100", 100, "fine99")
    assert data.train.labels.tolist() == made["train"]["fine_labels"]
    assert np.array_equal(data.test.images.numpy(), planes(made["test"]["data"]))


def test_array_in_columns_first_order() -> None:
    value = np.arange(6, dtype=np.uint8).reshape(2, 3)
    found = unpickle(pickle.dumps({"data": np.asfortranarray(value)}, protocol=2), "x")["data"]
    assert np.array_equal(found, value)


class Evil:
    def __init__(self, target: Any, *arguments: Any) -> None:
        self.what = (target, arguments)

    def __reduce__(self) -> Any:
        return self.what


def test_a_pickle_that_means_harm_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for evil in (Evil(os.mkdir, str(mark)), Evil(eval, f"open({str(mark)!r}, 'w')"), Evil(getattr, mark, "touch")):
            with pytest.raises(DataError, match="which the official batches don't hold"):
                unpickle(pickle.dumps({"data": evil}, protocol), "data_batch_1")
    assert not mark.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x02cnumpy\ndtype\nU\x02O8\x85R.",  # an array of objects
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",  # another codec
        b"\x80\x02c_codecs\nencode\n}X\x08\x00\x00\x00__init__K\x01sb.",  # attributes of an admitted name
        b"\x80\x02cnumpy\nndarray\nN}X\x0c\x00\x00\x00__setstate__K\x01s\x86b.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nc_codecs\nencode\n\x85R.",
        b"\x80\x02cnumpy.core.multiarray\nfrombuffer\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02K\x01Q.",  # a persistent id
        b"\x80\x02K\x01.",  # not a dictionary
        b"\x80\x02}",  # cut short
        b"",
        b"<html>",
    ],
)
def test_strange_pickles_are_refused(code: bytes) -> None:
    with pytest.raises(DataError, match="cannot read 'x'"):
        unpickle(code, "x")


def test_a_shape_that_does_not_fit_its_bytes() -> None:
    good = dumped2({b"data": np.zeros((2, 3), np.uint8)})
    with pytest.raises(DataError, match="cannot read 'x'"):
        unpickle(good.replace(b"K\x02K\x03\x86", b"K\x02K\xff\x86"), "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1, 2]}, "one label for each of 3 pictures"),
        ({"labels": [0, 1, 10]}, "labels outside its 10 classes"),
        ({"data": np.zeros((3, 100), np.uint8)}, "rows of 3,072 bytes"),
        ({"data": [1]}, "rows of 3,072 bytes"),
    ],
)
def test_batches_that_do_not_fit(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    files = cifar10()
    files["test_batch"].update(change)
    path = unpack(tmp_path / "c", {name: pickle.dumps(value, 2) for name, value in files.items()})
    with pytest.raises(DataError, match=message):
        load(path, cache=False)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    files = {name: pickle.dumps(value, 2) for name, value in cifar10().items() if name != "data_batch_3"}
    path = pack(tmp_path / "c.tar.gz", "cifar-10-batches-py", files)
    with pytest.raises(DataError, match="lacks 'data_batch_3'"):
        load(path)


def test_meta_without_names(tmp_path: Path) -> None:
    files = {name: pickle.dumps(value, 2) for name, value in {**cifar10(), "batches.meta": {}}.items()}
    with pytest.raises(DataError, match="no list 'label_names'"):
        load(unpack(tmp_path / "c", files))


def test_an_archive_cut_short(tmp_path: Path) -> None:
    files = {name: pickle.dumps(value, 2) for name, value in cifar10().items()}
    path = pack(tmp_path / "c.tar.gz", "cifar-10-batches-py", files)
    whole = path.read_bytes()
    for length in (len(whole) // 2, len(whole) - 4):  # in the middle; within the checksum at the end
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="damaged or cut short"):
            load(path)
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # the CRC
    path.write_bytes(flipped)
    with pytest.raises(DataError, match="damaged or cut short"):
        load(path)


def test_two_data_sets_in_one_folder(tmp_path: Path) -> None:
    unpack(tmp_path / "cifar-10-batches-py", {name: pickle.dumps(value, 2) for name, value in cifar10().items()})
    unpack(tmp_path / "cifar-100-python", {name: pickle.dumps(value, 2) for name, value in cifar100().items()})
    with pytest.raises(DataError, match="holds more than one data set"):
        load(tmp_path)


def test_archive_made_from_the_real_pictures(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = real_data / "make_official_archive.py"
    if not script.is_file():
        pytest.skip("needs make_official_archive.py beside the real pictures")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("make_official_archive", script)
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    monkeypatch.setattr(sys, "argv", ["make", str(tmp_path / "made"), "--per-class", "20"])
    maker.main()
    data = load(tmp_path / "made")
    rows, labels, names, classes = maker.read("test", 4)
    assert data.classes == tuple(classes)
    assert np.array_equal(data.test.images.numpy(), planes(rows))
    assert (data.test.labels.tolist(), len(data.train)) == (labels.tolist(), 200)
    assert data.test.names == tuple(f"test/{name}" for name in names)
