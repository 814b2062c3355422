"""One picture file -> RGB: every mode and depth against values worked out by hand."""

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchloupe.data.formats.decode import decode
from torchloupe.data.formats.fill import quiet_pillow

Array = np.ndarray[Any, np.dtype[Any]]


def packed(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_as_they_were(pixels: Array, kind: str) -> None:
    assert np.array_equal(decode(packed(Image.fromarray(pixels), kind)), pixels)


def test_lossless_webp_comes_back_as_it_was(pixels: Array) -> None:
    assert np.array_equal(decode(packed(Image.fromarray(pixels), "WEBP", lossless=True)), pixels)


def test_grey_fills_all_channels(pixels: Array) -> None:
    gray = pixels[..., 0]
    assert np.array_equal(decode(packed(Image.fromarray(gray))), np.stack([gray] * 3, axis=2))


def test_one_bit_is_black_and_white() -> None:
    bits = np.array([[True, False, True]])
    assert decode(packed(Image.fromarray(bits))).tolist() == [[[255] * 3, [0] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    deep = np.array([[0, 1, 256, 257, 300, 32768, 65278, 65279, 65535]], np.uint16)
    found = decode(packed(Image.fromarray(deep), kind))
    assert found[..., 0].tolist() == (deep.astype(int) // 257).tolist()
    assert (found == found[..., :1]).all()


def test_16_bit_colour_is_scaled() -> None:
    values = [0x1234, 0xABCD, 0xFFFF]  # Pillow can't write such a PNG; this one is made by hand

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    body = zlib.compress(b"\0" + struct.pack(">3H", *values))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    assert decode(data).tolist() == [[[0x12, 0xAB, 0xFF]]]


def test_palette() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(packed(image)).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(packed(image, transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert decode(packed(image, transparency=b"\xff\x00")).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_transparent_colour_of_rgb_is_white() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert decode(packed(image, transparency=(4, 5, 6))).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_alpha_is_laid_on_white() -> None:
    rgba = np.array([[[200, 0, 100, 255], [200, 0, 100, 0], [200, 0, 100, 51]]], np.uint8)
    mixed = [255 + (value - 255) * 51 / 255 for value in (200, 0, 100)]
    found = decode(packed(Image.fromarray(rgba)))[0]
    assert found[:2].tolist() == [[200, 0, 100], [255, 255, 255]]
    assert np.abs(found[2] - np.array(mixed)).max() <= 1


def test_grey_with_alpha_is_laid_on_white() -> None:
    image = Image.fromarray(np.array([[[80, 255], [80, 0]]], np.uint8), "LA")
    assert decode(packed(image)).tolist() == [[[80] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("ink", "color"),
    [((0, 255, 255, 0), (255, 0, 0)), ((255, 0, 255, 0), (0, 255, 0)), ((0, 0, 0, 255), (0, 0, 0))],
)
@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk(ink: tuple[int, ...], color: tuple[int, ...], kind: str) -> None:
    found = decode(packed(Image.new("CMYK", (16, 16), ink), kind))
    assert np.abs(found.astype(int) - color).max() <= 3


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("turn", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation(pixels: Array, turn: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    assert np.array_equal(decode(packed(Image.fromarray(pixels), kind, exif=exif)), UPRIGHT[turn](pixels))


def test_exif_orientation_of_16_bit_grey(pixels: Array) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = pixels[..., 0].astype(np.uint16) * 257
    found = decode(packed(Image.fromarray(deep), exif=exif))
    assert np.array_equal(found[..., 1], np.rot90(pixels[..., 0], -1))


def test_square_keeps_the_centre() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    assert (decode(packed(Image.fromarray(wide)), 4) == 200).all()
    assert (decode(packed(Image.fromarray(wide.transpose(1, 0, 2))), 4) == 200).all()


def test_square_is_antialiased() -> None:
    # A checkerboard of single pixels, shrunk to a quarter, is an even grey; taking every fourth pixel is not.
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    found = decode(packed(Image.fromarray(board.astype(np.uint8))), 16).astype(int)
    assert abs(found[2:-2, 2:-2] - 127.5).max() < 8


def test_large_jpeg_is_shrunk_right() -> None:
    steps = np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None], 640, axis=0)
    data = packed(Image.fromarray(steps), "JPEG", quality=95)
    exact = (np.arange(32) + 0.5) / 32 * 255
    assert np.abs(decode(data, 32)[16, 1:-1, 0] - exact[1:-1]).max() < 2.5


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (3, 3), color) for color in ("red", "blue")]
    data = packed(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data)[1, 1].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_unknown_range_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="range is unknown"):
        decode(packed(Image.new(mode, (2, 2), 100_000), "TIFF"))


def test_other_formats_are_refused() -> None:
    with pytest.raises(OSError, match="cannot identify"):
        decode(packed(Image.new("RGB", (2, 2)), "PCX"))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    body = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    for side in (20_000, 10_000):  # Pillow raises at twice its limit, and warns below
        data = bomb.replace(struct.pack(">II", 20_000, 20_000), struct.pack(">II", side, side))
        fixed = data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]
        with quiet_pillow(), pytest.raises(Exception, match="pixels"):
            decode(fixed)


def test_damage_raises_and_nothing_worse(pixels: Array) -> None:
    dice = random.Random(0)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        whole = packed(Image.fromarray(pixels), kind)
        for _ in range(20):
            broken = bytearray(whole[: dice.randrange(len(whole))])
            for _ in range(dice.randrange(3)):
                if broken:
                    broken[dice.randrange(len(broken))] = dice.randrange(256)
            with quiet_pillow():
                try:
                    found = decode(bytes(broken))
                except Exception:  # any will do: the reader counts the picture as bad
                    continue
            assert found.dtype == np.uint8 and found.shape[2] == 3
