"""How long a training will take here: its multiplications, counted, over this machine's rate, measured."""

import time
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from torchloupe.checkpoints.file import build_bare
from torchloupe.data.dataset import Dataset
from torchloupe.runs.config import Config
from torchloupe.runtime.device import autocast
from torchloupe.training.config import TrainConfig
from torchloupe.training.prepare import arguments_of

BACKWARD = 3
"""A training step costs about three forward passes."""
MEMORY_BOUND = 0.6
"""Share of the measured convolution rate that whole networks reach: normalisation, ReLU and pooling move memory."""


def forward_flops(net: nn.Module, side: tuple[int, int]) -> float:
    """Return the floating-point operations of one forward pass of one picture; multiply and add count as two.

    >>> forward_flops(nn.Conv2d(3, 8, 3, padding=1, bias=False), (10, 10))
    43200.0
    """
    mode = net.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, 3, *side))
    net.train(mode)
    return float(counter.get_total_flops())


@cache
def convolution_rate(amp: str = "auto") -> float:
    """Measure this machine's forward rate of a 3x3 convolution as it is trained, in FLOP/s (a tenth of a second).

    >>> convolution_rate() > 1e6
    True
    """
    x = torch.randn(64, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3).contiguous(memory_format=torch.channels_last)
    work = 2 * 64 * 64 * 9 * 16 * 16 * 64
    best = float("inf")
    with torch.no_grad(), autocast(torch.device("cpu"), amp):
        for _ in range(5):
            began = time.perf_counter()
            F.conv2d(x, weight, padding=1)
            best = min(best, time.perf_counter() - began)
    return work / best


def seconds_for(net: nn.Module, side: tuple[int, int], config: TrainConfig, images: int, amp: str = "auto") -> float:
    """Estimate the seconds that a training takes on this CPU, for a train split of so many pictures.

    >>> seconds_for(nn.Conv2d(3, 8, 3), (32, 32), TrainConfig(), 1000) > 0
    True
    """
    small = min(1.0, (config.low_size / min(side)) ** 2) if config.low_size else 1.0
    seen = config.epochs * images * (1 - config.low_until + config.low_until * small)
    return BACKWARD * forward_flops(net, side) * seen / (convolution_rate(amp) * MEMORY_BOUND)


def training_seconds(dataset: Dataset, config: TrainConfig, device: str = "cpu", amp: str = "auto") -> float | None:
    """Estimate the seconds of a whole training with resolved settings; None where it does not run on the CPU.

    >>> from torchloupe.training.config import resolve
    >>> from torchloupe.data.drawn.shapes import shapes
    >>> config = resolve(TrainConfig(model="resnet20"), ours=True, images=10)
    >>> training_seconds(shapes(train=10, test=10), config) > 0
    True
    """
    if device != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return None
    h, w = dataset.train.images.shape[2:]
    side = (config.size, config.size) if config.size else (int(h), int(w))
    square = config.size or (side[0] if side[0] == side[1] else None)
    about = Config(config.model, dataset.classes, None, None, square, arguments_of(config))
    return seconds_for(build_bare(about, understood=False), side, config, len(dataset.train), amp)
