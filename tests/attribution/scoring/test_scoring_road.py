"""ROAD: imputed pixels against a dense solution written down pixel by pixel, and networks whose order is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from torchloupe.attribution.scoring.road import TOLERANCE, impute, road
from torchloupe.errors import UsageError

WEIGHTS = {(dy, dx): 1 / 6 if 0 in (dy, dx) else 1 / 12 for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Write down one equation for each removed pixel and solve them."""
    channels, height, width = image.shape
    holes = [(int(y), int(x)) for y, x in np.argwhere(removed)]
    number = {at: i for i, at in enumerate(holes)}
    matrix, right = np.zeros((len(holes), len(holes))), np.zeros((len(holes), channels))
    for (y, x), i in number.items():
        for (dy, dx), weight in WEIGHTS.items():
            at = (y + dy, x + dx)
            if not (0 <= at[0] < height and 0 <= at[1] < width):
                continue
            matrix[i, i] += weight
            if at in number:
                matrix[i, number[at]] -= weight
            else:
                right[i] += weight * image[:, at[0], at[1]]
    out = image.copy()
    for (y, x), values in zip(holes, np.linalg.solve(matrix, right), strict=True):
        out[:, y, x] = values
    return out


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("side", [(9, 9), (12, 7), (1, 20)])
def test_imputed_pixels_solve_their_equations(share: float, side: tuple[int, int]) -> None:
    images = torch.rand(4, 3, *side, generator=generator(), dtype=torch.float64)
    removed = torch.rand(4, *side, generator=generator(1)) < share
    removed[:, 0, 0] = False
    removed[1] = torch.arange(side[1]) > side[1] // 4  # a large hole at the border
    found = impute(images, removed, tolerance=1e-12)
    for image, holes, mine in zip(images, removed, found, strict=True):
        np.testing.assert_allclose(mine.numpy(), dense(image.numpy(), holes.numpy()), atol=1e-8)
    kept = ~removed[:, None].expand_as(images)
    assert torch.equal(found[kept], images[kept])


def test_as_exact_as_the_measure_needs() -> None:
    """In float32 and by its own tolerance, of the largest hole: within a few parts in 256."""
    images = torch.rand(2, 3, 32, 32, generator=generator(), dtype=torch.float64)
    removed = torch.ones(2, 32, 32, dtype=torch.bool)
    removed[0, ::9, ::9] = removed[1, :, :3] = False
    exact = impute(images, removed, tolerance=1e-12)
    found = impute(images.float(), removed, tolerance=TOLERANCE).double()
    assert (found - exact).abs().max() < 5 / 256


def test_a_constant_picture_stays_as_it_is() -> None:
    images = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64).view(1, 3, 1, 1).expand(2, 3, 10, 10).contiguous()
    removed = torch.rand(2, 10, 10, generator=generator()) < 0.7
    torch.testing.assert_close(impute(images, removed, tolerance=1e-10), images)
    removed[1] = True
    torch.testing.assert_close(impute(images, removed, tolerance=1e-10), images), "of which nothing is kept, too"


def test_noise_falls_on_removed_pixels_alone() -> None:
    images = torch.rand(3, 3, 20, 20, generator=generator(), dtype=torch.float64)
    removed = torch.rand(3, 20, 20, generator=generator(1)) < 0.5
    plain, noisy = impute(images, removed), impute(images, removed, noise=0.02, seed=5)
    change = (noisy - plain)[removed[:, None].expand_as(images)]
    assert torch.equal(noisy[~removed[:, None].expand_as(images)], images[~removed[:, None].expand_as(images)])
    assert change.std().item() == pytest.approx(0.02, rel=0.1) and abs(change.mean().item()) < 0.002
    assert torch.equal(noisy, impute(images, removed, noise=0.02, seed=5))


def spots(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Bright spots on a dark ground, and where they are: what a network that counts brightness sees."""
    where = torch.rand(20, 16, 16, generator=generator(seed)) < 0.08
    return where[:, None].double().expand(-1, 3, -1, -1) * 0.9, where


def brightness(images: Tensor) -> Tensor:
    score = 0.2 * images.sum((1, 2, 3)) - 4
    return torch.stack([score, torch.zeros_like(score)], 1)


def test_the_right_map_scores_above_chance_and_its_opposite_below() -> None:
    images, where = spots()
    target = torch.zeros(20, dtype=torch.int64)
    right = road(brightness, images, where.double(), target)
    assert (right > 0.1).all()
    wrong = road(brightness, images, -where.double(), target)
    assert (wrong < -0.1).all() and right.mean().item() == pytest.approx(-wrong.mean().item(), abs=0.02)
    chance = road(brightness, images, torch.ones(20, 16, 16, dtype=torch.float64), target)
    assert chance.mean().abs() < 3 * chance.std() / 20**0.5 + 1e-3, "a constant map scores chance"


def test_images_of_a_batch_do_not_know_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    images, where = spots()
    target = torch.zeros(20, dtype=torch.int64)
    whole = road(brightness, images, where.double(), target, noise=0)
    monkeypatch.setattr("torchloupe.attribution.scoring.road.AT_ONCE", 30)
    torch.testing.assert_close(road(brightness, images, where.double(), target, noise=0), whole, atol=2e-2, rtol=0)


def test_shares_that_there_are_not() -> None:
    images = torch.rand(1, 3, 4, 4)
    for shares in ((), (0.0,), (0.5, 1.0)):
        with pytest.raises(UsageError, match="shares"):
            road(brightness, images, images[:, 0], torch.tensor([0]), shares=shares)
