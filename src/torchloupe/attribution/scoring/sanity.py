"""Whether a map depends on the weights: its likeness to those of networks randomized from the output down."""

from collections.abc import Callable, Iterator

from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.attribution.rank_correlation import spearman
from torchloupe.features.cascade import cascade, weighted_layers

DEPTHS = 2
"""Of a network's depths so many are looked at: spread evenly, all of it the last."""


def cascade_maps(
    explain: Callable[[nn.Module], Float[Tensor, "b h w"]],
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    depths: int | None = DEPTHS,
    trained: bool = True,
    seed: int = 0,
) -> Iterator[tuple[str, Float[Tensor, "b h w"]]]:
    """Yield the maps of copies of a network with ever more layers randomized, with the name of the last such layer.

    First, with `trained`, those of the trained network, named "", then at most so many `depths` (None: every one), of
    which the last has all weights drawn anew by `seed`. `explain` takes a network and explains the same classes of the
    same images.

    Raises:
        ModelError: the network cannot be randomized.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    >>> images = torch.rand(5, 3, 5, 5)
    >>> [layer for layer, _ in cascade_maps(lambda network: images[:, 0], net, images)]
    ['', '3', '0']
    """
    total = len(weighted_layers(model, images[:1]))
    count = total if depths is None else min(depths, total)
    wanted = {(k + 1) * total // count for k in range(count)} | ({0} if trained else set())
    for depth, (layer, network) in enumerate(cascade(model, images, seed)):
        if depth in wanted:
            yield layer, explain(network)


def likeness(one: Float[Tensor, "b h w"], other: Float[Tensor, "b h w"]) -> Float[Tensor, "b"]:
    """Return Spearman's correlation of the magnitudes of maps, in [-1, 1]; NaN where one is flat.

    Adebayo et al. 2018, "Sanity checks for saliency maps": magnitudes are what a picture of a map shows.

    >>> import torch
    >>> likeness(torch.tensor([[[1.0, -2.0, 3.0]]]), torch.tensor([[[1.0, 2.0, -3.0]]]))
    tensor([1.0000], dtype=torch.float64)
    """
    return spearman(one.abs(), other.abs())
