"""What a network remembers beside its weights, put back: counters, the size it saw last, what it keeps in lists.

A forward pass may write to its modules. Then the next one is of another network, and a look at a small picture changes
what a large one gives. `Remembered` notes the state of every module, and puts it back.
"""

import random
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchloupe.errors import ModelError

KEPT_BYTES = 2**28
"""Buffers and other tensors up to so much in all are copied; of more, a change is noticed but cannot be undone."""
DEEPEST = 6
"""Objects within objects that are looked into."""
REGISTERS = ("_parameters", "_buffers", "_modules")
OWN = ("_forward", "_backward", "_state_dict", "_load_state_dict", "_is_full_backward", "_non_persistent")
"""Where torch keeps the hooks of a module, by the beginning of the name."""
NOT_OF_FORWARD = frozenset({"training", "check", "origin"})
PLAIN = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
    type,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    ModuleType,
    torch.dtype,
    torch.device,
    torch.Size,
)
"""Values that cannot change but by being replaced, and what is no state of a network."""

Undo = Callable[[], None]


class Remembered:
    """The state of a network's modules at one moment: attributes, buffers, and what is in lists, dicts and objects.

    >>> net = nn.Sequential(nn.ReLU())
    >>> net.seen = [8]
    >>> before = Remembered(net)
    >>> net.seen.append(16)
    >>> before.restore()
    >>> net.seen
    [8]
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = [(name, p, _version(p)) for name, p in model.named_parameters()]
        self._seen: set[int] = {id(p) for _, p, _ in self._parameters}
        self._room = KEPT_BYTES
        self._undo: list[Undo] = []
        self._hold: list[Any] = []  # alive, so that no identity comes twice
        for name, module in model.named_modules():
            self._module(module, name or type(module).__name__, 0)

    def restore(self) -> None:
        """Put everything back.

        Raises:
            ModelError: the network changed what cannot be put back: its own weights, or a tensor too large to be kept.
        """
        for undo in self._undo:
            undo()
        for name, parameter, version in self._parameters:
            if _version(parameter) != version:
                raise ModelError(
                    f"the network changes its own weights when it runs ({name!r}), so that no two looks are of the "
                    "same network: take that out of its forward, or do it in training mode only."
                )

    def _module(self, module: nn.Module, name: str, depth: int) -> None:
        if id(module) in self._seen:
            return
        self._seen.add(id(module))
        values = module.__dict__
        self._names(values, skip=lambda key: key in NOT_OF_FORWARD or key.startswith(OWN))
        for register in REGISTERS:
            if isinstance(values.get(register), dict):
                self._names(values[register])
        for key, value in [*values.items(), *values.get("_buffers", {}).items()]:
            if key not in REGISTERS and key not in NOT_OF_FORWARD and not key.startswith(OWN):
                self._value(value, f"{name}.{key}", depth + 1)

    def _names(self, values: dict[str, Any], skip: Callable[[str], bool] = lambda key: False) -> None:
        """Note which object goes by which name in a dict of attributes."""
        noted = {key: value for key, value in values.items() if not skip(key)}

        def undo() -> None:
            for key, value in noted.items():
                if values.get(key, _MISSING) is not value:
                    values[key] = value
            if len(values) > len(noted):
                for key in [key for key in values if key not in noted and not skip(key)]:
                    del values[key]

        self._undo.append(undo)

    def _value(self, value: Any, name: str, depth: int) -> None:
        """Note what is in a value that can change while its name stays."""
        if isinstance(value, PLAIN) or id(value) in self._seen or depth > DEEPEST:
            return
        if isinstance(value, nn.Module):
            self._module(value, name, depth)
            return
        self._seen.add(id(value))
        self._hold.append(value)
        if isinstance(value, Tensor):
            self._tensor(value, name)
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif (state := _generator(value)) is not None:
            self._undo.append(state)
        elif isinstance(value, tuple | frozenset):
            for i, part in enumerate(value):
                self._value(part, f"{name}[{i}]", depth + 1)
        elif isinstance(value, dict | list | set | bytearray) or type(value).__name__ == "deque":
            self._container(value, name, depth)
        elif isinstance(getattr(value, "__dict__", None), dict):
            inside = value.__dict__
            self._names(inside)
            for key, part in list(inside.items()):
                self._value(part, f"{name}.{key}", depth + 1)

    def _container(self, value: Any, name: str, depth: int) -> None:
        noted = list(value.items()) if isinstance(value, dict) else list(value)

        def undo() -> None:
            now = list(value.items()) if isinstance(value, dict) else list(value)
            if len(now) == len(noted) and all(map(_same, now, noted)):
                return
            value.clear()
            getattr(value, "update" if isinstance(value, dict | set) else "extend")(noted)

        self._undo.append(undo)
        for i, part in enumerate(noted):
            self._value(part[1] if isinstance(value, dict) else part, f"{name}[{i}]", depth + 1)

    def _tensor(self, tensor: Tensor, name: str) -> None:
        if tensor.is_meta or type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            return
        size = tensor.numel() * tensor.element_size()
        kept = None
        if size <= self._room and tensor.layout == torch.strided:
            self._room -= size
            kept = tensor.detach().clone()
        version = _version(tensor)

        def undo() -> None:
            nonlocal version
            if _version(tensor) == version and not tensor.is_inference():
                return
            if kept is None:
                raise ModelError(
                    f"the network writes into {name!r} when it runs, which is too large to be kept and put back: "
                    "take that out of its forward."
                )
            if tensor.is_inference() and torch.equal(tensor, kept):
                return
            with torch.no_grad():
                tensor.detach().copy_(kept)
            version = _version(tensor)

        self._undo.append(undo)

    def _array(self, array: "np.ndarray[Any, Any]") -> None:
        kept = array.copy()

        def undo() -> None:
            if array.flags.writeable and array.tobytes() != kept.tobytes():
                array[...] = kept

        self._undo.append(undo)


_MISSING = object()


def _same(one: Any, other: Any) -> bool:
    """Tell whether two entries of a container are the same object; of a dict, name and value."""
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other) == 2:
        return all(a is b for a, b in zip(one, other, strict=True))
    return one is other


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _generator(value: Any) -> Undo | None:
    """Return what puts a source of random numbers back; None for anything else."""
    if isinstance(value, torch.Generator):
        kept, generator = value.get_state(), value

        def again() -> None:
            generator.set_state(kept)

        return again
    if isinstance(value, random.Random):
        state = value.getstate()
        return lambda: value.setstate(state)
    if isinstance(value, np.random.RandomState):
        legacy = value.get_state()
        return lambda: value.set_state(legacy)
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator.state

        def undo() -> None:
            value.bit_generator.state = bits

        return undo
    return None
