"""Limited-memory BFGS for many problems at once: each has its own curvature and its own step, one pass serves all.

L-BFGS (Liu & Nocedal 1989; Nocedal & Wright 2006, algorithm 7.4) with backtracking by quadratic interpolation (section
3.5). The line search runs in lockstep: where a step does not pay (Armijo), that problem stays where it is and tries a
shorter one in the next pass, while the others go on. So k passes cost k forward and backward passes, whatever happens.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchloupe.synthesis.optimize import Loss, OnStep

ARMIJO = 1e-4
CURVED = 1e-10
"""A pair with less curvature than this, relative to its own size, is not remembered."""
SHORTEST, LONGEST = 0.1, 0.5
"""A failed step is shortened by a factor between these."""


def lbfgs(
    loss: Loss,
    start: Float[Tensor, "n ..."],
    *,
    steps: int,
    memory: int = 8,
    first: float = 0.1,
    on_step: OnStep | None = None,
) -> Float[Tensor, "n ..."]:
    """Minimise n losses of n tensors in `steps` passes; no loss ever rises.

    `loss` gives one number per sample, which depends on that sample alone. `first` is the root mean square of the
    first step tried. `on_step` is told the losses after each pass.

    >>> aim = torch.tensor([[1.0, 2.0], [-3.0, 4.0]])
    >>> lbfgs(lambda x: ((x - aim) ** 2).sum(1), torch.zeros(2, 2), steps=20).round(decimals=3)
    tensor([[ 1.,  2.],
            [-3.,  4.]])
    """
    shape = start.shape
    x = start.detach().flatten(1)
    value, slope = _value_and_gradient(loss, x, shape)
    pairs = _Pairs(x, memory)
    way = -slope
    length = slope.norm(dim=1)
    tried = torch.where(length > 0, first * x.shape[1] ** 0.5 / length, 0)
    for step in range(steps):
        new = x + tried[:, None] * way
        new_value, new_slope = _value_and_gradient(loss, new, shape)
        expected = tried * (way * slope).sum(1)  # what a straight line would give; never positive
        taken = new_value <= value + ARMIJO * expected  # false for NaN
        pairs.add(new - x, new_slope - slope, taken)
        shorter = tried * _shortening(new_value - value, expected)
        x = torch.where(taken[:, None], new, x)
        slope = torch.where(taken[:, None], new_slope, slope)
        value = torch.where(taken, new_value, value)
        way = torch.where(taken[:, None], pairs.direction(slope), way)
        tried = torch.where(taken, torch.where(pairs.scale > 0, torch.ones_like(tried), 2 * tried), shorter)
        if on_step is not None:
            on_step(step, value)
    return x.view(shape)


def _value_and_gradient(
    loss: Loss, x: Float[Tensor, "n d"], shape: torch.Size
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n d"]]:
    leaf = x.detach().view(shape).requires_grad_()
    losses = loss(leaf)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), gradient.flatten(1)


def _shortening(rise: Float[Tensor, "n"], expected: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Minimum of the parabola through what was found, as a share of the step that failed."""
    share = -expected / (2 * (rise - expected))
    return torch.nan_to_num(share, nan=SHORTEST).clamp(SHORTEST, LONGEST)


class _Pairs:
    """The last steps and changes of slope of every sample, and the direction that they advise."""

    def __init__(self, x: Float[Tensor, "n d"], memory: int) -> None:
        self.steps = x.new_zeros(memory, *x.shape)
        self.changes = x.new_zeros(memory, *x.shape)
        self.weight = x.new_zeros(memory, x.shape[0])
        """1 / (step · change); 0 for a place that is empty or not to be used: it then has no effect."""
        self.scale = x.new_zeros(x.shape[0])
        """Inverse curvature along the last step, 0 while none is known."""
        self.count = 0

    def add(self, step: Float[Tensor, "n d"], change: Float[Tensor, "n d"], taken: Bool[Tensor, "n"]) -> None:
        """Remember a pair where the step was taken and the loss curves upwards along it."""
        product, square = (step * change).sum(1), (change * change).sum(1)
        good = taken & (product > CURVED * square)
        place = self.count % len(self.weight)
        self.steps[place] = torch.where(good[:, None], step, 0)
        self.changes[place] = torch.where(good[:, None], change, 0)
        self.weight[place] = torch.where(good, 1 / product, 0)
        self.scale = torch.where(good, product / square, self.scale)
        self.count += 1

    def direction(self, slope: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return minus the approximate inverse Hessian times the slope (the two-loop recursion)."""
        order = [place % len(self.weight) for place in range(max(0, self.count - len(self.weight)), self.count)]
        left = slope.clone()
        shares = {}
        for place in reversed(order):
            shares[place] = self.weight[place] * (self.steps[place] * left).sum(1)
            left.addcmul_(shares[place][:, None], self.changes[place], value=-1)
        left *= torch.where(self.scale > 0, self.scale, 1)[:, None]
        for place in order:
            rest = shares[place] - self.weight[place] * (self.changes[place] * left).sum(1)
            left.addcmul_(rest[:, None], self.steps[place])
        down = (left * slope).sum(1) > 0  # lost in rounding, perhaps: then straight downhill
        return torch.where(down[:, None], -left, -slope)
