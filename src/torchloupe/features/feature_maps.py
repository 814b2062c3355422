"""The feature maps of a layer, and their principal components as one color image."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.trace import at_once, channel_list, placed, resolve
from torchloupe.models.network import check_images

TAILS = 0.01
"""Share of positions at either end that may saturate in the PCA picture."""


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """Feature maps of one layer for a batch of images."""

    layer: str
    maps: Float[Tensor, "b n y x"]
    """The layer's output, unscaled."""
    channel: Int64[Tensor, "n"]
    dead: Bool[Tensor, "n"]
    """Zero at every position of every picture given."""
    pca: Float[Tensor, "b 3 y x"]
    """The three directions in which the shown maps vary most over all positions of all pictures, as a colour picture
    in [0, 1]: each component between its 1st and 99th percentile."""
    images: Float[Tensor, "b c h w"]


def feature_maps(
    model: nn.Module, layer: str, images: Float[Tensor, "b c h w"], *, channels: list[int] | None = None
) -> FeatureMaps:
    """Show all maps of a layer for each picture, dead ones marked, and their PCA as one colour picture.

    Raises:
        DataError: these are no pictures in [0, 1].
        LayerError: no such layer, or one that puts out no maps.
        UsageError: a channel that there is not.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> feature_maps(net, "1", torch.rand(2, 3, 5, 5), channels=[0, 7]).maps.shape
    torch.Size([2, 2, 3, 3])
    """
    check_images(images)
    name = resolve(model, layer, images)
    batch = placed(model, images)
    size = at_once(model, name, batch)
    with frozen_eval(model), torch.no_grad():
        parts = [activations(model, name, batch[i : i + size]).cpu() for i in range(0, len(batch), size)]
    features = torch.cat(parts)
    asked = channel_list(channels, features.shape[1], name)
    features = features[:, asked].contiguous()
    dead = ~features.transpose(0, 1).flatten(1).any(1)
    return FeatureMaps(name, features, torch.tensor(asked), dead, principal(features), batch.cpu())


def principal(features: Float[Tensor, "b n y x"]) -> Float[Tensor, "b 3 y x"]:
    """Return the first three principal components of maps over all positions, in [0, 1].

    The sign of each is such that its largest loading is positive. Components that there are not are 0.5.

    >>> principal(torch.rand(2, 5, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """
    b, n, y, x = features.shape
    rows = features.permute(0, 2, 3, 1).reshape(-1, n).double()
    rows = rows - rows.mean(0)
    vectors = torch.linalg.eigh(rows.T @ rows).eigenvectors
    known = min(3, n)
    vectors = vectors[:, -known:].flip(1)
    largest = vectors.abs().argmax(0)
    vectors = vectors * vectors[largest, torch.arange(known)].sign()
    parts = rows @ vectors
    low, high = torch.from_numpy(np.quantile(parts.numpy(), [TAILS, 1 - TAILS], axis=0))  # torch's has a limit
    span = high - low
    flat = span <= 1e-12 * rows.abs().max().clamp(min=1e-300)
    scaled = torch.where(flat, 0.5, ((parts - low) / torch.where(flat, 1.0, span)).clamp(0, 1))
    out = torch.full((len(rows), 3), 0.5, dtype=torch.float64)
    out[:, :known] = scaled
    return out.view(b, y, x, 3).permute(0, 3, 1, 2).to(features.dtype).contiguous()
