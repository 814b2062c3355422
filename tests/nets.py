"""Small networks of every kind, in float64, with BatchNorm statistics that are not those of a fresh one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oracle import Affine, Conv, MaxPool, Op, Relu, Sum


def stirred(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight and statistic a random value, in float64 and eval mode."""
    generator = torch.Generator().manual_seed(seed)
    net = net.double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.ndim > 1 else 0.2))
            if parameter.ndim == 1 and "weight" in name:
                parameter.add_(1)
    return net


class Vgg(nn.Module):
    """Plain: convolutions, BatchNorm, in-place ReLU, overlapping pooling, a strided, dilated, grouped convolution."""

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(6, 8, 3, stride=2, padding=2, dilation=2, groups=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(inplace),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.features(x)
        return out

    def ops(self) -> list[Op]:
        f = self.features
        return [
            Conv(f[0], f[1]),  # type: ignore[arg-type]
            Relu(),
            MaxPool(3, 2, ceil=True),
            Conv(f[4], f[5]),  # type: ignore[arg-type]
            Relu(),
            Conv(f[7]),  # type: ignore[arg-type]
            Relu(),
        ]


class PreActivation(nn.Module):
    """BatchNorm and ReLU before each convolution, one shared ReLU module, the sum left unrectified."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 5, stride=2)
        self.bn1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(self.relu(self.bn2(self.conv1(self.relu(self.bn1(x))))))
        out: Tensor = self.relu(self.last(x))
        return out

    def ops(self) -> list[Op]:
        body: list[Op] = [Affine(self.bn1), Relu(), Conv(self.conv1, self.bn2), Relu(), Conv(self.conv2)]
        return [Conv(self.stem), Sum(body, []), Affine(self.last), Relu()]


RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "x.relu()": lambda x: x.relu(),
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "x.relu_()": lambda x: x.relu_(),
    "torch.relu_": torch.relu_,
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "torch.clamp": lambda x: torch.clamp(x, 0),
    "clamp_(min=0)": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum, zeros first": lambda x: torch.maximum(torch.zeros(1, dtype=x.dtype), x),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "hardtanh": lambda x: F.hardtanh(x, 0, 1e9),
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
}


class Functional(nn.Module):
    """No module computes a ReLU; `relu` is any way to write one. Residual, the sum rectified."""

    def __init__(self, relu: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.b = nn.Conv2d(6, 6, 3, padding=1)
        self.c = nn.Conv2d(6, 6, 3, padding=1)
        self.d = nn.Conv2d(6, 5, 3)
        self.written = relu

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.written(self.a(x)), 3, 2)
        x = self.written(x + self.c(self.written(self.b(x))))
        out: Tensor = self.written(self.d(x))
        return out

    def ops(self) -> list[Op]:
        body: list[Op] = [Conv(self.b), Relu(), Conv(self.c)]
        return [Conv(self.a), Relu(), MaxPool(3, 2), Sum(body, []), Relu(), Conv(self.d), Relu()]


def hooks_of(net: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in net.modules() for kind in kinds)


class Calls(nn.Module):
    """Runs its parts by a function of itself and the picture, in whatever order they are registered."""

    def __init__(self, run: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def images(n: int = 23, h: int = 9, w: int = 11, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 3, h, w), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
