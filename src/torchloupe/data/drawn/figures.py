"""The ten figures of `shapes`, and the patterns on figures and grounds, as fields over a grid of points.

Only + - * /, square root, floor, minimum and maximum touch a pixel: IEEE 754 fixes each of them to the last bit, so
the pictures are the same on every machine, which sines and exponentials would not be.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

Field = Float32[NDArray[np.float32], "b h w"]
Solid = tuple[Field, Field]
"""Signed distance to the outline (negative inside) and height of the surface towards the eye; unit: figure's own."""
Corners = Sequence[tuple[float, float]]

BASE: Corners = [(0.831, -0.672), (0.745, -0.74), (0.608, -0.798), (0.43, -0.842), (0.223, -0.87), (0, -0.88)]
CONE: Corners = [(0, 1.12), (0.86, -0.6), *BASE]
STAR: Corners = [(0.0, 1.0), (0.2586, 0.356), (0.9511, 0.309), (0.4185, -0.136), (0.5878, -0.809), (0.0, -0.44)]
ARROW: Corners = [(0.0, 1.0), (0.8, 0.08), (0.34, 0.08), (0.34, -0.92), (0.0, -0.92)]
CUBE: Corners = [(0.0, 1.0), (0.8660, 0.5), (0.8660, -0.5), (0.0, -1.0)]
CROSS: Corners = [(0, 1), (0.34, 1), (0.34, 0.34), (1, 0.34), (1, -0.34), (0.34, -0.34), (0.34, -1), (0, -1)]
PETALS: Corners = [(0.0, 0.57), (0.5421, 0.1761), (0.335, -0.4611), (-0.335, -0.4611), (-0.5421, 0.1761)]


def length(x: Field, y: Field) -> Field:
    """Return the distance of each point from (0, 0)."""
    return np.sqrt(x * x + y * y)


def polygon(x: Field, y: Field, half: Corners) -> Field:
    """Return the signed distance to a polygon that is its own mirror image; `half` lists the corners with x >= 0.

    >>> x, y = np.float32([[[0.0, 0.5, 2.0]]]), np.float32([[[0.0, 0.0, 0.0]]])
    >>> polygon(x, y, [(0, 1), (1, 1), (1, -1), (0, -1)])
    array([[[-1. , -0.5,  1. ]]], dtype=float32)
    """
    x = np.abs(x)
    nearest = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in pairwise(half):
        ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        dx, dy = px - along * ex, py - along * ey
        nearest = np.minimum(nearest, dx * dx + dy * dy)
        if ey:
            inside ^= ((ay > y) != (by > y)) & (px < py * (ex / ey))
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def puff(distance: Field, width: float) -> Field:
    """Return the height of a figure whose rim is rounded like a quarter circle of radius `width`."""
    depth = np.clip(-distance, 0, width)
    return np.sqrt(depth * (2 * width - depth))


def arrow(x: Field, y: Field) -> Solid:
    """Return an arrow that points up."""
    distance = polygon(x, y - 0.02, ARROW) - 0.02
    return distance, puff(distance, 0.3)


def ball(x: Field, y: Field) -> Solid:
    """Return a sphere."""
    distance = length(x, y) - 1
    return distance, puff(distance, 1)


def cone(x: Field, y: Field) -> Solid:
    """Return a cone that stands on its round base, seen from a little above."""
    half = np.clip((1.12 - y) / 2, 0, 0.86)
    return polygon(x, y, CONE) - 0.03, np.sqrt(np.maximum(half * half - x * x, 0)) + 0.45 * y + 1


def crescent(x: Field, y: Field) -> Solid:
    """Return a moon that opens to the right."""
    x, y = x - 0.12, np.abs(y)
    # The two circles meet at (0.5174, 0.8086); past that tip the tip itself is nearest.
    distance = np.maximum(length(x, y) - 0.96, 0.81 - length(x - 0.47, y))
    past = x * 0.8086 - y * 0.5174 > 0.47 * np.maximum(0.8086 - y, 0)
    distance = np.asarray(np.where(past, length(x - 0.5174, y - 0.8086), distance) - 0.04, np.float32)
    return distance, puff(distance, 0.36)


def cross(x: Field, y: Field) -> Solid:
    """Return a cross with four equal arms."""
    distance = polygon(x, y, CROSS) - 0.02
    return distance, puff(distance, 0.3)


def cube(x: Field, y: Field) -> Solid:
    """Return a cube seen on its corner: three faces."""
    distance = polygon(x, y, CUBE) - 0.02
    faces = np.minimum(np.minimum(0.8165 * x + 0.4714 * y, 0.4714 * y - 0.8165 * x), -0.9428 * y)
    return distance, np.maximum(1.2 * faces + 2, 0)


def donut(x: Field, y: Field) -> Solid:
    """Return a ring with a round tube."""
    distance = np.abs(length(x, y) - 0.7) - 0.3
    return distance, puff(distance, 0.3)


def flower(x: Field, y: Field) -> Solid:
    """Return five petals round a middle."""
    middle = length(x, y)
    distance = middle - 0.44  # its edge is hidden; it keeps the seams of the petals opaque
    for px, py in PETALS:
        distance = np.minimum(distance, length(x - px, y - py) - 0.4)
    dome = puff(middle - 0.3, 0.3)
    return distance, np.maximum(0.7 * puff(distance, 0.4), dome + 0.2 * np.sign(dome))


def heart(x: Field, y: Field) -> Solid:
    """Return a heart with its tip down."""
    x, y = np.abs(x), y + 0.57
    lobe = length(x - 0.25, y - 0.75) - 0.35355339
    foot = np.maximum(x + y, 0) / 2
    tip = np.minimum(length(x, y - 1), length(x - foot, y - foot)) * np.sign(x - y)
    distance = np.where(x + y > 1, lobe, tip)
    return distance, puff(distance, 0.36)


def star(x: Field, y: Field) -> Solid:
    """Return a star with five points."""
    distance = polygon(x, y, STAR) - 0.03
    return distance, puff(distance, 0.36)


FIGURES: dict[str, tuple[Callable[[Field, Field], Solid], float]] = {
    "arrow": (arrow, 1.2401),
    "ball": (ball, 1.7725),
    "cone": (cone, 1.4248),
    "crescent": (crescent, 1.2483),
    "cross": (cross, 1.5552),
    "cube": (cube, 1.649),
    "donut": (donut, 1.6245),
    "flower": (flower, 1.5606),
    "heart": (heart, 0.9449),
    "star": (star, 1.2264),
}
"""Class name, figure, and how many of its units are one when its area is 1: all classes are equally large."""


def wave(t: Field) -> Field:
    """Return a smooth wave of period 1 from -1 to 1 that is 1 at 0: a cosine to 1 %, without a cosine's last bits.

    >>> wave(np.float32([0, 0.25, 0.5, 1]))
    array([ 1.,  0., -1.,  1.], dtype=float32)
    """
    ramp: Field = 4 * np.abs(t - np.floor(t) - 0.5) - 1
    return ramp * (1.5 - 0.5 * ramp * ramp)


def edge(distance: Field, soft: Field | float) -> Field:
    """Return 1 where `distance` is positive, 0 where negative, with a ramp `soft` wide between."""
    share: Field = np.clip(0.5 + distance / soft, 0, 1)
    return share


def plain(x: Field, y: Field, soft: Field) -> Field:
    """Return no pattern."""
    return x * 0


def stripes(x: Field, y: Field, soft: Field) -> Field:
    """Return straight stripes."""
    return edge(np.abs(x - np.floor(x) - 0.5) - 0.25, soft)


def checks(x: Field, y: Field, soft: Field) -> Field:
    """Return a chess board."""
    u, v = np.abs(x - np.floor(x) - 0.5) - 0.25, np.abs(y - np.floor(y) - 0.5) - 0.25
    return edge(np.sign(u * v) * np.minimum(np.abs(u), np.abs(v)), soft)


def dots(x: Field, y: Field, soft: Field) -> Field:
    """Return dots on a square grid."""
    return edge(0.32 - length(x - np.floor(x) - 0.5, y - np.floor(y) - 0.5), soft)


def marble(x: Field, y: Field, soft: Field) -> Field:
    """Return bent, soft veins."""
    bent = 0.6 * x + 0.18 * wave(0.5 * y)
    bent = bent + 0.12 * wave(0.45 * x + 0.6 * y)
    return 0.5 + 0.5 * wave(bent)


PATTERNS: tuple[Callable[[Field, Field, Field], Field], ...] = (plain, stripes, checks, dots, marble)
"""Patterns over points in units of their period; `soft` is the width of a pixel in that unit."""
