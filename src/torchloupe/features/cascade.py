"""Networks whose layers are randomized one after the other, from the output down (Adebayo et al. 2018)."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.features.batch_statistics import measure_batch_statistics, normalizers
from torchloupe.features.random_control import Kind, randomize, replica
from torchloupe.features.trace import placed, trace
from torchloupe.models.network import Network

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def cascade(
    model: nn.Module, images: Float[Tensor, "b c h w"], seed: int = 0, *, kind: Kind = "initial"
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the trained network, then copies of it with ever more layers randomized; the last is `randomize`'s.

    Each comes with the name of the layer that was randomized last, "" for none. All weights are those of one draw. A
    normalization goes with the layer before it; weights of what does not run go last. BatchNorm statistics of the
    randomized layers are measured on `images`, in each network anew.

    Raises:
        ModelError: the network cannot be randomized (see `randomize`).

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    >>> [name for name, _ in cascade(net, torch.rand(2, 3, 5, 5))]
    ['', '3', '0']
    """
    images = placed(model, images)
    drawn = randomize(model, seed, kind=kind)
    chosen: set[str] = set()
    yield "", replica(model)
    for layer, modules in weighted_layers(model, images[:1]):
        chosen |= modules
        mixed = replica(model)
        _take(mixed, drawn, chosen)
        measure_batch_statistics(mixed, images, chosen & normalizers(mixed).keys())
        yield layer, mixed


def weighted_layers(model: nn.Module, image: Float[Tensor, "b c h w"]) -> list[tuple[str, set[str]]]:
    """Return the layers that hold weights, the last to run first: name, and the modules that go with it.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    >>> [(layer, sorted(modules)) for layer, modules in weighted_layers(net, torch.rand(1, 3, 5, 5))]
    [('3', ['3']), ('0', ['0', '1'])]
    """
    owners = {_owner(name) for name, _ in _state(model)}
    found: list[tuple[str, set[str]]] = []
    for call in trace(model, image):
        if call.name not in owners:
            continue
        if found and isinstance(call.module, NORMS):
            found[-1][1].add(call.name)
        else:
            found.append((call.name, {call.name}))
    rest = owners.difference(*(modules for _, modules in found))
    if not found:
        return [("", rest)] if rest else []
    found[0][1].update(rest)
    return found[::-1]


def _state(model: nn.Module) -> list[tuple[str, Tensor]]:
    bare = model.bare if isinstance(model, Network) else model
    return [*bare.named_parameters(remove_duplicate=False), *bare.named_buffers(remove_duplicate=False)]


def _owner(name: str) -> str:
    """Return the module that a parameter or buffer belongs to; of a parametrization, the one that it is of.

    >>> _owner("a.conv.weight"), _owner("a.conv.parametrizations.weight.original"), _owner("scale")
    ('a.conv', 'a.conv', '')
    """
    module, _, _ = name.rpartition(".")
    return f".{module}".partition(".parametrizations")[0].removeprefix(".")


def _take(model: nn.Module, other: nn.Module, modules: set[str]) -> None:
    """Copy the weights and buffers of some modules from another network of the same shape."""
    with torch.inference_mode(False), torch.no_grad():
        for (name, mine), (_, theirs) in zip(_state(model), _state(other), strict=True):
            if _owner(name) in modules:
                mine.copy_(theirs)
