"""In which order a map puts the pixels; pixels that it holds equal come in a drawn order, so that they say nothing."""

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torchloupe.runtime.memory import smaller

Answer = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]]
"""From images in [0, 1] to logits."""
AT_ONCE = 256
"""Images that are answered together."""


def stream(name: str, seed: int) -> torch.Generator:
    """Return a generator whose numbers are none that a `manual_seed` of the caller gave: maps may be made of those.

    >>> first = torch.rand(3, generator=torch.Generator().manual_seed(0))
    >>> bool((torch.rand(3, generator=stream("ties", 0)) == first).any())
    False
    """
    word = hashlib.sha256(f"torchloupe: {name} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(word[:7], "big"))


def places(maps: Float[Tensor, "b h w"], seed: int = 0) -> Int64[Tensor, "b h w"]:
    """Return each pixel's place in the order of relevance: 0 for the most relevant, by signed value.

    Equal ones are put in an order drawn by `seed`, for each image anew: a constant map gives a random order.

    >>> places(torch.tensor([[[0.1, 0.9], [-3.0, 0.5]]]))
    tensor([[[2, 0],
             [3, 1]]])
    """
    flat = maps.flatten(1)
    chance = torch.rand(flat.shape, generator=stream("ties", seed)).to(flat.device)
    drawn = chance.argsort(dim=1)
    order = drawn.gather(1, flat.gather(1, drawn).argsort(dim=1, descending=True, stable=True))
    found = torch.empty_like(order)
    found.scatter_(1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order))
    return found.view(maps.shape)


def probabilities(answer: Answer, images: Float[Tensor, "b c h w"], target: Int64[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Return each image's probability of its target, by softmax; a number of images at a time.

    >>> probabilities(lambda x: x.mean((2, 3)), torch.zeros(2, 4, 3, 3), torch.tensor([0, 3]))
    tensor([0.2500, 0.2500])
    """
    size, parts = smaller(AT_ONCE), []
    with torch.no_grad():
        for start in range(0, len(images), size):
            share = answer(images[start : start + size]).softmax(1)
            parts.append(share.gather(1, target[start : start + size, None].to(share.device))[:, 0])
    return torch.cat(parts)
