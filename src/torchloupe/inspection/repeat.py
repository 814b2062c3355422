"""A picture's JSON -> the same picture: what it names is opened, and the method runs again."""

from pathlib import Path
from typing import Any

from torchloupe.checkpoints.file import Maker, read_tensors
from torchloupe.checkpoints.open import SHIPPED, is_factory, open_model
from torchloupe.errors import ModelError, UsageError
from torchloupe.inspection.inputs import Images
from torchloupe.inspection.result import Result
from torchloupe.inspection.run import run
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network
from torchloupe.models.reference import is_reference
from torchloupe.models.trust import permitted
from torchloupe.runtime.device import process_settings
from torchloupe.runtime.files import read_json
from torchloupe.runtime.progress import Progress

NEEDED = frozenset(
    [
        "method",
        "model",
        "model_options",
        "title",
        "weights",
        "layer",
        "channels",
        "data",
        "pictures",
        "names",
        "started_from_pictures",
        "seed",
        "settings",
        "environment",
        "look",
        "files",
    ]
)
"""What `Shown.save` writes."""


OPTIONS = frozenset(["weights", "classes", "mean", "std", "size"])
"""What `open_model` is told of a network of the user's own."""


def again(file: Path, progress: Progress | None = None, *, model: Maker | None = None) -> tuple[Result, dict[str, Any]]:
    """Run what a picture's JSON describes; returns the result and the JSON's content.

    The JSON is a file: code that it names runs only where the user names it too, as `model`, or ran it before.

    Raises:
        ModelError: no such JSON, its network is another one now, or it names code that may not run.
    """
    if not file.is_file():
        raise ModelError(f"no file '{file}': name the .json beside a picture.")
    told = read_json(file)
    if not isinstance(told, dict) or not told.keys() >= NEEDED:
        raise ModelError(f"'{file}' does not describe a picture of torchloupe. Name the .json beside one.")
    if told["model"] is None:
        raise ModelError(f"'{file}' is of a network made in code: run that code again.")
    with process_settings(threads=told["environment"].get("threads") or None):  # another number sums in another order
        return _repeated(told, file, progress, model), told


def _repeated(told: dict[str, Any], file: Path, progress: Progress | None, model: Maker | None) -> Result:
    network = _opened(told, file, model)
    network.to(told["environment"].get("device", "cpu"))
    data = told["data"] and _data(told["data"], file.parent, network.origin)
    studied = Subject(network, data, title=told["title"])
    if studied.weights != told["weights"]:
        raise ModelError(f"the weights of '{told['model']}' are not those that '{file}' was made with.")
    images: Any = None
    if told["started_from_pictures"]:
        images = _images(told, file)
    return run(
        told["method"],
        studied,
        told["layer"],
        images,
        channels=told["channels"],
        seed=told["seed"],
        progress=progress,
        **told["settings"],
    )


def _opened(told: dict[str, Any], file: Path, model: Maker | None) -> Network:
    word = _seen_from(str(told["model"]), file.parent)
    options = {name: value for name, value in dict(told["model_options"]).items() if name in OPTIONS}
    if "weights" in options:
        options["weights"] = _seen_from(str(options["weights"]), file.parent)
    if not is_factory(word):
        return open_model(word, model=model).network
    if model is not None and not isinstance(model, str):
        raise UsageError(f"'{file}' names its network by a reference: give model= as one, like {word!r}.")
    return open_model(permitted(word, file, given=model), **options).network


def _data(word: str, folder: Path, origin: Any) -> str | None:
    """Return the data set's name; None for the run's own, whose results lie in the run's folder."""
    found = _seen_from(word, folder)
    own = (origin.config.data or {}).get("source") if origin else None
    same = own is not None and (
        own == found or (Path(own).exists() and Path(found).exists() and Path(own).samefile(found))
    )
    return None if same else found


def _images(told: dict[str, Any], file: Path) -> Any:
    if told["pictures"] is not None:
        return [_seen_from(word, file.parent) for word in told["pictures"]]
    tensors, _ = read_tensors(file.with_suffix(".safetensors"))
    return Images(tensors["inputs"], tuple(told["names"]), None)


def _seen_from(word: str, folder: Path) -> str:
    """Undo what the manifest did to a path: it is relative to the JSON's folder."""
    if word in SHIPPED:
        return word
    name, colon, rest = word.rpartition(":") if is_reference(word) else (word, "", "")
    path = folder / name
    return str(path) + colon + rest if path.exists() else word
