"""Class activation maps: a layer's maps, weighed by what a class's logit owes to them, and brought to picture size."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.attribution.maps import Aim, Attribution, Target, by_parts, class_logits, explained
from torchloupe.errors import LayerError, ModelError
from torchloupe.features.hooks import as_maps, first_tensor, intervene, is_output
from torchloupe.features.names import layer_name
from torchloupe.features.trace import resolve

Maps = Float[Tensor, "b c y x"]


def grad_cam(
    model: nn.Module, images: Float[Tensor, "b c h w"], *, target: Target = None, layer: str = "last"
) -> Attribution:
    """Weigh a layer's maps by the mean gradient of a class's logit.

    Selvaraju et al. 2017, "Grad-CAM". The weight of a map is the mean over positions of the logit's gradient by it. The
    sum is not rectified: what speaks against the class stays, below 0. Enlarged bilinearly to the picture's size.

    Raises:
        ModelError: no such layer, or no gradient passes to it.
        UsageError: no such class, or no pictures.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> grad_cam(net, torch.rand(2, 3, 9, 9), layer="1").map.shape
    torch.Size([2, 9, 9])
    """
    return _weighed("grad-cam", model, images, target, layer, lambda maps, by: by.mean((2, 3), keepdim=True))


def grad_cam_plus_plus(
    model: nn.Module, images: Float[Tensor, "b c h w"], *, target: Target = None, layer: str = "last"
) -> Attribution:
    """Weigh a layer's maps by their positive gradients, by cell.

    Chattopadhay et al. 2018, "Grad-CAM++", for the exponential of the logit, whose own factor, the same for all cells
    of a picture, is left out: the weight of a map is Σ α·relu(g), α = g² / (2g² + g³·ΣA).

    Raises:
        ModelError: no such layer, or no gradient passes to it.
        UsageError: no such class, or no pictures.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> grad_cam_plus_plus(net, torch.rand(2, 3, 9, 9), layer="1").map.shape
    torch.Size([2, 9, 9])
    """

    def weights(maps: Tensor, by: Tensor) -> Tensor:
        below = 2 * by**2 + by**3 * maps.sum((2, 3), keepdim=True)
        alpha = torch.where((by != 0) & (below != 0), by**2 / torch.where(below != 0, below, 1), 0)
        return (alpha * by.relu()).sum((2, 3), keepdim=True)

    return _weighed("grad-cam-plus-plus", model, images, target, layer, weights)


def layer_cam(
    model: nn.Module, images: Float[Tensor, "b c h w"], *, target: Target = None, layer: str = "last"
) -> Attribution:
    """Weigh every cell of a layer's maps by its own positive gradient.

    Jiang et al. 2021, "LayerCAM".

    Raises:
        ModelError: no such layer, or no gradient passes to it.
        UsageError: no such class, or no pictures.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> layer_cam(net, torch.rand(2, 3, 9, 9), layer="1").map.shape
    torch.Size([2, 9, 9])
    """
    return _weighed("layer-cam", model, images, target, layer, lambda maps, by: by.relu())


def eigen_cam(
    model: nn.Module, images: Float[Tensor, "b c h w"], *, target: Target = None, layer: str = "last"
) -> Attribution:
    """Show the first principal component of a layer's maps, of no class.

    Muhammad & Yeasin 2020, "Eigen-CAM": the cells' projection on the first right singular vector of the maps
    `[positions, channels]`, uncentred, its sign such that the sum is positive. It is the same whatever the class:
    `target` only names the one that it is shown beside.

    Raises:
        ModelError: no such layer.
        UsageError: no such class, or no pictures.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> bool((eigen_cam(net, torch.rand(2, 3, 9, 9), layer="1").map.sum((1, 2)) > 0).all())
    True
    """

    def weights(maps: Tensor, by: Tensor) -> Tensor:
        _, _, axes = torch.linalg.svd(maps.nan_to_num(0, 0, 0).flatten(2).transpose(1, 2), full_matrices=False)
        first = axes[:, 0]
        sign = (maps.sum((2, 3)) * first).sum(1, keepdim=True)
        return torch.where(sign < 0, -first, first)[:, :, None, None]

    return _weighed("eigen-cam", model, images, target, layer, weights)


def _weighed(
    method: str,
    model: nn.Module,
    images: Tensor,
    target: Target,
    layer: str,
    weights: Callable[[Maps, Maps], Tensor],
) -> Attribution:
    """Return the sum over channels of a layer's maps times their weights, at the picture's size."""
    name = resolve(model, layer, images)
    with explained(model, images, target) as (batch, aim, size):

        def work(part: Tensor, aims: Aim) -> tuple[Tensor]:
            maps, by = _maps_and_gradients(model, name, part, aims)
            cells = (weights(maps, by) * maps).sum(1, keepdim=True)
            return (F.interpolate(cells, part.shape[2:], mode="bilinear", align_corners=False)[:, 0],)

        (found,) = by_parts(work, batch, aim, size)
        return Attribution(method, name, found, batch.detach().cpu(), aim.target, aim.against)


def _maps_and_gradients(model: nn.Module, layer: str, images: Tensor, aim: Aim) -> tuple[Tensor, Tensor]:
    """Return a layer's maps and the gradient of the explained number by them, in one pass."""
    kept: list[Tensor] = []

    def keep(output: Tensor, module: nn.Module) -> Tensor:
        kept.append(output)
        return output.clone()  # what runs on may change it in place

    if is_output(model, layer):
        raise LayerError("class activation maps are of a layer inside the network. Name one with maps, or `last`.")
    with intervene(model, layer, keep):
        score = aim.of(class_logits(model, images.detach().clone().requires_grad_()))
    if not kept:
        raise LayerError(f"layer {layer!r} does not run when the network sees pictures. Name one that does.")
    kept = kept[-len(images) :] if len(kept) > 1 else kept  # before: whether pictures depend on their company
    gradients = torch.autograd.grad(score.sum(), kept, allow_unused=True)
    if any(each is None for each in gradients):
        raise ModelError(f"the network's answer does not depend on layer {layer!r}. Name another.")
    module = model.get_submodule(layer_name(model, layer))
    both = [torch.cat([_maps(each, module, layer, images) for each in parts]) for parts in (kept, gradients)]
    return both[0].detach(), both[1].detach()


def _maps(output: Tensor, module: nn.Module, layer: str, images: Tensor) -> Tensor:
    found = first_tensor(output)
    assert found is not None
    return as_maps(found, module, layer, images.shape[2:])
