"""Numbers -> a page's charts, as SVG. The style sheet colours them; nothing here knows of light and dark."""

import math
from collections.abc import Sequence

from markupsafe import Markup

LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 26

Series = tuple[str, str, Sequence[float], Sequence[float]]
"""Label, kind (what the style sheet colours it by), x, y."""


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "",
    percent: bool = False,
    log: bool = False,
    width: int = 460,
    height: int = 220,
    y_range: tuple[float, float] | None = None,
    ends: bool = True,
    spans: Sequence[tuple[float, float, float]] = (),
) -> str:
    """Draw curves with their legend; empty where there is nothing to draw.

    `title` is read aloud, not shown. `log`: a logarithmic y axis; `ends`: the legend says the last values;
    `spans`: x and both ends of upright bars.

    >>> chart = line_chart("Loss", [("train", "a", [0, 1, 2], [3.0, 2.0, 1.0])])
    >>> 'd="M44 10 L246 102 L448 194"' in chart and 'aria-label="Loss: train ends at 1"' in chart
    True
    """
    clean = [(label, kind, *_finite(x, y, log)) for label, kind, x, y in series]
    clean = [each for each in clean if each[2]]
    if not clean:
        return ""
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

    marks = [_text(width - RIGHT, height - 1, "end", x_label)] if x_label else []
    for v in y_marks:
        if low <= v <= high:
            y = round(up(v), 1)
            marks.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, width - RIGHT, y, y)
            )
            marks.append(_text(LEFT - 6, y + 3.5, "end", _written(v, percent, short=True)))
    marks += [
        _text(round(across(v), 1), height - BOTTOM + 14, "middle", f"{v:g}")
        for v in nice(low_x, high_x)
        if low_x <= v <= high_x
    ]
    marks += [
        Markup('<line class="span" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
            round(across(x), 1), round(up(bottom), 1), round(up(top), 1)
        )
        for x, bottom, top in spans
    ]
    lines = [Markup('<path class="line {}" d="{}"/>').format(kind, _path(x, y, across, up)) for _, kind, x, y in clean]
    last = [(label, kind, _written(y[-1], percent) if ends else "") for label, kind, _, y in clean]
    aloud = "; ".join(f"{label} ends at {value}" if value else label for label, _, value in last)
    legend = [
        Markup('<li class="{}">{}{}</li>').format(kind, label, Markup(" <b>{}</b>").format(value) if value else "")
        for label, kind, value in last
    ]
    svg = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg><ul class="legend">{}</ul>')
    inside, below = Markup("").join([*marks, *lines]), Markup("").join(legend)
    return svg.format(width, height, f"{title}: {aloud}", inside, below)


def _text(x: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


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


def _written(value: float, percent: bool, short: bool = False) -> str:
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
