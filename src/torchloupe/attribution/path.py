"""Gradients by pixel and their averages: over a path from a plain picture, over noise, or none."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.attribution.maps import (
    Aim,
    Attribution,
    Baseline,
    Target,
    by_parts,
    class_logits,
    explained,
    missing,
    plain_picture,
    score_gradient,
)
from torchloupe.errors import UsageError
from torchloupe.runtime.progress import Progress

MOST = 512
"""Steps beyond which an integral is left as it is, and its residual told."""


def input_x_gradient(
    model: nn.Module, images: Float[Tensor, "b c h w"], *, target: Target = None, baseline: Baseline = 0.5
) -> Attribution:
    """Multiply the gradient by how far each pixel is from a plain picture.

    Shrikumar et al. 2016: (x - baseline) · gradient, summed over colours: exact for a linear network, whose logit it
    sums to. `residual` is by which share it does not.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class, pictures or baseline.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> bool(input_x_gradient(net, torch.rand(2, 3, 2, 2)).residual.abs().max() < 1e-4)
    True
    """
    with explained(model, images, target) as (batch, aim, size):
        plain = plain_picture(baseline, batch)

        def work(part: Tensor, aims: Aim) -> tuple[Tensor, ...]:
            return score_gradient(model, part, aims)

        score, gradient = by_parts(work, batch, aim, size)
        (start,) = by_parts(lambda part, aims: (_scores(model, part, aims),), plain, aim, size)
        found = ((batch - plain).cpu() * gradient).sum(1)
        residual = missing(found.sum((1, 2)), score - start)
        return Attribution("input-x-gradient", "output", found, batch.cpu(), aim.target, aim.against, residual)


def integrated_gradients(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    target: Target = None,
    baseline: Baseline = 0.5,
    steps: int = 16,
    tolerance: float = 0.01,
    progress: Progress | None = None,
) -> Attribution:
    """Integrate the gradient on the way from a plain picture; it sums to what the logit gains.

    Sundararajan et al. 2017: (x - baseline) · the mean gradient on the straight way, by Gauss-Legendre quadrature of
    `steps` points, doubled (up to 512) for pictures whose sum misses the gain by more than the share `tolerance`.
    `residual` is what is missing in the end. With `tolerance` 0 it is `steps` points and no more.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class, pictures, baseline, or less than one step.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> bool(integrated_gradients(net, torch.rand(2, 3, 2, 2)).residual.abs().max() < 1e-3)
    True
    """
    if steps < 1 or tolerance < 0:
        raise UsageError("integrated gradients take one step or more, and a tolerance of 0 or more.")
    with explained(model, images, target) as (batch, aim, size):
        plain = plain_picture(baseline, batch)
        ends = [
            by_parts(lambda part, aims: (_scores(model, part, aims),), each, aim, size)[0] for each in (batch, plain)
        ]
        gain = ends[0] - ends[1]
        found = torch.zeros(batch.shape, dtype=batch.dtype)
        left = torch.arange(len(batch))
        while len(left):
            found[left] = _integral(model, batch[left], plain[left], aim[left], steps, size)
            residual = missing(found.sum((1, 2, 3)), gain)
            if progress is not None:
                progress(len(batch) - len(left), len(batch))
            left = (residual.abs() > tolerance).nonzero()[:, 0] if tolerance and steps < MOST else left[:0]
            steps *= 2
        return Attribution(
            "integrated-gradients", "output", found.sum(1), batch.cpu(), aim.target, aim.against, residual
        )


def smoothgrad(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    target: Target = None,
    noise: float = 0.15,
    copies: int = 24,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """Average the gradient over noisy copies of the picture.

    Smilkov et al. 2017, "SmoothGrad": the mean gradient over `copies` with normal noise of standard deviation `noise`,
    of the range from black to white, the same noise for each picture; signed, and summed over colours.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class or pictures, or less than one copy.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> smoothgrad(net, torch.rand(2, 3, 2, 2), copies=2).map.shape
    torch.Size([2, 2, 2])
    """
    _some(copies)
    with explained(model, images, target) as (batch, aim, size):
        total = torch.zeros(batch.shape, dtype=batch.dtype)
        generator = torch.Generator().manual_seed(seed)
        for copy in range(copies):
            shift = noise * torch.randn(batch.shape[1:], generator=generator, dtype=torch.float64).to(batch)
            total += by_parts(lambda part, aims: score_gradient(model, part, aims), batch + shift, aim, size)[1]
            if progress is not None:
                progress(copy + 1, copies)
        return Attribution("smoothgrad", "output", (total / copies).sum(1), batch.cpu(), aim.target, aim.against)


def gradient_shap(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    target: Target = None,
    baselines: Float[Tensor, "k c h w"] | None = None,
    noise: float = 0.05,
    copies: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """Average the gradient at random points of the way from plain pictures, times the way.

    Lundberg & Lee 2017 and Erion et al. 2021, "expected gradients": the mean over `copies` of (x + noise - b) · the
    gradient at b + t·(x + noise - b), t even in [0, 1], b one of `baselines`, by default of eleven greys from black to
    white. In expectation it sums to the logit's gain over the mean baseline; `residual` is what it misses.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class or pictures, or less than one copy.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> gradient_shap(net, torch.rand(2, 3, 2, 2), copies=2).map.shape
    torch.Size([2, 2, 2])
    """
    _some(copies)
    with explained(model, images, target) as (batch, aim, size):
        if baselines is None:
            greys = torch.linspace(0, 1, 11, dtype=batch.dtype, device=batch.device)
            baselines = greys[:, None, None, None].expand(-1, *batch.shape[1:])
        known = baselines.to(batch)
        total = torch.zeros(batch.shape, dtype=batch.dtype)
        gain = torch.zeros(len(batch), dtype=batch.dtype)
        generator = torch.Generator().manual_seed(seed)
        for copy in range(copies):
            start = known[int(torch.randint(len(known), (), generator=generator))].expand_as(batch)
            shift = noise * torch.randn(batch.shape[1:], generator=generator, dtype=torch.float64).to(batch)
            at = torch.rand((), generator=generator, dtype=torch.float64).item()
            way = batch + shift - start
            total += (
                way.cpu()
                * by_parts(lambda part, aims: score_gradient(model, part, aims), start + at * way, aim, size)[1]
            )
            ends = [by_parts(lambda part, aims: (_scores(model, part, aims),), x, aim, size)[0] for x in (batch, start)]
            gain += ends[0] - ends[1]
            if progress is not None:
                progress(copy + 1, copies)
        found = total.sum(1) / copies
        residual = missing(found.sum((1, 2)), gain / copies)
        return Attribution("gradient-shap", "output", found, batch.cpu(), aim.target, aim.against, residual)


def _some(copies: int) -> None:
    if copies < 1:
        raise UsageError(f"copies is 1 or more, not {copies}.")


def _scores(model: nn.Module, images: Tensor, aim: Aim) -> Float[Tensor, "b"]:
    with torch.no_grad():
        return aim.of(class_logits(model, images))


def _integral(
    model: nn.Module, images: Tensor, plain: Tensor, aim: Aim, steps: int, size: int
) -> Float[Tensor, "b c h w"]:
    """Return the way times the mean gradient on it, by `steps` points of Gauss and Legendre, all of them in batches."""
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(steps))
    at = ((nodes + 1) / 2).to(images)
    share = (weights / 2).to(images.dtype)
    total = torch.zeros(images.shape, dtype=images.dtype)
    way = images - plain
    which = torch.arange(len(images)).repeat_interleave(steps)
    point = torch.arange(steps).repeat(len(images))
    for begin in range(0, len(which), size):
        one, step = which[begin : begin + size], point[begin : begin + size]
        shown = plain[one] + at[step.to(at.device)][:, None, None, None] * way[one]
        _, gradient = score_gradient(model, shown, aim[one])
        total.index_add_(0, one, gradient.cpu() * share[step][:, None, None, None])
    return total * way.cpu()
