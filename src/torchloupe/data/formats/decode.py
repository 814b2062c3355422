"""The bytes of one picture file -> RGB pixels, whatever its format, mode, depth and orientation."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""The only formats that are tried: each further one is more code that a hostile file can reach."""
MAX_PIXELS = 89_478_485
"""Larger pictures are refused unread: a small file can claim any size (Pillow warns from here on)."""

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


def decode(data: bytes, side: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Decode one picture: upright, RGB, 0 to 255, at its own size or as a square of `side` pixels.

    For a square the short side is brought to `side` (bilinear, antialiased) and the centre is kept.
    The first frame of an animation counts. Transparent pixels are laid on white.

    Raises:
        ValueError, OSError, SyntaxError, ...: whatever Pillow raises for what it can't read.

    >>> stream = io.BytesIO()
    >>> Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(stream, "TIFF")
    >>> decode(stream.getvalue()).shape, decode(stream.getvalue(), 2)[0, 0].tolist()
    ((4, 6, 3), [255, 0, 0])
    """
    if not data:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}×{image.height} is more than {MAX_PIXELS / 1e6:.0f} million pixels")
        if side is not None and image.format == "JPEG":
            # The JPEG decoder halves for free; staying at twice the side keeps the antialiasing ours.
            image.draft(None, (2 * side, 2 * side))
        image.load()
        # After load(): Pillow turns a TIFF upright by itself, and then drops the tag.
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        upright = to_rgb(image) if turn is None else to_rgb(image).transpose(turn)
    return np.asarray(upright if side is None else square(upright, side))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB without clipping: 16-bit grey is scaled, transparency is laid on white.

    Raises:
        ValueError: the mode has no scale to go by (float or 32-bit pixels).

    >>> to_rgb(Image.new("I;16", (1, 1), 257 * 128)).getpixel((0, 0))
    (128, 128, 128)
    >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _from_deep_gray(image)
    if image.mode == "F":
        raise ValueError("float pixels, whose range is unknown: save it with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _from_deep_gray(image: Image.Image) -> Image.Image:
    """Scale grey of 0 to 65,535 to 0 to 255; Pillow's own conversion would clip it at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("32-bit pixels beyond 65,535, whose range is unknown: save it with 8 or 16 bits")
    return Image.fromarray((values // 257).astype(np.uint8), "L").convert("RGB")


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
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).partition("\n")[0][:100] or type(error).__name__
