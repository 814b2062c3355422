"""Contact sheets dot by dot, colours by hand, and what no figure can be."""

import io
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import Tensor

from rasters import codes, spot
from torchloupe.errors import UsageError
from torchloupe.figures.colors import ramp, rgb, signed, tinted
from torchloupe.figures.plots import FORMATS, save_figure, style
from torchloupe.figures.sheet import Sheet, draw, pages
from torchloupe.figures.style import FigureStyle

Raster = np.ndarray[Any, Any]
THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
HOSTILE = [
    "$x$ \\frac{1}{0} $",
    "<script>&amp;</script>",
    "n" * 300,
    "W" * 300 + "\n" + "$" * 300,
    "a\x00\x1b[31m\u202e",
    "猫 😀",
]


def images(*shapes: tuple[int, int]) -> list[Tensor]:
    """Pictures of which no two pixels have the same colour."""
    taken = [(1000 * i + torch.arange(h * w)).view(h, w) * 9_999_991 % 2**24 for i, (h, w) in enumerate(shapes, 1)]
    return [torch.stack([part >> 16, part >> 8 & 255, part & 255]).to(torch.uint8) for part in taken]


def raster(sheet: Sheet, look: FigureStyle | None = None, times: int = 1) -> Raster:
    figure, stream = draw(sheet, look), io.BytesIO()
    with style():
        figure.savefig(stream, format="png", dpi=times * figure.dpi)
    with Image.open(stream) as image:
        return codes(np.asarray(image.convert("RGB")))


@THEMES
@pytest.mark.parametrize("width", [None, "89mm", "640px"])
@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (13, 4)])
def test_every_pixel_is_a_block_of_its_own_colour(theme: str, width: str | None, shape: tuple[int, int]) -> None:
    cells = images(*[shape] * 5)
    look = FigureStyle(theme=theme, width=width)
    drawn = raster(Sheet(cells, [f"$caption {i}$" for i in range(5)], "A title", "a note", columns=3), look)
    spots = [spot(drawn, cell) for cell in cells]
    factor = spots[0][2]
    assert factor > 1 and {f for _, _, f in spots} == {factor}
    assert len({upper for upper, _, _ in spots[:3]}) == len({upper for upper, _, _ in spots[3:]}) == 1
    assert [left for _, left, _ in spots[3:]] == [left for _, left, _ in spots[:2]], "columns stand below each other"
    steps = np.diff([left for _, left, _ in spots[:3]])
    assert steps[0] == steps[1] > factor * shape[1] and spots[3][0] - spots[0][0] > factor * shape[0]
    paper = {"light": 0xFFFFFF, "dark": 0x12151C}[theme]
    assert {int(each) for edge in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]) for each in edge} == {paper}


def test_pictures_of_several_sizes_have_one_factor() -> None:
    cells = images((8, 8), (3, 5), (6, 2))
    drawn = raster(Sheet(cells, columns=3))
    spots = [spot(drawn, cell) for cell in cells]
    assert len({factor for _, _, factor in spots}) == 1 and len({upper for upper, _, _ in spots}) == 1


def test_no_pixel_is_smoothed_at_another_resolution_either() -> None:
    cell = images((6, 5))[0]
    small, large = (spot(raster(Sheet([cell]), times=times), cell) for times in (1, 3))
    assert large == (3 * small[0], 3 * small[1], 3 * small[2])


@THEMES
def test_a_dead_unit_is_a_hatched_cell_and_no_picture(theme: str) -> None:
    one, other = images((6, 8), (6, 8))
    drawn = raster(Sheet([one, None, other], ["1", "2  dead", "3"], columns=3), FigureStyle(theme=theme))
    (upper, left, factor), (_, right, _) = spot(drawn, one), spot(drawn, other)
    between = (left + right) // 2
    cell = drawn[upper : upper + 6 * factor, between : between + 8 * factor]
    colors, counts = np.unique(cell, return_counts=True)
    assert len(colors) == 2 and counts.min() > 0.2 * cell.size
    lines = {tuple(np.roll(line, shift)) for shift, line in enumerate(cell[:16, :16])}
    assert len(lines) == 1, "stripes lie at 45 degrees"
    assert not np.isin(colors, codes(np.array([[[255, 255, 255], [0, 0, 0], [128, 128, 128]]], np.uint8))).any()


@pytest.mark.parametrize(("columns", "many"), [(8, 6), (7, 6), (2, 3)])
def test_neighbours_of_a_group_stand_closer_and_no_group_is_broken(columns: int, many: int) -> None:
    cells = images(*[(4, 4)] * 12)
    drawn = raster(Sheet(cells, columns=columns, group=3))
    spots = [spot(drawn, cell) for cell in cells]
    assert [upper for upper, _, _ in spots] == [spots[i // many * many][0] for i in range(12)]
    steps = np.diff([left for _, left, _ in spots[:many]])
    assert {*steps[:2], *steps[3:]} == {steps[0]} and (many == 3 or steps[2] > steps[0])


def test_columns_are_as_many_as_asked_for() -> None:
    cells = images(*[(4, 4)] * 12)
    drawn = raster(Sheet(cells, columns=8), FigureStyle(columns=5))
    uppers = [spot(drawn, cell)[0] for cell in cells]
    assert uppers == [uppers[0]] * 5 + [uppers[5]] * 5 + [uppers[10]] * 2 and uppers[0] < uppers[5] < uppers[10]


@pytest.mark.parametrize(
    ("count", "group", "most", "sizes"),
    [(130, 1, 64, [64, 64, 2]), (64, 1, 64, [64]), (0, 1, 9, [0]), (10, 3, 8, [6, 4]), (7, 5, 3, [5, 2])],
)
def test_pages_hold_whole_groups_and_all_cells_in_order(count: int, group: int, most: int, sizes: list[int]) -> None:
    cells = [torch.full((3, 1, 1), i, dtype=torch.uint8) for i in range(count)]
    whole = Sheet(cells, [str(i) for i in range(count)], "t", group=group)
    made = pages(whole, most)
    assert [len(page.cells) for page in made] == [len(page.captions) for page in made] == sizes
    assert all(a is b for a, b in zip((c for page in made for c in page.cells), cells, strict=True))
    assert [c for page in made for c in page.captions] == whole.captions
    many = len(made)
    assert all((f"{i + 1} of {many}" in page.title) == (many > 1) for i, page in enumerate(made))


@pytest.mark.parametrize("width", ["89mm", "3.5in", "252pt", "800px", "8.9cm"])
def test_the_figure_has_the_width_that_is_asked_for(tmp_path: Path, width: str) -> None:
    inches = {"89mm": 89 / 25.4, "3.5in": 3.5, "252pt": 3.5, "800px": 800 / 150, "8.9cm": 8.9 / 2.54}[width]
    sheet = Sheet(images(*[(6, 6)] * 5), ["a"] * 5, "A title", columns=4)
    figure = draw(sheet, FigureStyle(width=width))
    assert figure.get_size_inches()[0] == pytest.approx(inches)
    save_figure(figure, tmp_path / "a.png", dpi=figure.dpi)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width / image.info["dpi"][0] == pytest.approx(inches, rel=1e-3)


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def test_title_note_heads_and_bar_are_written_or_left_out() -> None:
    sheet = Sheet(
        images((4, 4)), ["below"], "A title", "made so", heads=("head",), bar=(ramp("viridis"), "low", "high")
    )
    said = texts(draw(sheet))
    assert {"below", "A title", "made so", "head", "low", "high"} <= set(said)
    assert {"A title", "made so"}.isdisjoint(texts(draw(sheet, FigureStyle(title=False))))
    assert {"low", "high"}.isdisjoint(texts(draw(sheet, FigureStyle(colorbar=False))))
    first, last = codes(ramp("viridis").numpy()[None])[0, [0, -1]]
    columns = [np.nonzero((raster(sheet) == color).any(0))[0] for color in (first, last)]
    assert len(columns[0]) and len(columns[1]) and columns[0].max() < columns[1].min()
    assert not (raster(sheet, FigureStyle(colorbar=False)) == last).any()


@THEMES
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_drawn_inside_the_page(tmp_path: Path, theme: str, text: str) -> None:
    sheet = Sheet(images(*[(4, 6)] * 3), [text, text, "short"], text, f"{text} and more", columns=3, heads=(text,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(sheet, FigureStyle(theme=theme))
        for kind in ("png", "svg", "pdf"):
            save_figure(figure, tmp_path / f"a.{kind}", dpi=figure.dpi)
    assert b"<script" not in (tmp_path / "a.svg").read_bytes()
    with style():
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
        boxes = [text.get_window_extent() for text in figure.findobj(mpl.text.Text) if text.get_text()]
    wide, tall = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= wide and box.y1 <= tall for box in boxes)


@pytest.mark.parametrize("suffix", FORMATS)
def test_drawn_twice_it_is_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        sheet = Sheet([*images((5, 4), (5, 4)), None], ["a", "$b$", "dead"], "t", "n", bar=(ramp("gray"), "0", "1"))
        figure = draw(sheet, FigureStyle(width="89mm"))
        save_figure(figure, tmp_path / f"{name}.{suffix}", dpi=figure.dpi)
    assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_pictures_in_zero_one_become_bytes() -> None:
    one = torch.tensor([[[[0.0, 0.5, 1.0, -3.0, 3.0]]]])
    assert rgb(one).tolist() == [[[[0, 128, 255, 0, 255]]] * 3]
    two = torch.tensor([[[[0.2]], [[0.6]]]])  # of other numbers of channels the mean is shown
    assert rgb(two).flatten().tolist() == [102] * 3
    three = torch.tensor([[[[0.0]], [[0.2]], [[1.0]]]], dtype=torch.float64)
    assert rgb(three).flatten().tolist() == [0, 51, 255] and rgb(three[0]).shape == (3, 1, 1)


def test_values_are_coloured_from_low_to_high() -> None:
    values = torch.tensor([[[0.0, 1.0, 4.0]], [[-1.0, 9.0, torch.nan]]])
    low, high = torch.tensor(0.0), torch.tensor(4.0)
    expected = [[0, 64, 255], [0, 255, 0]]  # beyond the ends: the ends; what is no number: the lowest
    assert tinted(values, "gray", low, high).tolist() == [[[row]] * 3 for row in expected]
    ends = torch.tensor([0.0, 3.0])[:, None, None], torch.tensor([2.0, 3.0])[:, None, None]  # the second is empty
    assert tinted(values, "gray", *ends)[:, 0, 0].tolist() == [[0, 128, 255], [0, 0, 0]]
    assert tinted(values, "viridis", low, high)[0, :, 0, 2].tolist() == [253, 231, 37]  # its published yellow
    with pytest.raises(UsageError, match="no colour map 'virids'; did you mean 'viridis'"):
        ramp("virids")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signed_values_stand_around_mid_grey(dtype: torch.dtype) -> None:
    values = torch.tensor([[-2.0, 0.0, 1.0], [8.0, 0.0, -4.0], [0.0, 0.0, 0.0]], dtype=dtype)[:, None, None]
    assert signed(values)[:, 0, 0].tolist() == [[1, 128, 192], [255, 128, 64], [128] * 3]
    assert signed(values, "shared")[:, 1, 0].tolist() == [[96, 128, 144], [255, 128, 64], [128] * 3]
    colors = torch.tensor([[-1.0, 0.5, 0.25]], dtype=dtype)[..., None, None]
    assert signed(colors).flatten().tolist() == [1, 192, 160]  # the three colours share one scale
    assert signed(colors[:, :2]).flatten().tolist() == [96] * 3  # of other numbers of channels the mean is shown


def test_one_in_two_hundred_signed_values_may_lie_beyond_the_end() -> None:
    """A few strong pixels leave the rest of the scale to the others; zeros, however many, do not count."""
    values = torch.zeros(1, 1, 60, 60)
    values[0, 0, :20, :20] = torch.arange(1.0, 401.0).view(20, 20)
    values[0, 0, 0, :3] = torch.tensor([-1e6, 1e6, 1e5])
    shown = signed(values)[0, 0]
    assert shown[0, :3].tolist() == [1, 255, 255]  # the end is the third of 400 from above, 1e5
    assert shown[19, 19] == 128 + round(127 * 400 / 1e5) and shown[59, 59] == 128
    values[0, 0, 0, 2] = 1
    assert signed(values)[0, 0, 19, 19] == 255 and signed(values)[0, 0, 9, 19] == 128 + round(127 * 200 / 400)


def test_what_is_no_number_does_not_hide_the_signal_beside_it() -> None:
    assert signed(torch.tensor([[[[-2.0, torch.nan, 2.0]]]]))[0, 0, 0, ::2].tolist() == [1, 255]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        *(
            ({"width": width}, "is not one like 89mm")
            for width in ("89", "wide", "-3in", "0mm", "9 ells", "1e3mm", "300in")
        ),
        ({"theme": "grey"}, "light or dark, not 'grey'"),
        ({"scale": "log"}, "per_picture"),
        ({"columns": 0}, "columns must be 1 or more"),
        ({"vmin": 2.0, "vmax": 2.0}, "vmin 2 must be below vmax 2"),
    ],
)
def test_what_no_figure_can_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FigureStyle(**settings)
    assert FigureStyle(scale="per_filter").scale == "per_picture" and FigureStyle().inches() is None
