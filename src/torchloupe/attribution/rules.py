"""How a signal goes backwards through a rectifier, wherever and however the network computes it.

| rule | what is handed back for the signal g at a rectifier y = f(x) |
|---|---|
| gradient | g · f′(x): the derivative, no rule needed |
| deconvnet | relu(g) (Zeiler & Fergus 2014) |
| guided | relu(g) · max(f′(x), 0); for ReLU that is relu(g) · 1[x > 0] (Springenberg et al. 2015) |

`f` is ReLU in any form (module, function, method, in place, `clamp(min=0)`, `maximum` with zeros), or one of the
functions that took its place (GELU, SiLU, ELU, leaky ReLU, …), for which the two rules above are our generalisation.
All else (convolutions, normalisation, pooling, sigmoid gates, attention) hands back its own derivative; what may hide a
rectifier from these rules is refused by name (`opaque`). A network
whose only nonlinearity is of another kind (tanh, sigmoid, an activation written out by hand) is refused: there the
rules would be the plain gradient under another name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from torchloupe.attribution.opaque import looked_through, nothing_below
from torchloupe.errors import ModelError

Rule = Literal["gradient", "deconvnet", "guided"]

RECTIFIERS: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu, F.relu_, torch.relu_, Tensor.relu_), torch.relu),
    **dict.fromkeys((F.relu6, torch._C._nn.relu6), F.relu6),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), F.leaky_relu),
    **dict.fromkeys((F.rrelu, torch.rrelu), F.rrelu),
    **dict.fromkeys((F.elu, F.elu_), F.elu),
    **dict.fromkeys((F.celu, F.celu_, torch.celu, torch.celu_), F.celu),
    **dict.fromkeys((F.selu, F.selu_, torch.selu, torch.selu_), F.selu),
    **dict.fromkeys((F.prelu, torch.prelu, Tensor.prelu), F.prelu),
    F.gelu: F.gelu,
    F.silu: F.silu,
    F.mish: F.mish,
    F.hardswish: F.hardswish,
    F.softplus: F.softplus,
}
CLAMPS = {getattr(owner, name) for owner in (torch, Tensor) for name in ("clamp", "clamp_", "clip", "clip_")} | {
    getattr(owner, name) for owner in (torch, Tensor) for name in ("clamp_min", "clamp_min_")
}
THRESHOLDS = {getattr(owner, name) for owner in (F, torch) for name in ("threshold", "threshold_")}
BOUNDED = {F.hardtanh, F.hardtanh_}
MAXIMA = {torch.maximum, torch.max, torch.fmax, Tensor.maximum, Tensor.max, Tensor.fmax}
COMPARISONS = {
    getattr(owner, name) for owner in (torch, Tensor) for name in ("gt", "ge", "lt", "le", "sign", "heaviside")
} | {Tensor.__gt__, Tensor.__ge__, Tensor.__lt__, Tensor.__le__}

OTHERS = {
    getattr(owner, name)
    for owner in (torch, Tensor)
    for name in ("tanh", "tanh_", "sigmoid", "sigmoid_", "erf", "erf_", "abs", "abs_", "atan")
} | {F.tanh, F.sigmoid, F.hardsigmoid, F.softsign, F.logsigmoid, F.tanhshrink, F.softshrink, F.hardshrink}
"""Nonlinear, number by number, and no rectifier."""


class _Rectifier(torch.autograd.Function):
    """y = f(x) forwards, the rule backwards; `slope` is max(f′(x), 0), or None where the rule does not use it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(slope)
        return y.clone()

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, None, None]:
        (slope,) = ctx.saved_tensors
        passed = signals[0].clamp(min=0)
        return (passed if slope is None else passed * slope), None, None


class _Rules(TorchFunctionMode):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.met = False
        self.depth = 0
        """Torch functions that are being called from Python at the moment."""
        self.other = ""
        """A nonlinearity that is no rectifier, if one ran."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(func, torch.jit.ScriptFunction):
            return func(*args, **(kwargs or {}))  # what it runs was not called from Python
        self.depth += 1
        try:
            return self._called(func, args, kwargs)
        finally:
            self.depth -= 1

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        kwargs = dict(kwargs or {})
        x = args[0] if args else kwargs.get("input", kwargs.get("self"))
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return func(*args, **kwargs)
        found = _rectifier(func, args, kwargs)
        if found is None:
            if func in OTHERS and x.requires_grad:
                self.other = getattr(func, "__name__", str(func))
            if func in COMPARISONS and x.requires_grad:
                raise ModelError(
                    f"the network compares features with a number ({getattr(func, '__name__', func)}), as in "
                    f"x * (x > 0): the {self.rule} rule cannot see such a rectifier. Use torch.relu in its place."
                )
            return func(*args, **kwargs)
        self.met = True
        x, function = found
        rectified = self._apply(x, function)
        in_place = bool(kwargs.get("inplace")) or getattr(func, "__name__", "").endswith("_")
        return x.copy_(rectified) if in_place else rectified

    def _apply(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        before = x.detach()
        if self.rule == "deconvnet":
            return _applied(x, function(before), None)
        if function is torch.relu:
            return _applied(x, before.relu(), (before > 0).to(x.dtype))
        with torch.enable_grad():
            inner = before.clone().requires_grad_()
            y = function(inner)
            (slope,) = torch.autograd.grad(y.sum(), inner)
        return _applied(x, y.detach(), slope.clamp(min=0))


def _applied(x: Tensor, y: Tensor, slope: Tensor | None) -> Tensor:
    out: Tensor = _Rectifier.apply(x, y, slope)  # type: ignore[no-untyped-call]
    return out


def _rectifier(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """Return what a call rectifies and by which function, or None if it is no rectifier."""
    x: Tensor = args[0] if args else kwargs.get("input", kwargs.get("self"))  # type: ignore[assignment]
    rest = args[1:]
    options = {name: value for name, value in kwargs.items() if name not in ("input", "self", "inplace")}
    if func in RECTIFIERS:
        function = RECTIFIERS[func]
        if function is torch.relu:
            return x, torch.relu
        extra = () if function is F.relu6 else rest
        return x, lambda t: function(t, *extra, **options)
    if func in CLAMPS:
        low = rest[0] if rest else options.get("min")
        high = rest[1] if len(rest) > 1 else options.get("max")
        return (x, lambda t: t.clamp(min=0) if high is None else t.clamp(0, high)) if _zero(low) else None
    if func in THRESHOLDS:
        at, value = (
            [*rest, options.get("threshold"), options.get("value")][:2]
            if len(rest) > 1
            else (rest[0] if rest else options.get("threshold"), options.get("value"))
        )
        return (x, torch.relu) if at == 0 and value == 0 else None
    if func in BOUNDED:
        low = rest[0] if rest else options.get("min_val", -1.0)
        high = rest[1] if len(rest) > 1 else options.get("max_val", 1.0)
        return (x, lambda t: t.clamp(0, high)) if low == 0 else None
    other = rest[0] if rest else options.get("other")
    if func in MAXIMA and isinstance(other, Tensor) and other.is_floating_point():
        if _zero(other):
            return x, torch.relu
        if _zero(x):
            return other, torch.relu
    return None


def _zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.any())
    return isinstance(value, int | float) and value == 0


class Watch:
    """Looks at one forward pass for rectifiers that the rule cannot reach."""

    def __init__(self, rules: _Rules) -> None:
        self._rules = rules

    def first(self, features: Callable[[], Tensor]) -> tuple[str, ...]:
        """Make features of pictures that ask for a gradient; return which smooth functions pass by their derivative.

        Raises:
            ModelError: the network hides a rectifier.
        """
        with nothing_below(lambda: self._rules.depth > 0, self._rules.rule):
            made = features()
        return looked_through(made, (_Rectifier,), self._rules.rule)


@contextmanager
def relu_backward(model: nn.Module, rule: Rule) -> Iterator["Watch | None"]:
    """Make every rectifier that runs inside hand signals back by `rule`; outside nothing is changed.

    Forward values are unchanged. Run the forward and the backward pass inside, the first of them under `Watch.first`;
    `gradient`, which needs no rule, is never refused, and has no watch.

    Raises:
        ModelError: the network hides its rectifiers (TorchScript, `torch.compile`, `x * (x > 0)`), or has none but
            another nonlinearity.

    >>> x = torch.tensor([-1.0, 2.0], requires_grad=True)
    >>> with relu_backward(nn.ReLU(), "deconvnet"):
    ...     torch.autograd.grad(F.relu(x), x, torch.tensor([3.0, -4.0]))[0]
    tensor([3., 0.])
    """
    if rule == "gradient":
        yield None
        return
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"'{name or kind}' is TorchScript, which hides its rectifiers: the {rule} rule "
                "cannot act there. Use the module that it was made from."
            )
        if kind == "OptimizedModule":
            raise ModelError(
                f"'{name or kind}' went through torch.compile, which hides its rectifiers: pass the "
                "module that it was made from (._orig_mod)."
            )
    with _Rules(rule) as rules:
        yield Watch(rules)
    if rules.other and not rules.met:
        raise ModelError(
            f"the network computes {rules.other} and no rectifier that can be seen, so that the {rule} rule would be "
            "the plain gradient: ask for `gradient`, or use torch.relu or F.gelu in its place."
        )
