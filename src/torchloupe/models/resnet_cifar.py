"""The CIFAR ResNets of 6n + 2 layers: n = 3, 5, 9 blocks a stage for 20, 32 and 56 layers.

    3 x 32 x 32 -> conv1 3x3, BN, ReLU -> layer1 (16) -> layer2 (32, /2) -> layer3 (64, /2)
                -> average -> linear

He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385, section 4.2.
Shortcuts are option A: where the shape changes, every second pixel, and zeros for the new channels,
half of them in front and half behind, so that weights trained with the usual code mean the same.
0.27, 0.46 and 0.85 million parameters, as in table 6.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def identity(x: Float[Tensor, "b c h w"], new: int, stride: int) -> Float[Tensor, "b c2 h2 w2"]:
    """Return option A's shortcut: x at every `stride`-th pixel, with `new` channels of zeros around it.

    >>> import torch
    >>> identity(torch.ones(1, 2, 5, 5), new=2, stride=2)[0, :, 0, 0].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, new // 2, new - new // 2)) if new or stride > 1 else x


class Block(nn.Module):
    """x -> ReLU(BN(conv(ReLU(BN(conv(x))))) + identity(x))."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.new, self.stride = outputs - inputs, stride
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return `outputs` channels at the side divided by `stride`, rounded up."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(residual + identity(x, self.new, self.stride))
        return out


class ResNetCifar(nn.Module):
    """The network with `blocks` blocks a stage; any picture size and any number of classes."""

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = stage(16, 16, 1, blocks)
        self.layer2 = stage(16, 32, 2, blocks)
        self.layer3 = stage(32, 64, 2, blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin anew what does not begin as its parts do by themselves."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Return one logit a class."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    """Make one stage, whose first block changes the shape.

    >>> len(stage(16, 32, 2, blocks=3))
    3
    """
    first = Block(inputs, outputs, stride)
    return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))


def resnet20(classes: int = 10) -> ResNetCifar:
    """Make the network of 20 layers: 0.27 million parameters.

    >>> sum(p.numel() for p in resnet20().parameters())
    269722
    """
    return ResNetCifar(3, classes)


def resnet32(classes: int = 10) -> ResNetCifar:
    """Make the network of 32 layers: 0.46 million parameters.

    >>> sum(p.numel() for p in resnet32().parameters())
    464154
    """
    return ResNetCifar(5, classes)


def resnet56(classes: int = 10) -> ResNetCifar:
    """Make the network of 56 layers: 0.85 million parameters.

    >>> sum(p.numel() for p in resnet56().parameters())
    853018
    """
    return ResNetCifar(9, classes)
