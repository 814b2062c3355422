"""The JSON beside an image -> the same image: what it names is opened, and the method runs once more."""

from pathlib import Path
from typing import Any

import torch

from torchloupe.checkpoints.file import Maker, read_tensors
from torchloupe.checkpoints.open import is_factory, open_model
from torchloupe.errors import ModelError, UsageError, short
from torchloupe.inspection.inputs import Images, is_from_data
from torchloupe.inspection.manifest import Manifest, located, read_manifest
from torchloupe.inspection.result import Result
from torchloupe.inspection.run import run
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network
from torchloupe.models.trust import permitted
from torchloupe.runtime.device import pick_device, process_settings
from torchloupe.runtime.progress import Progress

OPTIONS = frozenset(["weights", "classes", "mean", "std", "size", "output", "multilabel"])
"""What `open_model` is told of a network of the user's own."""


def repeat(file: Path, progress: Progress | None = None, *, model: Maker | None = None) -> tuple[Result, Manifest]:
    """Run what the JSON beside an image describes; returns the result and what the JSON says.

    The JSON is a file: code that it names runs only where the user names it too, as `model`, or ran it before. One that
    was saved from a report does not say where its network lies: `model` is its MODEL.

    Raises:
        ModelError: no such JSON, its network or its data are others now, or it names code that may not run.

    >>> repeat(Path("nothing.json"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: no file 'nothing.json': name the .json beside a picture.
    """
    manifest = read_manifest(file, model if isinstance(model, str) else None)
    if manifest.model is None:
        raise ModelError(f"'{file}' is of a network made in code: run that code again.")
    if manifest.report is not None:
        model = None  # it named the network, not the code of one
    with process_settings(threads=manifest.environment.get("threads")):  # another number of them sums in another order
        return _repeated(manifest, manifest.model, file, progress, model), manifest


def _repeated(manifest: Manifest, word: str, file: Path, progress: Progress | None, model: Maker | None) -> Result:
    network = _opened(manifest, word, file, model)
    network.to(_device(manifest, file))
    data = manifest.data and _data(manifest.data, file.parent, network.origin)
    studied = Subject(network, data, title=manifest.title)
    if studied.weights != manifest.weights:
        raise ModelError(f"the weights of {short(word)} are not those that '{file}' was made with.")
    if manifest.crc32 is not None and any(map(is_from_data, manifest.pictures or ())) and studied.crc != manifest.crc32:
        raise ModelError(f"the data of {short(word)} are not at hand, or not those that '{file}' was made with.")
    made = run(
        manifest.method,
        studied,
        manifest.layer,
        _images(manifest, file) if manifest.started_from_pictures else None,
        channels=manifest.channels,
        seed=manifest.seed,
        progress=progress,
        **manifest.settings,
    )
    before, now = (told.get("control") for told in (manifest.told, made.told))
    if before is not None and before != now:
        raise ModelError(
            f"the control in '{file}' was measured on {short(before, 80)}, which are not at hand: it would be another."
        )
    return made


again = repeat
"""Its name until version 0.2."""


def _opened(manifest: Manifest, model: str, file: Path, given: Maker | None) -> Network:
    word = located(model, file.parent)
    options = {name: value for name, value in manifest.model_options.items() if name in OPTIONS}
    if "weights" in options:
        options["weights"] = located(options["weights"], file.parent)
    if not is_factory(word):
        return open_model(word, model=given).network
    if given is not None and not isinstance(given, str):
        raise UsageError(f"'{file}' names its network by a reference: give model= as one, like {word!r}.")
    return open_model(permitted(word, file, given=given), **options).network


def _device(manifest: Manifest, file: Path) -> torch.device:
    word = manifest.environment.get("device", "cpu")
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


def _images(manifest: Manifest, file: Path) -> Any:
    if manifest.pictures is not None:
        return [located(word, file.parent) for word in manifest.pictures]
    path = file.with_suffix(".safetensors")
    inputs = read_tensors(path)[0].get("inputs")
    if inputs is None or inputs.ndim != 4 or manifest.names is None or len(inputs) != len(manifest.names):
        raise ModelError(f"'{path}' does not hold the pictures that '{file}' speaks of. Make the picture anew.")
    return Images(inputs, tuple(manifest.names), None, labels=tuple(manifest.labels) if manifest.labels else None)
