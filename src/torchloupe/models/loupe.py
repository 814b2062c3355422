"""Loupe: a small residual network made for speed on a CPU and for looking inside.

    3 x 32 x 32 -> conv1 5x5 (32), half the side -> layer1 (32; residual) -> layer2 (64, half the side; residual)
                -> layer3 (128, half the side; residual) -> max pool -> fc

`conv1` is one learned colour filter bank, large enough to look at, and alone at the full resolution. Each residual
is ReLU(x + BN(conv(x))). Where the side is halved, the picture is pooled before it is normalised, which spares three
quarters of the work there. Every 3x3 convolution starts as the identity on the channels that it can copy
(Zagoruyko & Komodakis 2017, "DiracNets"), so that the signal passes the untrained network.
"""

from jaxtyping import Float
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Make a 3x3 convolution that copies its first channels until it has learned something better.

    >>> conv3x3(4, 8).weight[:4].sum().item()
    4.0
    """
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    copy_channels(conv)
    return conv


def copy_channels(conv: nn.Conv2d) -> None:
    """Let a convolution copy its first channels, as far as it has outputs for them.

    >>> conv = nn.Conv2d(2, 2, 3)
    >>> copy_channels(conv)
    >>> conv.weight.sum().item()
    2.0
    """
    nn.init.dirac_(conv.weight.data[: conv.in_channels])


class Residual(nn.Module):
    """x -> ReLU(x + BN(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv3x3(width, width)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()

    def reset_parameters(self) -> None:
        """Begin anew what does not begin as its parts do by themselves."""
        copy_channels(self.conv)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the same shape."""
        out: Tensor = self.relu(x + self.bn(self.conv(x)))
        return out


class Widen(nn.Module):
    """x -> ReLU(BN(pool(conv(x)))): more channels, half the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv3x3(inputs, outputs)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def reset_parameters(self) -> None:
        """Begin anew what does not begin as its parts do by themselves."""
        copy_channels(self.conv)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return twice the channels (by default) at half the side, rounded up."""
        out: Tensor = self.relu(self.bn(self.pool(self.conv(x))))
        return out


class Loupe(nn.Module):
    """The default network; any picture size from 4x4 up, any number of classes."""

    def __init__(self, classes: int = 10, widths: tuple[int, int, int] = (32, 64, 128), kernel: int = 5) -> None:
        super().__init__()
        first, second, third = widths
        self.conv1 = nn.Conv2d(3, first, kernel, padding=kernel // 2, bias=False)
        self.pool1 = nn.MaxPool2d(2, ceil_mode=True)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu1 = nn.ReLU()
        self.layer1 = nn.Sequential(Residual(first))
        self.layer2 = nn.Sequential(Widen(first, second), Residual(second))
        self.layer3 = nn.Sequential(Widen(second, third), Residual(third))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(third, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin anew what does not begin as its parts do by themselves."""
        nn.init.normal_(self.fc.weight, std=0.3 / self.fc.in_features**0.5)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Return one logit a class."""
        x = self.relu1(self.bn1(self.pool1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits
