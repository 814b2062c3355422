"""The networks that come with torchloupe: one row each. Imports no torch until one is built."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from torchloupe.errors import ModelError, did_you_mean, short

if TYPE_CHECKING:
    from torch import nn

LARGEST = 8192
"""Channels or filter sides of our own networks, at most."""
MOST_PARAMETERS = 500_000_000
"""Two gigabytes of float32."""
MANY_CLASSES = 20_000
"""From here on the size of the network is counted before it is made."""


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


def find_model(name: str) -> Model:
    """Return the row of a network that comes with torchloupe.

    Raises:
        ModelError: there is none of that name.

    >>> find_model("study").size
    224
    """
    names = [model.name for model in MODELS]
    if name not in names:
        raise ModelError(
            f"no model {short(name)}{did_you_mean(name[:99], names) or '.'} There are: {', '.join(names)}; "
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
    make = _factory(find_model(name))
    checked = _checked(name, make, arguments)
    if checked or classes > MANY_CLASSES:
        _check_parameters(name, make, {"classes": classes, **checked})
    network: nn.Module = make(classes=classes, **checked)
    return network


def build_blank(name: str, classes: int = 10, **arguments: Any) -> "nn.Module":
    """Build one of our networks without memory for its weights: on the meta device, nothing drawn.

    Raises:
        ModelError: no such network of ours, or an argument that it does not take.

    >>> build_blank("loupe", classes=7).fc.weight.shape
    torch.Size([7, 128])
    """
    make = _factory(find_model(name))
    return _blank(name, make, {"classes": classes, **_checked(name, make, arguments)})


def _factory(row: Model) -> "Callable[..., nn.Module]":
    module, _, factory = row.factory.partition(":")
    make: Callable[..., nn.Module] = getattr(importlib.import_module(module), factory)
    return make


def _checked(name: str, make: "Callable[..., nn.Module]", arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments as the factory's signature wants them: whole numbers from 1 to `LARGEST`, and tuples."""
    hints = {key: p.annotation for key, p in inspect.signature(make).parameters.items() if key != "classes"}
    checked = {}
    for argument, value in arguments.items():
        if argument not in hints:
            takes = f"It takes {', '.join(hints)}" if hints else "It takes the number of classes only"
            hint = did_you_mean(argument[:99], list(hints)) or "."
            raise ModelError(f"{name} takes no argument {short(argument)}{hint} {takes}.")
        parts = get_args(hints[argument])
        values = list(value) if parts and isinstance(value, list | tuple) else [value]
        fits = all(isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= LARGEST for v in values)
        if not fits or len(values) != max(1, len(parts)):
            wanted = f"{len(parts)} whole numbers" if parts else "a whole number"
            raise ModelError(f"{name} takes {wanted} from 1 to {LARGEST} as {short(argument)}, not {short(value, 60)}.")
        checked[argument] = tuple(values) if parts else value
    return checked


def _check_parameters(name: str, make: "Callable[..., nn.Module]", arguments: dict[str, Any]) -> None:
    count = sum(parameter.numel() for parameter in _blank(name, make, arguments).parameters())
    if count > MOST_PARAMETERS:
        raise ModelError(
            f"{name} would have {count:,} parameters with {_told(arguments)}, more than {MOST_PARAMETERS:,}. "
            "Make it narrower."
        )


def _blank(name: str, make: "Callable[..., nn.Module]", arguments: dict[str, Any]) -> "nn.Module":
    from torchloupe.models.blank import blank

    try:
        return blank(make, **arguments)
    except RuntimeError:  # more than can be counted
        raise ModelError(f"{name} cannot be made with {_told(arguments)}. Make it narrower.") from None


def _told(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{key} {list(value) if isinstance(value, tuple) else value}" for key, value in arguments.items())
