"""The JSON beside an image -> the same image: what it names is opened, and the method runs once more."""

from pathlib import Path
from typing import Any

import torch

from torchloupe.checkpoints.file import Maker, read_tensors
from torchloupe.checkpoints.open import is_factory, open_model
from torchloupe.errors import ModelError, UsageError, short
from torchloupe.inspection.inputs import Images
from torchloupe.inspection.manifest import Manifest, located, read_manifest
from torchloupe.inspection.result import Result
from torchloupe.inspection.run import run
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network
from torchloupe.models.trust import permitted
from torchloupe.runtime.device import pick_device, process_settings
from torchloupe.runtime.progress import Progress

OPTIONS = frozenset(["weights", "classes", "mean", "std", "size"])
"""What `open_model` is told of a network of the user's own."""


def repeat(file: Path, progress: Progress | None = None, *, model: Maker | None = None) -> tuple[Result, Manifest]:
    """Run what the JSON beside an image describes; returns the result and what the JSON says.

    The JSON is a file: code that it names runs only where the user names it too, as `model`, or ran it before.

    Raises:
        ModelError: no such JSON, its network is another one now, or it names code that may not run.

    >>> repeat(Path("nothing.json"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: no file 'nothing.json': name the .json beside a picture.
    """
    told = read_manifest(file)
    if told.model is None:
        raise ModelError(f"'{file}' is of a network made in code: run that code again.")
    with process_settings(threads=told.environment.get("threads")):  # another number of them sums in another order
        return _repeated(told, told.model, file, progress, model), told


def _repeated(told: Manifest, word: str, file: Path, progress: Progress | None, model: Maker | None) -> Result:
    network = _opened(told, word, file, model)
    network.to(_device(told, file))
    data = told.data and _data(told.data, file.parent, network.origin)
    studied = Subject(network, data, title=told.title)
    if studied.weights != told.weights:
        raise ModelError(f"the weights of {short(word)} are not those that '{file}' was made with.")
    return run(
        told.method,
        studied,
        told.layer,
        _images(told, file) if told.started_from_pictures else None,
        channels=told.channels,
        seed=told.seed,
        progress=progress,
        **told.settings,
    )


again = repeat
"""Its name until version 0.2."""


def _opened(told: Manifest, model: str, file: Path, given: Maker | None) -> Network:
    word = located(model, file.parent)
    options = {name: value for name, value in told.model_options.items() if name in OPTIONS}
    if "weights" in options:
        options["weights"] = located(options["weights"], file.parent)
    if not is_factory(word):
        return open_model(word, model=given).network
    if given is not None and not isinstance(given, str):
        raise UsageError(f"'{file}' names its network by a reference: give model= as one, like {word!r}.")
    return open_model(permitted(word, file, given=given), **options).network


def _device(told: Manifest, file: Path) -> torch.device:
    word = told.environment.get("device", "cpu")
    try:
        device = pick_device(word)
    except UsageError:
        device = None
    if device is None or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise ModelError(f"'{file}' was made on {short(word)}, which is not here: it cannot be made again to the byte.")
    return device


def _data(word: str, folder: Path, origin: Any) -> str | None:
    """Return the data set's name; None for the run's own, whose results lie in the run's folder."""
    found = located(word, folder)
    own = (origin.config.data or {}).get("source") if origin else None
    same = own is not None and (
        own == found or (Path(own).exists() and Path(found).exists() and Path(own).samefile(found))
    )
    return None if same else found


def _images(told: Manifest, file: Path) -> Any:
    if told.pictures is not None:
        return [located(word, file.parent) for word in told.pictures]
    path = file.with_suffix(".safetensors")
    inputs = read_tensors(path)[0].get("inputs")
    if inputs is None or inputs.ndim != 4 or told.names is None or len(inputs) != len(told.names):
        raise ModelError(f"'{path}' does not hold the pictures that '{file}' speaks of. Make the picture anew.")
    return Images(inputs, tuple(told.names), None, labels=tuple(told.labels) if told.labels else None)
