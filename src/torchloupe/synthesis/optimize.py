"""Pictures made by optimisation: the one loop. Every loss is minimised; every picture has a loss of its own."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

Loss = Callable[[Float[Tensor, "n ..."]], Float[Tensor, "n"]]
"""One number a picture (or whatever is optimised), always minimised."""
Transform = Callable[[Float[Tensor, "n c h w"], int], Float[Tensor, "n c h w"]]
"""Takes pictures and the number of the step; changes every picture in the same way, so that a batch equals singles."""
OnStep = Callable[[int, Float[Tensor, "n"]], None]


class Picture(nn.Module):
    """Pictures as trainable parameters: `forward()` returns them, `[n, c, h, w]` in [0, 1]."""

    def forward(self) -> Float[Tensor, "n c h w"]:
        """Return the pictures, the graph to the parameters kept."""
        raise NotImplementedError


def ignore(step: int, losses: Float[Tensor, "n"]) -> None:
    """Do nothing with a step."""


def optimize(
    loss: Loss,
    picture: Picture,
    *,
    steps: int,
    lr: float,
    transforms: Sequence[Transform] = (),
    on_step: OnStep = ignore,
) -> Float[Tensor, "n c h w"]:
    """Minimise every picture's own loss by Adam (Kingma & Ba 2015), the rate falling to zero along a cosine.

    Adam works number by number and losses are summed, so pictures do not influence one another.

    >>> from torchloupe.synthesis.parameterization import Pixels
    >>> dark = optimize(lambda seen: seen.mean((1, 2, 3)), Pixels(torch.full((2, 3, 4, 4), 0.5)), steps=20, lr=0.5)
    >>> bool((dark < 0.1).all())
    True
    """
    adam = torch.optim.Adam(picture.parameters(), lr=lr)
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        seen = picture()
        for transform in transforms:
            seen = transform(seen, step)
        losses = loss(seen)
        adam.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        on_step(step, losses.detach())
    with torch.no_grad():
        out: Tensor = picture().detach().clamp(0, 1)
    return out
