"""Tensor -> figure. Scales come as arguments and are said; nothing is rescaled silently. Files are byte-stable."""

import io
import threading
import warnings
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Int64, UInt8
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from torch import Tensor

from torchloupe.errors import UsageError, printable
from torchloupe.runtime.files import atomic_write

FORMATS = ("png", "svg", "pdf", "jpg", "jpeg", "webp")
INK, QUIET, PAPER = "#1d2330", "#6b7280", "#ffffff"
TRAIN, TEST, VAL = "#3b6fd4", "#d9622b", "#2b8a57"
DPI = 150
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#c5cad3",
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ebf0",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.hashsalt": "torchloupe",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}


_DRAWING = threading.RLock()


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house style inside; nothing of it is left behind. One thread at a time: settings are global."""
    with _DRAWING, mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # not what a matplotlibrc says, which may lie in the folder that this is called in
        mpl.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # no font has every letter: a box
        yield


def save_figure(figure: Figure, path: Path, dpi: float = DPI) -> None:
    """Write a figure in the format of the suffix, atomically; the same figure gives the same bytes.

    Raises:
        UsageError: the suffix is not a picture format.

    >>> save_figure(Figure(), Path("a.doc"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.UsageError: cannot write 'a.doc': the suffix is not one of png, svg, pdf, jpg, jpeg, webp.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise UsageError(f"cannot write '{path}': the suffix is not one of {', '.join(FORMATS)}.")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=undated.get(kind))
    atomic_write(path, buffer.getvalue())


def sheet(
    images: UInt8[Tensor, "n 3 h w"], captions: Sequence[str], *, columns: int = 8, title: str = "", cell: float = 1.15
) -> Figure:
    """Put pictures into one sheet, each with a caption below, pixels crisp; `cell` is a picture's width in inches.

    >>> import torch
    >>> len(sheet(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), ["a", "b", "c"], columns=2).axes)
    3
    """
    n, columns = len(images), min(columns, max(1, len(images)))
    rows = -(-n // columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    gap, margin, text = 0.14, 0.25, 0.15 * lines + 0.10
    tall = cell * min(2.0, images.shape[2] / images.shape[3])  # a taller picture becomes narrower instead
    head = 0.45 if title else 0.0
    width = max(columns * (cell + gap) - gap + 2 * margin, 5.0 if title else 0.0)
    height = rows * (tall + text) + 2 * margin + head
    with style():
        figure = Figure(figsize=(width, height))
        for i in range(n):
            left = margin + i % columns * (cell + gap)
            bottom = height - margin - head - (i // columns) * (tall + text) - tall
            axes = figure.add_axes((left / width, bottom / height, cell / width, tall / height))
            axes.imshow(images[i].permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_axis_off()
            axes.set_anchor("W")  # a tall picture stands above the beginning of its caption
            lines_below = "\n".join(fit(line, 6.5, cell + 0.6 * gap) for line in captions[i].split("\n"))
            axes.text(0, -0.05 / tall, lines_below, transform=axes.transAxes, va="top", size=6.5, parse_math=False)
        if title:
            heading = fit(title, 11, width - 2 * margin)
            figure.text(margin / width, 1 - margin / height, heading, va="top", size=11, parse_math=False)
    return figure


def shorten(text: str, length: int) -> str:
    """Keep a text's end, which tells file names apart; controls and line breaks become visible marks.

    >>> shorten("train/cat/0001.png", 10)
    '…/0001.png'
    """
    plain = printable(text)
    return plain if len(plain) <= length else "…" + plain[1 - length :]


def fit(text: str, size: float, inches: float) -> str:
    """Leave out the middle of a line that would be wider than `inches` in letters of `size` points.

    >>> fit("short", 9, 2), fit("long" * 9, 9, 1)
    ('short', 'longlo…nglong')
    """
    plain = shorten(text, 400)
    if width_of(plain, size) <= inches:
        return plain

    def keeping(n: int) -> str:
        return f"{plain[: n // 2]}…{plain[len(plain) - (n + 1) // 2 :]}"

    too_wide = bisect(range(len(plain)), inches, key=lambda n: width_of(keeping(n), size))
    return keeping(max(0, too_wide - 1))


@lru_cache(maxsize=1)
def _measure() -> Any:
    return RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]


@lru_cache(maxsize=8192)
def width_of(line: str, size: float) -> float:
    """Return the width in inches of a line in letters of `size` points.

    >>> width_of("mm", 10) == 2 * width_of("m", 10)
    True
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        font = FontProperties(family=STYLE["font.family"], size=size)
        dots: float = _measure().get_text_width_height_descent(line, font, ismath=False)[0]
    return 1.03 * dots / DPI  # at other resolutions letters may be a little wider


def curves(rows: list[dict[str, Any]], title: str = "", other: str = "test", note: str | None = None) -> Figure:
    """Draw loss and accuracy of train and of `other`, per iteration (left) and per epoch (right), from metrics.jsonl.

    `note` says how they were measured, where that is not as torchloupe does it.

    >>> rows = [{"kind": "step", "step": 1, "epoch": 0.5, "loss": 1.0, "accuracy": 0.5}]
    >>> len(curves(rows).axes)
    4
    """
    with style():
        figure = Figure(figsize=(9.6, 5.8))
        grid = figure.subplots(2, 2)
        for line, name in enumerate(("loss", "accuracy")):
            _per_step(grid[line, 0], rows, name, other)
            _per_epoch(grid[line, 1], rows, name, ("train", "test") if note else ("train, running", f"{other}, all"))
            percent = "accuracy, %" if name == "accuracy" else "loss" if note else "loss, nats"
            for axes in grid[line]:
                axes.set_ylabel(percent)
        grid[1, 0].set_xlabel("iteration")
        grid[1, 1].set_xlabel("epoch")
        grid[0, 0].set_title("per iteration")
        grid[0, 1].set_title("per epoch")
        ours = (
            "train: running, measured on augmented pictures while the weights change; "
            f"{other}: whole pictures, no test-time augmentation; loss: cross-entropy, without label smoothing"
        )
        figure.text(0.02, 0.015, note or ours, size=7, color=QUIET)
        figure.text(0.02, 0.975, fit(title, 12, 9.2), va="top", size=12, parse_math=False)
        figure.subplots_adjust(left=0.075, right=0.98, top=0.88, bottom=0.12, wspace=0.2, hspace=0.22)
    return figure


def _per_step(axes: Any, rows: list[dict[str, Any]], name: str, other: str) -> None:
    scale = 100 if name == "accuracy" else 1
    steps, probes = (_known(rows, kind, name) for kind in ("step", "probe"))
    x, y = np.array([row["step"] for row in steps]), np.array([row[name] * scale for row in steps])
    axes.plot(x, y, color=TRAIN, alpha=0.25, linewidth=0.7)
    window = max(1, len(y) // 50)
    if len(y) >= window and len(y):
        smooth = np.convolve(y, np.ones(window) / window, mode="valid")
        axes.plot(x[window - 1 :], smooth, color=TRAIN, linewidth=1.5, label=f"train, mean of {window}")
    dots = {"marker": "o", "markersize": 2.5} if len(probes) < 100 else {}
    values = [row[name] * scale for row in probes]
    if probes:
        axes.plot([row["step"] for row in probes], values, color=TEST, linewidth=1.2, label=f"{other}, ≤ 1,000", **dots)
    _legend(axes)


def _per_epoch(axes: Any, rows: list[dict[str, Any]], name: str, called: tuple[str, str]) -> None:
    scale = 100 if name == "accuracy" else 1
    epochs = [row for row in rows if row["kind"] == "epoch"]
    lines = (("train", TRAIN, called[0]), ("val", VAL, "val"), ("test", TEST, called[1]))
    found = {split: _known(epochs, "epoch", f"{split}_{name}") for split, _, _ in lines}
    ends = {split: known[-1][f"{split}_{name}"] for split, known in found.items() if known}
    for split, color, label in (line for line in lines if found[line[0]]):
        known = found[split]
        x, y = [row["epoch"] for row in known], [row[f"{split}_{name}"] * scale for row in known]
        axes.plot(x, y, color=color, linewidth=1.5, marker="o", markersize=3.5 if len(x) < 40 else 0, label=label)
        if y:
            lower = min(ends, key=lambda key: ends[key]) == split and len(ends) > 1
            axes.annotate(
                f"{y[-1]:.2f}",
                (x[-1], y[-1]),
                xytext=(0, -5 if lower else 5),  # the upper figure above its line, the lower one below
                textcoords="offset points",
                color=color,
                size=8,
                ha="right",
                va="top" if lower else "bottom",
            )
    if epochs:
        axes.set_xlim(0, 1.04 * max(row["epoch"] for row in epochs))
        axes.margins(y=0.12)  # room for the figures
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(axes)


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")


def _known(rows: list[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of a kind that have a number of a name."""
    return [row for row in rows if row["kind"] == kind and np.isfinite(row.get(name, np.nan))]


def confusion(matrix: Int64[Tensor, "c c"], classes: Sequence[str], title: str = "") -> Figure:
    """Draw a confusion matrix: row true, column predicted, colour the share of the row, numbers counts.

    >>> import torch
    >>> confusion(torch.eye(2, dtype=torch.int64), ["cat", "dog"]).axes[0].get_ylabel()
    'true class'
    """
    counts = matrix.numpy()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    n = len(classes)
    names = [fit(shorten(name, 18), 9, 1.5) for name in classes]
    wide = max((width_of(name, 9) for name in names), default=0.0) if n <= 60 else 0.3
    side, left, bottom, head = min(12.0, max(3.8, 0.52 * n)), wide + 0.6, 0.71 * wide + 0.65, 0.6
    width, height = left + side + 0.2, bottom + side + head
    with style():
        figure = Figure(figsize=(width, height))  # laid out in inches: a layout engine gives other bytes at each save
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        axes.grid(False)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        if n <= 60:
            axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
            axes.set_yticks(range(n), names, parse_math=False)
        if n <= 20:
            for (i, j), count in np.ndenumerate(counts):
                if count:
                    color = "white" if share[i, j] > 0.55 else INK
                    axes.text(j, i, f"{count:,}", ha="center", va="center", size=7.5, color=color)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        heading = f"{fit(title, 9, width - 0.3)}\n(number of pictures; colour: share of the row)"
        figure.text(0.15 / width, 1 - 0.12 / height, heading, va="top", size=9, parse_math=False)
    return figure
