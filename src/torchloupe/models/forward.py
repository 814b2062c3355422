"""A wall round a network's own code: what it raises, forwards or backwards, becomes one sentence; ours stays ours."""

import linecache
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

import torchloupe
from torchloupe.errors import ForwardError, LoupeError, ModelError, printable
from torchloupe.runtime.memory import is_out_of_memory

PACKAGE, TORCH = Path(torchloupe.__file__).parent, Path(torch.__file__).parent
SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 48, 16, 8)
"""Sides of pictures that are tried where a network fails on another, the usual ones first."""
CHANNELS = (3, 1, 4)
IMAGE_AXES = 4
CAUSES = (
    ("scalar types: Long, Int", "It takes whole numbers (an embedding), not pictures in [0, 1]."),
    (
        "missing 1 required",
        "Its forward takes more than a batch of pictures: wrap it in a module that passes the rest.",
    ),
    (
        "missing 2 required",
        "Its forward takes more than a batch of pictures: wrap it in a module that passes the rest.",
    ),
    ("takes 1 positional", "Its forward takes pictures by keyword only: wrap it in a module that takes them in place."),
    ("torch.utils.checkpoint is incompatible", "It checkpoints with use_reentrant=True: take use_reentrant=False."),
)
"""What an error's text holds, and what to do."""


def called(net: nn.Module, images: Any) -> Any:
    """Return what a network gives for images; its own errors in one sentence.

    Raises:
        ForwardError: the network's forward raised an error.

    >>> called(nn.Linear(2, 2), torch.zeros(1, 2)).shape
    torch.Size([1, 2])
    """
    if torch.compiler.is_compiling():
        return net(images)
    with walled(net):
        return net(images)


def check_ready(net: nn.Module) -> None:
    """Refuse a network without weights.

    Raises:
        ModelError: its weights are on the meta device, or those of lazy layers.

    >>> check_ready(nn.Sequential(nn.LazyLinear(3)))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: the network's lazy layers have no weights yet ('0.weight'): run it on a picture first.
    """
    for name, parameter in net.named_parameters():
        if is_lazy(parameter):
            raise ModelError(f"the network's lazy layers have no weights yet ({name!r}): run it on a picture first.")
        if parameter.is_meta:
            raise ModelError(
                f"the network's weights are on the meta device, without values ({name!r}): load them first."
            )


@contextmanager
def walled(net: nn.Module) -> Iterator[None]:
    """Turn what the code of `net` raises inside into a `ForwardError`; all else, and what is ours, passes as it is.

    >>> with walled(net := nn.Sequential(nn.Flatten(), nn.Linear(12, 2))):
    ...     net(torch.zeros(1, 3, 4, 4))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ForwardError: the network fails on pictures of 4 x 4: mat1 and mat2 shapes cannot be ...
    """
    try:
        yield
    except ForwardError as error:
        if error.advised or not _free(net):
            raise
        raise _sentence(net, error.__cause__ or error, error.shape) from error.__cause__
    except LoupeError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or not is_the_networks(error):
            raise
        raise _sentence(net, error, _shape(error)) from error


def is_the_networks(error: BaseException) -> bool:
    """Tell whether an error was raised inside a network's own forward or backward pass, and not by torchloupe.

    That is so where, behind the last line of torchloupe, a module or autograd was called; lines that only hand on
    what the network called do not count.

    >>> try:
    ...     torch.nn.Linear(2, 2)(torch.zeros(3))
    ... except RuntimeError as error:
    ...     is_the_networks(error)
    True
    """
    theirs = False
    for frame, number in traceback.walk_tb(error.__traceback__):
        if _ours(frame):
            theirs = theirs and _hands_on(frame, number)
        elif Path(frame.f_code.co_filename).is_relative_to(TORCH):
            theirs = theirs or frame.f_code.co_name == "_call_impl" or _folder(frame) == "autograd"
    return theirs


def _ours(frame: FrameType) -> bool:
    """Tell whether a line is of torchloupe, and not of a network that comes with it."""
    file = Path(frame.f_code.co_filename)
    own = file.parent == PACKAGE / "models" and file.name not in ("network.py", "forward.py")
    return file.is_relative_to(PACKAGE) and not own


def _hands_on(frame: FrameType, number: int) -> bool:
    """Tell whether a line only runs the function of torch that a network called, as `__torch_function__` does."""
    line = linecache.getline(frame.f_code.co_filename, number)
    return frame.f_code.co_name.startswith("__torch_") or "return func(*args" in line or "._called(func" in line


def _folder(frame: FrameType) -> str:
    return Path(frame.f_code.co_filename).parent.name


def _free(net: nn.Module) -> bool:
    """Tell whether a network may be tried on other pictures: nobody observes it, and it does not learn."""
    return not net.training and not any(module._forward_hooks for module in net.modules())


def _sentence(net: nn.Module, error: BaseException, shape: tuple[int, ...] | None) -> ForwardError:
    cause = (str(error).splitlines() or [""])[0].strip().rstrip(".") or "no reason given"
    where = _place(net, error)
    shown = f" on pictures of {' x '.join(map(str, shape[2:]))}" if shape else ""
    advice = _advice(net, f"{type(error).__name__}: {error}", shape)
    text = f"the network fails{shown}: {printable(cause)} ({type(error).__name__}{where})." + (advice and f" {advice}")
    return ForwardError(text, shape=shape, advised=_free(net))


def _place(net: nn.Module, error: BaseException) -> str:
    """Say where an error was raised: ", layer 'fc' (Linear), forward in net.py, line 3"."""
    layer = line = ""
    names = {module: name for name, module in net.named_modules()}
    for frame, number in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and names.get(owner):
            layer = f", layer {names[owner]!r} ({type(owner).__name__})"
        if not Path(frame.f_code.co_filename).is_relative_to(TORCH) and not _ours(frame):
            line = f", {frame.f_code.co_name} in {Path(frame.f_code.co_filename).name}, line {number}"
    return layer + line


def _shape(error: BaseException) -> tuple[int, ...] | None:
    """Return the shape of the pictures that the network was called with; None where it was not called with any."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        given = frame.f_locals.get("args")
        if frame.f_code.co_name == "_call_impl" and isinstance(given, tuple) and given:
            image = given[0]
            return tuple(image.shape) if isinstance(image, Tensor) and image.ndim == IMAGE_AXES else None
    return None


def _advice(net: nn.Module, text: str, shape: tuple[int, ...] | None) -> str:
    if found := next((advice for words, advice in CAUSES if words in text), ""):
        return found
    if shape is None or not _free(net):
        return ""
    channels, height, width = shape[1:]
    if height == width and (side := next((n for n in SIDES if n != height and _runs(net, channels, n, n)), 0)):
        return f"It runs on {side} x {side}: give --size {side} (size={side})."
    other = next((c for c in CHANNELS if c != channels and _runs(net, c, height, width)), 0)
    return f"It takes pictures of {other} channel{'s' * (other > 1)}, not {channels}." if other else ""


def _runs(net: nn.Module, channels: int, height: int, width: int) -> bool:
    """Tell whether a network gets through a grey picture of that shape."""
    weight = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    image = torch.full((1, channels, height, width), 0.5, dtype=weight.dtype, device=weight.device)
    try:
        with torch.no_grad():
            net(image)
    except Exception:  # whatever it raises: it does not run
        return False
    return True
