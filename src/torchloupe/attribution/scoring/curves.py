"""Insertion and deletion: what becomes of a class's probability while pixels are exchanged (Petsiuk et al. 2018).

Deletion takes the most relevant pixels away first, insertion brings them in first. Both show the network pictures that
no camera makes, which is what `road` is against.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from torchloupe.attribution.scoring.order import AT_ONCE, Answer, places, probabilities
from torchloupe.runtime.memory import smaller

Images = Float[Tensor, "b c h w"]
STEPS = 16


def curve(
    answer: Answer,
    before: Float[Tensor, "b c h w"],
    after: Float[Tensor, "b c h w"],
    maps: Float[Tensor, "b h w"],
    target: Int64[Tensor, "b"],
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> Float[Tensor, "b points"]:
    """Return the target's probability while pixels of `before` become those of `after`, the most relevant first.

    After `steps` equal steps all are exchanged; the first point is of none. Pixels of equal relevance come in an order
    drawn by `seed`.

    >>> images = torch.ones(1, 2, 2, 2) * torch.tensor([4.0, 0.0]).view(2, 1, 1)
    >>> curve(lambda x: x.mean((2, 3)), 0 * images, images, images[:, 0], torch.tensor([0]), steps=2)
    tensor([[0.5000, 0.8808, 0.9820]])
    """
    place = places(maps, seed)[:, None, None]
    total = maps[0].numel() if len(maps) else 0
    counts = torch.tensor([round(total * k / steps) for k in range(steps + 1)], device=place.device)
    size, parts = max(1, smaller(AT_ONCE) // (steps + 1)), []
    for start in range(0, len(before), size):
        part = slice(start, start + size)
        changed = place[part] < counts.view(1, -1, 1, 1, 1)
        mixed = torch.where(changed, after[part, None], before[part, None])
        shares = probabilities(answer, mixed.flatten(0, 1), target[part].repeat_interleave(steps + 1))
        parts.append(shares.view(-1, steps + 1))
    return torch.cat(parts)


def area(points: Float[Tensor, "b points"]) -> Float[Tensor, "b"]:
    """Return the area under a curve of evenly spaced points over [0, 1], by trapezoids.

    >>> area(torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.3, 0.3]]))
    tensor([0.2500, 0.3000])
    """
    return torch.trapezoid(points, dim=1) / (points.shape[1] - 1)


def deletion(
    answer: Answer,
    images: Float[Tensor, "b c h w"],
    maps: Float[Tensor, "b h w"],
    target: Int64[Tensor, "b"],
    *,
    reference: Callable[[Images], Images] | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> Float[Tensor, "b"]:
    """Return the area under the target's probability while the most relevant pixels are taken away; lower is better.

    `reference` gives what takes their place, by default each picture's mean color. Petsiuk et al. 2018, "RISE:
    randomized input sampling for explanation of black-box models".

    >>> images = torch.rand(2, 3, 8, 8)
    >>> deletion(lambda x: 0 * x.mean((2, 3)), images, images[:, 0], torch.tensor([0, 1]))
    tensor([0.3333, 0.3333])
    """
    other = (reference or mean_color)(images)
    return area(curve(answer, images, other, maps, target, steps=steps, seed=seed))


def insertion(
    answer: Answer,
    images: Float[Tensor, "b c h w"],
    maps: Float[Tensor, "b h w"],
    target: Int64[Tensor, "b"],
    *,
    reference: Callable[[Images], Images] | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> Float[Tensor, "b"]:
    """Return the area under the target's probability while the most relevant pixels are brought in; higher is better.

    `reference` gives what they are brought into, by default the blurred picture. Petsiuk et al. 2018.

    >>> images = torch.rand(2, 3, 8, 8)
    >>> insertion(lambda x: 0 * x.mean((2, 3)), images, images[:, 0], torch.tensor([0, 1]))
    tensor([0.3333, 0.3333])
    """
    other = (reference or blurred)(images)
    return area(curve(answer, other, images, maps, target, steps=steps, seed=seed))


def mean_color(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return pictures that are everywhere their mean, channel by channel.

    >>> mean_color(torch.tensor([[[[0.0, 1.0]]]]))
    tensor([[[[0.5000, 0.5000]]]])
    """
    return images.mean((2, 3), keepdim=True).expand_as(images)


def blurred(images: Float[Tensor, "b c h w"], sigma: float | None = None) -> Float[Tensor, "b c h w"]:
    """Return pictures blurred by a Gaussian of standard deviation `sigma` in pixels, by default an eighth of a side.

    At the border it is the mean of the pixels that there are, so that a constant picture stays as it is.

    >>> blurred(torch.full((1, 1, 4, 4), 0.25)).unique()
    tensor([0.2500])
    """
    height, width = images.shape[2:]
    sigma = sigma or min(height, width) / 8
    reach = max(1, math.ceil(3 * sigma))
    line = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = (-line.square() / (2 * sigma * sigma)).exp()

    def smooth(values: Tensor) -> Tensor:
        kernel = weights.expand(values.shape[1], 1, -1)
        rows = F.conv2d(values, kernel[..., None], padding=(reach, 0), groups=values.shape[1])
        return F.conv2d(rows, kernel[:, :, None], padding=(0, reach), groups=values.shape[1])

    return smooth(images) / smooth(torch.ones_like(images[:1]))
