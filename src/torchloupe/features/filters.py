"""The weights of a convolution."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchloupe.errors import LayerError
from torchloupe.features.hooks import is_output
from torchloupe.features.trace import channel_list, resolve


@dataclass(frozen=True, eq=False)
class Filters:
    """Filters of one convolution."""

    layer: str
    weight: Float[Tensor, "n i kh kw"]
    """With groups, i is the number of input channels of one group. They act on normalised pictures."""
    channel: Int64[Tensor, "n"]
    strongest: Int64[Tensor, "n k"]
    """The input channels with the largest kernels, numbered in the layer's whole input, the strongest first."""
    strength: Float[Tensor, "n k"]
    """L2 norm of those kernels."""


def filters(model: nn.Module, layer: str, *, channels: list[int] | None = None, strongest: int = 4) -> Filters:
    """Show a convolution's filters; for deeper ones each filter's strongest input channels.

    Raises:
        LayerError: no such layer, or one that is no convolution.
        UsageError: a channel that there is not.

    >>> filters(nn.Sequential(nn.Conv2d(3, 8, 5)), "0").weight.shape
    torch.Size([8, 3, 5, 5])
    """
    name = _convolution(model, layer)
    module = model.get_submodule(name)
    assert isinstance(module, nn.Conv2d)
    asked = torch.tensor(channel_list(channels, module.out_channels, name))
    weight = module.weight.detach().cpu()[asked]
    norms = weight.flatten(2).norm(dim=2)
    count = min(max(1, strongest), norms.shape[1])
    order = norms.sort(dim=1, descending=True, stable=True).indices[:, :count]
    first = asked // (module.out_channels // module.groups) * weight.shape[1]  # of the filter's group
    return Filters(name, weight.clone(), asked, order + first[:, None], norms.gather(1, order))


def _convolution(model: nn.Module, layer: str) -> str:
    if layer == "first" and layer not in dict(model.named_children()):
        name = next((name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)
        if name is None:
            raise LayerError("the network has no convolution, so that there are no filters to show.")
        return resolve(model, layer)
    name = resolve(model, layer)
    if is_output(model, name):
        raise LayerError("layer 'output' is no convolution: name one; `torchloupe layers` lists them.")
    module = model.get_submodule(name)
    if isinstance(module, nn.Conv2d):
        return name
    inside = next((part for part, child in module.named_modules() if isinstance(child, nn.Conv2d)), None)
    hint = f"it holds one, '{name}.{inside}'" if inside else "name one; `torchloupe layers` lists them"
    raise LayerError(f"layer '{name}' ({type(module).__name__}) is no convolution: {hint}.")
