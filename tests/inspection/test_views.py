"""What the sheets show and say: scales, dead and weak units, crops; pixels found again by hand."""

import re
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contract import FAST, images, net, split
from torchloupe.attribution.backprop import deconvnet
from torchloupe.features.feature_maps import FeatureMaps
from torchloupe.features.filters import Filters
from torchloupe.features.top_examples import TopExamples
from torchloupe.figures.colors import signed
from torchloupe.figures.sheet import Sheet
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.catalog import METHODS, Method
from torchloupe.inspection.run import run
from torchloupe.inspection.views import backward, dream, feature_maps, filters, invert, maximize, top_examples
from torchloupe.synthesis.dream import Dream
from torchloupe.synthesis.invert import Inversion
from torchloupe.synthesis.maximize import Maximization

ABOUT: dict[str, Any] = {
    "method": "m",
    "model": "net",
    "layer": "conv1",
    "names": ["a.png", "b.png"],
    "labels": ["cat", "dog"],
}
SCALES = pytest.mark.parametrize(
    ("scale", "said"), [(None, "per "), ("per_picture", "per "), ("shared", "shared"), ("symmetric", "zero")]
)


def pixels(image: Tensor) -> Tensor:
    return (image.float() * 255).round().to(torch.uint8)


def gray(values: list[float], low: float, high: float) -> list[int]:
    return [round(255 * min(1, max(0, (v - low) / (high - low)))) for v in values]


def of(sheets: list[Sheet]) -> tuple[list[Tensor | None], list[str]]:
    """All cells and captions, over pages."""
    for sheet in sheets:
        assert len(sheet.cells) == len(sheet.captions)
    return [cell for sheet in sheets for cell in sheet.cells], [said for sheet in sheets for said in sheet.captions]


def plain(cell: Tensor | None) -> Tensor:
    assert cell is not None and cell.dtype == torch.uint8 and cell.shape[0] == 3
    return cell


@pytest.mark.parametrize("row", METHODS, ids=[row.name for row in METHODS])
@pytest.mark.parametrize("scale", [None, "shared", "symmetric"])
def test_every_sheet_says_how_it_was_made(row: Method, scale: str | None) -> None:
    given: Any = images() if row.takes == "pictures" else split() if row.takes == "dataset" else None
    shown = run(row.name, net(), None, given, channels=[0, 3], seed=7, **FAST.get(row.name, {}))
    sheets = shown.sheets(FigureStyle(scale=scale))
    cells, captions = of(sheets)
    assert any(captions) and all(cell is None or plain(cell).numel() for cell in cells)
    for sheet in sheets:
        assert shown.layer in sheet.title
        for part in (row.name, "Loupe", f"layer {shown.layer}", *(["seed 7"] if row.seeded else [])):
            assert part in sheet.note
        assert not sheet.heads or len(sheet.heads) == sheet.group
        assert sheet.columns % sheet.group == 0 and len(sheet.cells) % sheet.group == 0


def maps_of(values: Tensor, dead: list[bool]) -> FeatureMaps:
    b, n, y, x = values.shape
    pca, images = torch.rand(b, 3, y, x), torch.rand(b, 3, 2 * y, 2 * x)
    return FeatureMaps("conv1", values, torch.arange(n), torch.tensor(dead), pca, images)


@SCALES
def test_feature_maps_have_the_scale_that_is_said(scale: str | None, said: str) -> None:
    values = torch.tensor([[[[-1.0, 0.0, 3.0]], [[2.0, 2.5, 6.0]], [[0.0, 0.0, 0.0]]]])
    sheets = feature_maps.view(maps_of(values, [False, False, True]), FigureStyle(cmap="gray", scale=scale), ABOUT)
    ends = {"shared": [(-1, 6)] * 2, "symmetric": [(-6, 6)] * 2}.get(scale or "", [(-1, 3), (2, 6)])
    for i, (low, high) in enumerate(ends):
        assert plain(sheets[0].cells[i])[0, 0].tolist() == gray(values[0, i, 0].tolist(), low, high)
    assert sheets[0].cells[2] is None and "dead" in sheets[0].captions[2] and "1 of 3" in sheets[0].note
    assert said in sheets[0].note and "dead" not in "".join(sheets[0].captions[:2]) and "cat" in sheets[0].title
    assert sheets[0].bar is not None
    if scale in ("shared", "symmetric"):
        assert [float(end) for end in sheets[0].bar[1:]] == list(ends[0])


def test_ends_that_are_set_are_kept_and_said() -> None:
    values = torch.tensor([[[[-1.0, 0.0, 3.0]], [[2.0, 2.5, 6.0]]]])
    for scale in (None, "shared", "symmetric"):
        look = FigureStyle(cmap="gray", scale=scale, vmin=0, vmax=4)
        sheet = feature_maps.view(maps_of(values, [False] * 2), look, ABOUT)[0]
        shown = [plain(cell)[0, 0].tolist() for cell in sheet.cells]
        assert shown == [gray(row, 0, 4) for row in values[0, :, 0].tolist()]
        assert "from 0" in sheet.note and "to 4" in sheet.note and sheet.bar is not None and sheet.bar[1:] == ("0", "4")


def test_every_picture_has_its_maps_and_all_their_pca() -> None:
    result = maps_of(torch.rand(2, 70, 3, 5), [False] * 70)
    sheets = feature_maps.view(result, FigureStyle(), ABOUT)
    assert sum(len(sheet.cells) for sheet in sheets[:-1]) == 140 and len(sheets[-1].cells) == 6
    assert max(len(sheet.cells) for sheet in sheets) <= 64
    pca = plain(sheets[-1].cells[4])  # of the second picture, each position a square of pixels
    assert torch.equal(pca, pixels(result.pca[1]).repeat_interleave(2, 1).repeat_interleave(2, 2))
    over = feature_maps.view(result, FigureStyle(overlay=True), ABOUT)[0]
    assert {tuple(plain(cell).shape) for cell in over.cells} == {(3, 6, 10)}


@SCALES
def test_filters_have_the_scale_that_is_said(scale: str | None, said: str) -> None:
    weight = torch.tensor([[-1.0, 0.0, 3.0], [2.0, 2.5, 6.0], [0.5, 0.5, 0.5]]).view(3, 3, 1, 1)
    found = Filters("conv1", weight, torch.tensor([4, 7, 9]), torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 1))
    sheets = filters.view(found, FigureStyle(scale=scale), ABOUT)
    ends = {"shared": [(-1, 6)] * 2, "symmetric": [(-6, 6)] * 2}.get(scale or "", [(-1, 3), (2, 6)])
    for i, (low, high) in enumerate(ends):
        assert plain(sheets[0].cells[i]).flatten().tolist() == gray(weight[i].flatten().tolist(), low, high)
    assert said in sheets[0].note and [text.split()[0] for text in sheets[0].captions] == ["4", "7", "9"]
    assert len(set(plain(sheets[0].cells[2]).flatten().tolist())) == 1, "a filter of one weight is one colour"


@pytest.mark.parametrize("scale", [None, "shared"])
def test_deeper_filters_are_their_strongest_kernels(scale: str | None) -> None:
    conv = nn.Conv2d(8, 6, 3, groups=2)
    shown = run("filters", nn.Sequential(conv), "0", channels=[1, 5], strongest=2)
    cells, captions = of(shown.sheets(FigureStyle(scale=scale)))
    assert len(cells) == 4 and ("shared" in shown.sheets(FigureStyle(scale=scale))[0].note) == (scale == "shared")
    weight, pairs = conv.weight.detach(), zip((1, 5), shown.strongest.tolist(), strict=True)
    kernels = [weight[channel, source % 4] for channel, sources in pairs for source in sources]
    strongest = max(float(kernel.abs().max()) for kernel in kernels)
    for i, (cell, kernel) in enumerate(zip(cells, kernels, strict=True)):
        source, most = int(shown.strongest[i // 2, i % 2]), strongest if scale else float(kernel.abs().max())
        assert f"←{source}\n" in captions[i] and captions[i].startswith(f"{(1, 5)[i // 2]}←") == (i % 2 == 0)
        red, _, blue = plain(cell).int()
        clear = kernel.abs() > 0.05 * most
        assert torch.equal((red > blue)[clear], (kernel > 0)[clear]), "red is positive, blue negative"


def maximized(**more: Any) -> Maximization:
    given: dict[str, Any] = {
        "channel": torch.arange(4),
        "image": torch.full((4,), -1),
        "activation": torch.tensor([2.0, 0.5, 0.0, 1.0]),
        "best": torch.tensor([1.0, 1.0, 1.0, 0.0]),
        "dead": torch.tensor([False, False, True, False]),
    }
    given |= more
    n = len(given["channel"])
    same = {"pictures": torch.rand(n, 3, 5, 4), "copy": torch.zeros(n, dtype=torch.int64), "clipped": torch.zeros(n)}
    return Maximization(layer="conv1", shifted=given["activation"], spread=torch.full((n,), torch.nan), **same, **given)


def test_maximised_units_are_called_dead_or_weaker_where_they_are() -> None:
    result = maximized()
    (sheet,) = maximize.view(result, FigureStyle(), {**ABOUT, "best_of": 1234, "statistics": "shapes"})
    said = sheet.captions
    assert [cell is None for cell in sheet.cells] == ["dead" in text for text in said] == [False, False, True, False]
    assert ["weaker" in text for text in said] == [False, True, False, False]
    times = [re.search(r"([\d.]+)×", text) for text in said]
    assert [found and float(found[1]) for found in times] == [2, 0.5, None, None]
    assert "1,234" in sheet.note and "shapes" in sheet.note and "noise" in sheet.title
    assert torch.equal(plain(sheet.cells[0]), pixels(result.pictures[0]))
    (alone,) = maximize.view(maximized(best=None), FigureStyle(), ABOUT)
    assert not any("weaker" in text or "×" in text for text in (*alone.captions, alone.note))


@pytest.mark.parametrize("settings", [{"position": (0, 1)}, {"direction": [1.0] * 8}])
def test_what_is_no_spatial_mean_is_not_called_one(settings: dict[str, Any]) -> None:
    plain_net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    shown = run("maximize", plain_net, "1", channels=None, canvas=9, steps=1, copies=1, **settings)
    assert all("spatial mean" not in sheet.note for sheet in shown.sheets())


def inverted(channels: list[int], error: list[float], image: list[int]) -> Inversion:
    n, (which, units) = len(error), (torch.tensor(numbers) for numbers in (image, channels))
    scores = torch.tensor(error), 10 + torch.arange(float(n)), torch.full((n,), 0.5)
    return Inversion(
        "conv1", torch.rand(n, 3, 5, 4), torch.rand(2, 3, 5, 4), which, units, *scores, torch.zeros(9, n), None
    )


def test_channels_without_a_signal_have_no_inversion() -> None:
    (sheet,) = invert.view(inverted([3, 5], [0.25, torch.nan], [0, 0]), FigureStyle(), ABOUT)
    assert [cell is None for cell in sheet.cells] == [False, True]
    assert "silent" in sheet.captions[1] and "5" in sheet.captions[1] and "nan" not in "".join(sheet.captions)
    assert "0.25" in sheet.captions[0] and "10.0 dB" in sheet.captions[0]


def test_an_inversion_stands_beside_its_original() -> None:
    result = inverted([-1, -1], [0.25, 1e-7], [1, 0])
    (sheet,) = invert.view(result, FigureStyle(), ABOUT)
    assert len(sheet.cells) == 4 and sheet.group == 2 and "dog" in sheet.captions[0]
    for i, source in enumerate((result.images[1], result.pictures[0], result.images[0], result.pictures[1])):
        assert torch.equal(plain(sheet.cells[i]), pixels(source))


@pytest.mark.parametrize("kind", ["invert", "maximize"])
def test_of_several_pictures_each_is_named(kind: str) -> None:
    image = torch.tensor([0, 0, 1, 1])
    if kind == "invert":
        sheets = invert.view(inverted([3, 5] * 2, [0.25] * 4, image.tolist()), FigureStyle(), ABOUT)
    else:
        sheets = maximize.view(maximized(image=image), FigureStyle(), ABOUT)
    assert "dog" in sheets[0].captions[3] and "cat" in sheets[0].captions[0]


def signal_gray(signal: Tensor, strongest: Tensor) -> Tensor:
    return (128 + 127 * (signal / strongest).clamp(-1, 1)).round().to(torch.uint8)


def end_of(signal: Tensor) -> Tensor:
    """The magnitude that one in two hundred of the values that are not zero exceeds."""
    sizes = sorted(abs(value) for value in signal.flatten().tolist() if value)
    return torch.tensor(sizes[len(sizes) - 1 - len(sizes) // 200])


def units() -> nn.Sequential:
    """Channel 4 is silent; a position of the last layer sees 5 x 5 pixels, its neighbour those two further on."""
    torch.manual_seed(0)
    last = nn.Conv2d(6, 5, 3, padding=1)
    with torch.no_grad():
        last.weight[4] = 0
        assert last.bias is not None
        last.bias += 2
        last.bias[4] = -1
    return nn.Sequential(nn.Conv2d(3, 6, 1), nn.MaxPool2d(1, 2), nn.ReLU(), last, nn.ReLU()).double()


@pytest.mark.parametrize("scale", [None, "shared"])
def test_signals_stand_beside_the_picture_and_the_randomized_network(scale: str | None) -> None:
    x = images(2)
    result = deconvnet(units(), "4", x)
    (sheet,) = backward.view(result, FigureStyle(scale=scale), ABOUT)
    assert len(sheet.cells) == 6 and sheet.group == 3 and ("shared" in sheet.note) == (scale == "shared")
    assert "10% of each map" in sheet.note and [sheet.captions[i] for i in (0, 3)] == ["cat", "dog"]
    for i in range(2):
        shown = signal_gray(result.signal[i], end_of(result.signal if scale else result.signal[i]))
        assert torch.equal(plain(sheet.cells[3 * i]), pixels(x[i]))
        assert int((plain(sheet.cells[3 * i + 1]).int() - shown.int()).abs().max()) <= 1
    alone = backward.view(deconvnet(units(), "4", x, randomized=False), FigureStyle(), ABOUT)
    assert len(of(alone)[0]) == 4 and alone[0].group == 2


def test_channels_that_are_silent_are_called_so() -> None:
    (sheet,) = backward.view(deconvnet(units(), "4", images(2), each=True, channels=[4, 1]), FigureStyle(), ABOUT)
    assert [cell is None for cell in sheet.cells] == [True, False] * 2
    assert ["silent" in text for text in sheet.captions] == [True, False] * 2
    assert [text.split()[0] for text in sheet.captions] == ["4", "1"] * 2 and "dog" in sheet.captions[3]


def seen(image: Tensor, at: list[int]) -> Tensor:
    """What a position sees, pixel by pixel; mid grey beyond the picture."""
    out = torch.full((3, 5, 5), 128, dtype=torch.uint8)
    for i, j in product(range(5), repeat=2):
        y, x = 2 * at[0] - 2 + i, 2 * at[1] - 2 + j
        if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
            out[:, i, j] = image[:, y, x]
    return out


@pytest.mark.parametrize("randomized", [False, True])
@pytest.mark.parametrize("channels", [[1, 1, 1, 3, 3, 3], [4, 0, 1, 0, 2, 3], [2] * 6])
def test_single_positions_are_cropped_to_what_they_see(channels: list[int], randomized: bool) -> None:
    places = [[0, 0], [4, 5], [9, 9], [0, 9], [9, 3], [5, 0]]
    asked: dict[str, Any] = {"channels": torch.tensor(channels), "position": torch.tensor(places)}
    result = deconvnet(units(), "4", images(6), randomized=randomized, **asked)
    about = {**ABOUT, "names": [f"n{i}" for i in range(6)], "labels": None}
    cells, captions = of(sheets := backward.view(result, FigureStyle(), about))
    parts, most = 3 if randomized else 2, result.signal.abs().flatten(1).amax(1)
    run_length = 1 if channels[0] != channels[1] else channels.count(channels[0])
    assert len(cells) == 6 * parts and "one position" in sheets[0].note and "cropped" in sheets[0].note
    assert sheets[0].group == parts if run_length == 1 else sheets[0].columns == run_length
    for i, (channel, place) in enumerate(zip(channels, places, strict=True)):
        # a row of pictures, a row of signals (and of random ones) a unit; or all of a result side by side
        first = parts * i if run_length == 1 else i // run_length * run_length * parts + i % run_length
        second = first + run_length
        assert torch.equal(plain(cells[first]), seen(pixels(result.images[i]), place))
        assert i % run_length or captions[first].split()[0] == str(channel)
        assert f"n{i}" in captions[first] + captions[second]
        assert (cells[second] is None) == (channel == 4)
        if channel != 4:
            shown = seen(signal_gray(result.signal[i], most[i]), place)
            assert int((plain(cells[second]).int() - shown.int()).abs().max()) <= 1 and bool((shown != 128).any())


def test_the_random_network_is_cropped_to_what_its_own_position_sees() -> None:
    result = deconvnet(units(), "4", images(4), each=True, position="max", seed=2)
    random, (sheet,) = result.randomized, backward.view(result, FigureStyle(), ABOUT)
    assert random is not None and random.box is not None and result.box is not None
    assert bool((random.box != result.box).any()), "the two networks answer most at different places"
    shown = signed(random.signal)
    for i, (top, left, bottom, right) in enumerate(random.box.tolist()):
        cell = sheet.cells[3 * i + 2]
        assert (cell is None) == (not random.kept[i])
        if cell is not None:
            assert bool((cell != 128).any()), "what came back lies inside the box, and is no flat grey"
            inside = plain(shown[i])[:, top:bottom, left:right]
            assert int((plain(cell) != 128).sum()) == int((inside != 128).sum())
    assert "each network" in sheet.note
    given = deconvnet(units(), "4", images(1), each=True, position=(5, 3))
    assert "each network" not in backward.view(given, FigureStyle(), ABOUT)[0].note


def test_a_silent_position_is_cropped_where_it_is() -> None:
    box = deconvnet(units(), "4", images(1), each=True, position=(5, 3), randomized=False).box
    assert box is not None and box[4].tolist() == box[0].tolist() == [8, 4, 13, 9]


@pytest.mark.parametrize("channels", [[1, 1, 3], [1, 1, 3, 0]])
def test_every_result_is_called_by_its_own_channel(channels: list[int]) -> None:
    n = len(channels)
    at = torch.tensor([[2, 3]] * n)
    result = deconvnet(units(), "4", images(n), channels=torch.tensor(channels), position=at, randomized=False)
    captions = of(backward.view(result, FigureStyle(), {**ABOUT, "names": ["picture"] * n, "labels": None}))[1]
    assert {text.split()[0] for text in captions if text} >= {str(c) for c in channels}


def test_a_dream_stands_beside_its_photograph() -> None:
    dreamt, images = torch.rand(2, 3, 5, 4), torch.rand(2, 3, 5, 4)
    result = Dream("conv1", dreamt, images, torch.tensor([1.0, 2]), torch.tensor([3.0, 4]))
    (sheet,) = dream.view(result, FigureStyle(), ABOUT)
    for cell, source in zip(sheet.cells, (images[0], dreamt[0], images[1], dreamt[1]), strict=True):
        assert torch.equal(plain(cell), pixels(source))
    assert [text.split() for text in sheet.captions] == [["cat", "1"], ["3"], ["dog", "2"], ["4"]] and sheet.group == 2


def test_top_examples_are_dimmed_outside_of_what_is_seen() -> None:
    images = torch.randint(0, 256, (2, 3, 3, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    box = torch.tensor([1, 0, 4, 3]).expand(2, 3, 4)
    zeros, number = torch.zeros(2, 3, 2, dtype=torch.int64), torch.arange(6).view(2, 3)
    names = (("x/a.png", "x/b.png", "x/c.png"),) * 2
    result = TopExamples("conv1", torch.tensor([5, 8]), number, number.float(), zeros, box, images, names)
    (sheet,) = top_examples.view(result, FigureStyle(), ABOUT)
    assert sheet.columns == 3 and len(sheet.cells) == 6, "one row a unit"
    for i, cell in enumerate(sheet.cells):
        stored, inside = images[i // 3, i % 3], torch.zeros(6, 5, dtype=torch.bool)
        inside[1:4, 0:3] = True
        assert torch.equal(plain(cell)[:, inside], stored[:, inside])
        assert float(plain(cell)[:, ~inside].float().std()) < 0.5 * float(stored[:, ~inside].float().std())
        assert f"{'abc'[i % 3]}.png" in sheet.captions[i] and sheet.captions[i].endswith(f"\n{i}")
    assert [sheet.captions[i].split()[0] for i in (0, 3)] == ["5", "8"]
