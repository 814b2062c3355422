"""Pixels of more than 8 bits: which value is black and which is white, for a whole data set.

A file can say it (PNG's sBIT, TIFF's SMinSampleValue, SMaxSampleValue and BitsPerSample). Else white is the smallest
2^k - 1 that holds the largest value of all pictures: 12 bits in a file of 16 are 0 to 4,095. It is one range for all,
so that pictures stay comparable, and it hardly ever changes when a picture is added.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from torchloupe.data.formats.parts import Window, plural

FULL = (1 << 16) - 1
BITS_PER_SAMPLE, PHOTOMETRIC, LOWEST, HIGHEST = 258, 262, 340, 341
"""Tags of TIFF."""
PNG, EIGHT_BITS = b"\x89PNG", (b"\xff\xd8", b"GIF8", b"RIFF", b"BM")
"""How a PNG begins, and how files do that never hold more than 8 bits: JPEG, GIF, WebP, BMP."""
UNKNOWN = "whose range is unknown: give it with `--window LOW HIGH`, or save it with 8 or 16 bits"


@dataclass(frozen=True)
class Depth:
    """What one picture of more than 8 bits holds."""

    low: float
    """Its smallest value."""
    high: float
    """Its largest value."""
    stated: Window | None = None
    """What its file says is black and white."""
    color: bool = False
    """It has colors, of which only the upper 8 bits can be read."""


def stated(image: Image.Image, data: bytes) -> Window | None:
    """Return what a file says is black and white in it; None where it says nothing.

    >>> stated(Image.new("I;16", (1, 1)), b"") is None
    True
    """
    if image.format == "PPM":
        return 0, FULL  # Pillow scales by its largest value
    if image.format == "PNG":
        bits = significant_bits(data)
        return None if bits is None else (0, (1 << bits) - 1)
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        low, high = (_number(tags.get(tag)) for tag in (LOWEST, HIGHEST))
        if high is not None and high > (low or 0):
            return low or 0, high
        depth = _number(tags.get(BITS_PER_SAMPLE))
        if depth is not None and 8 < depth < 16:
            return 0, (1 << int(depth)) - 1
    return None


def _number(value: object) -> float | None:
    value = value[0] if isinstance(value, tuple) and value else value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def significant_bits(data: bytes) -> int | None:
    """Return what a PNG says of its significant bits (its chunk sBIT, which Pillow passes over).

    >>> significant_bits(b"no PNG") is None
    True
    """
    place = 8
    while place + 8 <= len(data):
        length, name = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        if name == b"sBIT" and 0 < length <= 4 and place + 8 < len(data):
            bits = data[place + 8]
            return bits if 0 < bits <= 16 else None
        if name in (b"IDAT", b"IEND"):
            return None
        place += 12 + length
    return None


def window_of(found: Collection[Depth]) -> Window:
    """Return the values that are black and white in pictures of which this is known.

    >>> window_of([Depth(0, 3000), Depth(7, 90)]), window_of([Depth(0, 3000, (0, 16383))])
    ((0, 4095), (0, 16383))
    """
    claims = [depth.stated for depth in found if depth.stated is not None]
    low, high = min(depth.low for depth in found), max(depth.high for depth in found)
    if claims:
        black, white = min(claim[0] for claim in claims), max(claim[1] for claim in claims)
        # A PNG whose values go beyond was scaled up to all of its 16 bits, as its standard asks.
        return (black, white) if black <= low and high <= white else (0, FULL)
    return 0, (1 << max(8, int(high).bit_length())) - 1


def may_be_deep(head: bytes) -> bool:
    """Tell by a file's first 26 bytes whether it may hold one channel of more than 8 bits: other files need no look.

    >>> may_be_deep(b"\\xff\\xd8\\xff"), may_be_deep(b"II*\\0")
    (False, True)
    """
    if head.startswith(PNG):
        return head[24:26] == b"\x10\0"
    return not head.startswith(EIGHT_BITS)


def to_bytes(values: Num[np.ndarray, "h w"], window: Window) -> UInt8[np.ndarray, "h w"]:
    """Scale values so that LOW and less is 0, HIGH and more is 255; what is no number is 0.

    >>> to_bytes(np.array([[0, 10, 15, 20, 99]]), (10, 20)).tolist()
    [[0, 0, 127, 255, 255]]
    """
    low, high = window
    if values.dtype.kind in "iu" and low == int(low) and high == int(high):
        whole = np.clip(values.astype(np.int64), int(low), int(high)) - int(low)
        return (whole * 255 // (int(high) - int(low))).astype(np.uint8)
    shares = np.clip((np.nan_to_num(values.astype(np.float64), nan=low) - low) / (high - low), 0, 1)
    return np.floor(shares * 255 + 1e-9).astype(np.uint8)


def notes_of(found: Collection[Depth], window: Window | None, asked: bool) -> list[str]:
    """Say once for a data set how pictures of more than 8 bits were scaled, `asked`: as the user said.

    >>> notes_of([], (0, 100), asked=True)
    ['--window has no effect: no picture has one channel of more than 8 bits.']
    """
    grays = [depth for depth in found if not depth.color]
    colors = [depth for depth in found if depth.color]
    notes = []
    if grays and window is not None:
        high = max(depth.high for depth in grays)
        fits = any(depth.stated == window for depth in grays)
        why = "as the files say" if fits else f"the bits that hold their largest value, {high:,g}"
        how = "" if asked else f" ({why}); choose another range with `--window LOW HIGH`"
        has = f"{plural(len(grays), 'picture')} with more than 8 bits"
        notes.append(f"{has}: {window[0]:,g} is black and {window[1]:,g} white{how}.")
    if asked and not grays:
        notes.append("--window has no effect: no picture has one channel of more than 8 bits.")
    if colors and max(depth.high for depth in colors) <= FULL // 2:
        high = max(depth.high for depth in colors)
        notes.append(
            f"{plural(len(colors), 'picture')} with 16 bits a color and no value above {high:,.0f}: dark, with "
            f"{int(high) // 256 + 1} levels of 256, as the upper 8 bits are read. Save them with 8 bits a color."
        )
    return notes
