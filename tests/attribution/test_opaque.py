"""What hides a rectifier is refused by name for deconvnet and guided, and never for gradient."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nets import Calls
from torchloupe.attribution.backprop import deconvnet, gradient, guided
from torchloupe.errors import ModelError


class HiddenRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        found: Tensor = signals[0] * (x > 0)
        return found


def scripted(function: Callable[[Tensor], Tensor], times: int) -> Callable[[Tensor], Tensor]:
    with pytest.warns(DeprecationWarning):
        made: Any = torch.jit.script(function)
    for _ in range(times):  # after two runs it is another graph
        made(torch.rand(1, 6, 3, 3, requires_grad=True)).sum().backward()
    return made  # type: ignore[no-any-return]


def by_relu(x: Tensor) -> Tensor:
    return torch.relu(x) * 1.5


def by_mask(x: Tensor) -> Tensor:
    return x * (x > 0)


HIDDEN: dict[str, tuple[Callable[[], Callable[[Tensor], Any]], str]] = {
    "custom": (lambda: HiddenRelu.apply, "autograd.Function 'HiddenRelu'"),
    "script, new": (lambda: scripted(by_relu, 0), "TorchScript"),
    "script, warm": (lambda: scripted(by_relu, 3), "TorchScript"),
    "script of a mask": (lambda: scripted(by_mask, 0), "TorchScript"),
    "script of a mask, warm": (lambda: scripted(by_mask, 3), "TorchScript"),
    "absolute value": (lambda: lambda x: (x + x.abs()) / 2, "(x + |x|) / 2"),
    "checkpointed": (lambda: lambda x: checkpoint(F.relu, x, use_reentrant=True), "reentrant checkpointing"),
}


def network(hidden: Callable[[Tensor], Any]) -> nn.Module:
    """One ReLU that can be seen, and one that cannot."""

    def forward(net: Any, x: Tensor) -> Any:
        return net.b(hidden(net.a2(F.relu(net.a(x)))))

    torch.manual_seed(0)
    return Calls(forward, a=nn.Conv2d(3, 6, 3), a2=nn.Conv2d(6, 6, 3), b=nn.Conv2d(6, 4, 3))


@pytest.mark.parametrize("method", [deconvnet, guided], ids=lambda method: method.__name__)
@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_what_hides_a_rectifier_is_refused_by_name(kind: str, method: Callable[..., Any]) -> None:
    make, said = HIDDEN[kind]
    net, x = network(make()), torch.rand(2, 3, 9, 9)
    with pytest.raises(ModelError, match=re.escape(said)) as caught:
        method(net, "b", x, randomized=False)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert method(net, "a2", x, randomized=False).signal.any(), "what comes before it is seen"
    if kind != "checkpointed":  # which takes no gradient of its input at all
        assert gradient(net, "b", x, randomized=False).signal.any()


def test_smooth_functions_and_products_pass_and_are_named() -> None:
    def forward(net: Any, x: Tensor) -> Any:
        x = F.gelu(net.a(x))
        x = x * torch.sigmoid(net.a2(x.mean((2, 3), keepdim=True)))
        tokens = x.flatten(2).transpose(1, 2)
        mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        return net.b(F.relu(mixed.transpose(1, 2).reshape(x.shape)))

    net = Calls(forward, a=nn.Conv2d(3, 6, 3), a2=nn.Conv2d(6, 6, 1), b=nn.Conv2d(6, 4, 3))
    x = torch.rand(2, 3, 9, 9)
    assert deconvnet(net, "b", x, randomized=False).smooth == ("products of features", "sigmoid", "softmax")
    assert gradient(net, "b", x, randomized=False).smooth == ()
