"""Lets timm be imported beside a torch that no torchvision fits: names of torchvision that its networks never call."""

import enum
import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any

from torch import nn

KNOWN: dict[str, Any] = {
    "InterpolationMode": enum.Enum(
        "InterpolationMode", {n.upper(): n for n in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")}
    ),
    "FrozenBatchNorm2d": nn.BatchNorm2d,
}


class Missing:
    """Stands for anything of torchvision."""

    def __init__(self, *_: object, **__: object) -> None: ...


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        ours = name.split(".", maxsplit=1)[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if ours else None

    def create_module(self, spec: Any) -> types.ModuleType:
        made = types.ModuleType(spec.name)
        made.__path__ = []

        def find(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return KNOWN.setdefault(name, type(name, (Missing,), {}))

        made.__getattr__ = find  # type: ignore[method-assign]
        return made

    def exec_module(self, module: types.ModuleType) -> None: ...


def install() -> None:
    """Put the stub in torchvision's place, where that cannot be imported."""
    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except Exception:
        sys.meta_path.insert(0, _Finder())
