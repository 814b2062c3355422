"""Layers by name: the dotted path that `get_submodule` takes, and `layer4[-1]` for the last part of one."""

import re
from collections.abc import Iterator

from torch import nn

from torchloupe.errors import LayerError, did_you_mean


def layer_name(net: nn.Module, text: str) -> str:
    """Return the dotted name of a layer, an index in brackets counting its children, backwards if negative.

    Raises:
        LayerError: the network has no such layer.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), nn.Flatten()))
    >>> layer_name(net, "1[-1]"), layer_name(net, "[0]")
    ('1.1', '0')
    >>> layer_name(net, "1.2")
    Traceback (most recent call last):
    ...
    torchloupe.errors.LayerError: no layer '1.2'; did you mean '1.1'?
    """
    modules = dict(net.named_modules(remove_duplicate=False))
    name = ""
    for part in _parts(text):
        children = _children(modules[name]) if name in modules else []
        if isinstance(part, int) and not -len(children) <= part < len(children):
            where = f"'{name}'" if name else "the network"
            raise LayerError(f"no layer {text!r}: {where} has {len(children)} parts.")
        child = children[part] if isinstance(part, int) else part
        name = f"{name}.{child}" if name else child
    if not name or name not in modules:
        known = [known for known in modules if known]
        top = ", ".join(_children(net))
        raise LayerError(f"no layer {text!r}{did_you_mean(name, known) or f'; at the top there are: {top}'}")
    return name


def find_layer(net: nn.Module, text: str) -> nn.Module:
    """Return the layer that `layer_name` understands by `text`.

    >>> find_layer(nn.Sequential(nn.ReLU(), nn.Flatten()), "[-1]")
    Flatten(start_dim=1, end_dim=-1)
    """
    return net.get_submodule(layer_name(net, text))


def _children(module: nn.Module) -> list[str]:
    return [name for name, child in module._modules.items() if child is not None]  # named_children skips repeats


def _parts(text: str) -> Iterator[str | int]:
    """Split "a.b[-1].c" into "a", "b", -1, "c"; what does not fit stays a name, and is then not found."""
    for piece in text.split("."):
        match = re.fullmatch(r"([^\[\]]*)((?:\[-?\d+\])*)", piece)
        name, indices = match.groups() if match else (piece, "")
        if name or not indices:
            yield name
        yield from map(int, re.findall(r"-?\d+", indices))
