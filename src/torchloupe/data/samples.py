"""Pictures that come with the package, free for any use: what a network is shown where its own data are not at hand."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
import torch

from torchloupe.data.dataset import Split
from torchloupe.data.formats.decode import decode

SIDE = 224
"""They are squares of this side."""


@lru_cache(maxsize=1)
def samples() -> tuple[Split, tuple[str, ...]]:
    """Return the sample pictures, and their classes: the first word of each file's name.

    >>> split, classes = samples()
    >>> split.images.shape[1:], len(split) > 8, "cat" in classes
    (torch.Size([3, 224, 224]), True, True)
    """
    there = files("torchloupe.data.sample_pictures").iterdir()
    found = sorted((e for e in there if e.name.endswith((".jpg", ".png", ".webp"))), key=lambda entry: entry.name)
    kinds = [entry.name.partition(".")[0].partition("-")[0] for entry in found]
    classes = tuple(sorted(set(kinds)))
    pixels = np.stack([decode(entry.read_bytes(), SIDE) for entry in found])
    labels = torch.tensor([classes.index(kind) for kind in kinds])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return Split(images, labels, tuple(entry.name for entry in found)), classes
