"""Figures: byte-stable files, crisp pixels, names that want to do harm."""

import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from torchloupe.errors import UsageError
from torchloupe.figures.plots import FORMATS, confusion, curves, fit, save_figure, sheet, shorten, style, width_of

HOSTILE = [
    "$x$ \\frac{1}{0}",
    "$\\undefined{",
    "a\nb\r\nc\td",
    "<script>alert(1)</script>&amp;",
    "n" * 300,
    "עברית العربية \u202e",
    "猫と犬",
    "😀👍🏽",
    "\x00\x1b[31m",
    "",
    "%s {0} {name}",
]
ROWS: list[dict[str, Any]] = [
    *({"kind": "step", "step": i, "epoch": i / 8, "loss": 2 / i, "accuracy": 1 - 1 / i} for i in range(1, 17)),
    *({"kind": "probe", "step": i, "epoch": i / 8, "loss": 2 / i, "accuracy": 0.5} for i in (2, 4, 8, 16)),
    *(
        {"kind": "epoch", "step": 8 * i, "epoch": i}
        | {"train_loss": 1 / i, "train_accuracy": 0.5, "test_loss": 2 / i, "test_accuracy": 0.4}
        for i in (1.0, 2.0)
    ),
]


def images(n: int = 3, h: int = 8, w: int = 8) -> Tensor:
    return torch.randint(0, 256, (n, 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(kind: str) -> Figure:
    if kind == "sheet":
        return sheet(images(), ["a", "b", "c"], columns=2, title="title")
    if kind == "confusion":
        return confusion(torch.tensor([[3, 1], [0, 2]]), ["cat", "dog"], "title")
    return curves(ROWS, "title")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", ["sheet", "confusion", "curves"])
def test_the_same_figure_gives_the_same_bytes(tmp_path: Path, kind: str, suffix: str) -> None:
    one, two = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix.upper()}"
    figure = make(kind)
    save_figure(figure, one, dpi=40)
    save_figure(figure, two, dpi=40)
    assert one.read_bytes() == two.read_bytes()
    save_figure(make(kind), two, dpi=40)
    assert one.read_bytes() == two.read_bytes()
    if suffix in ("png", "jpg", "jpeg", "webp"):
        with Image.open(one) as image:
            assert image.size[0] > 50
    else:
        assert one.read_bytes()[:4] in (b"%PDF", b"<?xm")


def test_files_do_not_depend_on_the_callers_settings(tmp_path: Path) -> None:
    save_figure(make("curves"), tmp_path / "1.svg")
    with mpl.rc_context({"svg.hashsalt": None, "font.size": 20, "axes.grid": False, "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        save_figure(make("curves"), tmp_path / "2.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()


def test_figures_drawn_by_many_threads_are_those_drawn_by_one_and_settings_stay(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    def drawn(number: int) -> bytes:
        path = tmp_path / f"{number}.png"
        save_figure(sheet(images, ["a", "b"], title="t"), path)
        return path.read_bytes()

    before, filters, alone = dict(mpl.rcParams), list(warnings.filters), drawn(0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(drawn, range(24))) == {alone}
    finally:
        sys.setswitchinterval(interval)
    assert dict(mpl.rcParams) == before and list(warnings.filters) == filters


@pytest.mark.parametrize("name", ["a", "a.doc", "a.npy", "png", ".png"])
def test_a_suffix_that_is_no_picture_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="suffix"):
        save_figure(Figure(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def drawn(figure: Figure, dpi: int) -> np.ndarray:
    """The figure as pixels [h, w, 3]."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("size", [(8, 8), (6, 12), (12, 6), (32, 32), (200, 200)])
def test_an_isolated_pixel_stays_a_block(size: tuple[int, int]) -> None:
    images = torch.zeros(1, 3, *size, dtype=torch.uint8)
    images[0, :, size[0] // 2, size[1] // 2] = 255
    shown = drawn(sheet(images, [""], title=""), 300)
    dark = shown.max(2) < 250
    rows, columns = dark.any(1).nonzero()[0], dark.any(0).nonzero()[0]
    image = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert image.shape[0] / image.shape[1] == pytest.approx(size[0] / size[1], rel=0.03)
    inner = image[2:-2, 2:-2]  # the frame's own edge may fall between two dots
    assert set(np.unique(inner)) <= {0, 255}, "smoothed"
    y, x = (inner[..., 0] == 255).nonzero()
    block = inner[y.min() : y.max() + 1, x.min() : x.max() + 1]
    assert (block == 255).all()
    assert block.shape[0] == pytest.approx(image.shape[0] / size[0], abs=1.01)
    assert block.shape[1] == pytest.approx(image.shape[1] / size[1], abs=1.01)


def test_a_sheet_shows_the_colours_as_they_are() -> None:
    images = torch.tensor([[10, 20, 30], [200, 100, 50]], dtype=torch.uint8).view(2, 3, 1, 1).expand(2, 3, 4, 4)
    colors = {tuple(c) for c in drawn(sheet(images, ["", ""]), 50).reshape(-1, 3).tolist()}
    assert {(10, 20, 30), (200, 100, 50)} <= colors  # a dull picture is not stretched to the full range


def boxes(figure: Figure) -> list[Any]:
    """The boxes (in dots) of all visible texts."""
    with style():
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
        texts = [text for text in figure.findobj(mpl.text.Text) if text.get_text() and text.get_visible()]
        return [text.get_window_extent() for text in texts]


def inside(figure: Figure) -> bool:
    """Nothing that is drawn lies outside of the page (in inches)."""
    with style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        box = figure.get_tightbbox(canvas.get_renderer())  # type: ignore[no-untyped-call]
    width, height = figure.get_size_inches()
    return bool(box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= width + 0.01 and box.y1 <= height + 0.01)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("caption", ["short", "W" * 20, "猫" * 16 + "\n" + "W" * 20 + "\nlast", "n" * 300])
@pytest.mark.parametrize("shape", [(2, 8, 8), (9, 8, 8), (3, 4, 16), (3, 16, 4)])
def test_captions_stay_below_their_own_picture(shape: tuple[int, int, int], caption: str) -> None:
    figure = sheet(images(*shape), [caption] * shape[0])
    assert inside(figure)
    shown = boxes(figure)
    frames = [axes.get_window_extent() for axes in figure.axes]
    for i, box in enumerate(shown):
        assert not any(box.overlaps(other) for other in shown[:i])
        assert not any(box.overlaps(frame) and box.x1 - frame.x0 > 1 and box.y1 - frame.y0 > 1 for frame in frames)


@pytest.mark.parametrize("title", ["short", "a long title " * 12, "n" * 300])
@pytest.mark.parametrize("n", [1, 3, 8])
def test_a_title_is_not_cut_off(title: str, n: int) -> None:
    assert inside(sheet(images(n), ["a"] * n, title=title))
    eye = torch.eye(max(2, n), dtype=torch.int64)
    assert inside(confusion(eye, ["a class of mine"] * len(eye), title))
    assert inside(curves(ROWS, title))


@pytest.mark.parametrize("n", [2, 10, 20, 21, 60, 61, 100])
def test_confusion_of_many_classes(n: int) -> None:
    figure = confusion(torch.full((n, n), 1000), [f"a long class name {i}" for i in range(n)], "title")
    axes = figure.axes[0]
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == (["1,000"] * n * n if n <= 20 else [])
    with style():
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
        ticks = [t.get_window_extent() for t in axes.get_yticklabels() if t.get_text()]
    assert len(ticks) == (n if n <= 60 else len(ticks))
    if n <= 60:
        ordered = sorted(ticks, key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 + 2 for low, high in pairwise(ordered))


def test_confusion_colours_are_shares_of_the_row() -> None:
    shown = np.asarray(confusion(torch.tensor([[30, 10], [0, 0]]), ["a", "b"]).axes[0].images[0].get_array())
    assert shown.tolist() == [[0.75, 0.25], [0.0, 0.0]]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_drawn_without_a_word(tmp_path: Path, name: str) -> None:
    figures = [
        sheet(images(2), [name, shorten(name, 16)], title=name),
        confusion(torch.tensor([[3, 1], [0, 2]]), [name, "dog"], name),
        curves(ROWS, name),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing letter must not print a warning per picture
        for number, figure in enumerate(figures):
            for kind in ("png", "svg") if number else ("png", "svg", "pdf"):
                save_figure(figure, tmp_path / f"{number}.{kind}", dpi=40)
    for path in tmp_path.glob("*.svg"):
        assert b"<script" not in path.read_bytes()


def test_shorten_keeps_the_end_and_shows_controls() -> None:
    assert shorten("abc", 3) == "abc" and shorten("abcd", 3) == "…cd"
    assert shorten("a\nb\x1b\x00", 9) == "a·b··"
    assert all(len(shorten(name, 12)) <= 12 for name in HOSTILE)


@pytest.mark.parametrize(
    "rows", [[], ROWS[:1], ROWS[-1:], ROWS[:16]], ids=["nothing", "one step", "one epoch", "no test"]
)
def test_curves_of_little(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    figure = curves(rows, "t")
    save_figure(figure, tmp_path / "c.png", dpi=40)
    with Image.open(tmp_path / "c.png") as image:
        assert image.size == tuple(int(side * 40) for side in figure.get_size_inches())


def test_curves_say_what_they_show() -> None:
    figure = curves(ROWS, "t", other="held-out")
    texts = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    assert "held-out" in texts and "running" in texts and "accuracy, %" in texts and "nats" in texts
    losses = np.asarray(figure.axes[0].lines[0].get_ydata())
    assert losses.tolist() == [row["loss"] for row in ROWS if row["kind"] == "step"]
    tests = [line for line in figure.axes[3].lines if str(line.get_label()).startswith("held-out")]
    assert np.asarray(tests[0].get_ydata()).tolist() == [40.0, 40.0]


def test_the_last_figures_of_train_and_test_do_not_cover_each_other() -> None:
    for gap in (0.001, -0.001):
        last = {"kind": "epoch", "step": 8, "epoch": 1.0, "train_loss": 1.0, "test_loss": 1.0 + gap}
        figure = curves([*ROWS[-2:], {**last, "train_accuracy": 0.5, "test_accuracy": 0.5 + gap}], "t")
        with style():
            FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
            for axes in (figure.axes[1], figure.axes[3]):
                one, other = [text.get_window_extent() for text in axes.texts]
                assert not one.overlaps(other)


def test_epochs_are_counted_from_zero() -> None:
    assert curves(ROWS[-1:], "t").axes[1].get_xlim()[0] == 0


def test_tall_and_wide_pictures_make_sheets_that_fit_a_file(tmp_path: Path) -> None:
    for h, w in ((256, 1), (1, 256), (256, 4)):
        save_figure(sheet(images(32, h, w), ["name"] * 32), tmp_path / "s.png")
        with Image.open(tmp_path / "s.png") as image:
            assert max(image.size) < 5000


@pytest.mark.parametrize("text", ["activation", "spatial mean of the layer's output", "lr 0.2 · copies 1 · iiii"])
def test_a_line_that_just_fits_is_left_whole(text: str) -> None:
    assert fit(text, 6.5, width_of(text, 6.5)) == text  # the mark in the middle is wider than the letter it replaces
    assert "…" in fit(text, 6.5, 0.9 * width_of(text, 6.5))
