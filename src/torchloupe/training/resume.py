"""The full state of a training, from which it goes on bit for bit: weights, optimizers, chance, place."""

import re
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchloupe.checkpoints.file import fill, read_tensors, save_tensors
from torchloupe.errors import ModelError

T = TypeVar("T")

KEEP = 2


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

    Memory layouts are restored too: they decide the order of sums and which products are fused.

    Raises:
        ModelError: there are states, but none can be read.
    """
    found = states(folder)
    for path in reversed(found):
        try:
            tensors, about = read_tensors(path)
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
