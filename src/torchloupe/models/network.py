"""A network that takes pictures in [0, 1] and speaks the names of the one inside: what every method looks into."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.errors import DataError, ModelError, UsageError
from torchloupe.models.user import logits

TOLERANCE = 1e-3
"""How far outside [0, 1] a pixel may be: room for rounding in half precision, not for a normalised picture."""
AXES = 4
OWN = frozenset({"bare", "mean", "std", "size", "classes", "check", "training", "origin"})
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

    def __init__(
        self,
        bare: nn.Module,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        size: int | None,
        classes: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.bare = bare
        for shared in ("_modules", "_parameters", "_buffers"):
            self.__dict__[shared] = bare.__dict__[shared]
        self.mean, self.std, self.size, self.classes, self.check = mean, std, size, classes, True
        self.origin = None

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Return the logits of pictures in [0, 1].

        Raises:
            DataError: `check` is on and these are no such pictures.
            ModelError: the network's output is not one logit a class.
        """
        if self.check:
            check_images(images, None if self.mean is None else len(self.mean))
        if self.mean is not None and self.std is not None:
            mean, std = per_channel(self.mean, images), per_channel(self.std, images)
            images = (images - mean) / std
        out = logits(self.bare(images))
        if out.shape[1] != len(self.classes):
            raise ModelError(
                f"the network gives {out.shape[1]} outputs for {len(self.classes)} classes. Check --classes."
            )
        return out

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
        twin.check = self.check
        return twin


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
) -> Network:
    """Return `net` as a network, in eval mode, that takes float pictures `[b, c, h, w]` in [0, 1].

    `mean` and `std` are per channel, of pictures in [0, 1]; None for both means that `net` takes [0, 1].
    `size` is recorded: nothing is resized here. `net` itself is put in eval mode and shared, not copied.

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
    if not names or isinstance(classes, str) or len(set(names)) < len(names):
        raise UsageError(f"classes must be a number from 1 up or a list of different names, not {classes!r}.")
    if size is not None and size < 1:
        raise UsageError(f"size must be the side of the pictures in pixels, not {size!r}.")
    return Network(net.eval(), middle, spread, size, names)


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
