"""Someone's own network: made by their factory, and tried."""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from torchloupe.errors import ForwardError, ModelError
from torchloupe.models.blank import blank
from torchloupe.models.forward import called
from torchloupe.models.outputs import Part, a, class_logits, logits, scores
from torchloupe.models.reference import NOWHERE, one_line, resolved
from torchloupe.models.trust import remember

NAMES = ("classes", "num_classes", "n_classes", "num_labels")
"""What a factory may call the number of classes."""
COLORS = 3
SIZES = (32, 64, 224)
"""Tried in turn where the size of the pictures is not known."""
__all__ = ["build_user", "logits"]


def build_user(
    reference: str,
    classes: int,
    *,
    size: int | None = None,
    channels: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    factory: object = None,
    output: Part = None,
    understood: bool = True,
) -> nn.Module:
    """Build someone's own network and try it on two grey pictures of `[channels, size, size]`.

    Where the number of channels is not known, its convolutions say it.

    This runs the code that `reference` names (or `factory`, if one is given), and remembers that it did: the reference
    is the user's own word, or has passed `trust.permitted`. The factory is called with the number of classes if it
    takes it, as one of `NAMES` or as its only required argument; otherwise with nothing. Either way the width of its
    output (of the part `output` of it) must be `classes`, or one for two classes. Not `understood`: what its output
    is matters to nobody yet, since inner layers can be looked at without.

    Raises:
        ModelError: it cannot be imported, fails, is no network, or gives something else than logits.

    >>> build_user("torch.nn:Identity", 10)
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: 'torch.nn:Identity' gives a tensor of shape [2, 3, 32, 32]...
    """
    if factory is not None:
        net = _make(factory, reference, classes, arguments)
    else:
        with resolved(reference) as found:
            net = _make(found, reference, classes, arguments)
    given = _try(net, reference, channels or _channels(net), (size,) if size else SIZES)
    if understood:
        _check(given, reference, classes, output)
    if factory is None:
        remember(reference, arguments)
    return net


def makes_alike(factory: object, net: nn.Module, classes: int) -> bool:
    """Tell whether a class or function makes a network with weights of the same names and shapes; takes no memory.

    >>> makes_alike(nn.Flatten, nn.Flatten(), 10), makes_alike(nn.Linear, nn.Linear(2, 10), 10)
    (True, False)
    """
    try:
        twin = blank(partial(_make, factory, NOWHERE, classes, None))
        return _forms(twin) == _forms(net)
    except Exception:  # whatever a stranger's constructor does without its arguments, or without memory
        return False


def _forms(net: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def _channels(net: nn.Module) -> int:
    known = [module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)]
    return next((n for n in (COLORS, 1) if n in known), known[0] if known else COLORS)


def _make(factory: object, reference: str, classes: int, arguments: Mapping[str, Any] | None) -> nn.Module:
    if isinstance(factory, nn.Module):
        return copy.deepcopy(factory)  # a module-level instance: each caller gets its own
    if not callable(factory) or (isinstance(factory, type) and not issubclass(factory, nn.Module)):
        raise ModelError(f"{reference!r} is {a(factory)}, not a class or function that gives a network.")
    net: Any = _call(factory, reference, classes, dict(arguments or {}))
    if not isinstance(net, nn.Module):
        raise ModelError(f"{reference!r} gave {a(net)}, not a torch.nn.Module. Let it return the network.")
    return net


def _call(factory: Callable[..., Any], reference: str, classes: int, given: dict[str, Any]) -> Any:
    positional, named, optional = _fit(factory, reference, classes, given)
    try:
        if optional:
            try:
                return factory(**given, **optional)
            except TypeError:  # its **kwargs did not mean the number of classes
                return factory(**given)
        return factory(*positional, **given, **named)
    except Exception as error:
        said = ", ".join([*map(str, positional), *(f"{k}={v!r}" for k, v in {**given, **named, **optional}.items())])
        raise ModelError(
            f"{reference!r} fails when it is called with ({said}): {one_line(error)}. "
            "Mend it, or point to a function that takes `classes` and returns the network."
        ) from error


def _fit(
    factory: Callable[..., Any], reference: str, classes: int, given: dict[str, Any]
) -> tuple[list[int], dict[str, int], dict[str, int]]:
    """Return the number of classes as positional, named and perhaps-named (`**kwargs`) arguments."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # written in C
        return [], {}, {}
    rest = [p for p in parameters if p.name not in given]
    simple = [p for p in rest if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    named = [p.name for name in NAMES for p in simple if p.name == name][:1]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [p for p in rest if p.default is p.empty and p.kind not in variable and p.name not in named]
    if named and not required:
        return [], {named[0]: classes}, {}
    if len(required) == 1 and required[0].kind != inspect.Parameter.KEYWORD_ONLY and not named:
        return [classes], {}, {}
    if required:
        names = ", ".join(p.name for p in required)
        raise ModelError(
            f"{reference!r} also needs {names}. Point to a function that takes `classes` alone and returns the network."
        )
    keywords = any(p.kind == p.VAR_KEYWORD for p in rest) and not set(NAMES) & set(given)
    return [], {}, {"num_classes": classes} if keywords else {}


def _try(net: nn.Module, reference: str, channels: int, sizes: tuple[int, ...]) -> object:
    """Return what a network gives for two grey pictures."""
    modes = [(module, module.training) for module in net.modules()]
    first = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    net.eval()
    try:
        for size in sizes:
            gray = torch.full((2, channels, size, size), 0.5, dtype=first.dtype, device=first.device)
            try:
                with torch.no_grad():
                    return called(net, gray)
            except ForwardError as error:
                failure = error
        raise ForwardError(f"{reference!r}: {failure}") from failure.__cause__
    finally:
        for module, mode in modes:
            module.training = mode


def _check(given: object, reference: str, classes: int, output: Part) -> None:
    """Refuse what is not one logit a class."""
    try:
        found = scores(given, classes, output)
    except ModelError as error:
        raise ModelError(str(error).replace("the network", repr(reference), 1)) from None
    try:
        class_logits(found, classes)
    except ModelError:
        raise ModelError(
            f"{reference!r} gives {found.shape[1]} outputs for {classes} classes. Let its factory take the number as "
            "`classes`, or name the part of its output that holds the classes with --output (output=)."
        ) from None
