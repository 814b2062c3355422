"""The order in memory in which a network gets its pictures.

Contiguous, as a network gets them everywhere else: one that reads them or its maps with `view` takes nothing else.
Our own networks take channels last as well. There, forwards and backwards, it is as quick on a CPU or up to twice as
quick, since their convolutions bring each map into that order anyway.
"""

import torch
from torch import Tensor, nn

from torchloupe.models.network import Network


def memory_format(model: nn.Module) -> torch.memory_format:
    """Return the order in memory that a network is given pictures in.

    >>> memory_format(nn.Flatten())
    torch.contiguous_format
    """
    bare = model.bare if isinstance(model, Network) else model
    ours = type(bare).__module__.startswith("torchloupe.models.")
    return torch.channels_last if ours else torch.contiguous_format


def laid_out(model: nn.Module, images: Tensor) -> Tensor:
    """Return pictures in the order of memory that a network is given them in.

    >>> laid_out(nn.Flatten(), torch.zeros(2, 4, 4, 3).permute(0, 3, 1, 2)).is_contiguous()
    True
    """
    return images.contiguous(memory_format=memory_format(model))
