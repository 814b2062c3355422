"""Numbers about a data set: mean and standard deviation of its pixels, pictures per class."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from torchloupe.data.dataset import Split

CHUNK = 1 << 18
"""Values turned into float64 at a time (2 MB)."""


def mean_std(images: UInt8[Tensor, "n c h w"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel over all pixels, in [0, 1].

    Exact: the sums are whole numbers below 2^53, so neither order nor chunking changes them.
    A channel that never varies gets the standard deviation 1, so that one can divide by it.

    >>> images = torch.zeros(1, 2, 1, 2, dtype=torch.uint8)
    >>> images[0, 0, 0, 1] = 255
    >>> mean_std(images)
    ((0.5, 0.0), (0.5, 1.0))
    """
    channels = images.shape[1]
    per_picture = max(1, images[0].numel()) if len(images) else 1
    total = torch.zeros(channels, dtype=torch.float64)
    squares = torch.zeros(channels, dtype=torch.float64)
    for chunk in torch.split(images, max(1, CHUNK // per_picture)):
        values = chunk.double()
        total += values.sum((0, 2, 3))
        squares += values.square_().sum((0, 2, 3))
    count = max(1, images.numel() // channels)
    sums = [(int(s), int(q)) for s, q in zip(total.tolist(), squares.tolist(), strict=True)]
    means = tuple(s / (255 * count) for s, _ in sums)
    # (n Σx² - (Σx)²) in whole numbers: no cancellation.
    stds = tuple((count * q - s * s) ** 0.5 / (255 * count) or 1.0 for s, q in sums)
    return means, stds


def counts(split: Split, classes: Sequence[str]) -> dict[str, int]:
    """Return the number of pictures of each class, in the order of `classes`.

    >>> labels = torch.tensor([1, 1, 0])
    >>> counts(Split(torch.zeros(3, 3, 1, 1, dtype=torch.uint8), labels, ("a", "b", "c")), ["cat", "dog", "owl"])
    {'cat': 1, 'dog': 2, 'owl': 0}
    """
    numbers = torch.bincount(split.labels, minlength=len(classes)).tolist()
    return dict(zip(classes, numbers, strict=True))
