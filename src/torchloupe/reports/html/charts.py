"""Numbers -> the geometry of small charts, as plain values that a page draws as SVG. Nothing here knows colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 26


@dataclass(frozen=True)
class Line:
    """One curve."""

    label: str
    kind: str
    """What the page colours it by."""
    path: str
    last: str
    """Its last value, written; empty where that says nothing."""


@dataclass(frozen=True)
class Chart:
    """Curves in a frame, in units of the SVG's view box."""

    width: int
    height: int
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_label: str
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


Series = tuple[str, str, Sequence[float], Sequence[float]]
"""Label, kind, x, y."""


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str = "",
    percent: bool = False,
    log: bool = False,
    width: int = 460,
    height: int = 220,
    y_range: tuple[float, float] | None = None,
    ends: bool = True,
) -> Chart | None:
    """Lay curves out; None where there is nothing to draw. `log`: a logarithmic y axis; `ends`: say the last values.

    >>> line_chart([("loss", "a", [0, 1, 2], [3.0, 2.0, 1.0])]).lines[0].path
    'M44 10 L246 102 L448 194'
    """
    clean = [(label, kind, *_finite(x, y, log)) for label, kind, x, y in series]
    clean = [each for each in clean if each[2]]
    if not clean:
        return None
    low_x, high_x = min(min(each[2]) for each in clean), max(max(each[2]) for each in clean)
    values = [v for each in clean for v in each[3]]
    low, high = y_range or (min(values), max(values))
    y_marks = decades(low, high) if log else nice(low, high)
    if not log and y_range is None:
        low, high = min(low, y_marks[0]), max(high, y_marks[-1])

    def across(v: float) -> float:
        return LEFT + (v - low_x) / ((high_x - low_x) or 1) * (width - LEFT - RIGHT)

    def up(v: float) -> float:
        share = (math.log(v / low) / (math.log(high / low) or 1)) if log else (v - low) / ((high - low) or 1)
        return height - BOTTOM - share * (height - TOP - BOTTOM)

    lines = tuple(
        Line(label, kind, _path(x, y, across, up), _said(y[-1], percent) if ends else "") for label, kind, x, y in clean
    )
    x_marks = [v for v in nice(low_x, high_x) if low_x <= v <= high_x]
    return Chart(
        width,
        height,
        lines,
        tuple((round(across(v), 1), f"{v:g}") for v in x_marks),
        tuple((round(up(v), 1), _said(v, percent, short=True)) for v in y_marks if low <= v <= high),
        x_label,
    )


def _finite(x: Sequence[float], y: Sequence[float], log: bool) -> tuple[list[float], list[float]]:
    pairs = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    pairs = [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b) and (b > 0 or not log)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _path(x: Sequence[float], y: Sequence[float], across: object, up: object) -> str:
    assert callable(across) and callable(up)
    points = [f"{across(a):.1f} {up(b):.1f}".replace(".0 ", " ").removesuffix(".0") for a, b in zip(x, y, strict=True)]
    if len(points) == 1:  # a line of one point has no length: a small ring
        return f"M{points[0]} m-3 0 a3 3 0 1 0 6 0 a3 3 0 1 0 -6 0"
    return "M" + " L".join(points)


def _said(value: float, percent: bool, short: bool = False) -> str:
    if percent:
        return f"{100 * value:.0f} %" if short else f"{100 * value:.2f} %"
    return f"{value:.3g}"


def nice(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from at or below `low` to at or above `high`.

    >>> nice(0.0, 9.3)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    span = high - low or abs(high) or 1.0
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if rough <= power * m * 1.0001)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return round numbers between two positive ones: powers of ten, with 2 and 5 times them where those are few.

    >>> decades(0.002, 3), decades(0.3, 3)
    ([0.01, 0.1, 1.0], [0.5, 1.0, 2.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [round(m * 10.0**k, 12) for k in powers for m in factors if low <= m * 10.0**k <= high]
        if len(found) > 2:
            return found
    return found or [low, high]


def thinned(values: Sequence[float], most: int = 300) -> tuple[list[float], list[float]]:
    """Return positions and means of at most so many runs of neighbours, for a curve of thousands of steps.

    >>> thinned([1.0, 3.0, 5.0, 7.0], 2)
    ([0.5, 2.5], [2.0, 6.0])
    """
    size = max(1, -(-len(values) // most))
    parts = [values[i : i + size] for i in range(0, len(values), size)]
    return [i * size + (len(part) - 1) / 2 for i, part in enumerate(parts)], [sum(part) / len(part) for part in parts]
