"""From a layer's activations, or a class's logit, back to the image: what deconvnet, guided and gradient share.

This is the vector-Jacobian product of the network up to the layer, the vector being the activations that are kept (of
a class: 1 at its logit), with the rule of `rules.relu_backward` at every rectifier.
A convolution hands a signal back by its transpose, BatchNorm by its scale without its shift, a residual sum into
both branches. Where two pooling windows share one maximum their signals are summed (autograd's way; `MaxUnpool2d`
overwrites).
"""

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchloupe.attribution.rules import Rule, relu_backward
from torchloupe.errors import ModelError, UsageError, did_you_mean, short
from torchloupe.features.hooks import OUTPUT, activations, frozen_eval, is_output
from torchloupe.features.random_control import randomize
from torchloupe.features.receptive import receptive_fields
from torchloupe.features.trace import BYTES, at_once, channel_list, placed, resolve
from torchloupe.models.network import Network, check_images
from torchloupe.runtime.progress import Progress

Position = str | tuple[int, int] | Int64[Tensor, "b 2"] | None
Channels = list[int] | Int64[Tensor, "b"] | None
Target = int | str | Int64[Tensor, "b"] | None


@dataclass(frozen=True, eq=False)
class Backward:
    """Signals in the picture, one a result."""

    layer: str
    rule: Rule
    signal: Float[Tensor, "n c h w"]
    """Signed, with respect to pictures in [0, 1]."""
    images: Float[Tensor, "b c h w"]
    image: Int64[Tensor, "n"]
    """Which picture each result belongs to."""
    channel: Int64[Tensor, "n"]
    """Which channel it started from; -1: all of them together."""
    box: Int64[Tensor, "n 4"] | None
    """What its position sees, where it started from one: top, left, bottom, right in pixels, half open."""
    keep: float
    """Share of each map that it started from; 0 where it was one position, or a class."""
    kept: Int64[Tensor, "n"]
    """Cells it started from that are not zero."""
    randomized: "Backward | None"
    """The parameter-randomization control: the same through the network with random weights."""
    smooth: tuple[str, ...] = ()
    """Smooth functions on the way, which hand back their own derivative whatever the rule."""
    target: Int64[Tensor, "n"] | None = None
    """The class whose logit it started from, at the network's output."""

    @property
    def twin(self) -> "Backward | None":
        """`randomized`, by its name until version 0.2."""
        return self.randomized


def backpropagate(
    model: nn.Module,
    layer: str,
    images: Float[Tensor, "b c h w"],
    rule: Rule,
    *,
    keep: float,
    channels: Channels,
    each: bool,
    position: Position,
    randomized: bool,
    seed: int,
    progress: Progress | None,
    target: Target = None,
    control: nn.Module | None = None,
) -> Backward:
    """Backpropagate the kept activations of a layer to the image, by a rule.

    With `each` every channel of every picture by itself; with one channel a picture (`[b]`) that one alone. From the
    network's output, where no channels are named, it starts from 1 at the logit of one class, `target`; the control
    starts from the same class. `control` is the network with other weights; without it, it is drawn by `seed`.

    Raises:
        ModelError: no such layer, no signal that reaches the picture, or a network that hides its rectifiers.
        UsageError: a channel, position, fraction or class that there is not.

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU())
    >>> _ = nn.init.constant_(net[0].weight, 2.0)
    >>> settings = dict(keep=1.0, channels=None, each=False, position=None, randomized=False, seed=0, progress=None)
    >>> backpropagate(net, "1", torch.full((1, 1, 2, 2), 0.5), "gradient", **settings).signal.unique()
    tensor([2.])
    """
    check_images(images)
    if not 0 < keep <= 1:
        raise UsageError(f"keep is the share of each map that is kept, above 0 and up to 1, not {keep:g}.")
    name = resolve(model, layer, images)
    batch = placed(model, images)
    smooth: tuple[str, ...] = ()
    with frozen_eval(model), relu_backward(model, rule) as watch:
        with torch.no_grad():
            count, *sides = activations(model, name, batch[:1]).shape[1:]
        _check_position(position, sides, len(batch), name)
        free = channels is None and not each and position is None
        classes = _classes(model, name, batch, target, free=free, vector=sides == [1, 1], count=count)
        if watch is not None:
            smooth = watch.first(lambda: activations(model, name, batch[:1].clone().requires_grad_()))
        image, channel, asked = _pairs(channels, each, count, len(batch), name)
        size = at_once(model, name, batch, BYTES // 4)  # smaller pieces of memory are used again
        parts: list[tuple[Tensor, ...]] = []
        for start in range(0, len(image), size):
            chosen, units = image[start : start + size], channel[start : start + size]
            at = position[chosen] if isinstance(position, Tensor) else position
            aims = None if classes is None else classes[chosen]
            signal, cells, place = _chunk(model, name, batch[chosen], units, asked, keep, at, aims)
            parts.append((signal.cpu(), cells.cpu(), place.cpu()))
            if progress is not None:
                progress(min(start + size, len(image)), len(image))
    signals, kept, places = (torch.cat(each) for each in zip(*parts, strict=True))
    single = position is not None and (asked is None or position != "max")  # of many maps the maxima are many places
    box = _boxes(model, name, batch, places) if single else None
    other = None
    if randomized:
        settings: dict[str, Any] = {"keep": keep, "channels": channels, "each": each, "position": position}
        drawn = randomize(model, seed, batch) if control is None else control
        other = backpropagate(
            drawn, name, images, rule, randomized=False, seed=seed, progress=None, target=classes, **settings
        )
    fraction = keep if position is None and classes is None else 0.0
    plain = batch.detach().cpu()
    return Backward(name, rule, signals, plain, image, channel, box, fraction, kept, other, smooth, classes)


def _classes(
    model: nn.Module, layer: str, images: Tensor, target: Target, *, free: bool, vector: bool, count: int
) -> Int64[Tensor, "b"] | None:
    """Return the class that each image's signal starts from: the one asked for, else the one predicted."""
    if target is None and not (free and vector and is_output(model, layer)):
        return None
    if not is_output(model, layer):
        raise UsageError(f"target is a class of the layer {OUTPUT!r}; of layer {layer!r} name channels.")
    if not free:
        raise UsageError("target is where the signal starts from: leave channels, each and position out.")
    if target is None:
        size = at_once(model, layer, images)
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        with torch.no_grad():
            return torch.cat([activations(model, layer, part).mean((2, 3)).argmax(1).cpu() for part in parts])
    names = model.classes if isinstance(model, Network) else ()
    if isinstance(target, str) and target in names:
        target = names.index(target)
    elif isinstance(target, str) and target.isdecimal():
        target = int(target)
    found = target if isinstance(target, Tensor) else torch.tensor([target] if type(target) is int else [])
    fits = found.ndim == 1 and len(found) in (1, len(images)) and not found.is_floating_point()
    if not fits or not bool(((found >= 0) & (found < count)).all()):
        hint = did_you_mean(target[:99], list(names)) if isinstance(target, str) else ""
        raise UsageError(
            f"target is one of {count} classes, by its number from 0 or its name, or one for each image, not "
            f"{short(target)}{hint or '.'}"
        )
    return found.cpu().long().expand(len(images))


def _pairs(
    channels: Channels, each: bool, count: int, images: int, layer: str
) -> tuple[Int64[Tensor, "n"], Int64[Tensor, "n"], list[int] | None]:
    """Return picture and channel of every result; channel -1 and the list of channels where they go together."""
    if isinstance(channels, Tensor):
        if channels.shape != (images,):
            raise UsageError(f"channels are numbers, or one for each of the {images} pictures.")
        return torch.arange(images), torch.tensor(channel_list(channels.tolist(), count, layer)), None
    asked = channel_list(channels, count, layer)
    if not each:
        return torch.arange(images), torch.full((images,), -1), asked
    return torch.arange(images).repeat_interleave(len(asked)), torch.tensor(asked).repeat(images), None


def _chunk(
    model: nn.Module,
    layer: str,
    images: Tensor,
    units: Tensor,
    together: list[int] | None,
    keep: float,
    position: Position,
    classes: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Backpropagate, each image from its class, its own of `units` or all of `together`; signals, cells, a place."""
    x = images.clone().requires_grad_()
    features = activations(model, layer, x)
    values = features.detach()
    if together is None or len(together) < features.shape[1]:
        mask = torch.zeros(features.shape[:2], dtype=values.dtype, device=values.device)
        if together is None:
            mask[torch.arange(len(features), device=values.device), units.to(values.device)] = 1
        else:
            mask[:, together] = 1
        values = values * mask[:, :, None, None]
    start = initial_signal(values, keep, position) if classes is None else class_signal(values, classes)
    (signal,) = torch.autograd.grad(features, x, start, allow_unused=True)
    if signal is None:
        raise ModelError(f"layer {layer!r} does not depend on the picture. Name one that does.")
    return signal.detach(), torch.linalg.vector_norm(start, 0, (1, 2, 3)).long(), _places(values, position)


def _places(features: Float[Tensor, "n c y x"], position: Position) -> Int64[Tensor, "n 2"]:
    """Return the position that each signal starts from; of no meaning where it starts from several."""
    if isinstance(position, Tensor):
        return position
    if isinstance(position, tuple):
        return torch.tensor([position]).expand(len(features), 2)
    if position is None:
        return torch.zeros(len(features), 2, dtype=torch.int64)
    flat = features.sum(1).flatten(1).argmax(1)  # of one channel: the others are masked
    return torch.stack([flat // features.shape[3], flat % features.shape[3]], 1)


def _boxes(model: nn.Module, layer: str, images: Tensor, places: Int64[Tensor, "n 2"]) -> Int64[Tensor, "n 4"] | None:
    """Return what positions of a layer see; None where that is not known (the network's output)."""
    field = receptive_fields(model, (int(images.shape[2]), int(images.shape[3])), [layer]).get(layer)
    if field is None:
        return None
    rows, columns = field.rows[places[:, 0]], field.columns[places[:, 1]]
    return torch.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], 1)


def initial_signal(features: Float[Tensor, "b c y x"], keep: float, position: Position) -> Float[Tensor, "b c y x"]:
    """Return the activations that the signal starts from, all others zero.

    Of each map the strongest fraction `keep` by signed value, at least one cell, the earlier of equal ones; or one
    position: (y, x), one per picture `[b, 2]`, or "max", the strongest cell of each map.

    >>> initial_signal(torch.tensor([[[[1.0, 4.0], [3.0, 2.0]]]]), 0.5, None)[0, 0]
    tensor([[0., 4.],
            [3., 0.]])
    """
    flat = features.flatten(2)
    if position is None or position == "max":
        count = 1 if position == "max" else max(1, int(keep * flat.shape[2]))
        strongest, order = flat.topk(min(count + 1, flat.shape[2]), dim=2)
        out = torch.zeros_like(flat).scatter_(2, order[..., :count], strongest[..., :count])
        tied = strongest[..., count - 1] == strongest[..., -1] if count < flat.shape[2] else torch.tensor(False)
        if bool(tied.any()):  # topk takes any of equal ones
            some, least = flat[tied], strongest[..., count - 1][tied][:, None]
            above, equal = some > least, some == least
            room = count - above.sum(1, keepdim=True)
            out[tied] = torch.where(above | (equal & (equal.cumsum(1) <= room)), some, 0)
        return out.view_as(features)
    at = position if isinstance(position, Tensor) else torch.tensor([position])
    index = (at[:, 0] * features.shape[3] + at[:, 1]).to(features.device)
    order = index[:, None, None].expand(len(flat), flat.shape[1], 1)
    return torch.zeros_like(flat).scatter_(2, order, flat.gather(2, order)).view_as(features)


def class_signal(logits: Float[Tensor, "b c y x"], classes: Int64[Tensor, "b"]) -> Float[Tensor, "b c y x"]:
    """Return 1 at the logit of each image's class, of class maps as much over all positions, all others zero.

    >>> class_signal(torch.zeros(1, 3, 1, 1), torch.tensor([2])).flatten()
    tensor([0., 0., 1.])
    """
    start = torch.zeros_like(logits)
    start[torch.arange(len(logits), device=logits.device), classes.to(logits.device)] = 1 / logits[0, 0].numel()
    return start


def _check_position(position: Position, sides: list[int], images: int, layer: str) -> None:
    if position is None or position == "max":
        return
    if isinstance(position, Tensor):
        pairs = position.tolist() if position.shape == (images, 2) and not position.is_floating_point() else []
    else:
        pairs = [position] if is_pair(position) else []
    if not pairs:
        raise UsageError(f"position is 'max', (y, x), or one (y, x) a picture, not {position!r}.")
    if any(not (0 <= y < sides[0] and 0 <= x < sides[1]) for y, x in pairs):
        raise UsageError(f"layer {layer!r} has maps of {sides[0]} x {sides[1]}: there is no position {position!r}.")


def is_pair(position: object) -> TypeGuard[tuple[int, int]]:
    """Tell whether a position is (y, x), in whole numbers.

    >>> is_pair((3, 4)), is_pair((1, 2, 3)), is_pair("max")
    (True, False, False)
    """
    return isinstance(position, tuple) and [type(each) for each in position] == [int, int]
