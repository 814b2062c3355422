"""From `package.module:factory` or `file.py:factory` to the Python object of that name, and to where its code lies.

`find_source` and `source_files` run nothing; `resolved` does, and is called only with what the user vouches for.
"""

import ast
import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from torchloupe.errors import ModelError, did_you_mean
from torchloupe.runtime.files import read_file

_SIBLINGS: dict[str, Path] = {}
"""Modules that a user's folder brought in, so that another folder's of the same name is not taken for it."""


def is_reference(text: str) -> bool:
    """Tell a reference to someone's own network from the name of one of ours.

    >>> is_reference("nets/mine.py:Net"), is_reference("timm.models:resnet18"), is_reference("study")
    (True, True, False)
    """
    return ":" in text or text.endswith(".py")


NOWHERE = "<made in Python>"
"""Stands for the file of a network that no reference leads to: one made of parts, or by arguments that nobody knows."""


def is_nameless(reference: str) -> bool:
    """Tell whether a reference only says what a network is called, and not where its code lies.

    >>> is_nameless("<made in Python>:Sequential"), is_nameless("net.py:Net")
    (True, False)
    """
    return reference.startswith(f"{NOWHERE}:")


def reference_of(kind: type) -> str:
    """Return the reference that leads to a class; one that is nameless where none does.

    A class of a single file is named by that file, so that the reference means the same from every folder.

    >>> reference_of(ast.NodeVisitor).endswith("ast.py:NodeVisitor"), reference_of(importlib.machinery.PathFinder)
    (True, '...:PathFinder')
    """
    module, name = kind.__module__, kind.__qualname__
    file = real_path(getattr(sys.modules.get(module), "__file__", None) or "")
    if not all(part.isidentifier() for part in name.split(".")) or (module == "__main__" and file is None):
        return f"{NOWHERE}:{kind.__name__}"
    alone = file is not None and file.suffix == ".py" and file.name != "__init__.py" and "." not in module
    return f"{file}:{name}" if alone else f"{module}:{name}"


def absolute(reference: str) -> str:
    """Return a reference that means the same from every folder; a name stays as it is.

    >>> absolute("timm:create_model"), absolute("loupe"), Path(absolute("net.py:Net")).is_absolute()
    ('timm:create_model', 'loupe', True)
    """
    path, _, name = reference.rpartition(":")
    if not is_reference(reference) or not path.endswith(".py"):
        return reference
    try:
        return f"{Path(path).expanduser().resolve()}:{name}"
    except (OSError, ValueError, RuntimeError):  # no path at all
        return reference


def split_reference(reference: str) -> tuple[str, str]:
    """Return the module or file, and the dotted name inside it; a drive letter stays with its path.

    Raises:
        ModelError: it is not of that form.

    >>> split_reference(r"C:\\nets\\v1.2\\mine.py:make")
    ('C:\\\\nets\\\\v1.2\\\\mine.py', 'make')
    """
    source, _, name = reference.rpartition(":")
    dotted = name if source.endswith(".py") else f"{source}.{name}"
    if not source or name.endswith(".py") or not all(part.isidentifier() for part in dotted.split(".")):
        raise ModelError(
            f"{reference!r} does not say which network: write package.module:factory or file.py:factory, "
            "the factory being a class or function that gives it."
        )
    return source, name


def find_source(reference: str) -> tuple[Path, Path | None] | None:
    """Return the file that a reference means and, where it is the user's own, the folder that it imports from.

    Nothing is imported, the packages around a dotted name neither. The folder is None for installed packages.
    None where there is no such file.

    >>> find_source("json.decoder:JSONDecoder")[0].name, find_source("nowhere.py:Net")
    ('decoder.py', None)
    """
    source, _ = split_reference(reference)
    if source.endswith(".py"):
        path = real_path(source)
        return (path, path.parent) if path is not None else None
    top, *rest = source.split(".")
    here = Path.cwd()
    path = _below([here], [top, *rest])
    if path is not None:
        return path, here
    for finder in sys.meta_path:
        with suppress(Exception):  # a broken finder of some package finds nothing
            spec = finder.find_spec(top, None)
            if spec is None:
                continue
            if rest:
                path = _below(map(Path, spec.submodule_search_locations or ()), rest)
            elif spec.origin is not None:
                path = real_path(spec.origin)
            return (path, None) if path is not None else None
    return None


def real_path(text: str | Path) -> Path | None:
    """Return the absolute path of a file that is there; None for whatever else a text may be.

    >>> real_path("no such file") is None
    True
    """
    try:
        path = Path(text).expanduser().resolve()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def source_files(reference: str) -> list[Path]:
    """Return the file that a reference means and those that it imports from its own folder, in any depth.

    Read from the import statements; nothing is run. Of an installed package it is the one file.

    >>> [path.name for path in source_files("json.decoder:JSONDecoder")]
    ['decoder.py']
    """
    where = find_source(reference)
    if where is None:
        return []
    first, folder = where
    found, waiting = [first], [first] if folder else []
    while waiting:
        for path in _imported_by(waiting.pop(), folder or Path()):
            if path not in found:
                found.append(path)
                waiting.append(path)
    return found


def _imported_by(path: Path, folder: Path) -> Iterator[Path]:
    """Yield the files in a folder that a file's import statements mean, with the packages around them."""
    try:
        tree = ast.parse(read_file(path))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        names: list[list[str]] = []
        base = folder
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else folder
            module = node.module.split(".") if node.module else []
            names = [module, *([*module, alias.name] for alias in node.names)]
        for name in names:
            for end in range(1, len(name) + 1):
                found = _below([base], name[:end])
                if found is not None:
                    yield found


def _below(folders: Iterable[Path], parts: list[str]) -> Path | None:
    """Return the file of a dotted name under the first folder that has it."""
    for folder in folders:
        stem = folder.joinpath(*parts)
        candidates = [stem / "__init__.py", *(stem.with_name(f"{stem.name}{end}") for end in _ENDINGS)]
        for path in candidates:
            if found := real_path(path):
                return found
    return None


_ENDINGS = [*importlib.machinery.SOURCE_SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES]


@contextmanager
def resolved(reference: str) -> Iterator[Any]:
    """Give the object that a reference names; a folder of the user's own that it lies in is importable meanwhile.

    This imports the code that the reference names: what a file says must have passed `trust.permitted`.

    Raises:
        ModelError: no such file, module or name, or it fails when it is imported.

    >>> with resolved("collections:OrderedDict") as found:
    ...     found.__name__
    'OrderedDict'
    """
    source, name = split_reference(reference)
    path = Path(source).expanduser() if source.endswith(".py") else None
    folder = path.resolve().parent if path else Path.cwd()
    if path and real_path(path) is None:
        near = [p.name for p in folder.glob("*.py")] if folder.is_dir() else []
        raise ModelError(f"no such file: '{path}'{did_you_mean(path.name, near) or '.'} Check the path of the network.")
    where = find_source(reference)
    own = folder if path else where[1] if where else None  # an installed package needs no folder beside the caller
    with _importable(own):
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
def _importable(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
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
    main = sys.modules.get("__main__")
    if main is not None and (file := getattr(main, "__file__", None)) and Path(file).resolve() == path:
        return main  # the script that is running: a second time would run it in itself
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
