"""How many pictures go through a network at once, so that memory stays bounded."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.survey import placed, trace

BYTES = 512 * 2**20
"""Room for one batch's features and their gradients."""
AT_MOST = 128
"""More at once is no faster on a CPU: caches overflow."""


def at_once(model: nn.Module, layer: str, picture: Float[Tensor, "b c h w"], room: int = BYTES) -> int:
    """Return how many pictures of that size may go forwards and backwards to a layer (a resolved name) at once.

    >>> from torchloupe.models import build
    >>> at_once(build("loupe"), "conv1", torch.zeros(1, 3, 32, 32))
    128
    """
    numbers = 3 * picture[0].numel()
    for call in trace(model, placed(model, picture[:1]), until=layer):
        if next(call.module.children(), None) is None:
            numbers += call.times * torch.Size(call.shape).numel()
    each = 3 * numbers * picture.element_size()  # features, their gradients, and what kernels need on the side
    return max(1, min(AT_MOST, room // each))
