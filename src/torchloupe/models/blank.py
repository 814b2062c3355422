"""A network without memory for its weights: what a file asks for is known before anything is taken for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _Undrawn(TorchFunctionMode):
    """Leaves out what changes a tensor in place: drawing on the meta device would load a second's worth of code."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [*args, *(kwargs or {}).values()]
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__") and given and isinstance(given[0], Tensor):
            return given[0]
        return func(*args, **(kwargs or {}))


def blank(make: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    """Return the network that `make` would give, all of its tensors on the meta device: to be given others.

    Raises:
        RuntimeError: there would be more numbers in one tensor than can be counted.

    >>> blank(nn.Linear, in_features=10**6, out_features=10**6).weight.shape
    torch.Size([1000000, 1000000])
    """
    with torch.device("meta"), _Undrawn():
        return make(**arguments)
