"""Parameter-randomization control: does an attribution depend on the weights? Adebayo et al. 2018.

A correlation with a random network says nothing by itself. It is read between two others: what two random networks
have in common, which no weight explains, and what two trained ones have.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.attribution.rank_correlation import Mean, mean_of, spearman
from torchloupe.errors import UsageError
from torchloupe.features.cascade import cascade
from torchloupe.features.random_control import Kind

Signals = Float[Tensor, "n c h w"]


@dataclass(frozen=True)
class Likeness:
    """Spearman's rank correlation between the attributions of two kinds of networks, over images."""

    pair: str
    """Which two: `trained, random`, `random, random`, `trained, permuted`, `trained, trained`."""
    signed: Mean
    absolute: Mean
    """Of magnitudes."""
    networks: int
    """Pairs of networks that each image's correlation is the mean of."""


def compare(
    trained: Signals,
    random: Sequence[Signals],
    permuted: Sequence[Signals] = (),
    second: Signals | None = None,
) -> tuple[Likeness, ...]:
    """Compare attributions of the same images by the trained network and by its controls, one an independent draw.

    `random`: two draws or more, freshly drawn; `permuted`: the trained weights shuffled; `second`: another training.
    Each image's correlations are averaged over pairs of networks; the interval is over images, of these networks.

    Raises:
        UsageError: fewer than two random draws.

    >>> signals = torch.rand(4, 3, 8, 8)
    >>> found = compare(signals, [torch.rand(4, 3, 8, 8), signals])
    >>> [each.pair for each in found], found[0].networks, found[0].signed.n
    (['trained, random', 'random, random'], 2, 4)
    """
    if len(random) < 2:
        raise UsageError("the control takes two independent draws or more: one says nothing of how alike two are.")
    found = [likeness("trained, random", product([trained], random))]
    found.append(likeness("random, random", combinations(random, 2)))
    if permuted:
        found.append(likeness("trained, permuted", product([trained], permuted)))
    if second is not None:
        found.append(likeness("trained, trained", [(trained, second)]))
    return tuple(found)


def likeness(name: str, pairs: Iterable[tuple[Signals, Signals]]) -> Likeness:
    """Return the mean correlation of pairs of attributions of the same images.

    >>> signals = torch.rand(3, 1, 5, 5) - 0.5
    >>> found = likeness("trained, trained", [(signals, -signals)])
    >>> round(found.signed.mean), round(found.absolute.mean)
    (-1, 1)
    """
    every = list(pairs)
    signed = torch.stack([spearman(a, b) for a, b in every]).nanmean(0)
    absolute = torch.stack([spearman(a.abs(), b.abs()) for a, b in every]).nanmean(0)
    return Likeness(name, mean_of(signed), mean_of(absolute), len(every))


@dataclass(frozen=True, eq=False)
class Cascade:
    """How an attribution changes while layers are randomized one after the other, from the output down."""

    layers: tuple[str, ...]
    """What was randomized last; "" first, of the trained network."""
    signed: Float[Tensor, "steps n"]
    """Spearman's rank correlation with the trained network's attribution, of each image."""
    absolute: Float[Tensor, "steps n"]


def cascading_randomization(
    attribute: Callable[[nn.Module], Signals],
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    seed: int = 0,
    kind: Kind = "initial",
) -> Cascade:
    """Compare an attribution with itself while layers are randomized from the output down (Adebayo et al. 2018).

    `attribute` takes a network and gives its attributions of the same images; those of a class should be of one that
    stays, such as `target=` of `gradient`. BatchNorm statistics of randomized layers are measured on `images`.

    Raises:
        ModelError: the network cannot be randomized (see `randomize`).

    >>> from torchloupe.attribution.backprop import gradient
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> x = torch.rand(5, 3, 5, 5)
    >>> attribute = lambda network: gradient(network, "output", x, target=1, randomized=False).signal
    >>> found = cascading_randomization(attribute, net, x)
    >>> found.layers, found.signed.shape, found.signed[0].mean().item()
    (('', '3', '0'), torch.Size([3, 5]), 1.0)
    """
    trained = attribute(model)
    layers, rows = [], []
    for layer, network in cascade(model, images, seed, kind=kind):
        found = attribute(network)
        layers.append(layer)
        rows.append((spearman(trained, found), spearman(trained.abs(), found.abs())))
    signed, absolute = (torch.stack(each) for each in zip(*rows, strict=True))
    return Cascade(tuple(layers), signed, absolute)
