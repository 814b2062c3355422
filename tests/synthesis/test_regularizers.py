"""Total variation against its formula pixel by pixel, and the range penalty."""

import math

import torch

from torchloupe.synthesis.regularizers import out_of_range, total_variation


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(picture: torch.Tensor, faint: float) -> float:
    channels, height, width = picture.shape
    total = 0.0
    for y in range(height):
        for x in range(width):
            square = faint**2
            for c in range(channels):
                here = float(picture[c, y, x])
                square += (float(picture[c, y, x + 1]) - here) ** 2 if x + 1 < width else 0
                square += (float(picture[c, y + 1, x]) - here) ** 2 if y + 1 < height else 0
            total += math.sqrt(square) - faint
    return total / (height * width)


def test_total_variation_is_the_sum_over_pixels() -> None:
    pictures = random(2, 3, 5, 7)
    expected = [by_loops(picture, 0.02) for picture in pictures]
    assert torch.allclose(total_variation(pictures, 0.02), torch.tensor(expected, dtype=torch.float64), rtol=1e-12)


def test_the_gradient_of_total_variation_is_that_of_differences() -> None:
    pictures = random(1, 2, 3, 5).requires_grad_()
    (found,) = torch.autograd.grad(total_variation(pictures).sum(), pictures)
    for place in ((0, 0, 0), (1, 1, 2), (0, 2, 4), (1, 2, 0)):
        up, down = pictures[0].detach().clone(), pictures[0].detach().clone()
        up[place] += 1e-6
        down[place] -= 1e-6
        assert math.isclose((by_loops(up, 0.01) - by_loops(down, 0.01)) / 2e-6, found[0][place], rel_tol=1e-6)


def test_the_gradient_of_total_variation_in_closed_form() -> None:
    picture = random(1, 1, 5, 7, seed=3).requires_grad_()
    (found,) = torch.autograd.grad(total_variation(picture).sum(), picture)
    x = picture.detach()[0, 0]
    right, below = torch.zeros_like(x), torch.zeros_like(x)
    right[:, :-1], below[:-1] = x[:, 1:] - x[:, :-1], x[1:] - x[:-1]
    length = (right**2 + below**2 + 0.01**2).sqrt()
    right, below = right / length, below / length
    expected = -right - below  # minus the divergence of the unit gradient
    expected[:, 1:] += right[:, :-1]
    expected[1:] += below[:-1]
    assert torch.allclose(found[0, 0], expected / x.numel(), atol=1e-14)


def test_a_flat_picture_costs_nothing_and_has_a_gradient() -> None:
    flat = torch.full((2, 3, 4, 4), 0.7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(total_variation(flat).sum(), flat)
    assert total_variation(flat).tolist() == [0, 0]
    assert not slope.any()


def test_range_is_free_inside_and_the_square_outside() -> None:
    pictures = random(3, 2, 5, 7)
    pictures[0].view(-1)[:2] = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert out_of_range(pictures).tolist() == [0, 0, 0]
    pictures[1, 0, 0, 0], pictures[1, 1, 2, 3] = -0.5, 1.25
    expected = torch.tensor([0, (0.5**2 + 0.25**2) / 70, 0], dtype=torch.float64)
    assert torch.allclose(out_of_range(pictures), expected, rtol=1e-12)
