"""Pictures by class, in folders, zips and tars: pixels, labels, sizes, broken files."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pets import Files, as_folder, each_kind, pets, png
from torchloupe.data import counts, load
from torchloupe.data import memory as memory_module
from torchloupe.errors import DataError, ResourceError


@each_kind
def test_train_and_test_come_back_as_written(tmp_path: Path, make: Callable[[Path, Files], Path]) -> None:
    files = {**pets(3, "pets/train/"), **pets(2, "pets/test/", ("dog", "cat"))}
    data = load(make(tmp_path / "mine", files), cache=False)
    assert (data.name, data.classes, data.size, data.notes) == ("mine", ("cat", "dog"), None, ())
    wrap = "" if make is as_folder else "pets/"
    assert data.train.names[0] in ("pets/train/cat/0.png", f"{wrap}train/cat/0.png")
    for split, count in ((data.train, 6), (data.test, 4)):
        assert len(split) == count
        for image, label, name in zip(split.images, split.labels, split.names, strict=True):
            assert data.classes[int(label)] == name.split("/")[-2]  # by name: the test folder's order is another
            with Image.open(io.BytesIO(files[name if name.startswith("pets/") else f"pets/{name}"])) as shown:
                assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(np.array(shown)))
    assert counts(data.train, data.classes) == {"cat": 3, "dog": 3}


@each_kind
def test_val_beside_train_and_test(tmp_path: Path, make: Callable[[Path, Files], Path]) -> None:
    files = {
        **pets(3, "train/"),
        **pets(2, "val/"),
        **pets(1, "test/"),
        "train/cat/bad.png": b"x",
        "val/cat/b.png": b"",
    }
    path = make(tmp_path / "mine", files)
    for _ in range(2):  # the second time from the cache
        data = load(path, skip_bad=True)
        assert data.val is not None and [len(data.train), len(data.val), len(data.test)] == [6, 4, 2]
        for word in ("train", "val", "test"):
            split = data.split(word)
            assert split is not None and all(name.startswith(f"{word}/") for name in split.names)
            for image, name in zip(split.images, split.names, strict=True):
                with Image.open(io.BytesIO(files[name])) as shown:
                    assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(np.array(shown)))
    assert load(make(tmp_path / "two", pets(3, "train/") | pets(2, "test/"))).val is None
    gone = {name: b"x" if name.startswith("val/") else data for name, data in files.items()}
    with pytest.raises(DataError, match="no val pictures"):
        load(make(tmp_path / "gone", gone), skip_bad=True)


@each_kind
def test_one_tree_is_split_by_seed(tmp_path: Path, make: Callable[[Path, Files], Path]) -> None:
    path = make(tmp_path / "mine", {**pets(20), **pets(3, kinds=("owl",)), "README.md": b"hello"})
    data = load(path, cache=False)
    assert counts(data.test, data.classes) == {"cat": 4, "dog": 4, "owl": 1}
    assert counts(data.train, data.classes) == {"cat": 16, "dog": 16, "owl": 2}
    assert not set(data.train.names) & set(data.test.names)
    assert load(path, seed=0, cache=False).test.names == data.test.names
    assert load(path, seed=1, cache=False).test.names != data.test.names
    assert "20% of each class was drawn" in data.notes[0]


@each_kind
def test_unreadable_pictures_are_named(tmp_path: Path, make: Callable[[Path, Files], Path]) -> None:
    bad = {"cat/cut.png": png()[:-30], "cat/empty.jpg": b"", "dog/page.gif": b"<html>", "dog/phone.heic": b"ftypheic"}
    path = make(tmp_path / "mine", {**pets(20), **bad})
    with pytest.raises(DataError, match=r"4 pictures of 44 in .* can't be read") as error:
        load(path)
    assert all(name in str(error.value) for name in bad)
    assert "the file is empty" in str(error.value) and "--skip-bad" in str(error.value)
    data = load(path, skip_bad=True, cache=False)
    assert len(data.train) + len(data.test) == 40
    assert {*data.train.names, *data.test.names} == set(pets(20))
    assert all(any(name in note for note in data.notes) for name in bad)
    for image, name in zip(data.train.images, data.train.names, strict=True):  # rows and names still agree
        assert int(image[0, 0, 0]) == 10 * int(Path(name).stem) + name.startswith("dog")


def test_the_first_twenty_are_named_and_all_are_counted(tmp_path: Path) -> None:
    bad = {f"cat/bad{i:02}.png": b"x" for i in range(30)}
    with pytest.raises(DataError, match=r"30 pictures of 40 .*bad00.*bad19.* and 10 more") as error:
        load(as_folder(tmp_path / "mine", {**pets(5), **bad}))
    assert "bad20" not in str(error.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [("train/cat", "train pictures of 'cat'"), ("test/", "no test pictures"), ("t", "train pictures of 'cat', 'dog'")],
)
def test_skipping_may_not_leave_a_class_empty(tmp_path: Path, bad: str, message: str) -> None:
    files = {**pets(3, "train/"), **pets(2, "test/")}
    path = as_folder(tmp_path / "mine", {name: b"x" if name.startswith(bad) else data for name, data in files.items()})
    with pytest.raises(DataError, match=message):
        load(path, skip_bad=True)


@each_kind
def test_mixed_sizes_become_squares(tmp_path: Path, make: Callable[[Path, Files], Path]) -> None:
    path = make(tmp_path / "mine", {**pets(40), "dog/wide.png": png(7, 30, 10), "dog/tall.png": png(9, 10, 300)})
    data = load(path, cache=False)
    assert data.train.images.shape[1:] == (3, 64, 64) and data.size is None
    small = load(path, 16, cache=False)
    assert small.train.images.shape[1:] == (3, 16, 16) and small.size is None
    values = dict(
        zip(small.train.names + small.test.names, torch.cat([small.train.images, small.test.images]), strict=True)
    )
    assert (values["dog/wide.png"][0] == 7).all() and (values["dog/tall.png"][0] == 9).all()


@pytest.mark.parametrize(("size", "says"), [(None, None), (5, 5), (64, 64)])
def test_one_size_stays_and_batches_are_resized(tmp_path: Path, size: int | None, says: int | None) -> None:
    files = {name: png(3, 6, 5) for name in pets(5)}
    data = load(as_folder(tmp_path / "mine", files), size, cache=False)
    assert data.train.images.shape[1:] == (3, 5, 6)
    assert data.size == says


def test_asking_for_the_size_they_have(tmp_path: Path) -> None:
    assert load(as_folder(tmp_path / "mine", pets()), 4).size is None


def test_large_pictures_of_one_size_become_squares(tmp_path: Path) -> None:
    data = load(as_folder(tmp_path / "mine", {name: png(3, 257, 20) for name in pets(2)}))
    assert data.train.images.shape[1:] == (3, 64, 64)


def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "free_memory", lambda: 10_000)
    path = as_folder(tmp_path / "mine", {name: png(3, 100, 100) for name in pets()})
    with pytest.raises(ResourceError, match=r"0\.0 GB of memory for 10 pictures of 100×100.*`--size 64`"):
        load(path)
    assert load(path, 8).train.images.shape[1:] == (3, 8, 8)  # what the sentence suggests does help


def test_mean_and_std(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    files = {}
    for name in (*pets(3, "train/"), *pets(2, "test/")):
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (9, 7, 3), np.uint8)).save(stream, "PNG")
        files[name] = stream.getvalue()
    data = load(as_folder(tmp_path / "mine", files))
    train = np.stack([np.array(Image.open(tmp_path / "mine" / name)) for name in pets(3, "train/")]) / 255
    assert np.allclose(data.mean, train.mean((0, 1, 2)), atol=1e-14)
    assert np.allclose(data.std, train.std((0, 1, 2)), atol=1e-14)


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    load(as_folder(tmp_path / "mine", pets(40)), progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and seen[-1] == (80, 80) and len(seen) > 1


def test_real_pictures(real_data: Path) -> None:
    data = load(real_data, cache=False)
    assert (data.name, len(data.train), len(data.test), len(data.classes)) == ("cifar10-jpeg", 50_000, 10_000, 10)
    assert set(counts(data.train, data.classes).values()) == {5000}
    assert np.allclose(data.std, (0.245, 0.243, 0.261), atol=1e-3)
    member = "test/ship/0123.jpg"
    with zipfile.ZipFile(data.source) as archive, Image.open(io.BytesIO(archive.read(member))) as image:
        row = data.test.names.index(member)
        assert torch.equal(data.test.images[row].permute(1, 2, 0), torch.from_numpy(np.array(image.convert("RGB"))))
        assert data.classes[int(data.test.labels[row])] == "ship"
