"""The twin with random weights: what a picture owes to training shows beside what it owes to the architecture alone."""

import copy

import torch
from torch import nn

from torchloupe.features.owner import exclusive, seeded
from torchloupe.models.network import Network


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a network with freshly drawn weights (Adebayo et al. 2018, "Sanity checks for saliency maps").

    Modules that know how to reset themselves do so; other parameters keep their mean and standard deviation and are
    shuffled. The random state of the caller is left alone.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> bool((randomised(net)[0].weight == net[0].weight).any())
    False
    """
    with torch.inference_mode(False), torch.no_grad():
        with exclusive(model):  # not while another thread has switched and hooked it
            twin = copy.deepcopy(model)  # in here: weights copied under inference_mode let no gradient pass
        bare = twin.bare if isinstance(twin, Network) else twin
        _redraw(bare, seed)
    return twin


def _redraw(bare: nn.Module, seed: int) -> None:
    """Draw every weight of a network anew."""
    with seeded(seed):
        for module in bare.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                order = torch.randperm(parameter.numel(), device="cpu").to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
