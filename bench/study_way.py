"""The study's way of making its pictures, written anew from its description: the yardstick, not a part of the package.

One unit at a time, 200 steps of Adam on the pixels; the strongest cells of a map by taking its maximum again and
again; the way back by transposed convolution and unpooling.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.features.hooks import activations, frozen_eval


def maximize_one(model: nn.Module, layer: str, channel: int, start: Tensor, lr: float, steps: int = 200) -> Tensor:
    """Drive one channel's mean up from a picture `[1, c, h, w]`, by Adam with weight decay 1e-6."""
    image = start.clone().requires_grad_()
    adam = torch.optim.Adam([image], lr=lr, weight_decay=1e-6)
    with frozen_eval(model):
        for _ in range(steps):
            adam.zero_grad()
            loss = -activations(model, layer, image)[0, channel].mean()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
    return image.detach().clamp(0, 1)


def keep_strongest(features: Tensor, fraction: float) -> Tensor:
    """Keep the strongest cells of each map `[c, h, w]`, found one after another by `max`."""
    kept = torch.zeros_like(features)
    for channel in range(features.shape[0]):
        left = features[channel].clone().flatten()
        out = kept[channel].view(-1)
        for _ in range(int(fraction * left.numel())):
            value, place = left.max(0)
            out[place] = value
            left[place] = -torch.inf
    return kept


def deconvolve_first(model: nn.Module, layer: str, images: Tensor, fraction: float = 0.1) -> Tensor:
    """Deconvolve the first convolution's maps of each picture, one picture at a time."""
    conv = model.get_submodule(layer)
    assert isinstance(conv, nn.Conv2d) and not isinstance(conv.padding, str)
    out = []
    with frozen_eval(model), torch.no_grad():
        for image in images:
            features = activations(model, layer, image[None])[0]
            kept = keep_strongest(features, fraction)
            height = (image.shape[1] + 2 * conv.padding[0] - conv.kernel_size[0]) % conv.stride[0]
            out.append(
                F.conv_transpose2d(
                    kept[None], conv.weight, stride=conv.stride, padding=conv.padding, output_padding=height
                )
            )
    return torch.cat(out)
