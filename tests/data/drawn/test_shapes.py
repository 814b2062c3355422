"""`shapes` against what must hold of it: where the figures are, and that their shape alone tells the class."""

import numpy as np
import pytest
import torch

from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.drawn.figures import FIGURES
from torchloupe.data.drawn.shapes import CLASSES, FIGURE_DRAWS, GROUND_DRAWS, draw, shapes
from torchloupe.errors import DataError

CLASS = len(CLASSES)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes(train=3000, test=1000)


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, FIGURE_DRAWS)), rng.random((n, GROUND_DRAWS))


def masks(split: Split) -> torch.Tensor:
    assert split.masks is not None
    return split.masks


def widened(mask: np.ndarray) -> np.ndarray:
    """Return the mask and its eight neighbours, where smooth edges may reach."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    h, w = mask.shape[1:]
    return np.asarray(np.logical_or.reduce([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]))


def ridge(x: np.ndarray, y: np.ndarray, held_x: np.ndarray, held_y: np.ndarray, penalty: float) -> float:
    """Return the accuracy on held-out pictures of a linear classifier in closed form."""
    mean = x.mean(0)
    x, targets = x - mean, np.eye(CLASS)[y] - 1 / CLASS
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ targets)
    return float(np.mean(((held_x - mean) @ weights).argmax(1) == held_y))


@pytest.mark.parametrize("size", [16, 32, 33, 96, 224])
def test_any_size(size: int) -> None:
    data = shapes(size=size, train=20, test=10)
    assert data.train.images.shape == (20, 3, size, size)
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert masks(data.test).shape == (10, size, size)
    assert masks(data.test).dtype == torch.bool


def test_masks_are_of_a_figure_inside_the_picture(data: Dataset) -> None:
    mask = masks(data.train)
    area = mask.float().mean((1, 2))
    assert area.min() > 0.08
    assert area.max() < 0.60
    rim = mask.clone()
    rim[:, 1:-1, 1:-1] = False
    assert not rim.any()


def test_ball_is_round(data: Dataset) -> None:
    """Area and width of a disc: a = pi (w / 2)^2."""
    mask = masks(data.train)[data.train.labels == CLASSES.index("ball")]
    width, height = mask.any(1).sum(1).double(), mask.any(2).sum(1).double()
    assert (width - height).abs().max() <= 1
    ratio = mask.sum((1, 2)) / (torch.pi / 4 * width * height)
    assert abs(ratio.mean() - 1) < 0.03


def test_only_the_donut_has_a_hole() -> None:
    """Euler characteristic from the counts of pixels, edges and corners: 1 for a disc, 0 for a ring."""
    split = shapes(size=96, train=50, test=10).train
    padded = np.pad(masks(split).numpy(), ((0, 0), (1, 1), (1, 1)))
    across, down = padded[:, :, 1:] | padded[:, :, :-1], padded[:, 1:] | padded[:, :-1]
    corners = down[:, :, 1:] | down[:, :, :-1]
    euler = corners.sum((1, 2)) - across.sum((1, 2)) - down.sum((1, 2)) + padded.sum((1, 2), dtype=int)
    assert euler.tolist() == [0 if CLASSES[k] == "donut" else 1 for k in split.labels.tolist()]


@pytest.mark.parametrize("name", CLASSES)
def test_figures_cover_a_unit_within_reach(name: str) -> None:
    axis = ((np.arange(1600) + 0.5) / 800 - 1).astype(np.float32)
    grids = np.meshgrid(axis, -axis)
    x, y = (np.asarray(g, np.float32)[None] for g in grids)
    figure, unit = FIGURES[name]
    distance, height = figure(x * unit, y * unit)
    inside = distance <= 0
    assert distance.dtype == height.dtype == np.float32
    assert abs(inside.mean() * 4 - 1) < 0.003
    assert np.sqrt(x * x + y * y)[inside].max() < 0.88


def test_another_ground_changes_nothing_inside_the_figure() -> None:
    labels, (figure, ground), (_, other) = np.arange(60) % CLASS, rows(60, 0), rows(60, 1)
    a, mask = draw(labels, figure, ground, 48)
    b, again = draw(labels, figure, other, 48)
    assert np.array_equal(mask, again)
    change = np.abs(a.astype(int) - b).max(1)
    core = change[~widened(~mask)]
    assert (core > 0).mean() < 0.001  # a few seams of petals let less than 3 % of the ground through
    assert core.max() < 8
    assert (a != b).any(1)[~widened(mask)].mean() > 0.99


def test_another_class_changes_nothing_outside_the_figure() -> None:
    """So no ground, clutter or shadow can tell the class."""
    (figure, ground), labels = rows(60, 2), np.arange(60) % CLASS
    a, mask = draw(labels, figure, ground, 48)
    b, other = draw((labels + 1 + np.arange(60) // CLASS) % CLASS, figure, ground, 48)
    outside = ~widened(mask | other)
    assert np.array_equal(a.transpose(0, 2, 3, 1)[outside], b.transpose(0, 2, 3, 1)[outside])
    assert (mask != other).any((1, 2)).all()


def test_figures_stand_out(data: Dataset) -> None:
    """In nearly every picture, figure and ground differ in mean colour by more than a tenth of the range."""
    x, mask = data.train.images.double() / 255, masks(data.train)[:, None]
    figure = (x * mask).sum((2, 3)) / mask.sum((2, 3))
    ground = (x * ~mask).sum((2, 3)) / (~mask).sum((2, 3))
    assert ((figure - ground).norm(dim=1) > 0.1).double().mean() > 0.98


def test_same_seed_same_pictures_other_seed_others() -> None:
    a, b, c = shapes(5, 16, 40, 20), shapes(5, 16, 40, 20), shapes(6, 16, 40, 20)
    for mine, same, other in [(a.train, b.train, c.train), (a.test, b.test, c.test)]:
        assert torch.equal(mine.images, same.images)
        assert torch.equal(masks(mine), masks(same))
        assert not (mine.images == other.images).flatten(1).all(1).any()
    assert not (a.train.images[:20] == a.test.images).flatten(1).all(1).any()


def test_a_larger_set_begins_with_the_smaller() -> None:
    small, large = shapes(size=96, train=17, test=11), shapes(size=96, train=50, test=30)
    assert torch.equal(small.train.images, large.train.images[:17])
    assert torch.equal(masks(small.test), masks(large.test)[:11])
    assert small.train.names == large.train.names[:17]


def test_a_larger_size_shows_the_same_scene() -> None:
    small, large = shapes(size=32, train=50, test=10).train, shapes(size=128, train=50, test=10).train
    shrunk = torch.nn.functional.avg_pool2d(large.images.float(), 4)
    assert (shrunk - small.images).abs().mean() < 6
    cover = torch.nn.functional.avg_pool2d(masks(large).float(), 4)
    assert ((cover >= 0.5) == masks(small)).float().mean() > 0.99


def test_balanced_named_and_described(data: Dataset) -> None:
    assert (data.name, data.source, data.size) == ("shapes", "shapes", None)
    assert data.classes == tuple(sorted(data.classes))
    assert torch.bincount(data.train.labels).tolist() == [300] * CLASS
    assert torch.bincount(data.test.labels).tolist() == [100] * CLASS
    names = data.train.names + data.test.names
    assert len(set(names)) == len(names) == 4000
    assert names[3007].split("/")[:2] == ["test", data.classes[data.test.labels[7]]]
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


def test_colour_does_not_tell_the_class(data: Dataset) -> None:
    """One-way analysis of variance of mean colours, and a linear classifier on colour histograms."""
    color = data.train.images.double().mean((2, 3))
    groups = torch.stack([color[data.train.labels == k] for k in range(CLASS)])
    between, within = groups.shape[1] * groups.mean(1).var(0), groups.var(1).mean(0)
    assert (between / within < 2.42).all()  # the 99 % point of F(9, 2990)

    def histograms(split: Split) -> np.ndarray:
        bins = (split.images // 43).long()
        cell = ((bins[:, 0] * 6 + bins[:, 1]) * 6 + bins[:, 2]).flatten(1).numpy()
        return np.asarray(np.stack([np.bincount(c, minlength=216) for c in cell]) / cell.shape[1])

    labels, held = data.train.labels.numpy(), data.test.labels.numpy()
    accuracy = max(ridge(histograms(data.train), labels, histograms(data.test), held, p) for p in (0.1, 1, 10))
    assert accuracy < 0.16


def test_pixels_alone_do_not_tell_the_class(data: Dataset) -> None:
    def pooled(split: Split) -> np.ndarray:
        return np.asarray(torch.nn.functional.avg_pool2d(split.images.float() / 255, 2).flatten(1))

    labels, held = data.train.labels.numpy(), data.test.labels.numpy()
    accuracy = max(ridge(pooled(data.train), labels, pooled(data.test), held, p) for p in (10, 100))
    assert 0.12 < accuracy < 0.45


@pytest.mark.parametrize(
    ("arguments", "part"),
    [({"seed": -1}, "seed"), ({"size": 7}, "8 pixels"), ({"train": 9}, "10 pictures"), ({"test": 0}, "10 pictures")],
)
def test_refusals_in_one_sentence(arguments: dict[str, int], part: str) -> None:
    with pytest.raises(DataError, match=part) as caught:
        shapes(**arguments)
    assert str(caught.value).count(". ") == 0
    assert str(caught.value).endswith(".")
