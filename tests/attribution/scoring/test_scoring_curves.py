"""Insertion and deletion against networks whose best order is known, and against all orders there are."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from torchloupe.attribution.scoring.curves import area, blurred, curve, deletion, insertion, mean_color
from torchloupe.attribution.scoring.order import places, probabilities


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(weights: Tensor, images: Tensor) -> Tensor:
    """Two logits: the sum of weights times pixels, and 0."""
    score = (images * weights).sum((1, 2, 3))
    return torch.stack([score, torch.zeros_like(score)], 1)


def test_places_are_the_order_of_the_values() -> None:
    maps = torch.randn(3, 5, 4, generator=generator(), dtype=torch.float64)
    found = places(maps).flatten(1)
    for row, place in zip(maps.flatten(1), found, strict=True):
        assert row[place.argsort()].tolist() == sorted(row.tolist(), reverse=True)


def test_equal_pixels_come_in_a_drawn_order() -> None:
    maps = torch.zeros(40, 6, 6)
    found = places(maps, seed=3)
    assert all(sorted(each.flatten().tolist()) == list(range(36)) for each in found)
    assert torch.equal(found, places(maps, seed=3)) and not torch.equal(found, places(maps, seed=4))
    assert len({tuple(each.flatten().tolist()) for each in found}) == 40, "each image has an order of its own"
    assert found.double().mean(0).sub(17.5).abs().max() < 7, "no pixel is preferred"
    maps[:, 2, 2] = 1
    assert (places(maps)[:, 2, 2] == 0).all()


def test_of_a_linear_network_no_order_beats_input_x_gradient() -> None:
    """All 24 orders of four pixels: at every point of both curves it is the best."""
    weights = torch.randn(1, 3, 2, 2, generator=generator(), dtype=torch.float64)
    images = torch.rand(5, 3, 2, 2, generator=generator(1), dtype=torch.float64)
    target, zero = torch.zeros(5, dtype=torch.int64), torch.zeros_like(images)
    own = (weights * images).sum(1)

    def answer(x: Tensor) -> Tensor:
        return linear(weights, x)

    gone = curve(answer, images, zero, own, target, steps=4)
    come = curve(answer, zero, images, own, target, steps=4)
    assert gone.shape == (5, 5)
    for order in permutations(range(4)):
        maps = -torch.tensor(order, dtype=torch.float64).view(1, 2, 2).expand(5, -1, -1)
        assert (gone <= curve(answer, images, zero, maps, target, steps=4) + 1e-12).all()
        assert (come >= curve(answer, zero, images, maps, target, steps=4) - 1e-12).all()


def test_of_a_linear_network_random_maps_score_worse() -> None:
    weights = torch.randn(1, 3, 8, 8, generator=generator(), dtype=torch.float64) / 4
    images = torch.rand(30, 3, 8, 8, generator=generator(1), dtype=torch.float64)
    target = torch.zeros(30, dtype=torch.int64)
    drawn = torch.randn(30, 8, 8, generator=generator(2), dtype=torch.float64)
    away = (weights * (images - mean_color(images))).sum(1)
    toward = (weights * (images - blurred(images))).sum(1)

    def answer(x: Tensor) -> Tensor:
        return linear(weights, x)

    assert (deletion(answer, images, away, target) < deletion(answer, images, drawn, target)).all()
    assert (insertion(answer, images, toward, target) > insertion(answer, images, drawn, target)).all()
    worst = deletion(answer, images, -away, target)
    assert (worst > deletion(answer, images, drawn, target)).all()


def test_the_ends_are_the_pictures_themselves() -> None:
    images = torch.rand(3, 2, 7, 5, generator=generator(), dtype=torch.float64)
    other = torch.rand(3, 2, 7, 5, generator=generator(1), dtype=torch.float64)
    weights = torch.randn(1, 2, 7, 5, generator=generator(2), dtype=torch.float64)
    target = torch.tensor([0, 1, 0])
    points = curve(lambda x: linear(weights, x), images, other, images.sum(1), target, steps=6)
    for at, shown in ((0, images), (-1, other)):
        torch.testing.assert_close(points[:, at], probabilities(lambda x: linear(weights, x), shown, target))


@pytest.mark.parametrize("shown", [0, 3])
def test_an_answer_that_knows_no_picture_gives_its_constant(shown: int) -> None:
    images = torch.rand(4, 3, 9, 9, generator=generator(shown), dtype=torch.float64)
    maps = torch.randn(4, 9, 9, generator=generator(1), dtype=torch.float64)
    logits = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    target = torch.full((4,), shown)
    for measure in (insertion, deletion):
        found = measure(lambda x: logits.expand(len(x), -1), images, maps, target)
        torch.testing.assert_close(found, logits.softmax(0)[shown].expand(4))


def test_images_of_a_batch_do_not_know_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(9, 3, 6, 6, generator=generator(), dtype=torch.float64)
    weights = torch.randn(1, 3, 6, 6, generator=generator(1), dtype=torch.float64)
    target, maps = torch.zeros(9, dtype=torch.int64), images.mean(1)
    whole = deletion(lambda x: linear(weights, x), images, maps, target)
    monkeypatch.setattr("torchloupe.attribution.scoring.curves.AT_ONCE", 1)
    torch.testing.assert_close(deletion(lambda x: linear(weights, x), images, maps, target), whole)


def test_references() -> None:
    images = torch.rand(2, 3, 12, 16, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(mean_color(images)[1, 2], images[1, 2].mean().expand(12, 16))
    flat = torch.full_like(images, 0.3)
    torch.testing.assert_close(blurred(flat), flat)
    smooth = blurred(images)
    assert smooth.shape == images.shape and smooth.var() < images.var() / 5
    assert smooth.min() >= images.min() and smooth.max() <= images.max()
    torch.testing.assert_close(blurred(images, 2.0)[:, :, :, 3:13].mean(), images.mean(), rtol=0.1, atol=0)
    torch.testing.assert_close(blurred(images.transpose(2, 3)), smooth.transpose(2, 3))


def test_area_is_that_of_trapezoids() -> None:
    assert area(torch.tensor([[0.0, 1.0, 1.0]])).item() == pytest.approx(0.75)
