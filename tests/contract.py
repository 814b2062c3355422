"""What the tests of every method look at: one small network, some pictures, fast settings."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchloupe.checkpoints.file import save_model
from torchloupe.data.dataset import Split
from torchloupe.data.drawn.shapes import shapes
from torchloupe.inspection.catalog import ATTRIBUTIONS, METHODS
from torchloupe.models import build
from torchloupe.models.network import Network, wrap
from torchloupe.runs.config import Config

FAST: dict[str, dict[str, Any]] = {
    "invert": {"steps": 4},
    "maximize": {"steps": 4, "copies": 2},
    "dream": {"steps": 2, "octaves": 2},
    "integrated-gradients": {"steps": 4, "tolerance": 0.5},
    "smoothgrad": {"copies": 2},
    "gradient-shap": {"copies": 2},
    "rise": {"masks": 9, "cells": 3},
}

SIDE = 19

ALIKE = {"grad-cam-plus-plus", "layer-cam", "eigen-cam", "smoothgrad", "input-x-gradient", "gradient-shap"}
"""Explanations that share all but a formula with another: what every method promises is asked of that one."""
LOOKED_AT = (*METHODS, *(row for row in ATTRIBUTIONS if row.name not in ALIKE))


def net(dtype: torch.dtype = torch.float64, seed: int = 0) -> Network:
    """A small residual network with BatchNorm statistics of its own, at an odd size."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        bare = build("loupe", classes=4, widths=(6, 8, 10))
        for module in bare.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
    return wrap(bare.to(dtype), mean=[0.5] * 3, std=[0.25] * 3, size=SIDE, classes=4)


def images(n: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 3, SIDE, SIDE, generator=generator, dtype=torch.float64).to(dtype)


def split(n: int = 12) -> Split:
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return Split(images, torch.zeros(n, dtype=torch.int64), tuple(f"p{i}.png" for i in range(n)))


def small_run(folder: Path) -> Path:
    """A run of a small network on shapes, as training leaves it."""
    torch.manual_seed(0)
    folder.mkdir()
    data = {"source": "shapes", "name": "shapes"}
    config = Config(
        "loupe", shapes(train=10, test=10).classes, (0.5,) * 3, (0.25,) * 3, 32, {"widths": [8, 8, 8]}, data
    )
    save_model(folder / "model.safetensors", build("loupe", classes=10, widths=(8, 8, 8)), config)
    (folder / "config.json").write_text("{}")
    return folder
