"""The one loop of optimised pictures."""

import torch
from torch import Tensor, nn

from torchloupe.synthesis.optimize import Picture, optimize


class Pixels(Picture):
    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.pixels = nn.Parameter(start.clone())

    def forward(self) -> Tensor:
        return self.pixels


AIM = torch.linspace(0.1, 0.9, 2 * 3 * 5 * 7, dtype=torch.float64).view(2, 3, 5, 7)


def apart(pictures: Tensor) -> Tensor:
    return ((pictures - AIM[: len(pictures)]) ** 2).flatten(1).sum(1)


def test_it_finds_the_aim() -> None:
    found = optimize(apart, Pixels(torch.full_like(AIM, 0.5)), steps=300, lr=0.05)
    assert torch.allclose(found, AIM, atol=1e-4)


def test_a_batch_is_its_singles() -> None:
    together = optimize(apart, Pixels(torch.full_like(AIM, 0.5)), steps=20, lr=0.05)
    alone = optimize(apart, Pixels(torch.full_like(AIM[:1], 0.5)), steps=20, lr=0.05)
    assert torch.allclose(together[:1], alone, atol=1e-12)


def test_transforms_come_before_the_loss_and_steps_are_told() -> None:
    told: list[int] = []
    found = optimize(
        apart,
        Pixels(torch.full_like(AIM, 0.5)),
        steps=300,
        lr=0.05,
        transforms=[lambda x, step: x.flip(3)],
        on_step=lambda step, losses: told.append(step),
    )
    assert torch.allclose(found, AIM.flip(3), atol=1e-4)
    assert told == list(range(300))


def test_what_comes_out_is_a_picture() -> None:
    found = optimize(lambda x: -x.flatten(1).sum(1), Pixels(torch.full_like(AIM, 0.99)), steps=20, lr=0.5)
    assert found.max() == 1 and not found.requires_grad
