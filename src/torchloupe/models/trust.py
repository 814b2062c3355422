"""Whose code may run. A file may name code; only its user makes it run.

A checkpoint, a run's `config.json`, a picture's JSON or a TOML of settings comes from anyone, and each can say
`net.py:Net`. `permitted` stands between such a file and that code: it lets pass our own networks, what the user names
now, what this user's machine remembers from a training or from being named before, and what this very process has
imported. What was run is remembered by absolute path and by digests of the file and of what it imports from its own
folder, in the user's state folder: never beside the file, where its author could write it.
"""

import hashlib
import inspect
import json
import os
import re
import sys
import types
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torchloupe.errors import LONGEST, ChangedCodeWarning, ModelError, ResourceError, short
from torchloupe.models.reference import (
    absolute,
    find_source,
    is_nameless,
    is_reference,
    real_path,
    resolved,
    source_files,
    split_reference,
)
from torchloupe.runtime.files import atomic_write, read_file

PLAIN = re.compile(r"[\w./\\:~ -]+")
"""References that are safe to paste into a shell; others are not offered as advice."""
NOT_THE_USERS = ("torch", "torchloupe")
"""Packages that this process imports by itself, so that their being there says nothing of the user's will."""


def permitted(
    reference: str,
    source: str | Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    given: str | None = None,
) -> str:
    """Return the network to build for what the file `source` names: a name of ours, or code that may run.

    `given` is what the user named for it (`--model`, `model=`); it goes before what the file says. `arguments` come
    from the file and go to the network's factory.

    Raises:
        ModelError: the file names code that nobody vouched for.

    >>> permitted("resnet20", "a.safetensors")
    'resnet20'
    >>> permitted("os:system", "a.safetensors")
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: 'a.safetensors' was trained with 'os:system', which is code...
    """
    if given is not None:
        if arguments and is_reference(given) and recall(given, arguments) is None:
            check_maker(given)
        known_by = is_reference(reference) and not is_nameless(reference)
        if known_by and is_reference(given) and find_source(reference) is None:
            _note(reference, given, arguments)  # moved since: named once is enough
        return absolute(given)
    if not is_reference(reference):
        return reference
    if is_nameless(reference):
        raise ModelError(
            f"{short(str(source))} was recorded of a network made in Python, {short(reference.rpartition(':')[2])}: "
            "give --model FILE.py:NAME, a class or function that makes it (model= in Python, or run= of the report)."
        )
    known = recall(reference, arguments)
    if known is not None:
        if known["files"] and find_source(known["reference"]) is None:
            raise ModelError(
                f"{short(str(source))} was trained with {short(reference)}, and that file is gone: "
                "give --model FILE.py:NAME, where it lies now (model= in Python)."
            )
        _tell_changes(known)
        return str(known["reference"])
    if not arguments and _is_in_this_process(reference):
        return absolute(reference)
    example = reference if PLAIN.fullmatch(reference) and len(reference) <= LONGEST else "FILE.py:NAME"
    raise ModelError(
        f"{short(str(source))} was trained with {short(reference)}, which is code, and no file makes code run here: "
        f"give --model {example} if you trust it (model= in Python)."
    )


def remember(reference: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Note that the user's own will ran this code, as it is now; does nothing where no note can be kept.

    >>> remember("net.py:Net")
    """
    _note(reference, reference, arguments)


def recall(reference: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Return what is noted of a reference: `reference` to run and `files` with their digests; None if nothing is.

    >>> recall("never/seen.py:Net") is None
    True
    """
    path = _place(reference, arguments)
    if path is None:
        return None
    with suppress(OSError, ValueError):
        known = json.loads(read_file(path))
        if isinstance(known, dict) and isinstance(known.get("reference"), str) and isinstance(known.get("files"), dict):
            return known
    return None


def state_folder() -> Path:
    """Return where the user's machine remembers: `TORCHLOUPE_STATE`, else the system's place for a user's state.

    >>> state_folder().is_absolute()
    True
    """
    chosen = os.environ.get("TORCHLOUPE_STATE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_state_path

    return user_state_path("torchloupe")


def check_maker(reference: str) -> None:
    """Refuse code that is not a network or said to give one, before anything from a file goes to it.

    Raises:
        ModelError: it is neither a `torch.nn.Module`, nor a class of them, nor a function that says it returns one.

    >>> check_maker("torch.nn:Linear")
    >>> check_maker("os:system")
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: 'os:system' is not a torch.nn.Module, nor a function that says it returns one...
    """
    with resolved(reference) as found:
        check_made(found, reference)


def check_made(found: object, reference: str) -> None:
    """Refuse an object in the same way.

    Raises:
        ModelError: as `check_maker`.

    >>> from torch import nn
    >>> check_made(nn.Linear, "torch.nn:Linear")
    """
    if not makes_networks(found):
        raise ModelError(
            f"{short(reference)} is not a torch.nn.Module, nor a function that says it returns one: it gets no "
            "arguments from a file. Write `-> nn.Module` behind its parameters, or name the class."
        )


def makes_networks(found: object) -> bool:
    """Tell whether an object is a network, a class of networks, or a function whose annotation promises one.

    >>> from torch import nn
    >>> def make(classes: int) -> nn.Module: ...
    >>> makes_networks(make), makes_networks(nn.Linear), makes_networks(os.system)
    (True, True, False)
    """
    from torch import nn

    if isinstance(found, nn.Module) or _is_a_network_class(found):
        return True
    if not isinstance(found, types.FunctionType):
        return False
    promised = found.__annotations__.get("return")
    if isinstance(promised, str):  # `from __future__ import annotations`: looked up, never evaluated
        head, *rest = promised.split(".")
        promised = found.__globals__.get(head)
        for part in rest:
            promised = vars(promised).get(part) if isinstance(promised, type | types.ModuleType) else None
    return _is_a_network_class(promised)


def _is_a_network_class(found: object) -> bool:
    from torch import nn

    return isinstance(found, type) and issubclass(found, nn.Module)


def _place(reference: str, arguments: Mapping[str, Any] | None) -> Path | None:
    """Return the file that notes a reference; None where it does not say which code it means."""
    try:
        source, name = split_reference(absolute(reference))
    except ModelError:
        return None
    if not source.endswith(".py") and (where := find_source(reference)):
        source = str(where[0])
    key = json.dumps([source, name, dict(arguments or {})], sort_keys=True, default=repr)
    return state_folder() / "networks" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _note(reference: str, given: str, arguments: Mapping[str, Any] | None) -> None:
    place = _place(reference, arguments)
    if place is None:
        return
    known = {"reference": absolute(given), "files": _digests(given)}
    if recall(reference, arguments) != known:
        with suppress(OSError, ResourceError):  # a state folder that cannot be written stops nothing
            atomic_write(place, json.dumps(known, indent=1, sort_keys=True).encode())


def _digests(reference: str) -> dict[str, str]:
    found = {}
    for path in source_files(reference):
        with suppress(OSError):
            found[str(path)] = hashlib.sha256(read_file(path)).hexdigest()
    return found


def _tell_changes(known: dict[str, Any]) -> None:
    now = _digests(known["reference"])
    changed = [path for path in {**known["files"], **now} if known["files"].get(path) != now.get(path)]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        text = f"{short(str(changed[0]))}{more} changed since torchloupe ran it last; it runs as it is now."
        warnings.warn(text, ChangedCodeWarning, stacklevel=2)


def _is_in_this_process(reference: str) -> bool:
    """Tell whether this process itself imported or defined a network of that name (looked up, nothing is run)."""
    source, name = split_reference(reference)
    modules: list[Any] = [sys.modules.get(source)]
    if source.endswith(".py"):
        path = real_path(source)
        modules = [module for module in list(sys.modules.values()) if path is not None and _file_of(module) == path]
    for module in modules:
        found: Any = module
        for part in name.split("."):
            found = inspect.getattr_static(found, part, None)
        found = found.__func__ if isinstance(found, staticmethod | classmethod) else found
        home = found if isinstance(found, type | types.FunctionType) else type(found)
        if makes_networks(found) and home.__module__.partition(".")[0] not in NOT_THE_USERS:
            return True
    return False


def _file_of(module: Any) -> Path | None:
    file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
    return real_path(file) if isinstance(file, str) else None
