"""Walking a network backwards by hand: BatchNorm folded, transposed convolutions, unpooling that sums. No autograd.

A network is a list of operations; each keeps what its way back needs.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.models.resnet_cifar import ResNetCifar
from torchloupe.models.study import Study


class Op:
    """One operation: forwards, and the signal's way back by a rule."""

    def run(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def back(self, g: Tensor, rule: str) -> Tensor:
        raise NotImplementedError


class Conv(Op):
    """A convolution, with the BatchNorm behind it folded in."""

    def __init__(self, conv: nn.Conv2d, bn: nn.BatchNorm2d | None = None) -> None:
        weight = conv.weight.detach()
        bias = conv.bias.detach() if conv.bias is not None else torch.zeros(len(weight), dtype=weight.dtype)
        if bn is not None:
            assert bn.running_mean is not None and bn.running_var is not None
            gain = bn.weight.detach() / (bn.running_var + bn.eps).sqrt()
            weight, bias = weight * gain[:, None, None, None], (bias - bn.running_mean) * gain + bn.bias.detach()
        self.weight, self.bias, self.conv = weight, bias, conv

    def run(self, x: Tensor) -> Tensor:
        c = self.conv
        self.sides = x.shape[2:]
        return F.conv2d(x, self.weight, self.bias, c.stride, c.padding, c.dilation, c.groups)

    def back(self, g: Tensor, rule: str) -> Tensor:
        c = self.conv
        extra = [
            (n + 2 * int(str(p)) - d * (k - 1) - 1) % s
            for n, p, d, k, s in zip(self.sides, c.padding, c.dilation, c.kernel_size, c.stride, strict=True)
        ]
        return F.conv_transpose2d(g, self.weight, None, c.stride, c.padding, extra, c.groups, c.dilation)  # type: ignore[arg-type]


class Affine(Op):
    """A BatchNorm that follows no convolution: back by its scale, without its shift."""

    def __init__(self, bn: nn.BatchNorm2d) -> None:
        assert bn.running_mean is not None and bn.running_var is not None
        self.gain = (bn.weight.detach() / (bn.running_var + bn.eps).sqrt())[:, None, None]
        self.shift = bn.bias.detach()[:, None, None] - bn.running_mean[:, None, None] * self.gain

    def run(self, x: Tensor) -> Tensor:
        return x * self.gain + self.shift

    def back(self, g: Tensor, rule: str) -> Tensor:
        return g * self.gain


class Relu(Op):
    def run(self, x: Tensor) -> Tensor:
        self.on = x > 0
        return torch.where(self.on, x, 0.0)

    def back(self, g: Tensor, rule: str) -> Tensor:
        if rule == "gradient":
            return torch.where(self.on, g, 0.0)
        positive = torch.where(g > 0, g, 0.0)
        return positive if rule == "deconvnet" else torch.where(self.on, positive, 0.0)


@dataclass
class MaxPool(Op):
    size: int
    stride: int
    padding: int = 0
    ceil: bool = False
    overwrite: bool = field(default=False)

    def run(self, x: Tensor) -> Tensor:
        self.shape = x.shape
        y, self.index = F.max_pool2d(x, self.size, self.stride, self.padding, 1, self.ceil, True)
        return y

    def back(self, g: Tensor, rule: str) -> Tensor:
        flat = torch.zeros(*self.shape[:2], self.shape[2] * self.shape[3], dtype=g.dtype)
        return flat.scatter_add(2, self.index.flatten(2), g.flatten(2)).view(self.shape)


@dataclass
class Sum(Op):
    """Two branches of one input, added."""

    left: list[Op]
    right: list[Op]

    def run(self, x: Tensor) -> Tensor:
        return forwards(self.left, x) + forwards(self.right, x)

    def back(self, g: Tensor, rule: str) -> Tensor:
        return backwards(self.left, g, rule) + backwards(self.right, g, rule)


@dataclass
class Subsample(Op):
    """Shortcut A: every second pixel, zeros for the new channels."""

    new: int
    stride: int

    def run(self, x: Tensor) -> Tensor:
        self.shape = x.shape
        y = x[:, :, :: self.stride, :: self.stride]
        zeros = torch.zeros(len(y), self.new // 2, *y.shape[2:], dtype=y.dtype)
        return torch.cat([zeros, y, zeros], 1)

    def back(self, g: Tensor, rule: str) -> Tensor:
        out = torch.zeros(self.shape, dtype=g.dtype)
        out[:, :, :: self.stride, :: self.stride] = g[:, self.new // 2 : self.new // 2 + self.shape[1]]
        return out


def forwards(ops: list[Op], x: Tensor) -> Tensor:
    for op in ops:
        x = op.run(x)
    return x


def backwards(ops: list[Op], g: Tensor, rule: str) -> Tensor:
    for op in reversed(ops):
        g = op.back(g, rule)
    return g


def study(net: Study, blocks: int) -> list[Op]:
    """The study's network up to its `blocks`-th block."""
    ops: list[Op] = [Conv(net.conv1, net.bn1), Relu(), MaxPool(3, 2, 1)]
    names = [f"resblock{i}_{j}" for i in (1, 2, 3, 4) for j in (1, 2)]
    for block in (getattr(net, name) for name in names[:blocks]):
        body: list[Op] = [Conv(block.conv1, block.bn1), Relu(), Conv(block.conv2, block.bn2)]
        shortcut: list[Op] = [Conv(block.downsample, block.bn3)] if block.project else []
        ops += [Sum(body, shortcut), Relu()]
    return ops


def resnet_cifar(net: ResNetCifar) -> list[Op]:
    ops: list[Op] = [Conv(net.conv1, net.bn1), Relu()]
    for block in (*net.layer1, *net.layer2, *net.layer3):
        body: list[Op] = [Conv(block.conv1, block.bn1), Relu(), Conv(block.conv2, block.bn2)]
        shortcut: list[Op] = [Subsample(block.new, block.stride)] if block.new or block.stride > 1 else []
        ops += [Sum(body, shortcut), Relu()]
    return ops
