"""A network that takes pictures in [0, 1] and speaks the names of the one inside: what every method looks into."""

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from torchloupe.errors import DataError, UsageError, short
from torchloupe.models.forward import called
from torchloupe.models.outputs import Ending, Part, class_logits, inverse, scores

TOLERANCE = 1e-3
"""How far outside [0, 1] a pixel may be: room for rounding in half precision, not for a normalised picture."""
AXES = 4
HALF = (torch.float16, torch.bfloat16)
OWN = frozenset(
    {"bare", "mean", "std", "size", "classes", "check", "training", "origin", "output", "multilabel", "ending"}
)
"""Attributes of a Network itself; all others are the bare network's."""


class Network(nn.Module):
    """A bare network behind its normalisation; made by `wrap`.

    It owns no parameter or child of its own: it shares those of `bare`, so that `get_submodule`,
    `named_modules`, `named_parameters`, `state_dict`, `to` and `train` all speak the bare network's
    names, and whatever is done to one is done to the other.
    """

    bare: nn.Module
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    size: int | None
    classes: tuple[str, ...]
    check: bool
    """Look at each batch's range (on a GPU this waits for it: clear it in a loop that knows its pictures)."""
    origin: Any
    """What it was opened from (`loading.Origin`); None for one made in code, and for a copy."""
    output: Part
    """Which part of the bare network's output holds the classes; None: what `outputs.logits` understands."""
    multilabel: bool
    """Each class is there or not, whatever the others: a sigmoid each, and no softmax over all."""
    ending: str | None
    """What the bare network's output is made by and what is undone, so that logits come out: "sigmoid", "softmax" or
    "log_softmax"; "" for none of them, None before the first pass."""

    def __init__(
        self,
        bare: nn.Module,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        size: int | None,
        classes: tuple[str, ...],
        output: Part = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        self.bare = bare
        for shared in ("_modules", "_parameters", "_buffers"):
            self.__dict__[shared] = bare.__dict__[shared]
        self.mean, self.std, self.size, self.classes, self.check = mean, std, size, classes, True
        self.origin, self.output, self.multilabel, self.ending = None, output, multilabel, None

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Return the logits of pictures in [0, 1].

        Raises:
            DataError: `check` is on and these are no such pictures.
            ModelError: the network's output is not one logit a class.
        """
        if self.ending == "" or not _watchable(images):
            return self._logits(scores(self.raw(images), len(self.classes), self.output))
        with Ending() as end:
            output = self.raw(images)
        self.ending, found = end.behind(scores(output, len(self.classes), self.output))
        return self._logits(found, undone=True)

    def _logits(self, found: Float[Tensor, "b ..."], *, undone: bool = False) -> Float[Tensor, "b classes"]:
        if self.ending and not undone:
            found = inverse(self.ending, found)
        return class_logits(found.float() if _half(self.bare) else found, len(self.classes))

    def raw(self, images: Float[Tensor, "b c h w"]) -> Any:
        """Return what the bare network gives for pictures in [0, 1], whatever it is: for looks at inner layers.

        Raises:
            DataError: `check` is on and these are no such pictures.
            ForwardError: the bare network raised an error.
        """
        if self.check:
            check_images(images, None if self.mean is None else len(self.mean))
        if self.mean is not None and self.std is not None:
            mean, std = per_channel(self.mean, images), per_channel(self.std, images)
            images = (images - mean) / std
        return called(self.bare, at_the_door(self.bare, images))

    if TYPE_CHECKING:

        def __call__(self, images: Tensor) -> Tensor:
            """Run `forward` and its hooks; `nn.Module` would give Any."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OWN:  # neither a child, whose names would begin with "bare.", nor the bare network's own "mean"
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def training(self) -> bool:
        """The bare network's mode."""
        bare = self.__dict__.get("bare")
        return bool(bare is not None and bare.training)

    @training.setter
    def training(self, mode: bool) -> None:
        if "bare" in self.__dict__:
            self.bare.training = mode

    def train(self, mode: bool = True) -> "Network":
        """Set the bare network's mode, by its own `train` where it has one."""
        self.bare.train(mode)
        return self

    def get_submodule(self, target: str) -> nn.Module:
        """Return a layer of the bare network; "" is this network."""
        return self.bare.get_submodule(target) if target else self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the bare network's."""
        return self.bare.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load into the bare network."""
        return self.bare.load_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        """Return the settings, for `repr`."""
        return f"mean={self.mean}, std={self.std}, size={self.size}, classes={len(self.classes)}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Network":
        self.bare._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        twin = Network(copy.deepcopy(self.bare, memo), self.mean, self.std, self.size, self.classes)
        twin.check, twin.output, twin.multilabel, twin.ending = self.check, self.output, self.multilabel, self.ending
        return twin


def _watchable(images: object) -> bool:
    """Tell whether a pass can be watched for how it ends: not while it is compiled or traced by torch.fx."""
    return type(images) is Tensor and not torch.compiler.is_compiling()


def _half(net: nn.Module) -> bool:
    return dtype_of(net) in HALF


def dtype_of(net: nn.Module) -> torch.dtype | None:
    """Return the type of a network's numbers: of its first parameter that is no whole number; None without any.

    >>> dtype_of(nn.Linear(2, 2).bfloat16()), dtype_of(nn.ReLU())
    (torch.bfloat16, None)
    """
    return next((p.dtype for p in net.parameters() if p.is_floating_point()), None)


def at_the_door(net: nn.Module, images: Tensor) -> Tensor:
    """Return images in the half precision of a network that computes in it, and half precision as the network computes.

    Outside of the network pictures, losses and optimisers stay in full precision; autograd casts the gradient back.

    >>> at_the_door(nn.Linear(2, 2).bfloat16(), torch.zeros(1)).dtype, at_the_door(nn.ReLU(), torch.zeros(1)).dtype
    (torch.bfloat16, torch.float32)
    """
    dtype = dtype_of(net)
    return images if dtype is None or (dtype not in HALF and images.dtype not in HALF) else images.to(dtype)


def run(model: nn.Module, images: Float[Tensor, "b c h w"]) -> Any:
    """Run a network on pictures in [0, 1] for the sake of what happens inside; returns whatever it gives.

    >>> run(wrap(nn.Conv2d(3, 8, 3), mean=None, std=None, classes=2), torch.rand(1, 3, 5, 5)).shape
    torch.Size([1, 8, 3, 3])
    """
    return model.raw(images) if isinstance(model, Network) else called(model, at_the_door(model, images))


def uncompiled(net: nn.Module) -> nn.Module:
    """Return the network that `torch.compile` was given, whose layers can be hooked; any other as it is.

    >>> uncompiled(torch.compile(nn.ReLU(), backend="eager"))
    ReLU()
    """
    inner = getattr(net, "_orig_mod", None)
    return uncompiled(inner) if isinstance(inner, nn.Module) else net


def unwrapped(net: nn.Module) -> nn.Module:
    """Return the network inside of what trains it: compiled, data-parallel, averaged, or a `Network`.

    >>> unwrapped(nn.DataParallel(nn.ReLU()))
    ReLU()
    """
    inner = uncompiled(net)
    if isinstance(inner, Network):
        return unwrapped(inner.bare)
    if isinstance(inner, nn.DataParallel | DistributedDataParallel | AveragedModel):
        return unwrapped(inner.module)
    return inner


@contextmanager
def modes_kept(net: nn.Module) -> Iterator[None]:
    """Leave every module of a network in the mode, training or not, in which it was.

    >>> net = nn.Sequential(nn.Dropout())
    >>> with modes_kept(net):
    ...     _ = net.eval()
    >>> net[0].training
    True
    """
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def per_channel(values: tuple[float, ...], like: Tensor) -> Float[Tensor, "c 1 1"]:
    """Return one value a channel, of the type and on the device of pictures; kept, so that no GPU waits for them.

    >>> per_channel((0.5, 0.25), torch.zeros(1, 2, 4, 4)).flatten().tolist()
    [0.5, 0.25]
    """
    plain = type(like) is Tensor and not torch.compiler.is_compiling()
    return (_kept if plain else _kept.__wrapped__)(values, like.dtype, like.device)


@lru_cache(maxsize=64)
def _kept(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # else no gradient could pass it later
        return torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)


def wrap(
    net: nn.Module,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    size: int | None = None,
    classes: int | Sequence[str],
    output: Part = None,
    multilabel: bool = False,
) -> Network:
    """Return `net` as a network, in eval mode, that takes float pictures `[b, c, h, w]` in [0, 1].

    `mean` and `std` are per channel, of pictures in [0, 1]; None for both means that `net` takes [0, 1].
    `size` is recorded: nothing is resized here. `net` itself is put in eval mode and shared, not copied; of a compiled
    one, the network that was compiled.

    `output` names the part of its output that holds the classes: a key or attribute, an index, or a function of the
    output. Class maps `[b, classes, h, w]` count by their mean over positions. One number for two classes is the logit
    of the second, by a sigmoid. Where the network ends in a sigmoid, softmax or log_softmax, what went into that is
    taken. `multilabel`: each class is there or not by itself.

    Raises:
        UsageError: settings that do not fit.

    >>> bare = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> net = wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, classes=["cat", "dog"])
    >>> net(torch.rand(5, 3, 2, 2)).shape
    torch.Size([5, 2])
    >>> net(torch.randn(5, 3, 2, 2).clamp(min=-1))
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: pictures must be in [0, 1]; these go from -1 to ...: already normalised?...
    """
    if isinstance(net, Network) or not isinstance(net, nn.Module):
        raise UsageError(f"wrap takes a bare torch.nn.Module, not a {type(net).__name__}.")
    net = uncompiled(net)
    if isinstance(net, torch.jit.ScriptModule):
        raise UsageError("a TorchScript network hides its layers. Wrap the network that it was made from.")
    if (mean is None) != (std is None):
        raise UsageError("mean and std go together: give both, or neither for a network that takes [0, 1].")
    middle, spread = (None if v is None else tuple(float(x) for x in v) for v in (mean, std))
    if middle is not None and spread is not None:
        if not middle or len(middle) != len(spread):
            raise UsageError(f"mean has {len(middle)} values and std {len(spread)}: give one of each per channel.")
        if not all(math.isfinite(v) and 0 <= v <= 1 for v in middle):
            raise UsageError(f"mean {list(middle)} is not of pictures in [0, 1]; if it is of 0 to 255, divide by 255.")
        if not all(0 < v <= 1 for v in spread):
            raise UsageError(f"std {list(spread)} is not of pictures in [0, 1]; if it is of 0 to 255, divide by 255.")
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    if not names or isinstance(classes, str):
        raise UsageError(f"classes must be a number from 1 up or a list of different names, not {classes!r}.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        others = f" (and {len(twice) - 1} more names)" if len(twice) > 1 else ""
        raise UsageError(f"the class name {short(twice[0])} stands twice{others}: give each class a name of its own.")
    if size is not None and size < 1:
        raise UsageError(f"size must be the side of the pictures in pixels, not {size!r}.")
    if not (output is None or isinstance(output, str | int) or callable(output)) or isinstance(output, bool):
        raise UsageError(f"output is a key, an index or a function of the network's output, not {output!r}.")
    return Network(net.eval(), middle, spread, size, names, output, multilabel)


def check_images(images: Tensor, channels: int | None = None) -> None:
    """Refuse whatever is not a batch of float pictures `[b, c, h, w]` in [0, 1], give or take `TOLERANCE`.

    Raises:
        DataError: another type, shape or range, or a NaN.

    >>> check_images(torch.rand(1, 3, 8, 8))
    >>> check_images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: pictures must be floats in [0, 1], not uint8: pass pictures.float() / 255.
    """
    if not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise DataError(f"pictures must be floats in [0, 1], not {kind}: pass pictures.float() / 255.")
    if images.ndim != AXES or (channels is not None and images.shape[1] != channels):
        axes = f"[b, {channels or 'c'}, h, w]"
        advice = "add the batch axis with picture[None]" if images.ndim == AXES - 1 else "check the order of the axes"
        raise DataError(f"pictures must have the shape {axes}, not {list(images.shape)}: {advice}.")
    if not images.numel() or images.is_meta or torch.compiler.is_compiling():
        return
    low, high = torch.stack(torch.aminmax(images.detach())).tolist()
    if math.isnan(low) or math.isnan(high):
        raise DataError("pictures must be in [0, 1]; these hold NaN. Check where they come from.")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise DataError(
            f"pictures must be in [0, 1]; these go from {low:.3g} to {high:.3g}: already normalised? "
            "Pass them as they are before that: the network normalises by itself."
        )
