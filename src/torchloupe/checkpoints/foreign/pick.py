"""Where in a foreign checkpoint the state dict is."""

from typing import Any

from torchloupe.checkpoints.foreign.inert import Inert, Strided, UnreadableError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
"""Keys under which training scripts put it, in the order they are tried."""
DEEP = 64


def pick(root: Any, trail: str = "") -> tuple[dict[str, Strided], str, int]:
    """Return the tensors of the state dict in `root`, where in it they are, and how many other entries it has.

    >>> from torchloupe.checkpoints.foreign.inert import Storage
    >>> tensor = Strided(Storage("0", "F32", 1), "F32", 0, (1,), (1,))
    >>> found, trail, ignored = pick({"epoch": 3, "state_dict": {"w": tensor, "note": "x"}})
    >>> list(found), trail, ignored
    (['w'], 'state_dict', 1)

    Raises:
        UnreadableError: there are several, none of them under a usual name.
    """
    entries = _entries(root)
    for name in WRAPPERS:
        if isinstance(entries.get(name), dict | Inert):
            found = pick(entries[name], f"{trail}.{name}".lstrip(".")) if trail.count(".") < 3 else ({}, "", 0)
            if found[0]:
                return found
    tensors = _tensors(entries)
    if tensors:
        return tensors, trail, len(entries) - len(tensors)
    inner = {n: _entries(v) for n, v in entries.items() if isinstance(n, str) and isinstance(v, dict | Inert)}
    filled = [name for name, value in inner.items() if _tensors(value)]
    if len(filled) > 1:
        names = ", ".join(map(repr, filled[:5]))
        raise UnreadableError(f"holds several sets of tensors ({names}). Save the one you mean alone")
    if filled:
        tensors = _tensors(inner[filled[0]])
        return tensors, f"{trail}.{filled[0]}".lstrip("."), len(inner[filled[0]]) - len(tensors)
    return {}, trail, 0


def _tensors(entries: dict[Any, Any]) -> dict[str, Strided]:
    return {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Strided)}


def _entries(value: Any) -> dict[Any, Any]:
    """Return a dict's or stand-in's entries; those of a whole pickled module are its state dict."""
    if isinstance(value, Inert):
        return value.items or _of_module(value.state, "", DEEP) or value.state
    return value if isinstance(value, dict) else {}


def _of_module(state: dict[Any, Any], prefix: str, deep: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    passing = state.get("_non_persistent_buffers_set")
    for group in ("_parameters", "_buffers"):
        for name, value in _dict(state.get(group)).items():
            if isinstance(value, Strided) and not (
                group == "_buffers" and isinstance(passing, set) and name in passing
            ):
                found[f"{prefix}{name}"] = value
    for name, child in _dict(state.get("_modules")).items():
        if isinstance(child, Inert) and deep:
            found |= _of_module(child.state, f"{prefix}{name}.", deep - 1)
    return found


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}
