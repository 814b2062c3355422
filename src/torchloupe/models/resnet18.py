"""ResNet-18 for small pictures: torchvision's names, a 3x3 stem of stride 1, no max pool.

    3 x 32 x 32 -> conv1 3x3, BN, ReLU -> layer1 (64) -> layer2 (128, /2) -> layer3 (256, /2)
                -> layer4 (512, /2) -> average -> fc

He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385: table 1, two-conv
blocks, projection shortcuts where the shape changes (option B). The original stem (7x7/2 and a max
pool) would leave 8x8 of a 32x32 picture; this one is what small pictures usually get.
11,173,962 parameters with 10 classes.
"""

from jaxtyping import Float
from torch import Tensor, nn


class Block(nn.Module):
    """x -> ReLU(BN(conv(ReLU(BN(conv(x))))) + shortcut(x)), projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return `outputs` channels at the side divided by `stride`, rounded up."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu2(residual + shortcut)
        return out


class ResNet18(nn.Module):
    """ResNet-18; any picture size and any number of classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(Block(64, 64), Block(64, 64))
        self.layer2 = nn.Sequential(Block(64, 128, stride=2), Block(128, 128))
        self.layer3 = nn.Sequential(Block(128, 256, stride=2), Block(256, 256))
        self.layer4 = nn.Sequential(Block(256, 512, stride=2), Block(512, 512))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin anew what does not begin as its parts do by themselves."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Return one logit a class."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits
