"""Pixels of more than 8 bits: what is black and what is white is one thing for a whole data set, and said."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from commands import Run, one_sentence
from pets import Files, as_folder, as_zip, each_kind, pets
from torchloupe.data import Dataset, load
from torchloupe.data.dataset import checksum
from torchloupe.data.formats.decode import decode
from torchloupe.errors import DataError, UsageError
from torchloupe.inspection.inputs import from_words
from torchloupe.inspection.subject import Subject, subject
from torchloupe.runtime.files import read_json

Array = np.ndarray[Any, np.dtype[Any]]


def deep(values: Array, kind: str = "PNG", bits: int | None = None, **tags: Any) -> bytes:
    """Pack pixels as they are; `bits` is what a PNG says are significant."""
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **tags)
    data = stream.getvalue()
    if bits is None:
        return data
    chunk = b"sBIT" + bytes([bits])
    return data[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]  # behind IHDR


def scans(most: int, low: int = 0, **how: Any) -> Files:
    """Ramps from `low` to `most`, brighter by picture, twelve in two classes."""
    names = pets(6).keys()
    ramps: list[Array] = [
        np.linspace(low, low + (most - low) * (i + 1) / len(names), 30).astype(np.uint16) for i in range(len(names))
    ]
    return {name: deep(ramp.reshape(5, 6), **how) for name, ramp in zip(names, ramps, strict=True)}


def pixels(data: Dataset) -> dict[str, Array]:
    images = torch.cat([data.train.images, data.test.images]).numpy()
    return dict(zip(data.train.names + data.test.names, images, strict=True))


def window(known: Dataset | Subject) -> tuple[float, ...]:
    return known.window or ()


def values(packed: bytes) -> Array:
    with Image.open(io.BytesIO(packed)) as image:
        return np.asarray(image).astype(np.float64)


def expected(packed: bytes, low: float, high: float) -> Array:
    return np.floor(np.clip((values(packed) - low) / (high - low), 0, 1) * 255 + 1e-9)


@each_kind
@pytest.mark.parametrize(("most", "white"), [(4095, 4095), (3000, 4095), (16000, 16383), (40000, 65535), (300, 511)])
def test_the_bits_that_hold_the_largest_value_of_the_data_set(
    tmp_path: Path, make: Callable[[Path, Files], Path], most: int, white: int
) -> None:
    files = scans(most)
    data = load(make(tmp_path / "mine", files))
    for name, image in pixels(data).items():
        assert np.array_equal(image[0], expected(files[name], 0, white)) and (image == image[:1]).all()
    assert window(data) == (0.0, white)
    notes = [note for note in data.notes if "more than 8 bits" in note]
    assert len(notes) == 1 and f"{white:,}" in notes[0] and "--window" in notes[0]
    again = load(tmp_path / data.source)  # from the cache
    assert again.window == data.window and again.notes == data.notes


def test_what_a_png_says_of_its_bits_counts(tmp_path: Path) -> None:
    files = scans(900, bits=12)
    data = load(as_zip(tmp_path / "mine", files))
    assert window(data) == (0, 4095) and any("as the files say" in note for note in data.notes)
    assert all(np.array_equal(image[0], expected(files[name], 0, 4095)) for name, image in pixels(data).items())


def test_a_png_of_12_bits_scaled_up_to_16_as_its_standard_asks(tmp_path: Path) -> None:
    data = load(as_zip(tmp_path / "mine", scans(65535, bits=12)))
    assert window(data) == (0, 65535)


def test_what_a_tiff_says_of_its_range_counts(tmp_path: Path) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[340], info[341] = 100, 1000
    files = {name.replace("png", "tif"): data for name, data in scans(900, 100, kind="TIFF", tiffinfo=info).items()}
    data = load(as_zip(tmp_path / "mine", files))
    assert window(data) == (100, 1000)
    assert all(np.array_equal(image[0], expected(files[name], 100, 1000)) for name, image in pixels(data).items())


def scans_of(kind: "type[np.generic]", most: int, low: int = 0) -> Files:
    names = [name.replace("png", "tif") for name in pets(6)]
    return {
        name: deep(np.linspace(low, most, 30).astype(kind).reshape(5, 6) + 0 * i, "TIFF")
        for i, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("kind", "low", "most"), [(np.int16, -1024, 3071), (np.int32, -5, 100_000), (np.float32, 0, 7)]
)
def test_a_range_that_is_not_known_is_asked_for(tmp_path: Path, kind: type, low: int, most: int) -> None:
    files = scans_of(kind, most, low)
    path = as_folder(tmp_path / "mine", files)
    with pytest.raises(DataError, match=r"range is unknown.*--window LOW HIGH"):
        load(path)
    data = load(path, window=(low, most))
    assert all(np.array_equal(image[0], expected(files[name], low, most)) for name, image in pixels(data).items())


def test_a_window_is_black_below_and_white_above(tmp_path: Path) -> None:
    files = scans(4000)
    data = load(as_folder(tmp_path / "mine", files), window=(500, 900))
    assert window(data) == (500, 900) and window(load(tmp_path / "mine")) == (0, 4095)
    for name, image in pixels(data).items():
        assert (image[0][values(files[name]) <= 500] == 0).all() and (image[0][values(files[name]) >= 900] == 255).all()
        assert np.array_equal(image[0], expected(files[name], 500, 900))


def test_a_window_that_has_no_effect_is_said(tmp_path: Path) -> None:
    data = load(as_folder(tmp_path / "mine", pets()), window=(0, 100))
    assert data.window is None and any("no effect" in note for note in data.notes)
    assert load(tmp_path / "mine").notes != data.notes


@pytest.mark.parametrize("wrong", [(5, 5), (7, 3), (float("nan"), 1), (0, float("inf"))])
def test_a_window_that_is_none(tmp_path: Path, wrong: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="--window"):
        load(as_folder(tmp_path / "mine", pets()), window=wrong)


def test_white_is_zero_in_some_tiffs() -> None:
    ramp = np.linspace(0, 65535, 30).astype(np.uint16).reshape(5, 6)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[262] = 0
    data = bytearray(deep(ramp, "TIFF"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.tag_v2[262] == 1  # type: ignore[attr-defined]
    place = data.find(struct.pack("<HHI", 262, 3, 1))
    data[place + 8] = 0
    assert np.array_equal(decode(bytes(data))[..., 0], 255 - decode(deep(ramp, "TIFF"))[..., 0])


def color16(values: Array) -> bytes:
    """Pack an RGB PNG of 16 bits, which Pillow cannot write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    h, w, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("most", "dark"), [(4095, True), (65535, False)])
def test_deep_color_that_uses_few_of_its_levels_is_said(tmp_path: Path, most: int, dark: bool) -> None:
    ramp = np.linspace(0, most, 90).astype(np.uint16).reshape(5, 6, 3)
    data = load(as_folder(tmp_path / "mine", dict.fromkeys(pets(), color16(ramp))))
    assert any("16 bits a color" in note for note in data.notes) == dark


def test_pictures_named_one_by_one_share_their_range_or_take_the_one_given(tmp_path: Path) -> None:
    for name, most in (("a", 1000), ("b", 4000)):
        (tmp_path / f"{name}.png").write_bytes(deep(np.full((8, 8), most, np.uint16)))
    words = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    a, b = from_words(words, None, None).images[:, 0, 0, 0].mul(255).round().tolist()
    assert (a, b) == (1000 * 255 // 4095, 4000 * 255 // 4095)
    assert bool((from_words(words, None, None, (0, 1000)).images == 1).all())


def test_a_run_keeps_its_window_for_test_and_pictures(tmp_path: Path, run: Run) -> None:
    files = {f"{split}/{name}": data for split in ("train", "test") for name, data in scans(4000).items()}
    data, out = as_folder(tmp_path / "mine", files), tmp_path / "run"
    short = ("--steps", "2", "--size", "8", "--device", "cpu", "--out", str(out))
    one_sentence(run("train", "--data", str(data), *short, "--window", "9", "3"), UsageError.exit_code, "--window")
    made = run("train", "--data", str(data), *short, "--window", "500", "900")
    assert made.code == 0 and "900" in made.err
    assert read_json(out / "config.json")["data"]["window"] == [500, 900]
    plain = load(data, window=(500, 900))
    assert run("test", str(out)).code == 0
    assert read_json(out / "test.json")["crc32"] == checksum(plain) != checksum(load(data))
    studied = subject(str(out))
    known = studied.dataset()
    assert known is not None and window(known) == window(studied) == (500, 900)
    more = run("train", "--resume", "--out", str(out), "--data", str(data))
    assert more.code == 0, more.err
    shown = run(
        "show", "invert", str(out), "--pictures", str(data / "test/cat/5.png"), "--steps", "1", "--layer", "first"
    )
    assert shown.code == 0, shown.err
