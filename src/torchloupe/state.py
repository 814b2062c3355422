"""The full state of a training, from which it goes on bit for bit: weights, optimizers, chance, place."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchloupe.checkpoint import fill, read_tensors, save_tensors
from torchloupe.errors import ModelError

KEEP = 2


def save_state(
    folder: Path, net: nn.Module, optimizers: list[Optimizer], averaged: nn.Module | None, about: dict[str, Any]
) -> None:
    """Write `state/step-N.safetensors` atomically and keep the last two; `about` holds the step and more JSON."""
    tensors = {f"net/{name}": tensor for name, tensor in net.state_dict().items()}
    if averaged is not None:
        tensors |= {f"averaged/{name}": tensor for name, tensor in averaged.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{index}/{name}": value for name, value in values.items() if value is not None}
    tensors["chance/torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["chance/cuda"] = torch.cuda.get_rng_state()
    save_tensors(folder / f"step-{about['step']:08d}.safetensors", tensors, about)
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

    Tensors are copied into those that are there, so that memory layouts, and with them the order of sums, stay.

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
            _fill_optimizer(optimizer, _under(tensors, f"optimizer/{number}/"))
        torch.set_rng_state(tensors["chance/torch"])
        if torch.cuda.is_available() and "chance/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["chance/cuda"])
        return about
    if found:
        raise ModelError(f"none of the states in '{folder}' can be read. Start again with another --out.")
    return None


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fill_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        parameter = parameters[int(index)]
        layout = tensor.to(parameter.device if tensor.ndim else tensor.device)
        if tensor.shape == parameter.shape:
            layout = torch.empty_like(parameter).copy_(tensor)
        optimizer.state[parameter][key] = layout
