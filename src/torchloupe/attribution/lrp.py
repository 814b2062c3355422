"""Layer-wise relevance propagation (Bach et al. 2015; Montavon et al. 2019), whatever the network is written with.

A layer z = Wx + b hands back to input j the share x_j w_j / z of what arrived (rule ε), or that of weights whose part
with the sum's own sign counts 1 + γ times (rule γ, convolutions behind a rectifier). Written as a gradient: in a
network whose layers put out m · (z/m) with the quotient held fixed, x times the gradient is the relevance of x. All
between the layers is of first degree and hands relevance on as it is: rectifiers, pooling, sums. An activation that is
not (GELU, SiLU, …) counts as the factor f(x)/x, a gate (sigmoid, softmax) and a norm's divisor as constants.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from torchloupe.attribution.maps import Aim, Attribution, Target, by_parts, class_logits, explained, missing
from torchloupe.errors import UsageError
from torchloupe.models.network import Network, per_channel

CONVOLUTIONS: tuple[Callable[..., Any], ...] = (torch.conv1d, torch.conv2d, torch.conv3d)
GATES = {
    getattr(owner, name)
    for owner in (torch, Tensor)
    for name in ("sigmoid", "sigmoid_", "softmax", "tanh", "tanh_", "hardtanh", "erf")
    if hasattr(owner, name)
} | {F.sigmoid, F.hardsigmoid, F.softmax}
FACTORS = {F.gelu, F.silu, F.mish, F.hardswish, F.softplus, F.elu, F.celu, F.selu, F.relu6, F.hardtanh, F.tanh}


def lrp(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    target: Target = None,
    gamma: float = 0.25,
    epsilon: float = 1e-6,
) -> Attribution:
    """Hand the logit back, layer by layer, in shares of what each input contributed.

    Bach et al. 2015; rules γ and ε of Montavon et al. 2019, see the file's head. `gamma` counts in convolutions whose
    input is nowhere below 0, `epsilon` times the root mean square of a layer's sums is added to each of them, by its
    sign. Relevance is that of the normalised picture, summed over colours. What biases, BatchNorm's shifts and ε take
    does not reach it: `residual` is that share of the logit, negative where it is missing.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class or pictures, or a negative γ or ε.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2, bias=False))
    >>> bool(lrp(net.double(), torch.rand(1, 3, 5, 5).double()).residual.abs().max() < 1e-3)
    True
    """
    if gamma < 0 or epsilon < 0:
        raise UsageError("gamma and epsilon are 0 or more.")
    with explained(model, images, target) as (batch, aim, size):

        def work(part: Tensor, aims: Aim) -> tuple[Tensor, ...]:
            relevance, score, _ = relevances(model, part, aims, gamma, epsilon)
            return relevance.sum(1), score

        found, score = by_parts(work, batch, aim, size)
        residual = missing(found.sum((1, 2)), score)
        return Attribution("lrp", "output", found, batch.cpu(), aim.target, aim.against, residual)


def relevances(
    model: nn.Module, images: Float[Tensor, "b c h w"], aim: Aim, gamma: float, epsilon: float
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"], Float[Tensor, ""]]:
    """Return each pixel's relevance, the explained number of each picture, and what biases and ε took, of all together.

    In `frozen_eval`. Relevance and what was taken sum to the number, where all layers are of first degree.

    >>> from torchloupe.features.hooks import frozen_eval
    >>> with frozen_eval(nn.Flatten()) as net:
    ...     relevances(net, torch.full((1, 1, 1, 2), 3.0), Aim(torch.tensor([1])), 0, 0)[0].flatten()
    tensor([0., 3.])
    """
    x = images.detach().clone().requires_grad_()
    with _Shares(gamma, epsilon) as shares:
        score = aim.of(class_logits(model, x))
    gradient, *signals = torch.autograd.grad(score.sum(), [x, *(out for out, _ in shares.made)])
    mean = model.mean if isinstance(model, Network) else None
    zero = torch.zeros_like(images[:1]) if mean is None else per_channel(mean, images)
    taken = sum(
        ((signal * lost).sum() for signal, (_, lost) in zip(signals, shares.made, strict=True)), x.new_zeros(())
    )
    return ((images - zero) * gradient).detach(), score.detach(), taken.detach()


class _Shares(TorchFunctionMode):
    """Inside it a layer's gradient, times its input, is what the rule hands back to it."""

    def __init__(self, gamma: float, epsilon: float) -> None:
        super().__init__()
        self.gamma, self.epsilon = gamma, epsilon
        self.made: list[tuple[Tensor, Tensor]] = []
        """What a layer put out, and the part of it that hands nothing on: bias and ε."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch with the rule's gradient."""
        options = dict(kwargs or {})
        x = args[0] if args else options.pop("input", None)
        if not isinstance(x, Tensor) or not x.is_floating_point() or not x.requires_grad:
            return func(*args, **(kwargs or {}))
        rest = args[1:]
        if func in CONVOLUTIONS or func is F.linear:
            return self._linear(func, x, *rest, **options)
        if func is F.batch_norm and not _argument("training", 4, rest, options, False):
            return self._scaled(x, *rest, **options)
        if func is F.layer_norm or func is F.group_norm:
            return _normed(func, x, rest, options)
        if func in GATES:
            return func(*args, **(kwargs or {})).detach()
        if func in FACTORS:
            y = func(*args, **(kwargs or {})).detach()
            return x * torch.where(x != 0, y / torch.where(x != 0, x, 1), 0).detach()
        if func is F.scaled_dot_product_attention:
            key, value, *others = rest
            return func(x.detach(), key.detach(), value, *others, **options)
        return func(*args, **(kwargs or {}))

    def _linear(self, func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **more: Any) -> Any:
        bias = more.pop("bias", bias)
        z = func(x, weight, bias, *rest, **more)
        modified, constant = z, bias
        channels = 1 if func in CONVOLUTIONS else -1
        if self.gamma and func in CONVOLUTIONS and bool((x >= 0).all()):
            up = func(x, weight + self.gamma * weight.clamp(min=0), None, *rest, **more)
            down = func(x, weight + self.gamma * weight.clamp(max=0), None, *rest, **more)
            modified = torch.where(z >= 0, up, down)
            if bias is not None:
                shift = _along(bias, z, channels)
                constant = torch.where(
                    z >= 0, shift + self.gamma * shift.clamp(min=0), shift + self.gamma * shift.clamp(max=0)
                )
                modified = modified + constant
        elif bias is not None:
            constant = _along(bias, z, channels)
        return self._fixed(z, modified, constant)

    def _scaled(
        self,
        x: Tensor,
        mean: Tensor | None,
        var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *rest: Any,
        **more: Any,
    ) -> Tensor:
        """BatchNorm in eval mode: each channel times a number, plus one, which takes its share like a bias."""
        weight, bias = more.get("weight", weight), more.get("bias", bias)
        mean, var = more.get("running_mean", mean), more.get("running_var", var)
        eps = more.get("eps", rest[2] if len(rest) > 2 else 1e-5)
        z, nought = (
            F.batch_norm(each, mean, var, weight, bias, False, 0.0, eps)
            for each in (x, x.new_zeros(1, x.shape[1], *[1] * (x.ndim - 2)))
        )
        return self._fixed(z, z, nought)

    def _fixed(self, z: Tensor, modified: Tensor, constant: Tensor | None) -> Tensor:
        """Return z, whose gradient goes through `modified` times their quotient; `constant` is its part without x."""
        with torch.no_grad():
            each = (
                z.square().mean(tuple(range(1, z.ndim)), keepdim=True).sqrt()
            )  # of each picture, whatever its company
            low = self.epsilon * each + torch.finfo(z.dtype).tiny
            quotient = z / (modified + torch.where(modified < 0, -low, low))
            passed = modified if constant is None else modified - constant
            kept = passed * quotient
        found = modified * quotient
        out = found + (z - found).detach()
        self.made.append((out, z.detach() - kept))
        return out.clone()  # a rectifier may change it in place


def _along(bias: Tensor, z: Tensor, axis: int) -> Tensor:
    return bias if axis == -1 else bias.view(-1, *[1] * (z.ndim - 2))


def _argument(name: str, place: int, rest: tuple[Any, ...], options: dict[str, Any], usual: Any) -> Any:
    return options.get(name, rest[place] if len(rest) > place else usual)


def _normed(func: Any, x: Tensor, rest: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    """Layer or group norm whose divisor is held fixed: of first degree in x, but for its bias."""
    weight, bias, eps = (
        _argument(name, place, rest, options, usual)
        for name, place, usual in (("weight", 1, None), ("bias", 2, None), ("eps", 3, 1e-5))
    )
    if func is F.layer_norm:
        shape = _argument("normalized_shape", 0, rest, options, None)
        axes = tuple(range(-len(shape), 0))
        centred = x - x.mean(axes, keepdim=True)
        out = centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt().detach()
        scale, shift = weight, bias
    else:
        groups = x.reshape(len(x), _argument("num_groups", 0, rest, options, 1), -1)
        centred = groups - groups.mean(2, keepdim=True)
        out = (centred / (centred.square().mean(2, keepdim=True) + eps).sqrt().detach()).view_as(x)
        scale, shift = (None if each is None else _along(each, x, 1) for each in (weight, bias))
    scaled: Tensor = out if scale is None else out * scale
    return scaled if shift is None else scaled + shift
