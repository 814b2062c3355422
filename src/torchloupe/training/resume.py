"""Going on with a training as it began: its settings, and its full state (weights, optimizers, chance, place)."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchloupe.checkpoints.file import config_from, fill, read_tensors, save_tensors
from torchloupe.data.dataset import Dataset
from torchloupe.errors import ModelError, UsageError, short
from torchloupe.models.reference import is_reference
from torchloupe.models.trust import permitted
from torchloupe.runs.config import check_own, read_config
from torchloupe.runs.folder import CONFIG
from torchloupe.runs.request import asked_for
from torchloupe.runtime.checks import Schema, each, first_unfit, is_count, is_figure, is_number, is_object
from torchloupe.runtime.files import LONGEST_PATH, read_json
from torchloupe.training.config import TrainConfig, restore

T = TypeVar("T")

KEEP = 2


def begun(out: Path, config: TrainConfig, asked: Iterable[str] = (), model: str | None = None) -> TrainConfig | None:
    """Return the settings that the run in a folder was begun with; None where there is none yet.

    `asked` are the settings in `config` that the user named: they must be those of the run. `model` is the network that
    the user named for it.

    Raises:
        UsageError: the run was begun with other settings than those asked for, or only recorded.
        ModelError: its description is damaged, or names code that may not run.

    >>> begun(Path("nowhere"), TrainConfig())
    """
    check_own(out)
    try:
        if (out / CONFIG).is_file():
            own = model is not None and is_reference(model) and is_reference(read_config(out).model)
            about = config_from(read_json(out / CONFIG), out / CONFIG, model if own else None)
            old = restore({**(about.training or {}), "model": about.model})
        elif asked_first := asked_for(out):
            old = restore(asked_first["training"])
            own = model is not None and is_reference(model) and is_reference(old.model)
            old = replace(old, model=permitted(old.model, out, given=model if own else None))
        else:
            return None
    except UsageError as error:
        raise ModelError(f"'{out}' cannot go on, its settings are damaged: {error}") from None
    for name in asked:
        if name == "model" and own:
            continue  # someone's own network, wherever its file lies now: its weights must fit
        value = getattr(config, name)
        if getattr(old, name) != value and not _settled_later(config, name):
            raise UsageError(
                f"'{out}' was started with {name} = {getattr(old, name)!r}, not {value!r}: a run goes on as it began. "
                "Leave the option out, or start a new run with another --out."
            )
    return old


def _settled_later(config: TrainConfig, name: str) -> bool:
    """Tell whether a run's own value of a setting may differ from what was asked for."""
    if name == "epochs":
        return config.steps is not None or config.min_steps > 0
    return name == "weights" or getattr(config, name) == "auto"


def with_its_streams(config: TrainConfig, out: Path) -> TrainConfig:
    """Return the settings with chance drawn as the run in a folder began to, if there is one.

    >>> with_its_streams(TrainConfig(), Path("nowhere")).streams
    2
    """
    if not (out / CONFIG).is_file():
        return config
    return replace(config, streams=(read_config(out).training or {}).get("streams", 1))


def with_its_splits(dataset: Dataset, out: Path) -> Dataset:
    """Return the data as the run in a folder began to use them: those of before there were val splits have none.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> with_its_splits(shapes(train=10, test=10), Path("nowhere")).val is None
    True
    """
    if dataset.val is None or not (out / CONFIG).is_file():
        return dataset
    return dataset if (read_json(out / CONFIG).get("data") or {}).get("val") else replace(dataset, val=None)


def save_state(
    folder: Path, net: nn.Module, optimizers: list[Optimizer], averaged: nn.Module | None, about: dict[str, Any]
) -> None:
    """Write `state/step-N.safetensors` atomically and keep the last two; `about` holds the step and more JSON."""
    tensors = {f"net/{name}": tensor for name, tensor in net.state_dict().items()}
    if averaged is not None:
        tensors |= {f"averaged/{name}": tensor for name, tensor in averaged.state_dict().items()}
    strides: dict[str, list[int]] = {}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            kept = {f"optimizer/{number}/{index}/{name}": value for name, value in values.items() if value is not None}
            tensors |= kept
            strides |= {name: list(value.stride()) for name, value in kept.items()}
    tensors["chance/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["chance/cuda"] = torch.cuda.get_rng_state()
    save_tensors(folder / f"step-{about['step']:08d}.safetensors", tensors, {**about, "strides": strides})
    for old in states(folder)[:-KEEP]:
        old.unlink(missing_ok=True)


def states(folder: Path) -> list[Path]:
    """Return the state files of a run, oldest first.

    >>> states(Path("nowhere"))
    []
    """
    return sorted(path for path in folder.glob("step-*.safetensors") if re.fullmatch(r"step-\d+", path.stem))


def load_state(
    folder: Path, net: nn.Module, optimizers: list[Optimizer], averaged: nn.Module | None
) -> dict[str, Any] | None:
    """Fill everything from the newest readable state; returns its `about`, or None where there is none.

    Memory layouts are restored too: they decide the order of sums and which products are fused. A state is checked
    whole before anything of it is taken; one that is damaged is passed over for the one before it.

    Raises:
        ModelError: there are states, but none can be read, or it is that of another network.
    """
    found = states(folder)
    for path in reversed(found):
        try:
            tensors, about = read_tensors(path)
            check_state(tensors, about, optimizers, path)
        except ModelError:
            continue  # damaged after it was written: the one before it will do
        fill(net, _under(tensors, "net/"), str(path), "as configured")
        if averaged is not None:
            fill(averaged, _under(tensors, "averaged/"), str(path), "as configured")
        for number, optimizer in enumerate(optimizers):
            prefix = f"optimizer/{number}/"
            _fill_optimizer(optimizer, _under(tensors, prefix), _under(about["strides"], prefix))
        torch.set_rng_state(tensors["chance/torch"])
        if torch.cuda.is_available() and "chance/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["chance/cuda"])
        return about
    if found:
        raise ModelError(f"none of the states in '{folder}' can be read. Start again with another --out.")
    return None


STATE: Schema = {
    "step": (is_count, "a number of steps"),
    "seconds": (lambda value: is_number(value) and value >= 0, "a number of seconds"),
    "metrics": (is_count, "a number of bytes"),
    "running": (lambda value: each(value, is_figure) and len(value) == len(("losses", "hits", "images")), "sums"),
    "strides": (
        lambda value: is_object(value) and all(each(v, is_count) or v == [] for v in value.values()),
        "strides by name",
    ),
}
"""What stands beside the tensors of a training's state."""


def check_state(tensors: dict[str, Tensor], about: Any, optimizers: list[Optimizer], source: Path) -> None:
    """Refuse a state that is not whole, or that asks for more than its tensors hold.

    Raises:
        ModelError: something of it is missing or not what it should be.

    >>> check_state({}, {}, [], Path("a"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: the state in 'a' is damaged: step, seconds, metrics, running, strides missing.
    """
    said = f"the state in {short(source, LONGEST_PATH)} is damaged"
    if not is_object(about) or (missing := [name for name in STATE if name not in about]):
        raise ModelError(f"{said}: {', '.join(missing) if is_object(about) else 'all'} missing.")
    if unfit := first_unfit(about, STATE):
        raise ModelError(f"{said}: its {unfit[0]!r} is {short(about[unfit[0]])}, not {unfit[1]}.")
    for device in ("torch", *(["cuda"] if torch.cuda.is_available() and "chance/cuda" in tensors else [])):
        try:
            torch.Generator("cpu" if device == "torch" else device).set_state(tensors[f"chance/{device}"])
        except (KeyError, RuntimeError, TypeError):
            raise ModelError(f"{said}: where chance stood is missing.") from None
    for number, optimizer in enumerate(optimizers):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        prefix = f"optimizer/{number}/"
        for name, tensor in _under(tensors, prefix).items():
            index, _, key = name.partition("/")
            strides = about["strides"].get(prefix + name)
            known = key.isidentifier() and index.isdecimal() and int(index[:9]) < len(parameters)
            if not known or strides is None or not _is_dense(tensor, strides):
                raise ModelError(f"{said}: {short(name)} of its optimizer is of no parameter here.")
            if tensor.ndim and tensor.numel() != parameters[int(index)].numel():
                raise ModelError(f"{said}: {short(name)} of its optimizer is not as large as its parameter.")


def _is_dense(tensor: Tensor, strides: list[int]) -> bool:
    """Tell whether strides give each number of a tensor a place of its own, without gaps: its axes in some order."""
    if len(strides) != tensor.ndim:
        return False
    room = 1
    for step, n in sorted((step, n) for n, step in zip(tensor.shape, strides, strict=True) if n > 1):
        if step != room:
            return False
        room *= n
    return all(0 <= step <= max(1, tensor.numel()) for step in strides)


def _under(values: dict[str, T], prefix: str) -> dict[str, T]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _fill_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], strides: dict[str, list[int]]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        parameter = parameters[int(index)]
        device = parameter.device if tensor.ndim else tensor.device  # counters of steps stay on the CPU
        layout = torch.empty_strided(tensor.shape, strides[name], dtype=tensor.dtype, device=device)
        optimizer.state[parameter][key] = layout.copy_(tensor)
