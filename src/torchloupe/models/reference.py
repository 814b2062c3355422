"""From `package.module:factory` or `file.py:factory` to the Python object of that name."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torchloupe.errors import ModelError, did_you_mean

_SIBLINGS: dict[str, Path] = {}
"""Modules that a user's folder brought in, so that another folder's of the same name is not taken for it."""


def is_reference(text: str) -> bool:
    """Tell a reference to someone's own network from the name of one of ours.

    >>> is_reference("nets/mine.py:Net"), is_reference("timm.models:resnet18"), is_reference("study")
    (True, True, False)
    """
    return ":" in text or text.endswith(".py")


def absolute(reference: str) -> str:
    """Return a reference that means the same from every folder; a name stays as it is.

    >>> absolute("timm:create_model"), absolute("loupe"), Path(absolute("net.py:Net")).is_absolute()
    ('timm:create_model', 'loupe', True)
    """
    path, _, name = reference.rpartition(":")
    return f"{Path(path).resolve()}:{name}" if is_reference(reference) and path.endswith(".py") else reference


def split_reference(reference: str) -> tuple[str, str]:
    """Return the module or file, and the dotted name inside it; a drive letter stays with its path.

    Raises:
        ModelError: it is not of that form.

    >>> split_reference(r"C:\\nets\\v1.2\\mine.py:make")
    ('C:\\\\nets\\\\v1.2\\\\mine.py', 'make')
    """
    source, _, name = reference.rpartition(":")
    if not source or name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise ModelError(
            f"{reference!r} does not say which network: write package.module:factory or file.py:factory, "
            "the factory being a class or function that gives it."
        )
    return source, name


@contextmanager
def resolved(reference: str) -> Iterator[Any]:
    """Give the object that a reference names; its folder (or the current one) is importable meanwhile.

    Raises:
        ModelError: no such file, module or name, or it fails when it is imported.

    >>> with resolved("collections:OrderedDict") as found:
    ...     found.__name__
    'OrderedDict'
    """
    source, name = split_reference(reference)
    path = Path(source).expanduser() if source.endswith(".py") else None
    folder = path.resolve().parent if path else Path.cwd()
    if path and not path.is_file():
        near = [p.name for p in folder.glob("*.py")] if folder.is_dir() else []
        raise ModelError(f"no such file: '{path}'{did_you_mean(path.name, near) or '.'} Check the path of the network.")
    with _importable(folder):
        found: Any = _import_file(path) if path else _import_module(source)
        for part in name.split("."):
            known = [n for n in dir(found) if not n.startswith("_")]
            if not hasattr(found, part):
                raise ModelError(
                    f"'{source}' has no {name!r}{did_you_mean(part, known) or '.'} Check the part after ':'."
                )
            found = getattr(found, part)
        yield found


def one_line(error: BaseException, path: Path | None = None) -> str:
    """Return what went wrong in one line, with the line of `path` where it did.

    >>> one_line(ValueError("no\\n  good"))
    'ValueError: no good'
    """
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if path and Path(f.filename) == path]
    return f"{text[:300]} (line {frames[-1].lineno})" if frames else text[:300]


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    for name in [name for name, home in _SIBLINGS.items() if home != folder]:
        sys.modules.pop(name, None)
        del _SIBLINGS[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).parent == folder:
                _SIBLINGS[name] = folder


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    name = f"torchloupe_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"'{path}' cannot be imported: it is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(f"'{path}' fails when it is imported: {one_line(error, path)}. Mend it and retry.") from error
    return module


def _import_module(source: str) -> ModuleType:
    try:
        return importlib.import_module(source)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{source}.".startswith(f"{error.name}.")
        if missing:
            advice = "Install it, or write the file's path: file.py:factory"
            raise ModelError(f"no module {source!r}. {advice}.") from error
        raise ModelError(f"{source!r} fails when it is imported: {one_line(error)}. Mend it and retry.") from error
