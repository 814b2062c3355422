"""The bytes of one picture file -> RGB pixels, whatever its format, mode, depth and orientation."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from torchloupe.data.formats.depth import FULL, PHOTOMETRIC, UNKNOWN, Depth, stated, to_bytes, window_of
from torchloupe.data.formats.parts import Window

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""The only formats that are tried: each further one is more code that a hostile file can reach."""
MAX_PIXELS = 89_478_485
"""Larger pictures are refused unread: a small file can claim any size (Pillow warns from here on)."""

MOST_CHANNELS = 4
SAMPLES = 277
"""Tag of TIFF: samples a pixel."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, side: int | None = None, window: Window | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Decode one picture: upright, RGB, 0 to 255, at its own size or as a square of `side` pixels.

    For a square the short side is brought to `side` (bilinear, antialiased) and the centre is kept.
    The first frame of an animation counts. Transparent pixels are laid on white. In pictures of one channel with more
    than 8 bits `window` says what is black and white; else it is seen from this picture alone.

    Raises:
        ValueError, OSError, SyntaxError, ...: whatever Pillow raises for what it can't read.

    >>> stream = io.BytesIO()
    >>> Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(stream, "TIFF")
    >>> decode(stream.getvalue()).shape, decode(stream.getvalue(), 2)[0, 0].tolist()
    ((4, 6, 3), [255, 0, 0])
    """
    return measured(data, side, window)[0]


def measured(
    data: bytes, side: int | None = None, window: Window | None = None
) -> tuple[UInt8[np.ndarray, "h w 3"], Depth | None]:
    """Decode one picture, and tell what it holds if that is more than 8 bits.

    Raises:
        ValueError, OSError, SyntaxError, ...: whatever Pillow raises for what it can't read.

    >>> measured((stream := io.BytesIO(), Image.new("I;16", (1, 1), 7).save(stream, "PNG"))[0].getvalue())[1]
    Depth(low=7, high=7, stated=None, color=False)
    """
    if not data:
        raise ValueError("the file is empty")
    with _opened(data) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}×{image.height} is more than {MAX_PIXELS / 1e6:.0f} million pixels")
        if side is not None and image.format == "JPEG":
            # The JPEG decoder halves for free; staying at twice the side keeps the antialiasing ours.
            image.draft(None, (2 * side, 2 * side))
        wide = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
        image.load()
        # After load(): Pillow turns a TIFF upright by itself, and then drops the tag.
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        depth = _depth(image, data, wide)
        plain = to_rgb(image, window if depth is None or window is not None else _own(depth))
        if depth is not None and image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
            plain = Image.eval(plain, lambda value: 255 - value) if not depth.color else plain  # white is zero
        upright = plain if turn is None else plain.transpose(turn)
    return np.asarray(upright if side is None else square(upright, side)), depth


def _opened(data: bytes) -> Image.Image:
    """Open a picture; of a TIFF that cannot be opened, say how many channels it has, if that may be why."""
    channels = _tiff_channels(data)
    if channels <= MOST_CHANNELS:
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            if channels in (0, 1, 3):
                raise
    raise ValueError(f"a TIFF of {channels} channels: pictures have 1 (grey), 3 (RGB) or 4 (with alpha, or CMYK)")


def _tiff_channels(data: bytes) -> int:
    """Return how many samples a pixel of a TIFF has; 0 for what is none, or does not say."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return 0
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        return int(tags.get(SAMPLES, 1))
    except Exception:  # Pillow raises nearly anything on broken files; it is opened next, and then named
        return 0


def _depth(image: Image.Image, data: bytes, wide: bool) -> Depth | None:
    """Measure a picture of more than 8 bits; None for all others."""
    if is_deep(image):
        values = np.asarray(image)
        finite = values[np.isfinite(values)] if image.mode == "F" else values
        low, high = (finite.min().item(), finite.max().item()) if finite.size else (0, 0)
        return Depth(low, high, stated(image, data))
    if wide and image.mode in ("RGB", "RGBA", "LA"):
        levels = np.asarray(image)[..., : 1 if image.mode == "LA" else 3]
        return Depth(0, 257 * int(levels.max()), color=True)
    return None


def _own(depth: Depth) -> Window | None:
    """Return the range of a picture by itself; None where it cannot be known."""
    whole = depth.stated is not None or (depth.low >= 0 and depth.high <= FULL and isinstance(depth.high, int))
    return window_of([depth]) if whole and not depth.color else None


def is_deep(image: Image.Image) -> bool:
    """Tell whether a picture has one channel of more than 8 bits.

    >>> is_deep(Image.new("I;16", (1, 1))), is_deep(Image.new("L", (1, 1)))
    (True, False)
    """
    return image.mode.startswith("I") or image.mode == "F"


def to_rgb(image: Image.Image, window: Window | None = None) -> Image.Image:
    """Convert any mode to RGB without clipping: deep grey is scaled, transparency is laid on white.

    Raises:
        ValueError: the mode has no scale to go by (float or 32-bit pixels).

    >>> to_rgb(Image.new("I;16", (1, 1), 257 * 128)).getpixel((0, 0))
    (128, 128, 128)
    >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if is_deep(image):
        found = window or _own(_depth(image, b"", wide=True) or Depth(0, 0))
        if found is None:
            raise ValueError(f"{'float' if image.mode == 'F' else '32-bit'} pixels, {UNKNOWN}")
        return Image.fromarray(to_bytes(np.asarray(image), found), "L").convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, side: int) -> Image.Image:
    """Bring the short side to `side` and keep the centre: [h, w] -> [side, side], in one resampling.

    >>> square(Image.new("RGB", (90, 30)), 10).size
    (10, 10)
    """
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=box)


def why_not(error: Exception) -> str:
    """Say in a few words why a picture can't be read.

    >>> why_not(ValueError("the file is empty"))
    'the file is empty'
    >>> why_not(KeyError())
    'KeyError'
    """
    if isinstance(error, UnidentifiedImageError):
        return f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).partition("\n")[0][:100] or type(error).__name__
