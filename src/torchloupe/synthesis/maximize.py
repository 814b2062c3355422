"""Pictures that drive a channel, a neuron, a class or a direction most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from torchloupe.errors import UsageError
from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.trace import at_once, channel_list, example, placed, resolve
from torchloupe.models.network import check_images
from torchloupe.runtime.progress import Progress
from torchloupe.synthesis.image_statistics import ImageStatistics, generic
from torchloupe.synthesis.optimize import optimize
from torchloupe.synthesis.parameterization import Maco, noise, parameterize
from torchloupe.synthesis.transforms import jitter, shifted, wobble

POOL = 32
"""Noise pictures tried for each copy; each unit starts from the one that drives it most."""
REACH = 2
"""Activations are averaged over all shifts of up to so many pixels (`shifted`): 13 places in a disc."""


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
    """The same, averaged over the 13 whole shifts of up to 2 pixels in length, the edge repeated; NaN if not asked."""
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
        """Activation over the best picture's; NaN where that is not above zero."""
        return None if self.best is None else torch.where(self.best > 0, self.activation / self.best, torch.nan)


@dataclass(frozen=True, eq=False)
class _Goal:
    """What is driven up."""

    layer: str
    channels: list[int]
    each: bool
    position: tuple[int, int] | None
    direction: Tensor | None

    @property
    def units(self) -> list[int]:
        """The channels that have a picture of their own; -1: one for all of them."""
        return self.channels if self.each else [-1]

    def activations(self, features: Float[Tensor, "n c y x"]) -> Float[Tensor, "n units"]:
        """Return what every unit does on every picture."""
        values = features.mean((2, 3)) if self.position is None else features[:, :, self.position[0], self.position[1]]
        if self.direction is not None:
            return values @ self.direction.to(values)[:, None]
        values = values[:, self.channels]
        return values if self.each else values.mean(1, keepdim=True)

    def activation(self, features: Float[Tensor, "n c y x"], rows: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Return what unit number `rows[i]` does on picture i."""
        return self.activations(features).gather(1, rows.to(features.device)[:, None])[:, 0]


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
    canvas: int | tuple[int, int] | None = None,
    steps: int = 64,
    lr: float = 0.15,
    copies: int = 3,
    diversity: float = 0.0,
    transforms: bool = True,
    shifts: bool = True,
    seed: int = 0,
    statistics: ImageStatistics | None = None,
    best: Float[Tensor, " channels"] | None = None,
    progress: Progress | None = None,
) -> Maximization:
    """Look for the pictures that drive units most, from noise or from photographs.

    A unit is a channel's spatial mean; with `position` ((y, x) or "center") one neuron of it; with layer="output" a
    class logit; with `direction` a direction over channels; without `each`, the mean of all `channels` together.
    `parameterization` is fourier (Olah et al. 2017), maco (Fel et al. 2023) or pixel. `statistics` are spectrum and
    colours of the network's data, `canvas` the side or sides of a picture from noise (the network's own by default;
    nothing is resized). From noise, each unit starts at the one of 32 noise pictures that drives it most. `best` are
    the data's best activations.

    Raises:
        ModelError: no such layer, or no gradient passes through it.
        UsageError: a channel or setting that there is not.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> maximize(net, "1", channels=[0, 5], canvas=9, steps=2, copies=1).pictures.shape
    torch.Size([2, 3, 9, 9])
    """
    if steps < 1 or copies < 1 or lr <= 0:
        raise UsageError(f"steps and copies are at least 1 and lr above 0, not {steps}, {copies} and {lr:g}.")
    if images is not None:
        check_images(images)
        if canvas is not None:
            raise UsageError(
                f"a canvas ({canvas}) is for pictures made from noise; those from photographs have the photographs' "
                "sides: leave canvas out, or resize the photographs."
            )
    blank = placed(model, images) if images is not None else example(model, canvas)
    name = resolve(model, layer, blank)
    natural = statistics or generic(blank.shape[2], blank.shape[3], blank.shape[1])
    climb = _Climb(parameterization, steps, lr, copies, diversity, transforms, shifts, seed)
    with frozen_eval(model):
        goal = _goal(model, name, blank, channels, each, position, direction)
        jobs = _jobs(goal.units, None if images is None else len(images), copies)
        made = _run(model, goal, blank, natural, jobs, climb, progress)
    return _result(goal, jobs, copies, made, best)


@dataclass(frozen=True)
class _Climb:
    """How the pictures are looked for."""

    kind: str
    steps: int
    lr: float
    copies: int
    diversity: float
    transforms: bool
    shifts: bool
    seed: int


def _goal(
    model: nn.Module,
    layer: str,
    canvas: Tensor,
    channels: list[int] | None,
    each: bool,
    position: tuple[int, int] | str | None,
    direction: Sequence[float] | None,
) -> _Goal:
    """Check what is asked for against the layer's maps."""
    with torch.no_grad():
        count, *sides = activations(model, layer, canvas[:1]).shape[1:]
    if isinstance(position, str):
        if position != "center":
            raise UsageError(f"position is 'center' or (y, x), not {position!r}.")
        position = (sides[0] // 2, sides[1] // 2)
    if position is not None and [type(each) for each in position] != [int, int]:
        raise UsageError(f"position is 'center' or (y, x), not {position!r}.")
    if position is not None and not (0 <= position[0] < sides[0] and 0 <= position[1] < sides[1]):
        raise UsageError(f"layer {layer!r} has maps of {sides[0]} x {sides[1]}: there is no position {position!r}.")
    aim = None if direction is None else torch.tensor(list(direction), dtype=canvas.dtype)
    if aim is not None and len(aim) != count:
        raise UsageError(f"a direction in layer '{layer}' has {count} numbers, not {len(aim)}.")
    return _Goal(layer, channel_list(channels, count, layer), each and aim is None, position, aim)


def _jobs(units: list[int], photographs: int | None, copies: int) -> Int64[Tensor, "n 3"]:
    """Return (photograph or -1, unit, copy) of every picture to be made; copies of a unit side by side."""
    pictures = torch.arange(photographs) if photographs is not None else torch.tensor([-1])
    return torch.cartesian_prod(pictures, torch.tensor(units), torch.arange(copies)).view(-1, 3)


def _run(
    model: nn.Module,
    goal: _Goal,
    canvas: Tensor,
    natural: ImageStatistics,
    jobs: Tensor,
    climb: _Climb,
    progress: Progress | None,
) -> tuple[Tensor, ...]:
    """Make all pictures, in chunks of whole units: pictures, activations, their means over shifts, clipped shares."""
    copies, steps = climb.copies, climb.steps
    chunk = max(1, at_once(model, goal.layer, canvas) // copies) * copies
    from_noise = bool((jobs[:, 0] < 0).all())
    pool, choice = _starts(model, goal, canvas, natural, copies, climb.seed) if from_noise else (canvas, None)
    changes = (jitter(max(1, canvas.shape[2] // 16), climb.seed), wobble(5.0, 0.05, climb.seed))
    parts: list[tuple[Tensor, ...]] = []
    for begin in range(0, len(jobs), chunk):
        image, unit, copy = jobs[begin : begin + chunk].T
        rows = torch.tensor([goal.units.index(u) for u in unit.tolist()])
        start = _apart(pool[image], copy, climb.seed) if choice is None else pool[choice[rows, copy]]
        picture = parameterize(climb.kind, start, natural)

        def loss(seen: Tensor, rows: Tensor = rows) -> Tensor:
            features = activations(model, goal.layer, seen)
            reached = goal.activation(features, rows)
            return -reached if not climb.diversity else climb.diversity * _alike(features, copies) - reached

        def on_step(step: int, losses: Tensor, begin: int = begin, many: int = len(image)) -> None:
            if progress is not None:
                progress(begin * steps + (step + 1) * many, len(jobs) * steps)

        final = optimize(
            loss, picture, steps=steps, lr=climb.lr, transforms=changes if climb.transforms else (), on_step=on_step
        )
        parts.append((final, *_figures(model, goal, final, rows, climb.shifts), _clipped(picture)))
    return tuple(torch.cat(each) for each in zip(*parts, strict=True))


def _result(goal: _Goal, jobs: Tensor, copies: int, made: tuple[Tensor, ...], best: Tensor | None) -> Maximization:
    image, channel, copy = jobs.T
    pictures, activation, moved, clipped = (part.cpu() for part in made)
    known = None
    if best is not None and goal.each and goal.position is None:
        known = best[channel].to(activation)
    spread = torch.full_like(activation, torch.nan)
    if copies > 1:
        spread = activation.view(-1, copies).std(1).repeat_interleave(copies)
    dead = activation == 0
    return Maximization(goal.layer, pictures, channel, image, copy, activation, moved, known, spread, clipped, dead)


def _starts(
    model: nn.Module, goal: _Goal, canvas: Tensor, natural: ImageStatistics, copies: int, seed: int
) -> tuple[Tensor, Int64[Tensor, "units copies"]]:
    """Return noise pictures, and for each unit and copy the number of the one of its 32 that drives it most."""
    shape = (int(canvas.shape[1]), int(canvas.shape[2]), int(canvas.shape[3]))
    pool = noise(shape, natural, seed, POOL * copies, canvas.dtype).to(canvas.device)
    step = at_once(model, goal.layer, canvas)
    with torch.no_grad():
        reached = torch.cat(
            [goal.activations(activations(model, goal.layer, part)) for part in torch.split(pool, step)]
        ).cpu()
    found = reached.T.reshape(-1, copies, POOL).argmax(2)
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
    gram = nn.functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
    cosine = torch.matmul(mine := gram.view(-1, copies, gram.shape[1]), mine.transpose(1, 2))
    others: Tensor = cosine.sum(2) - cosine.diagonal(dim1=1, dim2=2)
    return others.flatten() / max(1, copies - 1)


def _figures(model: nn.Module, goal: _Goal, pictures: Tensor, rows: Tensor, shifts: bool) -> tuple[Tensor, Tensor]:
    """Return the activation of finished pictures, and its mean over shifts."""
    around = range(-REACH, REACH + 1) if shifts else range(1)
    moves = [(y, x) for y in around for x in around if y * y + x * x <= REACH * REACH]
    with torch.no_grad():
        over = [goal.activation(activations(model, goal.layer, shifted(pictures, *move)), rows) for move in moves]
    still = over[len(moves) // 2]
    return still, torch.stack(over).mean(0) if shifts else torch.full_like(still, torch.nan)


def _clipped(picture: Any) -> Tensor:
    with torch.no_grad():
        if not isinstance(picture, Maco):
            return torch.zeros(len(picture()))
        free = picture.unclamped()
        return ((free < 0) | (free > 1)).flatten(1).float().mean(1)
