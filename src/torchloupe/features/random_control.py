"""The parameter-randomization control: what an image owes to training, beside what the architecture alone gives it."""

import copy
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import nn

from torchloupe.features.owner import exclusive, seeded
from torchloupe.models.network import Network

P = ParamSpec("P")
R = TypeVar("R")


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of a network with freshly drawn weights (Adebayo et al. 2018, "Sanity checks for saliency maps").

    Modules that know how to reset themselves do so; other parameters keep their mean and standard deviation and are
    shuffled. The random state of the caller is left alone.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> bool((randomize(net)[0].weight == net[0].weight).any())
    False
    """
    with torch.inference_mode(False), torch.no_grad():
        with exclusive(model):  # not while another thread has switched and hooked it
            drawn = copy.deepcopy(model)  # in here: weights copied under inference_mode let no gradient pass
        bare = drawn.bare if isinstance(drawn, Network) else drawn
        _redraw(bare, seed)
    return drawn


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


def takes_twin(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method's `randomized` go by `twin` too, its name until version 0.2.

    >>> takes_twin(lambda *, randomized: randomized)(twin=False)
    False
    """

    @functools.wraps(method)
    def call(*args: Any, **settings: Any) -> Any:
        if "twin" in settings:
            settings.setdefault("randomized", settings.pop("twin"))
        return method(*args, **settings)

    return cast(Callable[P, R], call)
