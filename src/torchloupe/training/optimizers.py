"""Optimizers: Muon for filters (K. Jordan 2024), and which parameter gets which rate."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from torchloupe.training.config import FINE_TUNE, TrainConfig

QUINTIC = (3.4445, -4.7750, 2.0315)
COLORS, LARGE = 4, 5
"""Filters that see pictures take at most so many channels; those at least so wide are worth smoothing."""


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
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = x if wide else x.T
    return result


class Muon(Optimizer):
    """Momentum whose update is orthogonalised, for convolutions followed by a normalisation.

    Before each step a filter bank is rescaled to the norm √C_out: behind a BatchNorm its length
    says nothing, and this keeps the effective rate in hand.

    With `smooth` the filters are learned in a smooth basis, w = Bv with B a Gaussian blur of so many pixels: the
    gradient is blurred, its orthogonalised momentum blurred again and brought back to the length it had. All
    directions of v get steps of one size, so those of w fall off with frequency, as pictures do. What the filters
    were at the start is soon forgotten, since their norm is kept.
    """

    def __init__(self, params: list[nn.Parameter] | list[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "smooth": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["momentum"], group["smooth"])

    def _update(self, parameter: nn.Parameter, lr: float, momentum: float, smooth: float) -> None:
        assert parameter.grad is not None
        blur = blurring(parameter.shape[2:], smooth, parameter.device, parameter.dtype) if smooth else None
        gradient = (parameter.grad if blur is None else blurred(parameter.grad, blur)).reshape(len(parameter), -1)
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].mul_(momentum).add_(gradient)
        update = orthogonalize(gradient + momentum * state["momentum"]).view(parameter.shape)
        if blur is not None:
            sharp, update = update, blurred(update, blur)
            update = update * (sharp.norm() / update.norm().clamp_min(1e-12))
        parameter.mul_(math.sqrt(len(parameter)) / parameter.norm().clamp_min(1e-12))
        parameter.sub_(update, alpha=lr)


@cache
def blurring(
    sides: tuple[int, int], deviation: float, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Float[Tensor, "hw hw"]:
    """Return the symmetric matrix that blurs a flattened h x w filter by a Gaussian of so many pixels.

    It is kept, so that no step waits for its way to the device.

    >>> blurring((5, 5), 0.8).shape
    torch.Size([25, 25])
    """
    h, w = (torch.arange(side, dtype=torch.float64) for side in sides)
    along = [torch.exp(-((line[:, None] - line) ** 2) / (2 * deviation**2)) for line in (h, w)]
    return torch.kron(*along).to(device, dtype)


def blurred(filters: Float[Tensor, "o i h w"], blur: Float[Tensor, "hw hw"]) -> Float[Tensor, "o i h w"]:
    """Apply the matrix of `blurring` to every filter.

    >>> blurred(torch.ones(1, 1, 1, 2), torch.eye(2)).tolist()
    [[[[1.0, 1.0]]]]
    """
    return (filters.flatten(2) @ blur).view(filters.shape)


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

    `config` is resolved (`torchloupe.training.config.resolve`). `fast` holds the parameters of a new head on old
    weights: all others then learn at a tenth of their rate.

    >>> from torchloupe.training.config import resolve
    >>> config = resolve(TrainConfig(optimizer="sgd"), ours=True, images=9)
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
        first = [p for p in filters if config.smooth and p.shape[1] <= COLORS and min(p.shape[2:]) >= LARGE]
        others = [p for p in filters if not any(p is other for other in first)]
        parts = [{"params": ps, "smooth": smooth} for ps, smooth in ((others, 0.0), (first, config.smooth)) if ps]
        muon: list[Optimizer] = [Muon(parts, lr * slow, config.momentum)] if parts else []
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
