"""Feature inversion: the picture that a layer cannot tell from the original (Mahendran & Vedaldi 2015).

For features Φ of a layer and Φ₀ = Φ(original) it minimises

    ‖Φ(x) − Φ₀‖² / ‖Φ₀‖²  +  tv · V(x)  +  bounds · R(x)

V is total variation, R the mean squared distance from [0, 1] (both in `penalties`). x is written in the scale of nature
(`precondition.natural`) and starts as plain grey, so that what the layer does not fix stays smooth and grey; the
minimum is sought by L-BFGS, every picture with its own curvature (`lbfgs`).

**How strong the prior is follows from the layer, by one rule for all.** The first half of the steps takes `tv` as it
stands. The second takes tv · min(1, error / 2 %), with the error that each picture has by then. A layer that fixes
the picture reaches a small error and is then let go of the prior, so that the original comes back; a deep one, which
many pictures satisfy, keeps it whole and shows the smooth one among them. The rule has no unit: the error is relative
to Φ₀, and V is a mean over pixels in [0, 1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from torchloupe.errors import UsageError
from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.random_control import randomize, takes_twin
from torchloupe.features.trace import BYTES, at_once, channel_list, placed, resolve
from torchloupe.models.network import check_images
from torchloupe.runtime.memory import smaller
from torchloupe.runtime.progress import Progress
from torchloupe.synthesis.lbfgs import lbfgs
from torchloupe.synthesis.optimize import Loss, Picture, optimize
from torchloupe.synthesis.parameterization import natural, smooth
from torchloupe.synthesis.regularizers import out_of_range, total_variation
from torchloupe.synthesis.similarity import psnr, ssim

See = Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n channels y x"]]
Away = Callable[[Float[Tensor, "n channels y x"]], Float[Tensor, "n"]]

STEPS, STEPS_EACH = 80, 24
"""Passes by default; one channel is a small aim, and there are many of them."""
ROUGH = 0.5
"""Share of the steps that keep the whole prior."""
FITTED = 0.02
"""Error below which the prior is given up in proportion."""
FIRST, AGAIN = 0.1, 0.01
"""Root mean square of the first step tried, from the start and when the prior has changed."""
NOISE, TRIES = 0.2, 16
NEARER = 0.9
"""Grey is left for blobs whose error is less than this share of grey's."""
SILENT = 1e-4
"""An error this near to 1 is that of no answer at all: there the slope is zero, and no search can begin."""
RATE = 0.05


@dataclass(frozen=True, eq=False)
class Inversion:
    """Pictures made from features; `n` is one per picture, or one per picture and channel, picture by picture."""

    layer: str
    pictures: Float[Tensor, "n c h w"]
    """In [0, 1]."""
    images: Float[Tensor, "b c h w"]
    """The originals."""
    image: Int[Tensor, "n"]
    """Which of the originals each comes from."""
    channel: Int[Tensor, "n"]
    """Which channel alone each was made from; -1 for all the asked ones together."""
    error: Float[Tensor, "n"]
    """‖Φ(x) − Φ₀‖² / ‖Φ₀‖² of the picture as it is here; NaN where Φ₀ is zero everywhere: a dead channel."""
    psnr: Float[Tensor, "n"]
    """To the original, in dB."""
    ssim: Float[Tensor, "n"]
    history: Float[Tensor, "steps n"]
    """What was minimised, priors included, after each step."""
    randomized: "Inversion | None"
    """The parameter-randomization control, through random weights: what the architecture alone gives."""

    @property
    def twin(self) -> "Inversion | None":
        """`randomized`, by its name until version 0.2."""
        return self.randomized


@takes_twin
def invert(
    model: nn.Module,
    layer: str,
    images: Float[Tensor, "b c h w"],
    *,
    channels: Sequence[int] | int | None = None,
    each: bool = False,
    start: Literal["grey", "noise"] = "grey",
    steps: int | None = None,
    tv: float = 0.1,
    bounds: float = 1.0,
    jitter: int = 0,
    seed: int = 0,
    randomized: bool = True,
    control: nn.Module | None = None,
    progress: Progress | None = None,
) -> Inversion:
    """Remake images from a layer's activations: of all its channels, of some, or of each alone.

    `channels`: all where None; together, or with `each` one picture per channel. `start`: grey (or, where a unit does
    not answer to grey, the nearest of sixteen pictures of blobs), or one natural noise of `seed`, the same for all.
    `steps`: passes through the network, by default 80, with `each` 24. `tv` and `bounds` weigh total variation and
    values outside [0, 1]. `jitter` shifts the picture by up to so many pixels, anew at each step, around its edges; no
    curvature can be learned from such a moving aim, so that Adam takes the place of L-BFGS, and the prior stays whole.
    A dead channel (zero at every position) says nothing: its picture is the start, smoothed, and its error NaN.
    `randomized` adds the parameter-randomization control: the same through random weights, drawn by `seed`; BatchNorm
    statistics measured on some hundred pictures of the data, where these are at hand, else on `images`.

    Raises:
        DataError: no pictures in [0, 1].
        LayerError: no such layer, or one that puts out neither maps nor a vector.
        UsageError: a channel or a setting out of range.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> found = invert(net, "0", torch.rand(2, 3, 8, 8), steps=5)
    >>> found.pictures.shape, found.error.shape, found.randomized.channel
    (torch.Size([2, 3, 8, 8]), torch.Size([2]), tensor([-1, -1]))
    """
    check_images(images)
    steps = (STEPS_EACH if each else STEPS) if steps is None else steps
    if steps < 1 or tv < 0 or bounds < 0 or jitter < 0 or start not in ("grey", "noise") or not len(images):
        raise UsageError(
            "invert takes at least one picture and step, start 'grey' or 'noise', tv, bounds, jitter from 0 up, not "
            f"{len(images)} pictures, {steps=}, {start=}, {tv=}, {bounds=}, {jitter=}."
        )
    settings = _Settings(start, steps, tv, bounds, jitter, seed)
    layer = resolve(model, layer, images)
    images = placed(model, images)
    rounds = 2 if randomized else 1

    def run(net: nn.Module, before: int) -> Inversion:
        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(before * total + done, rounds * total)

        return _invert(net, layer, images, channels, each, settings, tell)

    found = run(model, 0)
    if not randomized:
        return found
    return replace(found, randomized=run(randomize(model, seed, images) if control is None else control, 1))


@dataclass(frozen=True)
class _Settings:
    start: str
    steps: int
    tv: float
    bounds: float
    jitter: int
    seed: int


def _invert(
    model: nn.Module,
    layer: str,
    images: Float[Tensor, "b c h w"],
    channels: Sequence[int] | int | None,
    each: bool,
    settings: _Settings,
    tell: Progress,
) -> Inversion:
    """Invert through one network, in as many chunks as memory asks for."""
    with frozen_eval(model):
        with torch.no_grad():
            count = activations(model, layer, images[:1]).shape[1]
        asked = channel_list(
            channels if channels is None or isinstance(channels, int) else list(channels), count, layer
        )
        groups = torch.tensor([[c] for c in asked] if each else [asked])
        image = torch.arange(len(images)).repeat_interleave(len(groups))
        group = torch.arange(len(groups)).repeat(len(images))
        chunks = torch.split(torch.arange(len(image)), at_once(model, layer, images, BYTES // 2))
        parts = []
        for number, units in enumerate(chunks):
            originals = images[image[units].to(images.device)]
            away, dead = _aim(model, layer, originals, groups[group[units]].to(images.device))

            def step_done(step: int, before: int = number) -> None:
                tell(before * settings.steps + step + 1, len(chunks) * settings.steps)

            see = partial(activations, model, layer)
            pictures, history = _search(see, away, originals.shape, images, settings, step_done)
            with torch.no_grad():
                left = torch.where(dead, torch.nan, away(see(pictures)))
                scores = left, psnr(pictures, originals), ssim(pictures, originals)
            parts.append([part.cpu() for part in (pictures, *scores, history.T)])
        pictures, left, signal, similar, history = (torch.cat(part) for part in zip(*parts, strict=True))
        channel = groups[group, 0] if each else torch.full_like(image, -1)
        return Inversion(layer, pictures, images.cpu(), image, channel, left, signal, similar, history.T, None)


def _aim(
    model: nn.Module, layer: str, originals: Float[Tensor, "n c h w"], channels: Int[Tensor, "n k"]
) -> tuple[Away, Bool[Tensor, "n"]]:
    """Return the normalised error of maps, and which originals have no feature but zeros: their error is 0."""
    rows = torch.arange(len(originals), device=originals.device)[:, None]

    def features(found: Tensor) -> Tensor:
        return (found if channels.shape[1] == found.shape[1] else found[rows, channels]).flatten(1)

    with torch.no_grad():
        sought = features(activations(model, layer, originals))
        largest = sought.abs().amax(1)
        dead = largest == 0
        largest = torch.where(dead, 1, largest)
        size = largest * (sought / largest[:, None]).norm(dim=1)  # the square of a tiny feature would be 0
        size = torch.where(dead, 1, size)

    def away(found: Float[Tensor, "n channels y x"]) -> Float[Tensor, "n"]:
        off = ((features(found) - sought) / size[:, None]).square().sum(1)
        return torch.where(dead, 0, off)

    return away, dead


def _search(
    see: See, away: Away, shape: torch.Size, like: Tensor, settings: _Settings, step_done: Callable[[int], None]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "steps n"]]:
    """Return the pictures with the least loss that was found, and the losses on the way."""
    noise = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        numbers = _start(see, away, shape, like, settings.start, noise)
    history: list[Tensor] = []

    def error(pictures: Tensor) -> Tensor:
        return away(see(pictures))

    def loss(pictures: Tensor, tv: Tensor | float) -> Tensor:
        return error(pictures) + settings.bounds * out_of_range(pictures) + tv * total_variation(pictures)

    def on_step(step: int, losses: Tensor) -> None:
        history.append(losses)
        step_done(len(history) - 1)

    if settings.jitter:
        found = optimize(
            partial(loss, tv=settings.tv),
            _Numbers(numbers),
            steps=settings.steps,
            lr=RATE,
            transforms=[_jitter(settings.jitter, noise)],
            on_step=on_step,
        )
        return found, torch.stack(history)
    rough = math.ceil(ROUGH * settings.steps)
    whole: Loss = lambda x: loss(natural(x), settings.tv)  # noqa: E731
    numbers = lbfgs(whole, numbers, steps=rough, first=FIRST, on_step=on_step)
    with torch.no_grad():
        weight = settings.tv * (error(natural(numbers)) / FITTED).clamp(max=1)
    eased: Loss = lambda x: loss(natural(x), weight)  # noqa: E731
    numbers = lbfgs(eased, numbers, steps=settings.steps - rough, first=AGAIN, on_step=on_step)
    with torch.no_grad():
        return natural(numbers).clamp(0, 1), torch.stack(history)


def _start(
    see: See, away: Away, shape: torch.Size, like: Tensor, start: str, noise: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Return the numbers to start from: zeros, or for each unit the nearest of a few pictures of blobs; or noise."""
    drawn = torch.randn(TRIES, *shape[1:], generator=noise, dtype=torch.float64)
    if start == "noise":
        return NOISE * drawn[:1].to(like.device, like.dtype).expand(shape).contiguous()
    tried = torch.cat([torch.zeros_like(drawn[:1]), smooth(drawn[:, :1]).expand_as(drawn)]).to(like.device, like.dtype)
    seen = torch.cat([see(natural(part)) for part in torch.split(tried, smaller(len(tried)))])
    off = torch.stack([away(found.expand(shape[0], *found.shape)) for found in seen])
    off = torch.where((off - 1).abs() < SILENT, torch.inf, off)
    off[0] *= NEARER
    return tried[off.argmin(0)]


class _Numbers(Picture):
    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        self.numbers = nn.Parameter(numbers)

    def forward(self) -> Tensor:
        return natural(self.numbers)


def _jitter(most: int, noise: torch.Generator) -> Callable[[Tensor, int], Tensor]:
    def moved(pictures: Tensor, step: int) -> Tensor:
        down, along = torch.randint(-most, most + 1, (2,), generator=noise).tolist()
        return pictures.roll((down, along), (2, 3))

    return moved
