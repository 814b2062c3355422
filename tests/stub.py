"""Write src/torchloupe/__init__.pyi, the types of what `import torchloupe` offers: python tests/stub.py"""

import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union

import torchloupe
from torchloupe.inspection.catalog import ALL, Method, load_function
from torchloupe.inspection.signatures import TAKES, public_signature

STUB = Path(torchloupe.__file__).with_suffix(".pyi")
HEAD = '''"""Train an image classifier, test it, and look inside it.

Written by `make stub` from the signatures of the methods; a test compares it with them.
"""

{imports}

__all__ = {names}
__version__: str

_Model: TypeAlias = Subject | nn.Module | str | Path
_Image: TypeAlias = str | Path | PIL.Image.Image | np.ndarray[Any, Any] | Tensor | Images
"""One image or a batch: a file or folder, `test:0-15`, `samples`, a PIL image, an array `[h, w, 3]` or `[b, h, w, 3]`,
a tensor `[c, h, w]` or `[b, c, h, w]`; integers from 0 to 255, floats in [0, 1]."""
_Images: TypeAlias = _Image | Sequence[_Image]
_Data: TypeAlias = Dataset | Split | Tensor | str | Path
'''
ALWAYS = {
    "collections.abc": {"Sequence"},
    "pathlib": {"Path"},
    "typing": {"Any", "TypeAlias", "type_check_only"},
    "torch": {"Tensor", "nn"},
    ".": {"data as data", "errors as errors", "models as models"},
    "torchloupe.checkpoints.open": {"load as load"},
    "torchloupe.data.dataset": {"Dataset", "Split"},
    "torchloupe.inspection.inputs": {"Images"},
    "torchloupe.inspection.predictions": {"predict as predict"},
    "torchloupe.inspection.result": {"Result"},
    "torchloupe.inspection.subject": {"Subject"},
    "torchloupe.models.network": {"Network as Network", "wrap as wrap"},
    "torchloupe.reports.comparison.compare": {"compare as compare"},
    "torchloupe.reports.report": {"report as report"},
    "torchloupe.runtime.progress": {"Progress"},
    "torchloupe.training.callbacks": {
        "LightningRecorder as LightningRecorder",
        "TrainerRecorder as TrainerRecorder",
    },
    "torchloupe.training.recorder": {"Recorder as Recorder"},
}
NAMED = {"images": "_Images | None", "dataset": "_Data | None", "model": "_Model", "progress": "Progress | None"}


class Stub:
    """The text of the stub, and what it has to import."""

    def __init__(self) -> None:
        self.imports = {module: set(names) for module, names in ALWAYS.items()}

    def text(self) -> str:
        body = "".join(f"\n{self.result(row)}\n{self.function(row)}" for row in ALL)
        lines = ["import numpy as np", "import PIL.Image"]
        lines += [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self.imports.items())]
        names = torchloupe.__all__
        return HEAD.format(imports="\n".join(lines), names=names) + body

    def result(self, row: Method) -> str:
        """What a method returns: a `Result` with the fields of the method's own result."""
        own = result_of(row)
        lines = [f"    result: {self.type(own)}"]
        for name, kind in fields_of(own):
            lines += ["    @property", f"    def {name}(self) -> {self.type(kind)}: ..."]
        return "\n".join(["@type_check_only", f"class {class_name(row)}(Result):", *lines, ""])

    def function(self, row: Method) -> str:
        words = []
        for parameter in public_signature(row).parameters.values():
            kind = NAMED.get(parameter.name) or self.type(parameter.annotation)
            default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
            words.append(f"{parameter.name}: {kind}{default}")
            if parameter.name == "model":
                words.append("/")
            if parameter.name == (TAKES[row.takes] or "layer"):
                words.append("*")
        doc = inspect.cleandoc(load_function(row.compute).__doc__ or "").partition("\n>>>")[0].strip()
        body = textwrap.indent(f'"""{doc}\n"""', "    ", lambda line: bool(line.strip())).replace("\\", "\\\\")
        return f"def {row.function}({', '.join(words)}) -> {class_name(row)}:\n{body}\n"

    def type(self, kind: Any) -> str:
        """How a type is written."""
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if kind is None or kind is types.NoneType:
            return "None"
        if kind is Any:
            return "Any"
        if kind is Ellipsis:
            return "..."
        if hasattr(kind, "array_type"):
            self.imports.setdefault("jaxtyping", set()).add(kind.dtype.__name__)
            return f'{kind.dtype.__name__}[{self.type(kind.array_type)}, "{kind.dim_str}"]'
        if origin in (Union, types.UnionType):
            return " | ".join(sorted(dict.fromkeys(map(self.type, inner)), key=lambda word: word == "None"))
        if origin is Literal:
            self.imports["typing"].add("Literal")
            return f"Literal[{', '.join(map(repr, inner))}]"
        if origin is not None:
            return f"{self.type(origin)}[{', '.join(map(self.type, inner))}]"
        if kind.__module__ != "builtins":
            module = "torch" if kind.__name__ == "Tensor" else kind.__module__
            self.imports.setdefault(module, set()).add(kind.__name__)
        return str(kind.__name__)


def result_of(row: Method) -> type[Any]:
    """The dataclass that a method's function returns."""
    found: type[Any] = typing.get_type_hints(load_function(row.compute))["return"]
    return found


def fields_of(result: type[Any]) -> Iterator[tuple[str, Any]]:
    """Name and type of every public field and property of a method's result."""
    hints = typing.get_type_hints(result)
    yield from ((field.name, hints[field.name]) for field in dataclasses.fields(result))
    for name, value in vars(result).items():
        if isinstance(value, property) and not name.startswith("_"):
            getter: Callable[..., Any] = value.fget  # type: ignore[assignment]
            yield name, typing.get_type_hints(getter)["return"]


def class_name(row: Method) -> str:
    return f"_{''.join(part.title() for part in row.name.split('-'))}Result"


if __name__ == "__main__":
    STUB.write_text(Stub().text(), encoding="utf-8")
