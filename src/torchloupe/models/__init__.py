"""The networks that come with torchloupe: one row each. Imports no torch until one is built."""

import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchloupe.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Model:
    """One network: what it is called, where it is made, what it is."""

    name: str
    factory: str
    """`package.module:callable`, called with `classes` and the network's own arguments."""
    summary: str
    size: int
    """The side of the pictures that it was designed for; all take any size."""
    paper: str


MODELS: tuple[Model, ...] = (
    Model(
        "loupe",
        "torchloupe.models.loupe:Loupe",
        "small residual network, made for speed on a CPU and for looking inside (default)",
        32,
        "torchloupe",
    ),
    Model(
        "study",
        "torchloupe.models.study:Study",
        "the study's network: ResNet-18's shape, 7x7 filters, for pictures enlarged to 224",
        224,
        "WangHelin1997, CNN-model-and-visualization; He et al. 2016, arXiv:1512.03385",
    ),
    Model(
        "resnet18",
        "torchloupe.models.resnet18:ResNet18",
        "ResNet-18 with a 3x3 stem for small pictures",
        32,
        "He et al. 2016, arXiv:1512.03385",
    ),
    Model(
        "resnet20",
        "torchloupe.models.resnet_cifar:resnet20",
        "the CIFAR ResNet of 20 layers, shortcuts without parameters",
        32,
        "He et al. 2016, arXiv:1512.03385, section 4.2",
    ),
    Model(
        "resnet32",
        "torchloupe.models.resnet_cifar:resnet32",
        "the CIFAR ResNet of 32 layers, shortcuts without parameters",
        32,
        "He et al. 2016, arXiv:1512.03385, section 4.2",
    ),
    Model(
        "resnet56",
        "torchloupe.models.resnet_cifar:resnet56",
        "the CIFAR ResNet of 56 layers, shortcuts without parameters",
        32,
        "He et al. 2016, arXiv:1512.03385, section 4.2",
    ),
)


def find(name: str) -> Model:
    """Return the row of a network that comes with torchloupe.

    Raises:
        ModelError: there is none of that name.

    >>> find("study").size
    224
    """
    names = [model.name for model in MODELS]
    if name not in names:
        raise ModelError(
            f"no model {name!r}{did_you_mean(name, names) or '.'} There are: {', '.join(names)}; "
            "your own is package.module:factory or file.py:factory."
        )
    return MODELS[names.index(name)]


def build(name: str, classes: int = 10, **arguments: Any) -> "nn.Module":
    """Build a network with fresh weights: a name of `MODELS`, or a reference to someone's own.

    The bare network takes normalised pictures `[b, 3, h, w]` of any size and gives logits `[b, classes]`;
    `torchloupe.wrap` makes one that takes [0, 1]. `arguments` go to the network's own factory.

    Raises:
        ModelError: no such network, an argument that it does not take, or fewer than one class.

    >>> sum(p.numel() for p in build("study").parameters())
    11535946
    >>> build("resnet180")
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: no model 'resnet180'; did you mean 'resnet18'?...
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ModelError(f"a network needs a whole number of classes from 1 up, not {classes!r}.")
    from torchloupe.models.reference import is_reference

    if is_reference(name):
        from torchloupe.models.user import build_user

        return build_user(name, classes, arguments=arguments)
    module, _, factory = find(name).factory.partition(":")
    make = getattr(importlib.import_module(module), factory)
    known = [parameter for parameter in inspect.signature(make).parameters if parameter != "classes"]
    for argument in arguments:
        if argument not in known:
            takes = f"It takes {', '.join(known)}" if known else "It takes the number of classes only"
            raise ModelError(f"{name} takes no argument {argument!r}{did_you_mean(argument, known) or '.'} {takes}.")
    network: nn.Module = make(classes=classes, **arguments)
    return network
