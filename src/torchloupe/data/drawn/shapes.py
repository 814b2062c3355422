"""`shapes`: a data set that needs no download, and the only one that knows where its figures are.

A picture is two rows of random numbers, one for the figure and one for the ground, and a class. The class decides the
outline and its relief and nothing else: all else, from colour to light to clutter, is drawn without looking at it, all
classes have the same area, and no shadow falls on the ground. So the evidence for the class is inside the mask.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8

from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.drawn.figures import FIGURES, PATTERNS, Field, edge, length, wave
from torchloupe.data.statistics import mean_std
from torchloupe.errors import DataError

CLASSES = tuple(sorted(FIGURES))
FIGURE_DRAWS, GROUND_DRAWS = 32, 96
"""Random numbers in [0, 1) per picture; a few are spare."""
CHUNK = 1 << 17
"""Pixels drawn at once: memory stays small at any size, and fields stay in the processor's cache."""


def shapes(seed: int = 0, size: int = 32, train: int = 5000, test: int = 1000) -> Dataset:
    """Draw a data set of ten coloured, textured and lit figures on busy grounds, with the mask of each figure.

    `images` are uint8 [n, 3, size, size]; `masks` are True where the figure covers at least half of the pixel. Picture
    i is of class i % 10 and depends on `seed`, the split and i alone: a larger set begins with the smaller one, and a
    larger `size` shows the same scene in more detail. Raises `DataError` for a negative seed, `size` < 8, or fewer than
    10 pictures in a split.

    >>> data = shapes(train=20, test=10)
    >>> data.classes
    ('arrow', 'ball', 'cone', 'crescent', 'cross', 'cube', 'donut', 'flower', 'heart', 'star')
    >>> data.train.images.shape, data.train.masks.shape, data.train.names[19]
    (torch.Size([20, 3, 32, 32]), torch.Size([20, 32, 32]), 'train/star/0001.png')
    """
    if seed < 0:
        raise DataError(f"shapes: the seed must be 0 or more, not {seed}.")
    if size < 8:
        raise DataError(f"shapes: the figures need a size of at least 8 pixels, not {size}.")
    if min(train, test) < len(CLASSES):
        raise DataError(f"shapes: a split needs at least {len(CLASSES)} pictures, one a class, not {min(train, test)}.")
    first, second = _split(seed, 0, "train", train, size), _split(seed, 1, "test", test, size)
    mean, std = mean_std(first.images)
    return Dataset("shapes", first, second, CLASSES, mean, std, "shapes")


def draw(
    labels: Int64[np.ndarray, "n"], figure: Float64[np.ndarray, "n k"], ground: Float64[np.ndarray, "n g"], size: int
) -> tuple[UInt8[np.ndarray, "n 3 size size"], Bool[np.ndarray, "n size size"]]:
    """Draw one picture a row from its class and its two rows of numbers in [0, 1); return pictures and masks.

    >>> images, masks = draw(np.array([1]), np.full((1, FIGURE_DRAWS), 0.5), np.full((1, GROUND_DRAWS), 0.5), 16)
    >>> images.shape, images.dtype, int(masks.sum())
    ((1, 3, 16, 16), dtype('uint8'), 44)
    """
    axis = ((2 * np.arange(size) + 1 - size) / size).astype(np.float32)
    grid = np.broadcast_to(axis, (len(labels), size, size)), np.broadcast_to(-axis[:, None], (len(labels), size, size))
    dice = Dice(figure)
    bright = dice.between(0, 1) < 0.5
    image = _ground(Dice(ground), bright, *grid)
    color, distance = _figure(dice, bright, labels, *grid)
    _mix(image, color, edge(-distance, 2 / size))
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), distance <= 0


@dataclass
class Dice:
    """Reads rows of random numbers column by column; each call takes the next column."""

    rows: Float64[np.ndarray, "b k"]
    column: int = -1

    def between(self, low: float | Field, high: float | Field) -> Field:
        """Return one number a picture, uniform from `low` to `high`, as [b, 1, 1]."""
        self.column += 1
        return np.asarray(low + (high - low) * self.rows[:, self.column, None, None], np.float32)

    def pick(self, n: int) -> Int64[np.ndarray, "b"]:
        """Return one whole number a picture, from 0 to n - 1."""
        self.column += 1
        return np.asarray(np.floor(self.rows[:, self.column] * n), np.int64)

    def direction(self) -> tuple[Field, Field]:
        """Return a unit vector a picture."""
        x, y = wave(turn := self.between(0, 1)), wave(turn + 0.75)
        return x / length(x, y), y / length(x, y)

    def near_up(self, tangent: float) -> tuple[Field, Field]:
        """Return a unit vector a picture, at most 2 arctan(tangent) from (0, 1)."""
        t = self.between(-tangent, tangent)
        return 2 * t / (1 + t * t), (1 - t * t) / (1 + t * t)

    def color(self, light: tuple[Field, Field], chroma: tuple[float, float]) -> Field:
        """Return one colour a picture, [b, 3, 1, 1], from its range of lightness and chroma in OKLCH and any hue."""
        L, c, (x, y) = self.between(*light), self.between(*chroma), self.direction()
        a, b = c * x, c * y
        p, q, r = L + 0.3963 * a + 0.2158 * b, L - 0.1056 * a - 0.0639 * b, L - 0.0895 * a - 1.2915 * b
        p, q, r = p * p * p, q * q * q, r * r * r
        red, green = 4.0767 * p - 3.3077 * q + 0.2310 * r, -1.2684 * p + 2.6098 * q - 0.3413 * r
        linear = np.stack([red, green, -0.0042 * p - 0.7034 * q + 1.7076 * r], 1)
        return np.asarray(np.sqrt(np.clip(linear, 0, 1)), np.float32)  # nearly the gamma of sRGB, and exact


def _mix(image: Field, color: Field | float, share: Field) -> None:
    """Lay `colour` over `picture` [b, 3, h, w] in place, `share` [b, h, w] of it."""
    image *= (1 - share)[:, None]  # not picture + share * (colour - picture): a share of 1 must leave nothing of it
    image += share[:, None] * color


def _turn(x: Field, y: Field, c: Field, s: Field) -> tuple[Field, Field]:
    """Return the points as seen from axes that are turned by the angle of cosine `c` and sine `s`."""
    return x * c + y * s, y * c - x * s


def _pattern(dice: Dice, x: Field, y: Field, periods: tuple[float, float]) -> Field:
    """Return a pattern of a random kind, direction, phase and period, 0 to 1."""
    kind, (u, v), rate = dice.pick(len(PATTERNS)), _turn(x, y, *dice.direction()), dice.between(*periods)
    u, v = u * rate + dice.between(0, 1), v * rate + dice.between(0, 1)
    soft = rate * (2 / x.shape[-1])
    out = np.empty_like(u)
    for index, pattern in enumerate(PATTERNS):
        rows = kind == index
        out[rows] = pattern(u[rows], v[rows], soft[rows])
    return out


def _ground(dice: Dice, bright: Bool[np.ndarray, "b 1 1"], x: Field, y: Field) -> Field:
    """Return the pictures without their figures, [b, 3, h, w]: a gradient, a pattern, then clutter."""
    tones = np.where(bright, 0.76, 0.20), np.where(bright, 0.97, 0.43)
    stray = np.where(bright, 0.68, 0.20), np.where(bright, 0.97, 0.52)
    image = np.broadcast_to(dice.color(tones, (0, 0.09)), (len(x), 3, *x.shape[1:])).copy()
    _mix(image, dice.color(tones, (0, 0.09)), np.clip(0.5 + 0.5 * _turn(x, y, *dice.direction())[0], 0, 1))
    _mix(image, dice.color(tones, (0, 0.09)), _pattern(dice, x, y, (1.5, 4)) * dice.between(0.4, 0.9))
    for index in range(7):
        u, v = _turn(x - dice.between(-1, 1), y - dice.between(-1, 1), *dice.direction())
        if index % 2:
            distance = length(u, v * dice.between(1, 1.8)) - dice.between(0.06, 0.3)
        else:
            distance = np.maximum(np.abs(u) - dice.between(0.02, 0.07), np.abs(v) - dice.between(0.3, 1.2))
        _mix(image, dice.color(stray, (0.02, 0.15)), edge(-distance, 2 / x.shape[-1]))
    return image


def _figure(
    dice: Dice, bright: Bool[np.ndarray, "b 1 1"], labels: Int64[np.ndarray, "b"], x: Field, y: Field
) -> tuple[Field, Field]:
    """Return the figures' colour [b, 3, h, w], everywhere, and the signed distance to their outlines [b, h, w]."""
    size, (s, c) = dice.between(0.64, 0.98), dice.near_up(0.27)
    flip: Field = np.where(dice.between(0, 1) < 0.5, np.float32(-1), np.float32(1))
    margin = 0.9 - size * 0.88  # no figure reaches further than 0.88 from its middle
    u, v = _turn(x - margin * dice.between(-1, 1), y - margin * dice.between(-1, 1), c, s)
    u, v = u * flip / size, v / size
    distance, height = np.empty_like(u), np.empty_like(u)
    for index, name in enumerate(CLASSES):
        figure, unit = FIGURES[name]
        rows = labels == index
        near, far = figure(u[rows] * unit, v[rows] * unit)
        distance[rows], height[rows] = near / unit, far / unit
    tones = np.where(bright, 0.38, 0.70), np.where(bright, 0.58, 0.90)
    color = np.broadcast_to(dice.color(tones, (0.10, 0.22)), (len(x), 3, *x.shape[1:])).copy()
    _mix(color, dice.color(tones, (0.04, 0.22)), _pattern(dice, u, v, (3, 6)) * dice.between(0.3, 0.8))
    _light(dice, color, height * size)
    return color, distance * size


def _light(dice: Dice, color: Field, height: Field) -> None:
    """Shade `colour` in place by a lamp above, and put a highlight on it."""
    down, right = np.gradient(height * (height.shape[-1] / 2), axis=(1, 2))
    norm = np.sqrt(right * right + down * down + 1)
    (lx, ly), glow, gloss = dice.near_up(0.6), dice.between(0.45, 0.6), dice.between(0, 0.6)
    lx, ly, lz = 0.7 * lx, 0.7 * ly, 0.714
    shade = np.maximum(down * ly - right * lx + lz, 0) / norm
    shine = np.maximum(down * ly - right * lx + lz + 1, 0) / (norm * 1.8515)  # towards halfway between lamp and eye
    for _ in range(5):
        shine = shine * shine
    color *= (glow + 0.65 * shade)[:, None]
    _mix(color, 1, gloss * shine)


def _split(seed: int, index: int, name: str, n: int, size: int) -> Split:
    """Draw one split, chunk by chunk."""
    labels = np.arange(n, dtype=np.int64) % len(CLASSES)
    figure, ground = _numbers(seed, index, 0, n, FIGURE_DRAWS), _numbers(seed, index, 1, n, GROUND_DRAWS)
    images, masks = np.empty((n, 3, size, size), np.uint8), np.empty((n, size, size), bool)
    step = max(1, CHUNK // size**2)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        images[rows], masks[rows] = draw(labels[rows], figure[rows], ground[rows], size)
    names = tuple(f"{name}/{CLASSES[i % len(CLASSES)]}/{i // len(CLASSES):04d}.png" for i in range(n))
    return Split(torch.from_numpy(images), torch.from_numpy(labels), names, torch.from_numpy(masks))


def _numbers(seed: int, split: int, part: int, n: int, draws: int) -> Float64[np.ndarray, "n draws"]:
    """Return n rows of numbers in [0, 1): a stream of their own, whose row i does not depend on n."""
    bits = np.random.Philox(np.random.SeedSequence([seed, split, part])).random_raw(n * draws)
    return (bits >> np.uint64(11)).reshape(n, draws) * 2.0**-53
