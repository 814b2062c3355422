"""Pictures at the edges of what a picture is: constant, tiny, huge, of one or five channels, alone."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pets import Files, as_folder, as_zip, each_kind, pets, png
from torchloupe.data import load
from torchloupe.data.formats.decode import decode
from torchloupe.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def packed(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(pixels: Array) -> bytes:
    """Write any number of channels, which Pillow does not."""
    h, w, c = pixels.shape
    start = 8 + pixels.nbytes
    rows = [(256, 4, w), (257, 4, h), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, c), (278, 4, h)]
    rows += [(279, 4, pixels.nbytes)]
    entries = {tag: struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in rows}
    bits = struct.pack(f"<{c}H", *[8 * pixels.itemsize] * c).ljust(4, b"\0")
    after = start + 2 + 12 * (len(entries) + 1) + 4
    entries[258] = struct.pack("<HHI", 258, 3, c) + (bits if len(bits) == 4 else struct.pack("<I", after))
    body = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return b"II*\0" + struct.pack("<I", start) + pixels.tobytes() + body + bits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("color", [0, 90, 255])
def test_constant_pictures(tmp_path: Path, kind: str, color: int) -> None:
    data = packed(Image.new("RGB", (6, 5), (color,) * 3), kind)
    found = load(as_zip(tmp_path / "mine", {name.replace("png", kind.lower()): data for name in pets()}))
    assert bool((found.train.images == color).all()) and found.std == (1.0, 1.0, 1.0)
    assert found.mean == pytest.approx([color / 255] * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_one_pixel(tmp_path: Path, kind: str) -> None:
    data = packed(Image.new("RGB", (1, 1), (40, 40, 40)), kind)
    assert decode(data).shape == (1, 1, 3) and decode(data, 4).shape == (4, 4, 3)
    found = load(as_zip(tmp_path / "mine", {name.replace("png", kind.lower()): data for name in pets()}))
    assert found.train.images.shape[1:] == (3, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_sixteen_million_pixels(kind: str) -> None:
    assert (decode(packed(Image.new("L", (4096, 4096), 80), kind), 32) == 80).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "WEBP"])
def test_one_channel(kind: str) -> None:
    assert (decode(packed(Image.new("L", (8, 8), 80), kind)) == 80).all()


def test_one_channel_of_a_tiff_by_hand() -> None:
    assert (decode(tiff(np.full((4, 5, 1), 80, np.uint8))) == 80).all()


@pytest.mark.parametrize("channels", [2, 5, 13])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_channels_that_no_picture_has_are_named(
    tmp_path: Path, channels: int, kind: "type[np.generic]", caplog: pytest.LogCaptureFixture
) -> None:
    data = tiff(np.zeros((4, 4, channels), kind))
    with pytest.raises(DataError, match=rf"cat/scan.tif \(a TIFF of {channels} channels: pictures have 1"):
        load(as_folder(tmp_path / "mine", {**pets(), "cat/scan.tif": data}))
    assert not caplog.records, "Pillow says nothing of its own"


def test_arrays_are_no_pictures_and_that_is_said(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((5, 8, 8)))
    with pytest.raises(DataError, match=r"no pictures in .*: none of its 10 files is one \(\.npy; pictures are \.jpg"):
        load(as_zip(tmp_path / "mine", {name.replace("png", "npy"): stream.getvalue() for name in pets()}))


@each_kind
def test_one_picture_or_one_class(tmp_path: Path, make: Callable[[Path, Files], Path]) -> None:
    with pytest.raises(DataError, match="only one class"):
        load(make(tmp_path / "one", {"cat/1.png": png()}))
    with pytest.raises(DataError, match="only one class"):
        load(make(tmp_path / "many", pets(kinds=("cat",))))
    with pytest.raises(DataError, match=r"class 'cat' in .* has one picture"):
        load(make(tmp_path / "two", {"cat/1.png": png(), "dog/1.png": png()}))
    least = load(
        make(tmp_path / "least", {f"{split}/{kind}/1.png": png() for split in ("train", "test") for kind in "ab"})
    )
    assert len(least.train) == len(least.test) == 2


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns_a_jpeg(turn: int) -> None:
    corner = np.zeros((16, 32, 3), np.uint8)
    corner[:8, :8] = 255  # top left as it is stored
    exif = Image.Exif()
    exif[0x0112] = turn
    found = decode(packed(Image.fromarray(corner), "JPEG", exif=exif, quality=95))
    assert found.shape[:2] == ((16, 32) if turn < 5 else (32, 16))
    top = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[turn]
    assert found[-2 if top[0] else 1, -2 if top[1] else 1].min() > 240
    assert found.mean() == pytest.approx(255 * 64 / 512, abs=4)


def test_cmyk_of_adobe_is_not_a_negative() -> None:
    """Adobe writes CMYK upside down in JPEG, and says so; Pillow writes as Adobe does."""
    ink = Image.new("CMYK", (16, 16), (0, 200, 200, 0))
    data = packed(ink, "JPEG")
    assert b"Adobe" in data
    assert np.abs(decode(data)[8, 8].astype(int) - (255, 55, 55)).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_other_animations(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    data = packed(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(decode(data)[1, 1].astype(int) - (255, 0, 0)).max() <= 3
