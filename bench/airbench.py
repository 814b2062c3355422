"""The recipe of airbench94-Muon (K. Jordan 2024, MIT licence), written anew from its description, as the peer to beat.

Frozen 2x2 whitening, then three groups of two 3x3 convolutions, 64/256/256; Muon on the filters; batch 2000, 8 epochs.
Its published figures (official pixels, one A100): 94.01 % with six views, 2.6 s.
"""

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from torchloupe.data.dataset import Dataset
from torchloupe.data.tensors import to_float
from torchloupe.runtime.device import autocast
from torchloupe.training.augment import augment, draw
from torchloupe.training.chance import stream
from torchloupe.training.config import TrainConfig
from torchloupe.training.optimizers import Muon

BATCH, EPOCHS, WHITEN_EPOCHS = 2000, 8, 3
BIAS_RATE, HEAD_RATE, FILTER_RATE = 0.053, 0.67, 0.24
DECAY = 2e-6 * BATCH
SETTINGS = TrainConfig(translate=2, flip="alternating")


class Norm(nn.BatchNorm2d):
    """BatchNorm with a bias only, whose statistics follow fast."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-12, momentum=0.4)
        self.weight.requires_grad_(False)


class Group(nn.Sequential):
    """Two convolutions that start as the identity; the picture is pooled after the first."""

    def __init__(self, inputs: int, outputs: int) -> None:
        convs = [nn.Conv2d(width, outputs, 3, padding=1, bias=False) for width in (inputs, outputs)]
        for conv in convs:
            nn.init.dirac_(conv.weight.data[: conv.in_channels])
        super().__init__(convs[0], nn.MaxPool2d(2), Norm(outputs), nn.GELU(), convs[1], Norm(outputs), nn.GELU())


class Airbench(nn.Module):
    """The network; its first layer whitens 2x2 patches of the given normalised pictures."""

    def __init__(self, images: Tensor, widths: tuple[int, int, int] = (64, 256, 256)) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        patches = F.unfold(images, 2).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self.whiten.weight.data.copy_(torch.cat([filters, -filters]))
        pairs = zip((24, *widths), widths, strict=False)
        self.body = nn.Sequential(nn.GELU(), *(Group(a, b) for a, b in pairs), nn.MaxPool2d(3), nn.Flatten())
        self.head = nn.Linear(widths[2], 10, bias=False)
        self.head.weight.data.div_(self.head.weight.data.std())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        features = self.body(self.whiten(x))
        logits: Tensor = self.head(features) / features.shape[1]
        return logits


@dataclass(frozen=True)
class Trained:
    """How it went."""

    seconds: float
    plain: float
    flipped: float
    steps: int


def train_airbench(dataset: Dataset, seed: int, *, amp: str, steps: int | None = None) -> Trained:
    """Train by the recipe, or only for some steps; accuracies in [0, 1] without and with flips at test time."""
    torch.manual_seed(seed)
    images, labels = dataset.train.images, dataset.train.labels
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (dataset.mean, dataset.std))

    def ready(batch: Tensor) -> Tensor:
        return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)

    began = time.monotonic()
    net = Airbench(ready(to_float(images[:5000])))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    filters = [p for p in net.parameters() if p.ndim == 4 and p.requires_grad]
    biases = [p for p in net.parameters() if p.ndim == 1 and p.requires_grad]  # the whitening's comes first
    rates: dict[float, list[nn.Parameter]] = {BIAS_RATE: biases, HEAD_RATE: list(net.head.parameters())}
    groups = [{"params": [p], "lr": rate, "weight_decay": DECAY / rate} for rate, ps in rates.items() for p in ps]
    plain, muon = SGD(groups, momentum=0.85, nesterov=True), Muon(filters, FILTER_RATE, 0.6)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in (plain, muon)]
    per_epoch = len(labels) // BATCH
    total = EPOCHS * per_epoch
    last = min(total, steps or total)
    for step in range(last):
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            order = torch.randperm(len(labels), generator=stream(replace(SETTINGS, seed=seed), "order", epoch))
            draws = draw(SETTINGS, len(labels), epoch)
        index = order[place * BATCH : (place + 1) * BATCH]
        for optimizer, own in zip((plain, muon), peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = peak * (1 - step / total)
        whitening = 1 - step / (WHITEN_EPOCHS * per_epoch)
        plain.param_groups[0]["lr"] = BIAS_RATE * max(0.0, whitening)
        with autocast(torch.device("cpu"), amp):
            logits = net(ready(augment(images[index], draws.take(index), SETTINGS)))
        loss = F.cross_entropy(
            logits.float(), labels[index], label_smoothing=0.2, reduction="sum"
        )  # as rates are meant
        net.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        plain.step()
        muon.step()
    seconds = time.monotonic() - began
    if steps:
        return Trained(seconds, math.nan, math.nan, last)
    net.eval()
    said: list[list[Tensor]] = [[], []]
    with torch.no_grad():
        for some in torch.split(dataset.test.images, 500):
            batch = ready(to_float(some))
            straight, mirrored = net(batch), net(batch.flip(3))
            said[0].append(straight)
            said[1].append(straight + mirrored)
    right = [(torch.cat(logits).argmax(1) == dataset.test.labels).float().mean().item() for logits in said]
    return Trained(seconds, right[0], right[1], last)
