"""The network of the study that torchloupe redoes, parameter for parameter.

    3 x 224 x 224 -> conv1 7x7/2, BN, ReLU -> max pool 3/2 -> 64 x 56 x 56
        -> resblock1_1, 1_2 (64) -> 2_1, 2_2 (128, /2) -> 3_1, 3_2 (256, /2) -> 4_1, 4_2 (512, /2)
        -> average -> fc1

ResNet-18's shape (He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385),
with two turns of its own: the first block of each stage has a 1x1 projection on its shortcut, in the
first stage too, where nothing changes shape; and every block owns such a projection, `downsample`
and `bn3`, although the second of each stage never uses it. 11,535,946 parameters with 10 classes.
Source of the shape and the names: WangHelin1997/CNN-model-and-visualization.
"""

from jaxtyping import Float
from torch import Tensor, nn


class Block(nn.Module):
    """x -> ReLU(BN(conv(ReLU(BN(conv(x))))) + shortcut(x)), the shortcut projected or x itself."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool) -> None:
        super().__init__()
        self.project = project
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)  # owned, even where unused
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return `outputs` channels at the side divided by `stride`, rounded up."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        shortcut = self.bn3(self.downsample(x)) if self.project else x
        out: Tensor = self.relu2(residual + shortcut)
        return out


class Study(nn.Module):
    """The study's network; any picture size (its own is 224) and any number of classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.resblock1_1 = Block(64, 64, 1, project=True)
        self.resblock1_2 = Block(64, 64, 1, project=False)
        self.resblock2_1 = Block(64, 128, 2, project=True)
        self.resblock2_2 = Block(128, 128, 1, project=False)
        self.resblock3_1 = Block(128, 256, 2, project=True)
        self.resblock3_2 = Block(256, 256, 1, project=False)
        self.resblock4_1 = Block(256, 512, 2, project=True)
        self.resblock4_2 = Block(512, 512, 1, project=False)
        self.avgpool = nn.AdaptiveAvgPool2d(1)  # the study's average over 7x7, at its 224
        self.fc1 = nn.Linear(512, classes)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Return one logit a class."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.resblock1_2(self.resblock1_1(x))
        x = self.resblock2_2(self.resblock2_1(x))
        x = self.resblock3_2(self.resblock3_1(x))
        x = self.resblock4_2(self.resblock4_1(x))
        logits: Tensor = self.fc1(self.avgpool(x).flatten(1))
        return logits
