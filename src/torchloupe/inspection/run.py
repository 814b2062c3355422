"""The one entry that command line, report and explorer call: a method, a network, pictures -> what can be shown."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchloupe.data.dataset import Dataset
from torchloupe.errors import ModelError, UsageError, did_you_mean, short
from torchloupe.inspection.catalog import ALL, Method, find_method, load_function
from torchloupe.inspection.inputs import Images, colored, from_anything, from_split, need_data, top_count, unasked
from torchloupe.inspection.manifest import EACH_IMAGE, plain
from torchloupe.inspection.result import Result
from torchloupe.inspection.signatures import public_signature
from torchloupe.inspection.subject import Subject, subject
from torchloupe.runtime.console import Console
from torchloupe.runtime.memory import halving
from torchloupe.runtime.progress import Progress

NO_IMAGES = "there are no pictures to look at: name some (--pictures, images=…) or a data set (--data)."
SHOWN = ("weight", "strength", "maps", "map", "pictures", "signal", "history", "activation")
"""Fields of results that are numbers whatever is looked at; NaN elsewhere has a meaning of its own, which the result
says: the error of a silent layer, the spread of one copy."""


def run(
    name: str,
    model: "Subject | nn.Module | str | Path",
    layer: str | None = None,
    images: Any = None,
    *,
    channels: Any = None,
    seed: int = 0,
    data: "Dataset | str | Path | None" = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Result:
    """Run a method of the catalog by name; returns its result with what is needed to show and repeat it.

    `channels` is a number or some (a list, range or array); for methods that go back from a position also a tensor
    `[b]`, one for each image. Settings may be tensors and arrays as well.

    Raises:
        UsageError: an unknown method or setting, or no pictures and no data to take some from.
        ModelError: what the network gives is NaN or infinite.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> run("feature-maps", net, "0", torch.rand(1, 3, 5, 5)).maps.shape
    torch.Size([1, 8, 3, 3])
    """
    method = find_method(name)
    settings = {method.renamed(key): value for key, value in settings.items()}
    _check(method, settings)
    settings = {key: plain(value, key) for key, value in settings.items()}
    channels = _plain_channels(channels, method)
    studied = subject(model, data)
    wanted = layer or method.layer
    arguments: dict[str, Any] = {key: _parsed(key, value) for key, value in settings.items()}
    taken: Images | None = None
    if method.channels:
        arguments["channels"] = _asked(channels)
    if method.seeded:
        arguments["seed"] = seed
    if (count := top_count(images)) and method.from_a_position:
        taken, arguments["channels"], arguments["position"] = _strongest(studied, wanted, channels, count, progress)
        arguments["images"] = taken.images
    elif method.takes == "pictures" or (method.takes == "start" and images is not None):
        taken = images_to_inspect(studied, images, seed)
        arguments["images"] = taken.images
    elif method.takes == "dataset":
        arguments["dataset"] = _split(studied, images)
    if taken is not None and not taken.images.numel():
        raise UsageError(NO_IMAGES)
    told = _needs(method, studied, wanted, arguments, progress)
    compute = load_function(method.compute)
    if "progress" in inspect.signature(compute).parameters:
        arguments["progress"] = progress
    if method.explains:
        arguments["target"] = _class(arguments.get("target"), taken)
        where = {"layer": wanted} if method.layered else {}
        result = halving(lambda: compute(studied.model, **where, **arguments), name)
    else:
        result = halving(lambda: compute(studied.model, wanted, **arguments), name)
    if unfit := next((key for key in SHOWN if not _is_finite(getattr(result, key, None))), None):
        raise ModelError(f"{method.name} of layer {result.layer!r} finds no numbers ({unfit}): {_why(studied.model)}")
    return Result(method, result, studied, taken, seed=seed, channels=channels, settings=settings, told=told)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.isfinite().all())


def _why(model: nn.Module) -> str:
    """Say why a network's answer is NaN or infinite, and what to do."""
    bad = [name for name, tensor in model.state_dict().items() if not _is_finite(tensor)]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        return f"the weights {short(bad[0])}{more} hold NaN or infinity. Take a checkpoint from before that, RUN@EPOCH."
    return "inside the network they become NaN or infinite. Look at the layers before it, or use double precision."


def _check(method: Method, settings: dict[str, Any]) -> None:
    known = [setting.name for setting in method.settings]
    for name in settings:
        if name not in known:
            raise UsageError(
                f"{method.function} has no setting {name!r}{did_you_mean(name, known) or '.'} "
                f"It has: {', '.join(known) or 'none'}."
            )


def _plain_channels(channels: Any, method: Method) -> Any:
    """Return channels as JSON has them: None, a number, a list, or one for each image."""
    if isinstance(channels, dict):
        return channels
    found = plain(channels, "channels")
    for channel in found if isinstance(found, list) else [found]:
        if channel is not None and type(channel) is not int:
            raise UsageError(f"channels are whole numbers like 0 or [0, 3], not {channel!r}.")
    each = method.from_a_position and isinstance(channels, Tensor) and isinstance(found, list)
    return {EACH_IMAGE: found} if each else found


def _asked(channels: Any) -> Any:
    """Return plain channels as methods take them."""
    if isinstance(channels, dict):
        return torch.tensor(channels[EACH_IMAGE])
    return [channels] if isinstance(channels, int) else channels


def _parsed(name: str, value: Any) -> Any:
    """Read a position (y,x; or one for each image) or a direction that came as text or as a list."""
    if name == "position" and isinstance(value, list) and value and isinstance(value[0], list):
        try:
            return torch.tensor(value)
        except (TypeError, ValueError):
            raise UsageError("position is one (y, x) for each image, in whole numbers.") from None
    if name == "target" and isinstance(value, list):
        return torch.tensor(value)
    if name in ("position", "canvas") and isinstance(value, list):
        return tuple(value)
    if not isinstance(value, str) or name not in ("position", "direction") or value in ("max", "center"):
        return value
    try:
        return tuple(int(part) if name == "position" else float(part) for part in value.split(","))
    except ValueError:
        raise UsageError(f"{name} {value!r} is not a list of numbers like 3,4.") from None


def images_to_inspect(studied: Subject, images: Any = None, seed: int = 0) -> Images:
    """Return the pictures to look at: the given ones, else some of the data drawn by seed, else samples.

    Raises:
        UsageError: none are given, and neither the data nor the network's size is known.

    >>> images_to_inspect(Subject(nn.Conv2d(3, 8, 3)), "samples:0-2").images.shape[:2]
    torch.Size([3, 3])
    """
    if images is not None:
        known = studied.dataset() if need_data(images) else None
        return colored(from_anything(images, known, studied.size, studied.window), studied.model)
    found = unasked(studied.dataset(), seed, studied.size)
    if found is None:
        raise UsageError(NO_IMAGES)
    return colored(found, studied.model)


def _class(target: Any, taken: Images | None) -> Any:
    """Return the class that is explained; "true" stands for each picture's own."""
    if target != "true":
        return tuple(target) if isinstance(target, list) and any(isinstance(each, str) for each in target) else target
    labels = taken.labels if taken is not None else None
    if not labels or any(label is None for label in labels):
        raise UsageError("target 'true' is the class that a picture has in its data, which is not known of these.")
    return list(labels)


def _strongest(
    studied: Subject, layer: str, channels: Any, count: int, progress: Progress | None
) -> tuple[Images, Tensor, Tensor]:
    """Return the pictures that drive each channel most, and for each picture its channel and strongest position."""
    known, split = studied.dataset(), studied.split()
    if known is None or split is None:
        raise UsageError(f"top:{count} looks through a data set: name one (--data, data=…).")
    asked = [channels] if isinstance(channels, int) else channels
    search = load_function(find_method("top-examples").compute)
    found = search(studied.model, layer, split, channels=asked, count=count, progress=progress)
    word = "test" if split is known.test else "train"
    taken = from_split(split, found.index.flatten().tolist(), word, known.classes, studied.size)
    units = found.channel.repeat_interleave(found.index.shape[1])
    return replace(taken, words=(f"top:{count}",)), units, found.position.flatten(0, 1)


def _split(studied: Subject, given: Any) -> Any:
    if isinstance(given, Dataset):
        return given.test if len(given.test) else given.train
    if given is not None and not isinstance(given, str | Path):
        return given
    chosen = Subject(studied.model, given).split() if given is not None else studied.split()
    if chosen is None:
        raise UsageError("there is no data set to look through: name one (--data, dataset=…).")
    return chosen


def _needs(
    method: Method, studied: Subject, layer: str, arguments: dict[str, Any], progress: Progress | None
) -> dict[str, Any]:
    """Add what the network's own data say; returns what captions say of them."""
    from torchloupe.features.trace import resolve

    told: dict[str, Any] = {}
    if "statistics" in method.needs:
        arguments["statistics"], told["statistics"] = studied.statistics()
    if "best" in method.needs:
        images = arguments.get("images")
        named = resolve(studied.model, layer, images)
        arguments["best"] = studied.best(named, progress)
        told["best_of"] = None if arguments["best"] is None else studied.counted(named)
    if "control" in method.needs and arguments.get("randomized", True):
        arguments["control"], told["control"] = halving(
            lambda: studied.control(arguments.get("seed", 0), arguments["images"]),
            f"the random control of {method.name}",
        )
    return told


def method(function: str) -> Callable[..., Result]:
    """Return `torchloupe.<function>`: a method that takes pictures of any kind and returns what can be shown.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3))
    >>> method("filters")(net, "0").weight.shape
    torch.Size([8, 3, 3, 3])
    """
    row = next((row for row in ALL if row.function == function), None)
    if row is None:
        raise AttributeError(f"module 'torchloupe' has no attribute {function!r}")
    compute = load_function(row.compute)

    @functools.wraps(compute)
    def explain(model: Any, images: Any = None, /, **settings: Any) -> Result:
        images = settings.pop("images", images)
        layer = settings.pop("layer", None)
        if layer is not None and not row.layered:
            raise UsageError(f"{row.function} explains by pixels and takes no layer.")
        if "progress" in settings:
            return run(row.name, model, layer, images, **settings)
        with Console().progress(row.name) as tick:
            return run(row.name, model, layer, images, progress=tick, **settings)

    @functools.wraps(compute)
    def call(model: Any, layer: str | None = None, images: Any = None, /, **settings: Any) -> Result:
        for other in ("images", "dataset"):
            images = settings.pop(other) if other in settings else images
        layer = settings.pop("layer", layer)
        if "progress" in settings:
            return run(row.name, model, layer, images, **settings)
        with Console().progress(row.name) as tick:
            return run(row.name, model, layer, images, progress=tick, **settings)

    found: Callable[..., Result] = explain if row.explains else call
    found.__signature__ = public_signature(row)  # type: ignore[attr-defined]  # not that of what is wrapped
    return found
