"""What of a network's rectifiers a rule cannot reach: it is looked for in the graph that autograd has built.

A ReLU inside a custom `autograd.Function`, in TorchScript or in a compiled graph hands its own derivative back,
whatever the rule says; deconvnet would be the plain gradient there under another name. So each node between a layer
and the picture is looked at: what hides its mathematics is refused by name, and what is smooth is named.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from torchloupe.errors import ModelError

Kind = type[torch.autograd.Function]

RECTIFYING = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "Elu",
        "Celu",
        "Selu",
        "Gelu",
        "Silu",
        "Mish",
        "Hardswish",
        "Softplus",
        "Prelu",
        "PreluKernel",
        "Threshold",
        "RreluWithNoise",
    }
)
"""Nodes of autograd that are rectifiers: one in the graph was computed where the rule could not see it."""
KINKED = {"Abs": "an absolute value, of which a rectifier can be made, as (x + |x|) / 2"}
SMOOTH = {
    "Sigmoid": "sigmoid",
    "Hardsigmoid": "hard sigmoid",
    "LogSigmoid": "log-sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "LogSoftmax": "log-softmax",
    "Exp": "exp",
    "Erf": "erf",
}
PRODUCTS = frozenset({"Mul", "Bmm", "Mm", "ScaledDotProductFlashAttentionForCpu", "ScaledDotProductEfficientAttention"})
ELEMENTWISE = frozenset(
    {
        "relu",
        "relu_",
        "leaky_relu",
        "elu",
        "celu",
        "selu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "softplus",
        "prelu",
        "threshold",
        "clamp",
        "clamp_",
        "clamp_min",
        "clamp_min_",
        "maximum",
        "gt",
        "ge",
        "lt",
        "le",
        "sign",
        "abs",
        "where",
        "hardtanh",
        "relu6",
    }
)
"""Operations that make a rectifier, or may."""


def looked_through(features: Tensor, allowed: Collection[Kind], rule: str) -> tuple[str, ...]:
    """Return the smooth functions between a layer and the picture, which hand back their own derivative.

    Raises:
        ModelError: a custom `autograd.Function` but the allowed ones, TorchScript, a compiled graph, or a rectifier
            that the rule did not see.

    >>> x = torch.ones(2, requires_grad=True)
    >>> looked_through(x.sigmoid() * x, (), "deconvnet")
    ('products of features', 'sigmoid')
    """
    found = set()
    for node in _nodes(features.grad_fn):
        name = node.name()
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            kind = getattr(type(node), "_forward_cls", None)
            if kind not in allowed:
                raise ModelError(_refusal(_called(name), rule))
        plain = name.rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
        if plain == "DifferentiableGraph" or "jit" in name:
            raise ModelError(_refusal("a TorchScript function", rule))
        if plain in RECTIFYING or _from_zero(plain, node):
            raise ModelError(_refusal(f"a rectifier ({plain.lower()}) that runs below Python", rule))
        if plain in KINKED:
            raise ModelError(
                f"the network computes {KINKED[plain]}, which is no rectifier that the {rule} rule can see: ask for "
                "`gradient`, or use torch.relu in its place."
            )
        if plain in SMOOTH:
            found.add(SMOOTH[plain])
        if plain in PRODUCTS and sum(other is not None for other, _ in node.next_functions) > 1:
            found.add("products of features")
    return tuple(sorted(found))


def _called(name: str) -> str:
    own = name.removesuffix("Backward")
    if own.startswith("CompiledFunction"):
        return "a compiled graph (torch.compile)"
    if own == "CheckpointFunction":
        return "reentrant checkpointing (use_reentrant=True)"
    return f"the autograd.Function '{own}'"


def _refusal(what: str, rule: str) -> str:
    return (
        f"the network runs {what}, inside of which the {rule} rule cannot see a rectifier: ask for `gradient`, or let "
        "it run plain torch functions there."
    )


def _nodes(start: Any) -> Iterator[Any]:
    """Yield every node of a graph once."""
    waiting, seen = [start], {None}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [other for other, _ in node.next_functions]


def _from_zero(plain: str, node: Any) -> bool:
    """Tell whether a node cuts off at zero, as ReLU does."""
    if plain in ("Clamp", "ClampMin"):
        return bool(getattr(node, "_saved_min", None) == 0)
    return plain == "Hardtanh" and bool(getattr(node, "_saved_min_val", None) == 0)


class _Below(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees what runs without having been called from Python: the inside of TorchScript."""

    def __init__(self, in_python: Callable[[], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.in_python = in_python
        self.met = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.met and not self.in_python() and func.overloadpacket.__name__ in ELEMENTWISE:
            self.met = f"TorchScript or compiled code{_caller()}"  # TorchScript would change an error raised in here
        return func(*args, **(kwargs or {}))


@contextmanager
def nothing_below(in_python: Callable[[], bool], rule: str) -> Iterator[None]:
    """Refuse what may be a rectifier and runs inside without having been called from Python.

    `in_python` tells whether a torch function is being called from Python at the moment.

    Raises:
        ModelError: there is one.

    >>> with nothing_below(lambda: True, "guided"):
    ...     torch.relu(torch.ones(1))
    tensor([1.])
    """
    with _Below(in_python) as below:
        yield
    if below.met:
        raise ModelError(_refusal(below.met, rule))


def _caller() -> str:
    """Say which function of the network's own is running, as " (forward in net.py, line 3)"."""
    ours = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
    skipped = (os.path.dirname(torch.__file__) + os.sep, ours + os.sep)  # noqa: PTH120
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith(skipped):
            return f" ({frame.f_code.co_name} in {os.path.basename(path)}, line {frame.f_lineno})"  # noqa: PTH119
        frame = frame.f_back
    return ""
