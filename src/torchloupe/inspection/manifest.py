"""What stands in the JSON beside an image: all that is needed to make it again. Written by `save`, read by `repeat`.

The file may come from a stranger: every field is checked here, in one place, before anything is done with it. Code that
`model` names runs only where `models.trust` permits it.
"""

import math
import os
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import UnionType
from typing import Any, get_type_hints

import numpy as np
from torch import Tensor

from torchloupe.checkpoints.open import SHIPPED
from torchloupe.errors import LoupeError, ModelError, UsageError, short
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.catalog import ALL, Method, Setting
from torchloupe.inspection.inputs import is_from_data
from torchloupe.models import LARGEST
from torchloupe.models.reference import is_reference
from torchloupe.models.trust import PLAIN
from torchloupe.runs.config import is_part
from torchloupe.runs.folder import MOST_THREADS
from torchloupe.runtime.checks import (
    Schema,
    are_numbers,
    each,
    first_unfit,
    is_flag,
    is_int,
    is_number,
    is_object,
    is_text,
    none_or,
    within,
)
from torchloupe.runtime.files import read_json, write_json

EACH_IMAGE = "each_image"
"""Key of `channels` that name one channel for each image: a tensor `[b]`, where a list means all of them together."""
MOST_COLUMNS = 4096
MOST = 1_000_000
"""Of any number that a method takes: what asks for more than that is no picture that somebody made."""
SEEDS = 2**63


@dataclass(frozen=True)
class Manifest:
    """One result: what was asked of which network, and what was written. Paths are relative to the JSON's folder."""

    method: str
    model: str | None
    """MODEL; None for a network made in code."""
    model_options: dict[str, Any]
    """What `open_model` is told of a network of the user's own."""
    title: str
    """What captions call the network."""
    weights: str
    """Sixteen digits of the weights' digest."""
    layer: str
    channels: Any
    """None for all, a number, a list, or `{"each_image": [...]}`."""
    data: str | None
    pictures: list[str] | None
    """Words that name the images; None where they came as tensors: then they are `inputs` in the safetensors file."""
    names: list[str] | None
    """What each image is called: its file."""
    started_from_pictures: bool
    seed: int
    settings: dict[str, Any]
    environment: dict[str, Any]
    look: dict[str, Any]
    """Settings of `FigureStyle`."""
    files: list[str]
    """Names of the images that were written, beside the JSON."""
    labels: list[str | None] | None = None
    """The class of each image, where it is known."""
    told: dict[str, Any] = field(default_factory=dict)
    """What captions say beside the settings."""
    numbers: dict[str, Any] = field(default_factory=dict)
    torchloupe: str = ""
    """The version that wrote it."""
    crc32: str | None = None
    """Checksum of the data that the images are of, where it was noted: in a report."""
    report: str | None = None
    """Title of the report that it was saved from."""

    def write(self, path: Path) -> None:
        """Write the JSON."""
        write_json(path, {each.name: getattr(self, each.name) for each in fields(self)})


NEEDED = frozenset(each.name for each in fields(Manifest) if each.default is each.default_factory is MISSING)
"""What every such JSON holds, those of earlier versions too."""


def read_manifest(file: Path, model: str | None = None) -> Manifest:
    """Read the JSON beside an image; `model`: the MODEL that one saved from a report is of, which does not say it.

    Raises:
        ModelError: there is none, it is not such a JSON, or one of its fields is not what it should be.

    >>> read_manifest(Path("nothing.json"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: no file 'nothing.json': name the .json beside a picture.
    """
    if not file.is_file():
        raise ModelError(f"no file '{file}': name the .json beside a picture.")
    return parse_manifest(read_json(file), file, model)


def parse_manifest(values: Any, file: Path, model: str | None = None) -> Manifest:
    """Return what a JSON holds, checked; what earlier versions called otherwise has today's name.

    Raises:
        ModelError: as `read_manifest`.

    >>> parse_manifest([], Path("a.json"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: 'a.json' does not describe a picture of torchloupe. Name the .json beside one.
    """
    if isinstance(values, dict) and isinstance(values.get("report"), str) and "files" not in values:
        if model is None or not isinstance(values.get("again"), dict):
            raise ModelError(_of_a_report(values, file))
        values = _completed(values, model, file)
    if not isinstance(values, dict) or not values.keys() >= NEEDED:
        raise ModelError(f"'{file}' does not describe a picture of torchloupe. Name the .json beside one.")
    known = {each.name: values[each.name] for each in fields(Manifest) if each.name in values}
    if unfit := first_unfit(known, CHECKS):
        raise _damaged(file, unfit[0], known[unfit[0]], unfit[1])
    row = next((row for row in ALL if known["method"] in (row.name, row.function)), None)
    if row is None:
        raise _damaged(file, "method", known["method"], f"one of {', '.join(row.name for row in ALL)}")
    known["settings"] = _settings(known, row, file)
    try:
        FigureStyle(**known["look"])
    except LoupeError as error:
        raise ModelError(f"'{file}' cannot be drawn: {error}") from None
    if known["names"] is not None and "labels" not in known:
        parts = [
            name.partition("  ") for name in known["names"]
        ]  # one string until version 0.2: class, two spaces, file
        known["labels"] = [first if between else None for first, between, _ in parts]
        known["names"] = [last if between else first for first, between, last in parts]
    if known["names"] is not None and known["labels"] is not None and len(known["names"]) != len(known["labels"]):
        raise _damaged(file, "labels", known["labels"], "one for each of the names")
    return Manifest(**known)


def _damaged(file: Path, name: str, value: Any, wanted: str) -> ModelError:
    return ModelError(f"'{file}' is damaged: its {name!r} is {short(value)}, not {wanted}. Make the picture anew.")


def _settings(known: Mapping[str, Any], row: Method, file: Path) -> dict[str, Any]:
    found = {row.renamed(name): value for name, value in known["settings"].items()}
    if row.takes == "start" and known["started_from_pictures"]:
        found.pop("canvas", None)  # was said and not used, until version 0.2
    rows = {setting.name: setting for setting in row.settings}
    for name, value in found.items():
        if name not in rows or not _fits(rows[name], value):
            raise _damaged(file, f"settings.{name}", value, f"what {row.name} takes")
    return found


def _fits(setting: Setting, value: Any) -> bool:
    """Tell whether a value read from JSON is of the kind that a setting takes."""
    if setting.name == "position":
        return value is None or is_text(value) or _is_pair(value) or each(value, _is_pair)
    if setting.name == "direction":
        return value is None or is_text(value) or are_numbers(value)
    if value is None:
        return setting.default is None
    if isinstance(setting.kind, tuple):
        return value in setting.kind
    if setting.name == "canvas":
        return each(value if isinstance(value, list) else [value, value], within(1, LARGEST)) and (
            not isinstance(value, list) or len(value) == 2
        )
    if setting.kind is float:
        return is_number(value) and abs(value) < MOST
    if setting.kind is int:
        return is_int(value) and abs(value) < MOST
    return type(value) is setting.kind


def _is_pair(value: Any) -> bool:
    return each(value, is_int) and len(value) == 2


def _are_channels(value: Any) -> bool:
    if isinstance(value, dict):
        return value.keys() == {EACH_IMAGE} and each(value[EACH_IMAGE], is_int)
    return value is None or is_int(value) or each(value, is_int)


def _is_look(value: Any) -> bool:
    kinds: dict[str, type | UnionType] = get_type_hints(FigureStyle)
    if not isinstance(value, dict) or not value.keys() <= kinds.keys():
        return False
    if is_int(value.get("columns")) and value["columns"] > MOST_COLUMNS:
        return False
    return all(isinstance(float(v) if is_int(v) and k in ("vmin", "vmax") else v, kinds[k]) for k, v in value.items())


def _is_file_name(value: Any) -> bool:
    """Tell whether a word names an image beside the JSON, and nothing anywhere else."""
    if not is_text(value) or PurePosixPath(value).name != value or PureWindowsPath(value).name != value:
        return False
    return is_image_name(value) and not any(unicodedata.category(letter) == "Cc" for letter in value)


def is_image_name(name: str) -> bool:
    """Tell whether a file's suffix is that of an image that can be written.

    >>> is_image_name("a.png"), is_image_name("a.gif"), is_image_name(".png")
    (True, False, False)
    """
    from torchloupe.figures.plots import FORMATS

    return Path(name).suffix.lower().lstrip(".") in FORMATS


def _are_options(value: Any) -> bool:
    """Tell whether a value is what `open_model` may be told; what it does not know is left out later."""
    checks: dict[str, Callable[[Any], bool]] = {
        "weights": is_text,
        "classes": lambda v: is_int(v) or each(v, is_text),
        "mean": are_numbers,
        "std": are_numbers,
        "size": lambda v: is_int(v) and 1 <= v <= LARGEST,
        "output": is_part,
        "multilabel": is_flag,
    }
    return isinstance(value, dict) and all(checks[name](v) for name, v in value.items() if name in checks)


def _is_environment(value: Any) -> bool:
    if not isinstance(value, dict) or not is_text(value.get("device", "cpu")):
        return False
    threads = value.get("threads")
    return threads is None or (is_int(threads) and 1 <= threads <= MOST_THREADS)


CHECKS: Schema = {
    "method": (is_text, "a method's name"),
    "model": (none_or(is_text), "a MODEL or null"),
    "model_options": (_are_options, "the options of a network"),
    "title": (is_text, "a text"),
    "weights": (is_text, "a text"),
    "layer": (is_text, "a layer's name"),
    "channels": (_are_channels, "null, a number or a list of numbers"),
    "data": (none_or(is_text), "a data set's name or null"),
    "pictures": (lambda v: v is None or each(v, is_text), "a list of words or null"),
    "names": (lambda v: v is None or each(v, is_text), "a list of names or null"),
    "labels": (lambda v: v is None or each(v, lambda w: w is None or is_text(w)), "a list of classes or null"),
    "started_from_pictures": (is_flag, "true or false"),
    "seed": (lambda v: is_int(v) and -SEEDS <= v < SEEDS, "a whole number"),
    "settings": (is_object, "the method's settings"),
    "environment": (_is_environment, "threads and a device"),
    "look": (_is_look, "the settings of a figure"),
    "files": (lambda v: each(v, _is_file_name), "names of pictures beside it"),
    "told": (is_object, "what captions say"),
    "numbers": (is_object, "numbers by name"),
    "torchloupe": (is_text, "a version"),
    "crc32": (none_or(is_text), "a checksum or null"),
    "report": (none_or(is_text), "a title or null"),
}
"""Of each field whether it is what it should be, and what that is."""


def _completed(values: Mapping[str, Any], model: str, file: Path) -> dict[str, Any]:
    """Return what was saved from a report's page as a JSON beside an image has it: of `model`, for a whole sheet."""
    again = values["again"]
    given = values.get("settings")
    more = again.get("settings", {})
    settings = {**given, **more} if isinstance(given, dict) and isinstance(more, dict) else None
    images = again.get("pictures")
    return {
        **{name: values.get(name) for name in ("method", "weights", "layer", "torchloupe", "crc32", "report")},
        "model": str(Path(model).resolve()) if _is_there(Path(model)) else model,
        "model_options": {},
        "title": values.get("model"),
        "channels": again.get("channels"),
        "data": None,
        "pictures": images,
        "names": None,
        "started_from_pictures": images is not None,
        "seed": values.get("seed") or 0,
        "settings": settings,
        "environment": {},
        "look": {},
        "files": [f"{file.stem}-sheet.png"],
    }


def _of_a_report(values: Mapping[str, Any], file: Path) -> str:
    """Say what was saved from a report's page, and the command that makes that image."""
    row = next((row for row in ALL if row.name == values.get("method")), None)
    said = f"'{file}' was saved from a report: it says how a picture was made, not where its network lies"
    layer = values.get("layer")
    if row is None or not is_text(layer) or not PLAIN.fullmatch(layer) or len(layer) > 200:
        return f"{said}. Make one with `torchloupe show METHOD MODEL`, and name the .json beside that."
    words = ["torchloupe show", row.name, "MODEL", "--layer", layer if " " not in layer else f"'{layer}'"]
    if row.channels and is_int(values.get("unit")):
        words += ["--channels", str(values["unit"])]
    if row.seeded and is_int(values.get("seed")):
        words += ["--seed", str(values["seed"])]
    given = values.get("settings")
    found = {row.renamed(name): value for name, value in given.items()} if isinstance(given, dict) else {}
    for setting in row.settings:
        value = found.get(setting.name, setting.default)
        if (
            value == setting.default
            or not _fits(setting, value)
            or (isinstance(value, list | str) and not _safe(value))
        ):
            continue
        flag = "--" + setting.name.replace("_", "-")
        words += [flag if value else f"--no-{flag[2:]}"] if type(value) is bool else [flag, f"{value}"]
    opened = values.get("opened_from")
    model = f", MODEL being {short(opened)}" if is_text(opened) else ""
    here = f"give it with `torchloupe again {file.name} --model MODEL`, or make" if "again" in values else "make"
    return f"{said}: {here} it with `{' '.join(words)}`{model}."


def _safe(value: Any) -> bool:
    return is_text(value) and PLAIN.fullmatch(value) is not None and " " not in value


def plain(value: Any, what: str) -> Any:
    """Return numbers in any form (tensor, array, range, tuple) as JSON knows them: numbers and lists.

    Raises:
        UsageError: it is neither a number, a text, nor made of such.

    >>> import torch
    >>> plain({"a": torch.tensor([1, 2]), "b": np.float32(0.5), "c": range(2)}, "settings")
    {'a': [1, 2], 'b': 0.5, 'c': [0, 1]}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(each, what) for name, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(each, what) for each in value]
    raise UsageError(f"{what} is a number, a text or a list of such, not a {type(value).__name__}.")


def finite(value: Any) -> Any:
    """Return nested lists with null for NaN and infinity, which JSON does not know.

    >>> finite([1.0, [float("nan")]])
    [1.0, [None]]
    """
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def seen_from(word: str, folder: Path) -> str:
    """Return a path as seen from a folder; what is no path stays as it is.

    >>> seen_from("test:0", Path("a")), seen_from(str(Path().resolve()), Path("a"))
    ('test:0', '..')
    """
    if is_from_data(word) or word in SHIPPED:
        return word
    file, colon, name = word.rpartition(":") if is_reference(word) else (word, "", "")
    return os.path.relpath(Path(file).resolve(), folder.resolve()) + colon + name if _is_there(Path(file)) else word


def located(word: str, folder: Path) -> str:
    """Undo `seen_from`.

    >>> located("test:0", Path("a"))
    'test:0'
    """
    if is_from_data(word) or word in SHIPPED:
        return word
    name, colon, rest = word.rpartition(":") if is_reference(word) else (word, "", "")
    path = folder / name
    return str(path) + colon + rest if _is_there(path) else word


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long to be a name
        return False
