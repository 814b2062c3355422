"""Pictures that drive a channel, a neuron, a class or a direction most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from torchloupe.budget import at_once
from torchloupe.errors import UsageError
from torchloupe.hooks import inspecting, maps
from torchloupe.network import check_pictures
from torchloupe.optimize import optimize
from torchloupe.parameters import Maco, noise, parameterise
from torchloupe.spectrum import PictureStatistics, generic
from torchloupe.survey import channel_list, example, placed, resolve
from torchloupe.transforms import jitter, shifted, wobble

POOL = 32
"""Noise pictures tried for each copy; each unit starts from the one that drives it most."""
REACH = 2
"""Pixels of shift under which activations are averaged (`shifted`)."""


@dataclass(frozen=True, eq=False)
class Maximization:
    """Maximising pictures, flat over pictures, channels and copies."""

    layer: str
    pictures: Float[Tensor, "n c h w"]
    channel: Int64[Tensor, "n"]
    """-1: all of the asked channels together, or a direction."""
    image: Int64[Tensor, "n"]
    """Which photograph it started from; -1: noise."""
    copy: Int64[Tensor, "n"]
    activation: Float[Tensor, "n"]
    """Reached by the picture as it is: spatial mean of the channel (or what was asked for)."""
    shifted: Float[Tensor, "n"]
    """The same, averaged over all shifts of up to 2 pixels, the edge repeated."""
    best: Float[Tensor, "n"] | None
    """Strongest activation of any picture of the data, where it is known."""
    spread: Float[Tensor, "n"]
    """Standard deviation of the activation over copies; NaN for one."""
    clipped: Float[Tensor, "n"]
    """Share of values that the range clamp changed (maco), in [0, 1]."""
    dead: Bool[Tensor, "n"]
    """The unit stayed at zero."""

    @property
    def ratio(self) -> Float[Tensor, "n"] | None:
        """Activation over the best picture's."""
        return None if self.best is None else self.activation / self.best


@dataclass(frozen=True, eq=False)
class _Goal:
    """What is driven up."""

    layer: str
    channels: list[int]
    each: bool
    position: tuple[int, int] | str | None
    direction: Tensor | None

    def of(self, model: nn.Module, pictures: Tensor, units: Tensor | None) -> Tensor:
        """Return the activation of each picture `[n]`, or without `units` of each picture and unit `[n, units]`."""
        features = maps(model, self.layer, pictures)
        if self.position is None:
            values = features.mean((2, 3))
        else:
            middle = (features.shape[2] // 2, features.shape[3] // 2)
            y, x = middle if isinstance(self.position, str) else self.position
            values = features[:, :, y, x]
        if self.direction is not None:
            values = values @ self.direction.to(values)[:, None]
        elif not self.each:
            values = values[:, self.channels].mean(1, keepdim=True)
        if units is None:
            return values if self.direction is not None or not self.each else values[:, self.channels]
        return values.gather(1, units.to(values.device)[:, None])[:, 0]


def maximize(
    model: nn.Module,
    layer: str = "last",
    images: Float[Tensor, "b c h w"] | None = None,
    *,
    channels: list[int] | None = None,
    each: bool = True,
    position: tuple[int, int] | str | None = None,
    direction: Sequence[float] | None = None,
    parameterization: str = "fourier",
    size: int | None = None,
    steps: int = 64,
    lr: float = 0.15,
    copies: int = 3,
    diversity: float = 0.0,
    transforms: bool = True,
    seed: int = 0,
    statistics: PictureStatistics | None = None,
    best: Float[Tensor, "channels"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Maximization:
    """Look for the pictures that drive units most, from noise or from photographs.

    A unit is a channel's spatial mean; with `position` ((y, x) or "center") one neuron of it; with layer="output" a
    class logit; with `direction` a direction over channels; without `each`, the mean of all `channels` together.
    `parameterization` is fourier (Olah et al. 2017), maco (Fel et al. 2023) or pixel. `statistics` are spectrum and
    colours of the network's data, `size` the canvas (the network's own by default; nothing is resized). From noise,
    each unit starts at the one of 32 noise pictures that drives it most. `best` are the data's best activations.

    Raises:
        ModelError: no such layer, or no gradient passes through it.
        UsageError: a channel or setting that there is not.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> maximize(net, "1", channels=[0, 5], size=9, steps=2, copies=1).pictures.shape
    torch.Size([2, 3, 9, 9])
    """
    if steps < 1 or copies < 1 or lr <= 0:
        raise UsageError(f"steps and copies are at least 1 and lr above 0, not {steps}, {copies} and {lr:g}.")
    if images is not None:
        check_pictures(images)
    canvas = placed(model, images) if images is not None else example(model, size)
    name = resolve(model, layer, canvas)
    told = statistics or generic(canvas.shape[2], canvas.shape[3], canvas.shape[1])
    aim = None if direction is None else torch.tensor(list(direction), dtype=canvas.dtype)
    with inspecting(model):
        with torch.no_grad():
            count = maps(model, name, canvas[:1]).shape[1]
        asked = channel_list(channels, count, name)
        if aim is not None and len(aim) != count:
            raise UsageError(f"a direction in layer '{name}' has {count} numbers, not {len(aim)}.")
        goal = _Goal(name, asked, each and aim is None, position, aim)
        jobs = _jobs(asked if goal.each else [-1], None if images is None else len(images), copies)
        made = _run(
            model,
            goal,
            canvas,
            images is not None,
            told,
            jobs,
            parameterization,
            steps,
            lr,
            diversity,
            transforms,
            seed,
            progress,
        )
    image, channel, copy = jobs.T
    pictures, activation, moved, clipped = (part.cpu() for part in made)
    known = (
        best[channel.clamp(min=0)].where(channel >= 0, torch.nan).to(activation)
        if best is not None and goal.each and position is None
        else None
    )
    per_unit = activation.view(-1, copies)
    spread = (
        per_unit.std(1, keepdim=True).expand(-1, copies).flatten()
        if copies > 1
        else torch.full_like(activation, torch.nan)
    )
    return Maximization(
        name, pictures, channel, image, copy, activation, moved, known, spread, clipped, activation == 0
    )


def _jobs(units: list[int], photographs: int | None, copies: int) -> Int64[Tensor, "n 3"]:
    """Return (photograph or -1, unit, copy) of every picture to be made; copies of a unit side by side."""
    pictures = torch.arange(photographs) if photographs is not None else torch.tensor([-1])
    return torch.cartesian_prod(pictures, torch.tensor(units), torch.arange(copies)).view(-1, 3)


def _run(
    model: nn.Module,
    goal: _Goal,
    canvas: Tensor,
    photographs: bool,
    told: PictureStatistics,
    jobs: Tensor,
    kind: str,
    steps: int,
    lr: float,
    diversity: float,
    transforms: bool,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Tensor, ...]:
    copies = int(jobs[:, 2].max()) + 1
    chunk = max(1, at_once(model, goal.layer, canvas) // copies) * copies
    starts = None if photographs else _starts(model, goal, canvas, told, copies, seed)
    changes = (jitter(max(1, canvas.shape[2] // 16), seed), wobble(5.0, 0.05, seed)) if transforms else ()
    parts: list[tuple[Tensor, ...]] = []
    for begin in range(0, len(jobs), chunk):
        image, unit, copy = jobs[begin : begin + chunk].T
        columns = unit if goal.each else torch.zeros_like(unit)
        if starts is None:
            start = canvas[image] if copies == 1 else _apart(canvas[image], copy, seed)
        else:
            pool, choice = starts
            start = pool[
                choice[torch.tensor([goal.channels.index(u) if goal.each else 0 for u in unit.tolist()]), copy]
            ]
        picture = parameterise(kind, start, told)

        def loss(seen: Tensor, columns: Tensor = columns) -> Tensor:
            reached = goal.of(model, seen, columns)
            return -reached if not diversity else _alike(maps(model, goal.layer, seen), copies) * diversity - reached

        def on_step(step: int, losses: Tensor, begin: int = begin, many: int = len(image)) -> None:
            if progress is not None:
                progress(begin * steps + (step + 1) * many, len(jobs) * steps)

        final = optimize(loss, picture, steps=steps, lr=lr, transforms=changes, on_step=on_step)
        parts.append((final, *_figures(model, goal, final, columns), _clipped(picture)))
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))


def _starts(
    model: nn.Module, goal: _Goal, canvas: Tensor, told: PictureStatistics, copies: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return noise pictures, and for each unit and copy the number of the one of its 32 that drives it most."""
    shape = (int(canvas.shape[1]), int(canvas.shape[2]), int(canvas.shape[3]))
    pool = noise(shape, told, seed, POOL * copies, canvas.dtype).to(canvas.device)
    step = at_once(model, goal.layer, canvas)
    with torch.no_grad():
        reached = torch.cat([goal.of(model, pool[i : i + step], None) for i in range(0, len(pool), step)]).cpu()
    found = reached.T.unflatten(1, (copies, POOL)).argmax(2)
    return pool, found + POOL * torch.arange(copies)


def _apart(pictures: Tensor, copy: Tensor, seed: int) -> Tensor:
    """Add a little noise to every copy but the first, so that copies of one photograph differ."""
    generator = torch.Generator().manual_seed(seed)
    many = int(copy.max()) + 1
    grain = 0.05 * torch.randn((many, *pictures.shape[1:]), generator=generator, dtype=torch.float64)
    grain[0] = 0
    return (pictures + grain[copy].to(pictures)).clamp(0, 1)


def _alike(features: Tensor, copies: int) -> Tensor:
    """Return for each picture the mean cosine of its Gram matrix to those of the unit's other copies."""
    flat = features.flatten(2)
    gram = torch.nn.functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1).unflatten(0, (-1, copies))
    cosine = gram @ gram.transpose(1, 2)
    others = cosine.sum(2) - cosine.diagonal(dim1=1, dim2=2)
    return others.flatten() / max(1, copies - 1)


def _figures(model: nn.Module, goal: _Goal, pictures: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """Return the activation of finished pictures, and its mean over shifts."""
    with torch.no_grad():
        moves = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]
        over = torch.stack([goal.of(model, shifted(pictures, *move), units) for move in moves])
    return over[len(moves) // 2], over.mean(0)


def _clipped(picture: Any) -> Tensor:
    with torch.no_grad():
        if not isinstance(picture, Maco):
            return torch.zeros(len(picture()))
        free = picture.unclamped()
        return ((free < 0) | (free > 1)).flatten(1).float().mean(1)
