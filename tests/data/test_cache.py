"""The cache: found again, noticed when stale or damaged, bounded, and never in the way."""

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from torchloupe.data import Dataset, load
from torchloupe.data import cache as cache_module
from torchloupe.data import memory as memory_module
from torchloupe.data.fingerprint import ENDS, fingerprint, zip_directory
from torchloupe.data.formats.fill import Filled, fill
from torchloupe.data.statistics import mean_std
from torchloupe.errors import DataError, ResourceError


def png(value: int, side: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 255 - value)).save(stream, "PNG")
    return stream.getvalue()


def make_zip(path: Path, split: bool = True, value: int = 0, **extra: bytes) -> Path:
    folders = ("train/cat", "train/dog", "test/cat", "test/dog") if split else ("cat", "dog")
    files = {f"{folder}/{i}.png": png(value + i) for folder in folders for i in range(5)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**files, **{name.replace("_", "/") + ".png": data for name, data in extra.items()}}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def same(one: Dataset, other: Dataset) -> None:
    for a, b in ((one.train, other.train), (one.test, other.test)):
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and a.names == b.names
        assert a.images.dtype == torch.uint8 and a.labels.dtype == torch.int64
    for field in ("name", "classes", "mean", "std", "source", "size", "notes"):
        assert getattr(one, field) == getattr(other, field)


def entries(cache_folder: Path) -> list[Path]:
    return sorted((cache_folder / "decoded").glob("*.safetensors"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects a line for each time that pictures are decoded."""
    lines: list[str] = []

    def counted(*arguments: Any) -> Filled:
        lines.append("decoded")
        return fill(*arguments)

    monkeypatch.setattr("torchloupe.data.formats.folder.fill", counted)
    return lines


def test_second_load_is_the_same_and_decodes_nothing(tmp_path: Path, cache_folder: Path, decoded: list[str]) -> None:
    path = make_zip(tmp_path / "pets.zip", split=False, cat_0=png(1, 9))  # with notes, and mixed sizes
    first = load(path, 16, seed=3)
    count = len(decoded)
    same(load(path, 16, seed=3), first)
    assert len(decoded) == count and len(entries(cache_folder)) == 1
    same(load(path, 16, seed=3, cache=False), first)
    assert len(decoded) > count


def test_nothing_is_written_when_no_cache_is_wanted(tmp_path: Path, cache_folder: Path) -> None:
    load(make_zip(tmp_path / "pets.zip"), cache=False)
    assert not cache_folder.exists()


def test_options_that_do_not_matter_share_one_entry(tmp_path: Path, cache_folder: Path, decoded: list[str]) -> None:
    path = make_zip(tmp_path / "pets.zip")
    for size, seed, skip_bad in ((None, 0, False), (32, 0, False), (None, 7, True), (4, 1, True)):
        assert load(path, size, seed=seed, skip_bad=skip_bad).size == (32 if size == 32 else None)
    assert len(decoded) == len(entries(cache_folder)) == 1


def test_options_that_matter_do_not(tmp_path: Path, decoded: list[str]) -> None:
    path = make_zip(tmp_path / "pets.zip", split=False, cat_big=png(1, 9))
    sides = [load(path, size).train.images.shape[-1] for size in (None, 16, 64, 16)]
    assert sides == [64, 16, 64, 16]
    assert load(path, seed=1).test.names == load(path, seed=1, cache=False).test.names
    assert load(path, seed=0).test.names == load(path, seed=0, cache=False).test.names


def test_skipped_pictures_are_refused_again_unless_skipped_again(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "pets.zip", train_cat_bad=b"x")
    first = load(path, skip_bad=True)
    same(load(path, skip_bad=True), first)
    assert "bad.png" in first.notes[0]
    with pytest.raises(DataError, match="can't be read"):
        load(path)


def test_a_changed_zip_is_read_again_even_with_the_same_size_and_time(tmp_path: Path, cache_folder: Path) -> None:
    path = make_zip(tmp_path / "pets.zip")
    facts = path.stat()
    first = load(path)
    make_zip(path, value=100)  # the same names and lengths, other pixels
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size
    assert load(path).mean != first.mean
    assert len(entries(cache_folder)) == 1  # the stale one is gone


@pytest.mark.parametrize("change", ["add", "remove", "rename", "edit", "touch"])
def test_a_changed_folder_has_another_fingerprint(tmp_path: Path, change: str) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    file = tmp_path / "cat" / "2.png"
    if change == "add":
        (tmp_path / "dog" / "2.png").write_bytes(png(2))
    elif change == "remove":
        file.unlink()
    elif change == "rename":
        file.rename(tmp_path / "cat" / "3.png")
    elif change == "edit":
        file.write_bytes(b"other")
    else:
        os.utime(file, ns=(1, 1))
    assert fingerprint(tmp_path) != before


def test_directory_of_a_zip_is_found_whatever_follows(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "pets.zip")
    for comment in (b"", b"a comment" * 1000):
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = comment
            start = archive.start_dir
            count = len(archive.namelist())
        with zipfile.ZipFile(path) as archive:
            start = archive.start_dir
        whole = path.read_bytes()
        found, size = zip_directory(whole[-ENDS - 22 :])
        assert found == start
        assert whole[found : found + size].count(b"PK\x01\x02") == count
        assert whole[found + size : found + size + 4] == b"PK\x05\x06"


def test_directory_of_a_zip_of_over_4_gigabytes() -> None:
    start, size = 5 << 32, 3 << 32
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert zip_directory(b"..." + end64 + locator + end) == (start, size)


def test_every_damage_is_noticed(tmp_path: Path, cache_folder: Path) -> None:
    path = make_zip(tmp_path / "pets.zip")
    first = load(path)
    (file,) = entries(cache_folder)
    whole = file.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    # Each byte of the header, a scatter of the rest; cut short anywhere, and grown.
    places = [*range(header), *range(header, len(whole), 41), len(whole) - 1]
    spoiled = [whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :] for place in places]
    spoiled += [whole[:length] for length in (0, 7, 8, header, header + 10, len(whole) - 1)] + [whole + b"x"]
    for number, data in enumerate(spoiled):
        file.write_bytes(data)
        try:
            images, statistics = cache_module._load(file)
        except Exception:
            continue
        # What passes must be what was written (a flipped bit in the padding, say).
        assert torch.equal(images.images, torch.cat([first.train.images, first.test.images])), number
        assert (images.names, statistics) == (first.train.names + first.test.names, (first.mean, first.std)), number


def test_a_damaged_cache_is_rebuilt_with_one_line(tmp_path: Path, cache_folder: Path, decoded: list[str]) -> None:
    path = make_zip(tmp_path / "pets.zip")
    first = load(path)
    (file,) = entries(cache_folder)
    whole = bytearray(file.read_bytes())
    whole[-1000] ^= 4
    file.write_bytes(whole)
    said: list[str] = []
    same(load(path, say=said.append), first)
    assert len(decoded) == 2 and len(said) == 1 and "damaged" in said[0]
    same(load(path, say=said.append), first)
    assert len(decoded) == 2 and len(said) == 1


def test_no_cache_folder_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TORCHLOUPE_CACHE", str(tmp_path / "file" / "cache"))
    said: list[str] = []
    assert len(load(make_zip(tmp_path / "pets.zip"), say=said.append).train) == 10
    assert len(said) == 1 and said[0].startswith("going on without a cache")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> NoReturn:
        raise ResourceError("cannot write 'x': the disk is full.")

    monkeypatch.setattr(cache_module, "atomic_write", full)
    said: list[str] = []
    assert len(load(make_zip(tmp_path / "pets.zip"), say=said.append).train) == 10
    assert said == ["going on without a cache: cannot write 'x': the disk is full."]


def test_too_large_to_be_cached(tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "free_memory", lambda: 20 * 3 * 4 * 4 * 2)
    said: list[str] = []
    load(make_zip(tmp_path / "pets.zip"), say=said.append)
    assert "too large to be cached" in said[0] and not entries(cache_folder)


def test_a_data_set_that_changes_while_it_is_read(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_zip(tmp_path / "pets.zip")

    def change(*_: int) -> None:
        os.utime(path, ns=(1, 1))

    load(path, progress=change)
    assert not entries(cache_folder)


def test_the_cache_stays_bounded(tmp_path: Path, cache_folder: Path) -> None:
    path = make_zip(tmp_path / "pets.zip", split=False)
    other = make_zip(tmp_path / "other.zip")
    load(other)
    left, fresh = (cache_folder / "decoded" / f".x{cache_module.Place(path, '').prefix[-13:]}-{n}.part" for n in "12")
    for part in (left, fresh):
        part.write_bytes(b"half")
    os.utime(left, (1, 1))
    for seed in range(6):
        load(path, seed=seed)
        load(path, seed=0)  # in use all the time, so it is never the one that goes
    kept = [file.name.rsplit("-", 1)[1] for file in entries(cache_folder) if file.name.startswith("pets")]
    assert len(kept) == cache_module.KEEP and {"s0.safetensors", "s5.safetensors"} <= set(kept)
    assert any(file.name.startswith("other") for file in entries(cache_folder))
    assert not left.exists() and fresh.exists()


def test_pictures_from_the_cache_can_be_written_to(tmp_path: Path, cache_folder: Path) -> None:
    path = make_zip(tmp_path / "pets.zip")
    load(path)
    load(path).train.images.add_(1)
    same(load(path), load(path, cache=False))


def test_official_archives_are_cached_too(tmp_path: Path, cache_folder: Path) -> None:
    import pickle

    folder = tmp_path / "c"
    folder.mkdir()
    batch = {"data": np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072), "labels": [0, 1], "filenames": ["a", "b"]}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(batch, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["x", "y"]}, 2))
    first = load(folder)
    assert len(entries(cache_folder)) == 1
    same(load(folder), first)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHLOUPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "torchloupe" in str(cache_module.cache_folder())
    monkeypatch.setenv("TORCHLOUPE_CACHE", "~/elsewhere")
    assert cache_module.cache_folder() == Path.home() / "elsewhere"


def test_checksums_see_type_and_shape() -> None:
    one = torch.arange(6, dtype=torch.uint8)
    assert cache_module._checksums(one) == ["torch.uint8", [6], zlib.crc32(bytes(range(6)))]
    assert cache_module._checksums(one.view(2, 3)) != cache_module._checksums(one)
    assert cache_module._checksums(one.view(torch.int8)) != cache_module._checksums(one)


def test_mean_and_std_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50, 3, 5, 7), np.uint8))
    exact = images.double() / 255
    mean, std = mean_std(images)
    assert np.allclose(mean, exact.mean((0, 2, 3)), rtol=0, atol=1e-15)
    assert np.allclose(std, exact.std((0, 2, 3), correction=0), rtol=0, atol=1e-15)
    monkeypatch.setattr("torchloupe.data.statistics.CHUNK", 200)
    assert mean_std(images) == (mean, std)


def test_a_cached_load_imports_no_pillow(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "pets.zip")
    load(path)
    code = f"import sys, torchloupe.data; torchloupe.data.load({str(path)!r}); print('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
