"""Maps that no network made: what an explanation of one has to be better than."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def sobel(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Return the strength of edges: the magnitude of Sobel's gradient of the mean over channels.

    >>> sobel(torch.tensor([[[[0.0, 0.0, 1.0, 1.0]] * 3]]))[0, 1]
    tensor([0., 4., 4., 0.])
    """
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(images)
    across, down = F.conv2d(grey, torch.stack([slope, slope.T])[:, None]).unbind(1)
    return torch.hypot(across, down)


def center(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Return a Gaussian blob in the middle of each picture, its standard deviation a quarter of the side; 1 at most.

    >>> center(torch.rand(2, 3, 3, 3))[0].argmax().item()
    4
    """
    height, width = images.shape[2:]
    y, x = (torch.linspace(-1, 1, side, dtype=images.dtype, device=images.device) for side in (height, width))
    y, x = (line if len(line) > 1 else torch.zeros_like(line) for line in (y, x))
    blob = (-2 * (y[:, None].square() + x.square())).exp()
    return blob.expand(len(images), -1, -1)


def uniform(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Return the same relevance everywhere: chance.

    >>> uniform(torch.rand(1, 3, 2, 2)).unique()
    tensor([1.])
    """
    return torch.ones_like(images[:, 0])
