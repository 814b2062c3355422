"""BatchNorm's running statistics of a network with other weights, measured on images.

What BatchNorm subtracts and divides by is no weight, but belongs to the weights before it: 0 and 1 in its place turn
normalization into the identity, and the network into one that no training could begin with.
"""

import math
from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.features.hooks import frozen_eval, observe_inputs
from torchloupe.features.trace import trace
from torchloupe.models.layout import laid_out
from torchloupe.models.network import Network, run
from torchloupe.runtime.device import at_least_float32
from torchloupe.runtime.memory import is_out_of_memory, smaller

ROOM = 2**28
"""Bytes that the largest activation of the images may take: they go through the network together."""


def normalizers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that keep running statistics of batches, by name. Instance and group norms keep none.

    >>> list(normalizers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))))
    ['1']
    """
    bare = model.bare if isinstance(model, Network) else model
    return {
        name: module
        for name, module in bare.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and isinstance(module.running_mean, Tensor)
    }


def measurable(model: nn.Module, images: Float[Tensor, "b c h w"]) -> int | None:
    """Return on how many of some images the statistics are measured, by memory; None where nothing keeps any.

    >>> measurable(nn.BatchNorm2d(3), torch.rand(5, 3, 4, 4)), measurable(nn.ReLU(), torch.rand(5, 3, 4, 4))
    (5, None)
    """
    if not normalizers(model):
        return None
    largest = images[0].numel()
    try:
        largest = max(largest, *(math.prod(call.shape[1:]) for call in trace(model, images[:1])))
    except Exception as error:  # the whole of it does not run
        if is_out_of_memory(error):
            raise
    return min(len(images), smaller(max(1, ROOM // (largest * images.element_size()))))


def measure_batch_statistics(
    model: nn.Module, images: Float[Tensor, "b c h w"], only: Collection[str] | None = None
) -> int | None:
    """Give every BatchNorm (or `only` those so named) mean and variance of what reaches it; returns of how many images.

    One pass in eval mode, dropout off, in which each layer takes the statistics of its own input just before it
    normalizes it: those behind it see what they will see from then on. The variance is that of the images themselves
    (n, not n - 1), so that each layer puts out exactly its bias as mean and its weight squared as variance. A layer
    that runs several times takes those of all that it has seen. What does not run, or sees one value a channel, keeps
    what it has. The network is changed in place. None: it has no such layer.

    >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
    >>> measure_batch_statistics(net, torch.tensor([[1.0], [3.0]])), net[0].running_mean, net[0].running_var
    (2, tensor([2.]), tensor([1.]))
    """
    layers = {name: module for name, module in normalizers(model).items() if only is None or name in only}
    count = measurable(model, images) if layers else None
    if count is None:
        return None
    seen: dict[str, tuple[int, Tensor, Tensor]] = {}
    passes = 0

    def see(name: str, module: nn.Module, before: Tensor) -> None:
        nonlocal passes
        passes += not name  # once more: an error is being looked into, with other images
        if name in layers and before.numel() > before.shape[1] and passes <= 1:
            found = _moments(before)
            seen[name] = _together(seen[name], found) if name in seen else found
            _write(module, seen[name])

    for batch in (images[:count], images[:1]):  # some networks take one image only
        seen.clear()
        passes = 0
        try:
            with frozen_eval(model), torch.no_grad(), observe_inputs(model, see):
                run(model, laid_out(model, batch.clone()))
            break
        except Exception as error:  # what ran of it counts
            if is_out_of_memory(error):
                raise
    with torch.no_grad():
        for name, moments in seen.items():  # `frozen_eval` has put the old ones back
            _write(layers[name], moments)
    return count


def _moments(values: Float[Tensor, "b c *rest"]) -> tuple[int, Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Return number, mean and variance of each channel's values."""
    var, mean = torch.var_mean(at_least_float32(values), [0, *range(2, values.ndim)], correction=0)
    return values.numel() // values.shape[1], mean, var


def _together(one: tuple[int, Tensor, Tensor], other: tuple[int, Tensor, Tensor]) -> tuple[int, Tensor, Tensor]:
    n, m = one[0], other[0]
    mean = (n * one[1] + m * other[1]) / (n + m)
    var = (n * (one[2] + (one[1] - mean) ** 2) + m * (other[2] + (other[1] - mean) ** 2)) / (n + m)
    return n + m, mean, var


def _write(module: nn.Module, moments: tuple[int, Tensor, Tensor]) -> None:
    module.get_buffer("running_mean").copy_(moments[1])
    module.get_buffer("running_var").copy_(moments[2])
