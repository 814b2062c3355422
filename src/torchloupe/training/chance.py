"""One stream of chance for each purpose of a training, all from its seeds; independent of batch, ranks and device."""

import hashlib
from typing import Literal

import torch

from torchloupe.training.config import TrainConfig

Purpose = Literal["init", "order", "augment", "holdout", "network", "probe"]
"""Initial weights, order of the images, augmentation, which images are held out, chance inside the network (dropout),
which images the loss is probed on."""

EPOCH_STRIDE = 1_000_003
"""Of the first scheme: a prime, so that seeds of neighboring epochs do not meet those of neighboring runs."""


def seed_for(config: TrainConfig, purpose: Purpose, epoch: int = 0) -> int:
    """Return the seed of one purpose in one epoch.

    Hashed, since PyTorch's generator on the CPU takes 32 bits of a seed: sums of a seed and a constant meet those of
    other seeds. Runs of the first scheme (`streams` is 1) keep theirs, where order and augmentation drew the same.

    >>> seed_for(TrainConfig(), "order") == seed_for(TrainConfig(), "augment")
    False
    >>> seed_for(TrainConfig(streams=1), "order") == seed_for(TrainConfig(streams=1), "augment")
    True
    """
    if purpose == "probe":
        own = config.seed
    elif purpose == "init":
        own = config.seed_of("init")
    else:
        own = config.seed_of("order" if purpose in ("order", "holdout") else "augment")
    if config.streams == 1:
        return own * EPOCH_STRIDE + epoch if purpose in ("order", "augment") else own
    digest = hashlib.sha256(f"{purpose} {own} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def stream(config: TrainConfig, purpose: Purpose, epoch: int = 0) -> torch.Generator:
    """Return the source of chance of one purpose in one epoch (on the CPU, so that every device draws the same).

    >>> first, again = (torch.rand(3, generator=stream(TrainConfig(), "order", 2)) for _ in range(2))
    >>> torch.equal(first, again)
    True
    """
    return torch.Generator().manual_seed(seed_for(config, purpose, epoch))
