"""What a network puts out, turned into one logit a class: whatever it is packed in and however it ends.

| output | logits |
|---|---|
| `[b, classes]` | as they are |
| `[b, classes, h, w]` (segmentation) | the mean over positions |
| `[b, 1]` or `[b]`, of two classes | -z/2 and z/2, whose softmax gives the second class sigmoid(z) |
| what a sigmoid, softmax or log_softmax made | what went into it |
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from torchloupe.errors import ModelError

Part = str | int | Callable[[Any], Any] | None
"""Which part of an output holds the classes' logits: a key or attribute, an index, or a function of it.

None: what `logits` understands."""
VECTOR = 2
"""Axes of `[b, classes]`."""
TWO = 2
"""Classes of a network with one logit."""


def logits(output: object) -> Float[Tensor, "b classes"]:
    """Return the logits in a network's output, whatever it is packed in.

    Understood: the tensor itself, an object with `.logits`, a mapping with "logits", and a tuple or
    list that begins with it; `[b, classes]` and floating-point in each case.

    Raises:
        ModelError: none of these, with what it got.

    >>> logits((torch.zeros(2, 10), "features")).shape
    torch.Size([2, 10])
    >>> logits({"features": torch.zeros(2, 512)})
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: the network gives a dict with 'features', not logits...
    """
    found = part_of(output)
    if isinstance(found, Tensor) and found.ndim == VECTOR and found.is_floating_point():
        return found
    raise _not_understood(output)


def part_of(output: object, part: Part = None) -> Any:
    """Return the part of an output that holds the classes' logits; None where it has none by that name.

    >>> part_of({"out": 1, "aux": 2}, "out"), part_of(("boxes", "classes"), -1), part_of([3, 4]), part_of({"out": 1})
    (1, 'classes', 3, None)
    """
    if isinstance(output, Tensor) and not callable(part):
        return output if part is None else None
    if callable(part):
        return part(output)
    if isinstance(part, int):
        inside = output if isinstance(output, tuple | list) else _values(output)
        return inside[part] if -len(inside) <= part < len(inside) else None
    if part is not None:
        return output.get(part) if isinstance(output, Mapping) else getattr(output, part, None)
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits  # type: ignore[attr-defined]
    if isinstance(output, Mapping):
        return output.get("logits")
    return output[0] if isinstance(output, tuple | list) and output else None


def _values(output: object) -> list[Any]:
    if dataclasses.is_dataclass(output) and not isinstance(output, type | Mapping):
        return [getattr(output, field.name) for field in dataclasses.fields(output)]
    return list(output.values()) if isinstance(output, Mapping) else []


def scores(output: object, classes: int, part: Part = None) -> Float[Tensor, "b ..."]:
    """Return the tensor of an output that has a number a class (one for two classes): before any mean over positions.

    Raises:
        ModelError: there is none; it says what there is.

    >>> scores({"out": torch.zeros(2, 21, 8, 8)}, 21, "out").shape, scores(torch.zeros(4), 2).shape
    (torch.Size([2, 21, 8, 8]), torch.Size([4, 1]))
    """
    found = part_of(output, part)
    if isinstance(found, Tensor) and found.is_floating_point():
        if found.ndim == 1 and classes == TWO:
            return found[:, None]
        if found.ndim == VECTOR or (found.ndim > VECTOR and found.shape[1] in _widths(classes)):
            return found
    raise _not_understood(output, part)


def class_logits(found: Float[Tensor, "b ..."], classes: int) -> Float[Tensor, "b classes"]:
    """Return one logit a class of what `scores` found: means over positions; of one number for two classes -z/2, z/2.

    Raises:
        ModelError: they are not as many as the classes.

    >>> class_logits(torch.tensor([[3.0]]), 2), class_logits(torch.ones(1, 3, 2, 2), 3)
    (tensor([[-1.5000,  1.5000]]), tensor([[1., 1., 1.]]))
    """
    out = found.flatten(2).mean(2) if found.ndim > VECTOR else found
    if classes == TWO and out.shape[1] == 1:
        return torch.cat([-out / 2, out / 2], 1)
    if out.shape[1] != classes:
        raise ModelError(
            f"the network gives {out.shape[1]} outputs for {classes} classes. Check --classes, or name the part of its "
            "output that holds the classes with --output (output=)."
        )
    return out


def _widths(classes: int) -> tuple[int, ...]:
    return (classes, 1) if classes == TWO else (classes,)


def _not_understood(output: object, part: Part = None) -> ModelError:
    if part is not None and not callable(part):
        return ModelError(
            f"the network gives {describe(output)}: its part {part!r} holds no logits [b, classes]. Name another with "
            "--output (output=), or give wrap a function of the output."
        )
    said = "" if part is None else f"; output makes of it {describe(part_of(output, part))}"
    return ModelError(
        f"the network gives {describe(output)}, not logits [b, classes]{said}. Name the part that holds them with "
        "--output (output=), or let its forward return that tensor, an object with .logits, a dict with 'logits', or a "
        "tuple that begins with it."
    )


def describe(output: object) -> str:
    """Say what a network gives, in a few words.

    >>> describe([torch.zeros(2, 3)]), describe({"out": 1}), describe(None)
    ('a list of 1 beginning with a tensor of shape [2, 3] and type float32', "a dict with 'out'", 'a NoneType')
    """
    if isinstance(output, Tensor):
        return f"a tensor of shape {list(output.shape)} and type {str(output.dtype).removeprefix('torch.')}"
    if isinstance(output, Mapping):
        return f"{a(output)} with {', '.join(map(repr, list(output)[:5])) or 'nothing in it'}"
    if isinstance(output, tuple | list):
        return f"{a(output)} of {len(output)}" + (f" beginning with {describe(output[0])}" if output else "")
    return a(output)


def a(value: object) -> str:
    """Return the name of a value's class with its article.

    >>> a(3), a({})
    ('an int', 'a dict')
    """
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


ENDINGS: dict[Any, str] = {
    **dict.fromkeys((torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid), "sigmoid"),
    **dict.fromkeys((torch.special.expit,), "sigmoid"),
    **dict.fromkeys((torch.softmax, Tensor.softmax, F.softmax, torch.special.softmax), "softmax"),
    **dict.fromkeys((torch.log_softmax, Tensor.log_softmax, F.log_softmax, torch.special.log_softmax), "log_softmax"),
}
IN_PLACE = (torch.sigmoid_, Tensor.sigmoid_)


class Ending(TorchFunctionMode):
    """Inside it, what went into the last sigmoid, softmax or log_softmax is remembered: whoever computes it and how.

    >>> x = torch.tensor([[50.0, 0.0]])
    >>> with Ending() as end:
    ...     p = torch.nn.Softmax(1)(x)
    >>> end.behind(p), end.behind(x)
    (('softmax', tensor([[50.,  0.]])), ('', tensor([[50.,  0.]])))
    """

    def __init__(self) -> None:
        super().__init__()
        self.last: tuple[str, Tensor, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch; remember what goes in and comes out of one of `ENDINGS`."""
        kwargs = kwargs or {}
        kind = ENDINGS.get(func)
        if kind is None:
            return func(*args, **kwargs)
        before = args[0] if args else kwargs["input"]
        if func in IN_PLACE:
            before = before.clone()
        out = func(*args, **kwargs)
        if isinstance(out, Tensor):
            self.last = kind, before, out
        return out

    def behind(self, output: Tensor) -> tuple[str, Tensor]:
        """Return what made an output and what went in, in the output's shape; "" and itself where it was none of them.

        The output may be squeezed or viewed otherwise since.
        """
        if self.last is None:
            return "", output
        kind, before, made = self.last
        same = output is made or (
            output.data_ptr() == made.data_ptr()
            and [n for n in output.shape if n > 1] == [n for n in made.shape if n > 1]
            and output.dtype == made.dtype
        )
        return (kind, before.reshape(output.shape)) if same else ("", output)


def inverse(kind: str, output: Tensor) -> Tensor:
    """Return logits that a kind of ending gives such an output for: where what went in cannot be seen (compiled).

    >>> inverse("sigmoid", torch.tensor([0.5, 1.0]))[0], inverse("softmax", torch.tensor([1.0, 0.0]))[0]
    (tensor(0.), tensor(0.))
    """
    least = torch.finfo(output.dtype).tiny
    if kind == "sigmoid":
        return output.clamp(min=least).log() - (1 - output).clamp(min=torch.finfo(output.dtype).eps / 2).log()
    return output.clamp(min=least).log() if kind == "softmax" else output
