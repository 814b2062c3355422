"""What every explanation of an answer shares: which logit it is of, its gradient, and the map that comes out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchloupe.errors import UsageError, did_you_mean, short
from torchloupe.features.hooks import OUTPUT, activations, frozen_eval
from torchloupe.features.trace import at_once, placed
from torchloupe.models.network import Network, check_images

One = int | str
Target = One | tuple[One, One] | list[int] | Int64[Tensor, "b"] | None
"""A class by number or name, two of them (the first and not the second), one number a picture, or the predicted."""

Baseline = float | Float[Tensor, "..."]
"""A brightness, a picture `[c, h, w]`, or one a picture `[b, c, h, w]`."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """One signed map a picture: what spoke for a class (above 0) and against it (below)."""

    name: str
    """Of the method."""
    layer: str
    """Whose maps were weighed; `output` where the explanation is of pixels."""
    map: Float[Tensor, "b h w"]
    """At the picture's size, in the method's own unit: never scaled by its own maximum."""
    images: Float[Tensor, "b c h w"]
    target: Int64[Tensor, "b"]
    against: Int64[Tensor, "b"] | None = None
    """The class whose logit is taken off."""
    residual: Float[Tensor, "b"] | None = None
    """Share of the logit's difference that the map misses (negative) or has too much: of methods that should sum up."""


@dataclass(frozen=True)
class Aim:
    """Which logit of each picture is explained: of `target`, minus that of `against` where there is one."""

    target: Int64[Tensor, "b"]
    against: Int64[Tensor, "b"] | None = None

    def of(self, logits: Float[Tensor, "b classes"]) -> Float[Tensor, "b"]:
        """Return the number that is explained.

        >>> Aim(torch.tensor([1]), torch.tensor([0])).of(torch.tensor([[1.0, 5.0]]))
        tensor([4.])
        """
        found = logits.gather(1, self.target.to(logits.device)[:, None])[:, 0]
        return found if self.against is None else found - Aim(self.against).of(logits)

    def __getitem__(self, part: "slice | Tensor") -> "Aim":
        """Return the aim of some of the pictures.

        >>> Aim(torch.tensor([3, 4]))[1:].target
        tensor([4])
        """
        return Aim(self.target[part], None if self.against is None else self.against[part])


def class_logits(model: nn.Module, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
    """Return a logit a class, of class maps their mean over positions, with the gradient graph. In `frozen_eval`.

    >>> with frozen_eval(nn.Conv2d(3, 4, 1)) as net:
    ...     class_logits(net, torch.rand(2, 3, 5, 5)).shape
    torch.Size([2, 4])
    """
    return activations(model, OUTPUT, images).mean((2, 3))


def score_gradient(
    model: nn.Module, images: Float[Tensor, "b c h w"], aim: Aim
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b c h w"]]:
    """Return the explained number of each picture and its gradient. In `frozen_eval`.

    >>> with frozen_eval(nn.Flatten()) as net:
    ...     score_gradient(net, torch.ones(1, 1, 1, 2), Aim(torch.tensor([1])))[1].flatten()
    tensor([0., 1.])
    """
    x = images.detach().clone().requires_grad_()
    score = aim.of(class_logits(model, x))
    (gradient,) = torch.autograd.grad(score.sum(), x)
    return score.detach(), gradient.detach()


@contextmanager
def explained(
    model: nn.Module, images: Float[Tensor, "b c h w"], target: Target
) -> Iterator[tuple[Float[Tensor, "b c h w"], Aim, int]]:
    """Yield pictures where the network is, whose logit is explained, and how many pictures go at once.

    The network is in `frozen_eval`, and so takes pixels outside [0, 1], where noise brings them.

    Raises:
        UsageError: no such pictures, or no such class.

    >>> with explained(nn.Flatten(), torch.rand(1, 1, 1, 2), 1) as (batch, aim, size):
    ...     aim.target
    tensor([1])
    """
    check_images(images)
    with frozen_eval(model):
        batch = placed(model, images)
        size = at_once(model, OUTPUT, batch)
        yield batch, _aim(model, batch, target, size), size


def by_parts(
    work: Callable[[Tensor, Aim], tuple[Tensor, ...]], images: Float[Tensor, "b c h w"], aim: Aim, size: int
) -> list[Tensor]:
    """Return what `work` gives of so many pictures at a time, joined, on the CPU.

    >>> by_parts(lambda images, aim: (images.sum((1, 2, 3)),), torch.ones(3, 1, 1, 2), Aim(torch.zeros(3).long()), 2)
    [tensor([2., 2., 2.])]
    """
    pieces = [slice(start, start + size) for start in range(0, len(images), size)]
    parts = [[each.detach().cpu() for each in work(images[piece], aim[piece])] for piece in pieces]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def plain_picture(baseline: Baseline, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return what stands for nothing, in the images' shape.

    Raises:
        UsageError: it does not fit them, or is no brightness.

    >>> plain_picture(0.5, torch.zeros(1, 1, 1, 2)).flatten()
    tensor([0.5000, 0.5000])
    """
    found = torch.as_tensor(baseline, dtype=images.dtype, device=images.device)
    try:
        plain = found.expand_as(images).contiguous()
    except RuntimeError:
        raise UsageError(
            f"the baseline is a brightness or a picture of {list(images.shape[1:])}, not of {list(found.shape)}."
        ) from None
    if not bool(((plain >= 0) & (plain <= 1)).all()):
        raise UsageError("the baseline is a picture in [0, 1], as pictures are.")
    return plain


def missing(total: Float[Tensor, "b"], gain: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Return by which share of a gain its parts, which should sum to it, do not.

    >>> missing(torch.tensor([9.0]), torch.tensor([10.0]))
    tensor([-0.1000])
    """
    return (total - gain) / gain.abs().clamp(min=torch.finfo(gain.dtype).tiny ** 0.5)


def _aim(model: nn.Module, images: Tensor, target: Target, size: int) -> Aim:
    with torch.no_grad():
        if target is None:
            starts = range(0, len(images), size)
            return Aim(torch.cat([class_logits(model, images[i : i + size]).argmax(1).cpu() for i in starts]))
        count = class_logits(model, images[:1]).shape[1]
    names = model.classes if isinstance(model, Network) else ()
    pair = _pair(target, names)
    if pair is not None:
        first, second = (_numbers(each, names, count, len(images)) for each in pair)
        return Aim(first, second)
    assert not isinstance(target, tuple)
    return Aim(_numbers(target, names, count, len(images)))


def _pair(target: Target, names: Sequence[str]) -> tuple[One, One] | None:
    """Return both classes of "cat-dog" or of a pair; None for one."""
    if isinstance(target, tuple):
        if len(target) != 2 or not all(isinstance(each, int | str) for each in target):
            raise UsageError(f"target is a class or a pair of two, not {short(target)}.")
        return target
    if not isinstance(target, str) or target in names:
        return None
    cuts = [i for i, letter in enumerate(target) if letter == "-"]
    ways = [(target[:i], target[i + 1 :]) for i in cuts]
    known = {*names, *map(str, range(len(names)))}
    return next(((a, b) for a, b in ways if a in known and b in known), None)


def _numbers(target: One | list[int] | Tensor, names: Sequence[str], count: int, images: int) -> Int64[Tensor, "b"]:
    if isinstance(target, str) and target in names:
        target = names.index(target)
    elif isinstance(target, str) and target.isdecimal():
        target = int(target)
    asked: object = [target] if type(target) is int else target
    found = torch.as_tensor(asked) if isinstance(asked, list | Tensor) and len(asked) else torch.zeros(0)
    fits = found.ndim == 1 and len(found) in (1, images) and not found.is_floating_point()
    if not fits or not bool(((found >= 0) & (found < count)).all()):
        hint = did_you_mean(target[:99], list(names)) if isinstance(target, str) else ""
        raise UsageError(
            f"target is one of {count} classes, by its number from 0 or its name, two of them (cat-dog), or one number "
            f"for each picture, not {short(target)}{hint or '.'}"
        )
    return found.cpu().long().expand(images)
