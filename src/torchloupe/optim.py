"""Optimizers: Muon for filters (K. Jordan 2024), and which parameter gets which rate."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from torchloupe.config import FINE_TUNE, TrainConfig

QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Float[Tensor, "m n"], steps: int = 3) -> Float[Tensor, "m n"]:
    """Move all singular values of a matrix towards 1 (Newton-Schulz, a quintic tuned for few steps; Muon).

    >>> values = torch.linalg.svdvals(orthogonalize(torch.randn(8, 20), steps=5))
    >>> bool((values > 0.5).all() and (values < 1.5).all())
    True
    """
    a, b, c = QUINTIC
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x if wide else x.T
    return result


class Muon(Optimizer):
    """Momentum whose update is orthogonalised, for convolutions followed by a normalisation.

    Before each step a filter bank is rescaled to the norm √C_out: behind a BatchNorm its length
    says nothing, and this keeps the effective rate in hand.
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["momentum"])

    def _update(self, parameter: nn.Parameter, lr: float, momentum: float) -> None:
        gradient = parameter.grad.reshape(len(parameter), -1)  # type: ignore[union-attr]
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].mul_(momentum).add_(gradient)
        update = orthogonalize(gradient + momentum * state["momentum"])
        parameter.mul_(math.sqrt(len(parameter)) / parameter.norm().clamp_min(1e-12))
        parameter.sub_(update.view_as(parameter), alpha=lr)


def split_parameters(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Return (convolution filters, matrices of linear layers, everything else), trainable ones only.

    >>> filters, heads, rest = split_parameters(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)))
    >>> len(filters), len(heads), len(rest)
    (1, 1, 4)
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    filters = [p for p in parameters if p.ndim == 4]
    heads = [p for p in parameters if p.ndim in (2, 3)]
    return filters, heads, [p for p in parameters if p.ndim not in (2, 3, 4)]


def build_optimizers(net: nn.Module, config: TrainConfig, fast: set[nn.Parameter] | None = None) -> list[Optimizer]:
    """Return the optimizers of a run; each group's `lr` is its peak, which the schedule scales.

    `config` is resolved (`torchloupe.config.resolve`). `fast` holds the parameters of a new head on old
    weights: all others then learn at a tenth of their rate.

    >>> from torchloupe.config import resolve
    >>> config = resolve(TrainConfig(optimizer="sgd"), ours=True, pictures=9)
    >>> [type(optimizer).__name__ for optimizer in build_optimizers(nn.Conv2d(3, 4, 3), config)]
    ['SGD']
    """
    assert config.lr is not None and config.weight_decay is not None and config.momentum is not None
    slow = 1.0 if fast is None else FINE_TUNE
    quick = fast or set()

    def groups(parameters: list[nn.Parameter], lr: float, decay: float) -> list[dict[str, Any]]:
        pairs = [([p for p in parameters if p in quick], lr), ([p for p in parameters if p not in quick], lr * slow)]
        return [{"params": members, "lr": rate, "weight_decay": decay} for members, rate in pairs if members]

    filters, heads, rest = split_parameters(net)
    lr, decay = config.lr, config.weight_decay
    if config.optimizer == "muon":
        plain = groups(rest, config.lr_norm, decay) + groups(heads, config.lr_head, decay)
        muon: list[Optimizer] = [Muon(filters, lr * slow, config.momentum)] if filters else []
        return muon + ([SGD(plain, lr=lr, momentum=0.85, nesterov=True)] if plain else [])
    if config.optimizer == "adam":
        return [Adam(groups(filters + heads + rest, lr, decay), amsgrad=config.amsgrad)]
    mixed = groups(filters + heads, lr, decay) + groups(rest, lr, 0.0)
    if config.optimizer == "sgd":
        return [SGD(mixed, lr=lr, momentum=config.momentum, nesterov=config.momentum > 0)]
    return [AdamW(mixed)]


def rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the factor of the peak rate at one step: up over `warmup`, then linearly to zero after the last.

    >>> [rate(TrainConfig(warmup=0.5), step, 4) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    >>> rate(TrainConfig(schedule="constant"), 3, 4)
    1.0
    """
    if config.schedule == "constant":
        return 1.0
    warm = (config.warmup or 0.0) * steps
    up = (step + 1) / warm if warm else 1.0
    return min(1.0, up, (steps - step) / (steps - warm))  # between two whole steps both sides pass 1
