"""Deconvnet (Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks")."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.attribution.backward import Backward, Channels, Position, Target, backpropagate
from torchloupe.features.random_control import takes_twin
from torchloupe.runtime.progress import Progress


@takes_twin
def deconvnet(
    model: nn.Module,
    layer: str,
    images: Float[Tensor, "b c h w"],
    *,
    keep: float = 0.1,
    channels: Channels = None,
    each: bool = False,
    position: Position = None,
    target: Target = None,
    randomized: bool = True,
    seed: int = 0,
    control: nn.Module | None = None,
    progress: Progress | None = None,
) -> Backward:
    """Backpropagate a layer's activations to the image, rectifying the signal at each ReLU.

    At each rectifier y = f(x) the signal g becomes relu(g), whatever x was.

    Of each map of the layer the strongest share `keep` by signed value is the initial signal, or one `position`: "max",
    (y, x), or one a picture `[b, 2]`. One result a picture from all `channels` together, or with `each` one for each
    picture and channel, or from one channel a picture `[b]`. From the layer `output`, where none of these are named, it
    starts from 1 at the logit of one class, `target`: a number, a name, or a number a picture `[b]`; by default the
    predicted one. `randomized` adds the parameter-randomization control (Adebayo et al. 2018): the same through random
    weights, drawn by `seed`, from the same class; BatchNorm statistics measured on some hundred pictures of the data,
    where these are at hand, else on `images`.

    Raises:
        ModelError: no such layer, or a network that hides its rectifiers or detaches its features.
        UsageError: no pictures, or a channel, position, fraction or class that there is not.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
    >>> deconvnet(net, "1", torch.rand(2, 3, 9, 9), randomized=False).signal.shape
    torch.Size([2, 3, 9, 9])
    """
    settings: dict[str, Any] = {
        "keep": keep,
        "channels": channels,
        "each": each,
        "position": position,
        "target": target,
        "randomized": randomized,
        "seed": seed,
        "control": control,
    }
    return backpropagate(model, layer, images, "deconvnet", progress=progress, **settings)


@takes_twin
def guided(
    model: nn.Module,
    layer: str,
    images: Float[Tensor, "b c h w"],
    *,
    keep: float = 0.1,
    channels: Channels = None,
    each: bool = False,
    position: Position = None,
    target: Target = None,
    randomized: bool = True,
    seed: int = 0,
    control: nn.Module | None = None,
    progress: Progress | None = None,
) -> Backward:
    """Backpropagate, passing at each ReLU only positive signals to positive inputs.

    At each rectifier y = f(x) the signal g becomes relu(g) · max(f′(x), 0); for ReLU that is relu(g) · 1[x > 0].

    Of each map of the layer the strongest share `keep` by signed value is the initial signal, or one `position`: "max",
    (y, x), or one a picture `[b, 2]`. One result a picture from all `channels` together, or with `each` one for each
    picture and channel, or from one channel a picture `[b]`. From the layer `output`, where none of these are named, it
    starts from 1 at the logit of one class, `target`: a number, a name, or a number a picture `[b]`; by default the
    predicted one. `randomized` adds the parameter-randomization control (Adebayo et al. 2018): the same through random
    weights, drawn by `seed`, from the same class; BatchNorm statistics measured on some hundred pictures of the data,
    where these are at hand, else on `images`.

    Raises:
        ModelError: no such layer, or a network that hides its rectifiers or detaches its features.
        UsageError: no pictures, or a channel, position, fraction or class that there is not.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
    >>> guided(net, "1", torch.rand(2, 3, 9, 9), randomized=False).signal.shape
    torch.Size([2, 3, 9, 9])
    """
    settings: dict[str, Any] = {
        "keep": keep,
        "channels": channels,
        "each": each,
        "position": position,
        "target": target,
        "randomized": randomized,
        "seed": seed,
        "control": control,
    }
    return backpropagate(model, layer, images, "guided", progress=progress, **settings)


@takes_twin
def gradient(
    model: nn.Module,
    layer: str,
    images: Float[Tensor, "b c h w"],
    *,
    keep: float = 0.1,
    channels: Channels = None,
    each: bool = False,
    position: Position = None,
    target: Target = None,
    randomized: bool = True,
    seed: int = 0,
    control: nn.Module | None = None,
    progress: Progress | None = None,
) -> Backward:
    """Backpropagate a layer's activations to the image by the plain derivative.

    At each rectifier y = f(x) the signal g becomes g · f′(x). This is a vector-Jacobian product, its vector being the
    layer's strongest activations: the gradient of half the sum of their squares. Only from the layer `output` is it the
    derivative of a class's score, whose magnitude is the saliency of Simonyan et al. (2014).

    Of each map of the layer the strongest share `keep` by signed value is the initial signal, or one `position`: "max",
    (y, x), or one a picture `[b, 2]`. One result a picture from all `channels` together, or with `each` one for each
    picture and channel, or from one channel a picture `[b]`. From the layer `output`, where none of these are named, it
    starts from 1 at the logit of one class, `target`: a number, a name, or a number a picture `[b]`; by default the
    predicted one. `randomized` adds the parameter-randomization control (Adebayo et al. 2018): the same through random
    weights, drawn by `seed`, from the same class; BatchNorm statistics measured on some hundred pictures of the data,
    where these are at hand, else on `images`.

    Raises:
        ModelError: no such layer, or a network that hides its rectifiers or detaches its features.
        UsageError: no pictures, or a channel, position, fraction or class that there is not.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
    >>> gradient(net, "1", torch.rand(2, 3, 9, 9), randomized=False).signal.shape
    torch.Size([2, 3, 9, 9])
    """
    settings: dict[str, Any] = {
        "keep": keep,
        "channels": channels,
        "each": each,
        "position": position,
        "target": target,
        "randomized": randomized,
        "seed": seed,
        "control": control,
    }
    return backpropagate(model, layer, images, "gradient", progress=progress, **settings)
