"""What a run and each of its checkpoints say of themselves: one schema, of config.json and of every `.safetensors`.

The file may come from a stranger: every field is checked here, in one place, before anything is done with it. Whether
code that `model` names may run is for `models.trust` to say.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError, UsageError, short
from torchloupe.models import LARGEST
from torchloupe.runs.folder import CONFIG
from torchloupe.runtime.checks import (
    Fits,
    Schema,
    are_numbers,
    each,
    first_unfit,
    is_count,
    is_flag,
    is_int,
    is_number,
    is_object,
    is_text,
    none_or,
    within,
)
from torchloupe.runtime.files import read_json

SCHEMA = 1
MOST_CLASSES = 1_000_000
Reading = dict[str, Any]
"""What the user says of pictures so that they are read as meant: `window`, `labels`, `class_names`, or None of each."""
LONGEST_KEY = 200
"""Of a key of a network's output, in letters."""


@dataclass(frozen=True)
class Config:
    """What a checkpoint says of itself; the same words as `config.json` of a run."""

    model: str
    """A name from `torchloupe.models`, `package.module:factory` or `file.py:factory`."""
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    size: int | None
    """Side of the pictures it was trained on; None where they were not square."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the network's factory."""
    data: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    schema: int = SCHEMA
    output: str | int | None = None
    """Which part of the network's output holds the classes: a key or an index; None where it is plain."""
    multilabel: bool = False
    """Each class is there or not by itself."""

    @property
    def window(self) -> tuple[float, float] | None:
        """The values that are black and white in its pictures, where those have more than 8 bits."""
        found = (self.data or {}).get("window")
        return None if found is None else (found[0], found[1])

    @property
    def reading(self) -> Reading:
        """How its pictures were read: what `data.load` has to be given again, by name."""
        told = self.data or {}
        return {"window": self.window, "labels": told.get("labels"), "class_names": told.get("class_names")}


def read_config(run: Path) -> Config:
    """Read what a run says of itself.

    Raises:
        ModelError: it cannot be read, or is damaged.

    >>> read_config(Path("nowhere"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: cannot read 'nowhere/config.json': No such file...
    """
    return parse_config(read_json(run / CONFIG), run / CONFIG)


def parse_config(values: Any, source: str | Path) -> Config:
    """Return what parsed JSON says, checked; keys of later versions are ignored.

    Raises:
        ModelError: a key is missing or not what it should be, or the schema is newer than this package.

    >>> parse_config({"model": "loupe", "classes": ["a", "b"], "mean": [-1], "std": [1], "size": 32}, "a.safetensors")
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: the description in 'a.safetensors' is damaged: its 'mean' is '[-1]', not ...
    """
    said = f"the description in {short(source, 250)}"
    if not is_object(values) or not is_int(schema := values.get("schema", SCHEMA)):
        raise ModelError(f"{said} is damaged. Was it made by torchloupe?")
    if schema > SCHEMA:
        raise ModelError(f"{said} has schema {short(schema)}, newer than {SCHEMA}: update torchloupe.")
    missing = [name for name in ("model", "classes", "mean", "std", "size") if name not in values]
    if missing:
        raise ModelError(f"{said} is not whole: {', '.join(missing)} missing. Was it made by torchloupe?")
    inside: dict[str, tuple[dict[str, Any], Schema]] = {"": (values, CHECKS)}
    for name, schema_of in (("data", DATA), ("training", TRAINING)):
        if is_object(values.get(name)):
            inside[f"{name}."] = (values[name], schema_of)
    for where, (found, checks) in inside.items():
        if unfit := first_unfit(found, checks):
            name, wanted = unfit
            raise ModelError(
                f"{said} is damaged: its '{where}{name}' is {short(found[name])}, not {wanted}. "
                "Was it made by torchloupe?"
            )
    if (values["mean"] is None) != (values["std"] is None) or len(values["mean"] or ()) != len(values["std"] or ()):
        raise ModelError(f"{said} is damaged: mean and std do not go together. Was it made by torchloupe?")
    known = {name: values[name] for name in Config.__dataclass_fields__ if name in values}
    for name in ("classes", "mean", "std"):
        known[name] = tuple(known[name]) if isinstance(known[name], list) else known[name]
    return Config(**known)


def is_recorded(run: Path) -> bool:
    """Tell whether a run was recorded from a training that torchloupe did not do itself.

    >>> is_recorded(Path("nowhere"))
    False
    """
    try:
        return bool((read_config(run).training or {}).get("recorded"))
    except ModelError:
        return False


def check_own(run: Path) -> None:
    """Refuse to go on with a training that was only recorded: there is no state of it.

    Raises:
        UsageError: it was.

    >>> check_own(Path("nowhere"))
    """
    if is_recorded(run):
        raise UsageError(
            f"'{run}' was recorded from a training of your own, which torchloupe cannot go on with. "
            f"Train from its weights instead: --weights {run} and another --out."
        )


def _each_of(low: float, high: float) -> Fits:
    return lambda value: are_numbers(value) and all(low <= number <= high for number in value)


def is_window(value: Any) -> bool:
    """Tell whether a value of a file is a window: two numbers, the lower first.

    >>> is_window([0, 4095]), is_window([1, 1]), is_window("ab")
    (True, False, False)
    """
    return are_numbers(value) and len(value) == 2 and bool(value[0] < value[1])


def is_part(value: Any) -> bool:
    """Tell whether a value of a file names a part of a network's output: a short key, or an index.

    >>> is_part("out"), is_part(-1), is_part(None)
    (True, True, False)
    """
    return (is_text(value) and len(value) <= LONGEST_KEY) or (is_int(value) and abs(value) <= LONGEST_KEY)


def _are_classes(value: Any) -> bool:
    return each(value, is_text) and len(set(value)) == len(value) <= MOST_CLASSES


CHECKS: Schema = {
    "model": (is_text, "the name of a network"),
    "classes": (_are_classes, "a list of different names"),
    "mean": (none_or(_each_of(0, 1)), "numbers from 0 to 1 or null"),
    "std": (none_or(_each_of(math.ulp(0), 1)), "numbers above 0, up to 1, or null"),
    "size": (none_or(within(1, LARGEST)), f"a whole number from 1 to {LARGEST}, or null"),
    "arguments": (is_object, "arguments by name"),
    "data": (none_or(is_object), "what its data were, or null"),
    "training": (none_or(is_object), "settings by name, or null"),
    "output": (lambda v: v is None or is_part(v), "a key, an index or null"),
    "multilabel": (is_flag, "true or false"),
}
"""Of each field whether it is what it should be, and what that is."""

DATA: Schema = {
    "name": (is_text, "a text"),
    "source": (none_or(is_text), "a text or null"),
    "crc32": (none_or(is_text), "a text or null"),
    "train": (is_count, "a number of images"),
    "test": (is_count, "a number of images"),
    "window": (lambda v: v is None or is_window(v), "two numbers, the lower first, or null"),
    "labels": (none_or(is_text), "a path or null"),
    "class_names": (none_or(is_text), "a path or null"),
}
TRAINING: Schema = {
    "model": (is_text, "the name of a network"),
    "epochs": (is_number, "a number"),
    "batch": (none_or(is_count), "a whole number or null"),
    "seed": (is_int, "a whole number"),
    "holdout": (is_number, "a number"),
    "optimizer": (is_text, "a text"),
    "streams": (within(1, 2), "1 or 2"),
    "weights": (none_or(is_text), "a text or null"),
    "recorded": (is_flag, "true or false"),
}
"""What others than the training itself read of its settings; `training.config.restore` checks them all."""
