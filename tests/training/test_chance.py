"""Streams of chance: one a purpose, none met by another; those of older runs as they were."""

from itertools import product
from typing import get_args

import torch

from torchloupe.training.augment import draw
from torchloupe.training.chance import Purpose, seed_for, stream
from torchloupe.training.config import TrainConfig


def heard(generator: torch.Generator) -> tuple[float, ...]:
    """The first draws of a stream: by them it is told from others, whatever bits of its seed the generator takes."""
    return tuple(torch.rand(3, generator=generator).tolist())


def test_no_two_purposes_epochs_or_seeds_share_a_stream() -> None:
    places = list(product(get_args(Purpose), range(8), (0, 1, 2, 1_000_003, 2**32, 2**32 + 1, -1)))
    streams = {heard(stream(TrainConfig(seed=seed), purpose, epoch)) for purpose, epoch, seed in places}
    assert len(streams) == len(places)
    old = {heard(stream(TrainConfig(seed=seed, streams=1), purpose, epoch)) for purpose, epoch, seed in places}
    assert len(old) < len(places) / 2, "in the first scheme they did"


def test_the_order_says_nothing_of_the_augmentation() -> None:
    config = TrainConfig(flip="random", seed=3)
    for epoch in range(3):
        flips = torch.rand(500, generator=stream(config, "order", epoch)) < 0.5
        assert 150 < (flips == draw(config, 500, epoch).flip).sum() < 350
    old = TrainConfig(flip="random", seed=3, streams=1)
    assert torch.equal(torch.rand(500, generator=stream(old, "order", 1)) < 0.5, draw(old, 500, 1).flip)


def test_older_runs_keep_their_seeds() -> None:
    """As versions before wrote them down: the seed times a prime and the epoch; the plain seed for all else."""
    config = TrainConfig(seed=5, seed_order=7, seed_augment=9, seed_init=11, streams=1)
    assert seed_for(config, "order", 3) == 7 * 1_000_003 + 3 and seed_for(config, "augment", 3) == 9 * 1_000_003 + 3
    plain = {purpose: seed_for(config, purpose) for purpose in ("init", "holdout", "network", "probe")}
    assert plain == {"init": 11, "holdout": 7, "network": 9, "probe": 5}
