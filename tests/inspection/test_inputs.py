"""Pictures as a user has them become the same numbers, whichever way they come in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchloupe.data.dataset import Dataset
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import DataError, UsageError
from torchloupe.inspection.inputs import drawn, fallback, from_anything, from_split, from_words, indices, is_from_data
from torchloupe.inspection.views.common import called


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes(train=30, test=30)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_every_way_in_gives_the_same_numbers(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    ways = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(pixels),
        pixels,
        pixels[None],
        pixels.astype(np.float32) / 255,
        torch.from_numpy(pixels).permute(2, 0, 1),
        expected,
        [tmp_path / "a.png"],
    ]
    for way in ways:
        torch.testing.assert_close(from_anything(way, None, None).images, expected)


def test_files_and_pil_are_brought_to_the_size_and_tensors_never(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    by_file, by_pil = (from_anything(way, None, 4).images for way in (tmp_path / "a.png", Image.fromarray(pixels)))
    assert by_file.shape == (1, 3, 4, 4)
    torch.testing.assert_close(by_file, by_pil)
    assert from_anything(pixels, None, 4).images.shape == (1, 3, 5, 7)


def test_a_folder_gives_its_pictures_in_order_and_leaves_the_rest(pixels: np.ndarray, tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    taken = from_words([str(tmp_path)], None, None)
    assert taken.names == ("a.png", "b.png")
    assert taken.words == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))


def test_words_of_a_data_set(data: Dataset) -> None:
    taken = from_words(["test:0,3-4", "train:7"], data, None)
    assert taken.words == ("test:0", "test:3", "test:4", "train:7")
    expected = torch.cat([data.test.images[[0, 3, 4]], data.train.images[[7]]]).float() / 255
    torch.testing.assert_close(taken.images, expected)
    assert taken.names[0] == data.test.names[0] and taken.labels is not None
    assert taken.labels[0] == data.classes[int(data.test.labels[0])]
    assert len(from_words(["test"], data, None).names) == 30


def test_drawn_by_seed(data: Dataset) -> None:
    first, again, other = (drawn(data, seed, None) for seed in (0, 0, 1))
    assert first.words == again.words != other.words
    assert len(set(first.words or ())) == 16


@pytest.mark.parametrize("bad", ["test:30", "test:5-2", "test:x", "train:-1"])
def test_bad_words_are_refused(bad: str, data: Dataset) -> None:
    with pytest.raises((UsageError, DataError)):
        from_words([bad], data, None)


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, data: Dataset) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "empty").mkdir()
    for word, message in (
        (tmp_path / "bad.png", "cannot read the picture .*bad.png"),
        (tmp_path / "empty", "holds no pictures"),
        (tmp_path / "none.png", "no picture"),
    ):
        with pytest.raises(DataError, match=message):
            from_anything(word, None, None)
    with pytest.raises(UsageError, match="needs a data set"):
        from_words(["test:0"], None, None)
    with pytest.raises(DataError, match="several sizes"):
        from_anything([torch.rand(1, 3, 4, 4), torch.rand(1, 3, 5, 5)], None, None)
    with pytest.raises(DataError, match="already normalised"):
        from_anything(torch.randn(2, 3, 4, 4) * 3, None, None)
    with pytest.raises(DataError, match="channels first go in as a tensor"):
        from_anything(np.zeros((3, 8, 8), np.uint8), None, None)
    with pytest.raises(DataError, match="not as int"):
        from_anything(3, None, None)


def test_indices() -> None:
    assert indices("0,3-5, 9") == [0, 3, 4, 5, 9]
    for bad in ("", "a", "3-", "-3", "5-2", "1,,2", "0-99999999999"):
        with pytest.raises(UsageError):
            indices(bad)


def test_which_words_need_data() -> None:
    assert all(map(is_from_data, ("test", "test:0", "train:0-3,9", "samples", "samples:2")))
    assert not any(map(is_from_data, ("tests", "test.png", "a/test:0", "train:x", "")))


def test_samples_need_no_data() -> None:
    every = from_words(["samples"], None, 24)
    assert every.images.shape == (len(every.names), 3, 24, 24) and len(every.names) >= 8
    some = from_words(["samples:1,3-4"], None, 24)
    assert some.names == tuple(every.names[i] for i in (1, 3, 4)) and some.words == (
        "samples:1",
        "samples:3",
        "samples:4",
    )
    assert torch.equal(from_words(list(some.words), None, 24).images, some.images), "their words name them again"
    with pytest.raises(UsageError, match="has the pictures 0 to"):
        from_words(["samples:999"], None, 24)


def test_where_there_are_no_data_the_samples_stand_in_if_a_size_is_known() -> None:
    found = fallback(24)
    assert found is not None and found.images.shape[2:] == (24, 24) and fallback(None) is None


def test_split_pictures_are_resized_to_the_network(data: Dataset) -> None:
    assert from_split(data.test, [0], "test", data.classes, 20).images.shape == (1, 3, 20, 20)


def test_a_class_is_no_part_of_a_name(data: Dataset, pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "my  cat.png")
    taken = from_words(["test:0", str(tmp_path / "my  cat.png")], data, 32)
    label = data.classes[int(data.test.labels[0])]
    assert taken.names == (data.test.names[0], "my  cat.png") and taken.labels == (label, None)
    assert taken.captions == (f"{label}  {data.test.names[0]}", "my  cat.png")
    about = {"names": taken.names, "labels": taken.labels}
    assert [called(about, i) for i in (0, 1)] == [label, "my  cat.png"]
    assert taken.take([1]).names == ("my  cat.png",) and taken.take([1]).words == (taken.words or ())[1:]


@pytest.mark.parametrize("word", ["samples", "test", "train"])
def test_a_word_without_numbers_takes_all_with_and_without_its_colon(word: str, data: Dataset) -> None:
    every, colon = from_words([word], data, 24), from_words([f"{word}:"], data, 24)
    assert colon.words == every.words and torch.equal(colon.images, every.images)


def test_whole_numbers_of_another_range_are_told_what_they_are(pixels: np.ndarray) -> None:
    expected = from_anything(pixels, None, None).images
    assert torch.equal(from_anything(pixels.astype(np.int64), None, None).images, expected)
    for wrong in (pixels.astype(np.uint16) * 257, pixels.astype(np.uint16), pixels.astype(np.int32) * 16):
        for given in (wrong, torch.from_numpy(wrong).permute(2, 0, 1)):
            with pytest.raises(DataError, match=f"are {wrong.dtype} from .*65535 for 16 bits"):
                from_anything(given, None, None)
    with pytest.raises(DataError, match="int16 from -"):
        from_anything(pixels.astype(np.int16) - 200, None, None)
