"""Reading what `torch.save` wrote without running any of it: no torch, no import, nothing but inert stand-ins.

A pickle is a program: it names functions and classes, and calls them. Here every name but a few is
answered with `Inert`, which swallows what it is given; those few (tensors, parameters, dicts, sets)
are answered with stand-ins of our own that only write down what was said. So a file with classes
that are not installed is read like any other, and a hostile one has nothing to call.
`torch.load(weights_only=True)` promises the same and has been broken twice (CVE-2025-32434,
CVE-2026-24747); this reads less, in plain Python, and checks that each tensor lies inside its bytes.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torchloupe.checkpoints.foreign.kinds import DTYPES, STORAGES, WIDTHS


class UnreadableError(Exception):
    """What is wrong with the file, as the end of a sentence: "it …"."""


@dataclass(frozen=True)
class Kind:
    """A storage class or a dtype, by the name that safetensors uses."""

    dtype: str


@dataclass(frozen=True)
class Storage:
    """Elements that tensors are views of; `shift` is where a view of an older storage begins."""

    key: str
    dtype: str
    length: int
    shift: int = 0


@dataclass(frozen=True)
class Strided:
    """A tensor: which elements of which storage."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Inert:
    """Stands in for anything unknown: takes any call, item or state, and does nothing with it.

    Having `__setstate__` also stops a pickle from setting attributes of the class itself.

    >>> thing = Inert("any", arguments=True)("at all")
    >>> thing.__setstate__({"a": 1})
    >>> thing.state
    {'a': 1}
    """

    __slots__ = ("items", "state")
    items: dict[Any, Any]
    state: dict[Any, Any]

    def __new__(cls, *arguments: object, **options: object) -> "Inert":
        self = object.__new__(cls)
        self.items, self.state = {}, {}
        return self

    def __call__(self, *arguments: object, **options: object) -> "Inert":
        return Inert()

    def __setstate__(self, state: object) -> None:
        first = state[0] if isinstance(state, tuple) and state else state
        self.state = first if isinstance(first, dict) else {}

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value

    def extend(self, values: object) -> None:
        """Do nothing; as do `append` and `add`."""

    append = add = extend


class Plain(dict[Any, Any]):
    """Stands in for OrderedDict; the attributes that torch hangs on one are dropped."""

    def __setstate__(self, state: object) -> None: ...


class Maker:
    """A function that a pickle may call, with no attribute that it could set."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a function has no state")


def strided(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Strided:
    """Write down a tensor, having checked that it lies inside its storage.

    >>> strided(Storage("0", "F32", 4), 1, (3,), (1,)).size
    (3,)
    >>> strided(Storage("0", "F32", 4), 2, (3,), (1,))
    Traceback (most recent call last):
    ...
    _pickle.UnpicklingError: a tensor reaches beyond its data
    """
    return _view(storage, storage.dtype if isinstance(storage, Storage) else "", offset, size, stride)


def _strided_v3(*told: Any) -> Any:
    storage, offset, size, stride, _, _, dtype, *_ = told
    return _view(storage, dtype.dtype, offset, size, stride) if isinstance(dtype, Kind) else Inert()


def _view(storage: Any, dtype: str, offset: Any, size: Any, stride: Any) -> Strided:
    if not isinstance(storage, Storage) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor in an unknown form")
    numbers = [offset, *size, *stride]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor of an unknown shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * WIDTHS[dtype] > storage.length * WIDTHS[storage.dtype]:
        raise pickle.UnpicklingError("a tensor reaches beyond its data")
    return Strided(storage, dtype, offset, tuple(size), tuple(stride))


def _retyped(function: Any, kind: Any, arguments: Any, *state: Any) -> Any:
    return function(*arguments) if isinstance(function, Maker) else Inert()


def _words(values: Any = ()) -> set[str]:
    return {value for value in values if isinstance(value, str)}


def _first(first: Any, *rest: Any) -> Any:
    return first


ADMITTED: dict[str, Any] = {
    "collections.OrderedDict": Plain,
    "torch.Size": Maker(tuple),
    "builtins.set": Maker(_words),
    "__builtin__.set": Maker(_words),
    "torch._utils._rebuild_tensor": Maker(strided),
    "torch._utils._rebuild_tensor_v2": Maker(strided),
    "torch._utils._rebuild_tensor_v3": Maker(_strided_v3),
    "torch._utils._rebuild_parameter": Maker(_first),
    "torch._utils._rebuild_parameter_with_state": Maker(_first),
    "torch._tensor._rebuild_from_type": Maker(_retyped),
    "torch._tensor._rebuild_from_type_v2": Maker(_retyped),
}


class InertUnpickler(pickle._Unpickler):
    """Unpickles into the stand-ins above; notes the storages that the tensors need, and the unknown names.

    The one in Python: that in C sets aside as much memory as a damaged file asks for.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, encoding="latin1")
        self.unknown: set[str] = set()
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Answer a name without importing it."""
        if (known := ADMITTED.get(f"{module}.{name}")) is not None:
            return known
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES:
            return Kind(STORAGES[name])
        if module == "torch" and name in DTYPES:
            return Kind(DTYPES[name])
        self.unknown.add(f"{module}.{name}")
        return Inert

    def persistent_load(self, saved: Any) -> Any:
        """Answer a reference to a tensor's data: ("storage", kind, key, device, length[, view])."""
        match saved:
            case ("module", kind, *_):
                return kind
            case ("storage", Kind(dtype), str(key), _, int(length), *view) if length >= 0:
                root = self.storages.setdefault(key, Storage(key, dtype, length))
                match view:
                    case [(_, int(shift), int(part))] if min(shift, part) >= 0 and shift + part <= root.length:
                        return Storage(key, dtype, part, shift)
                    case [] | [None] if (dtype, length) == (root.dtype, root.length):
                        return root
        raise pickle.UnpicklingError("a reference in an unknown form")
