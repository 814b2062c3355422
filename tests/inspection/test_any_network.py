"""Networks that are not ours pass through every method, or are refused in one clear sentence."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contract import FAST, split
from torchloupe import load, wrap
from torchloupe.errors import ModelError
from torchloupe.inspection.catalog import METHODS, Method
from torchloupe.inspection.result import tensors_of
from torchloupe.inspection.run import run

SIDE = 37
ROWS = pytest.mark.parametrize("row", METHODS, ids=[row.name for row in METHODS])


def hugging_resnet() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=4
    )
    return transformers.ResNetForImageClassification(config)  # type: ignore[no-any-return]


def hugging_convnext() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, num_labels=4)
    return transformers.ConvNextForImageClassification(config)  # type: ignore[no-any-return]


class Functional(nn.Module):
    """All activations are functions, one of them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=2)
        self.norm, self.fc = nn.GroupNorm(2, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.a(x)), 3, 2)
        x = x + self.norm(self.b(x)).relu_()
        return self.fc(x.clamp(min=0).mean((2, 3)))  # type: ignore[no-any-return]


class Segments(nn.Module):
    """A dict that holds no logits by a known name, in bfloat16 where asked."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = F.relu(self.b(F.relu(self.a(x))))
        return {"aux": maps, "out": self.head(maps)}


class Heads(nn.Module):
    """A linear part that can be quantised behind convolutions that cannot, and a sigmoid at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).amax((2, 3))).sigmoid()  # type: ignore[no-any-return]


def hugging_vit() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.ViTConfig(image_size=SIDE, patch_size=9, num_labels=4, **sizes)
    return transformers.ViTForImageClassification(config)  # type: ignore[no-any-return]


def hugging_dino() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_register_tokens": 4}
    config = transformers.Dinov2WithRegistersConfig(image_size=SIDE, patch_size=9, num_labels=4, **sizes)
    return transformers.Dinov2WithRegistersForImageClassification(config)  # type: ignore[no-any-return]


def hugging_swin() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=5, num_labels=4
    )
    return transformers.SwinForImageClassification(config)  # type: ignore[no-any-return]


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own way old
        return torch.ao.quantization.quantize_dynamic(Heads().eval(), {nn.Linear})  # type: ignore[no-any-return,no-untyped-call]


OWN_FILE = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 5), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
                                  nn.Conv2d(6, 8, 3), nn.SiLU())
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return {"logits": self.head(self.body(x).amax((2, 3)))}
"""


def from_file(folder: Path) -> nn.Module:
    (folder / "mine.py").write_text(OWN_FILE)
    net: nn.Module = load(f"{folder / 'mine.py'}:Mine", classes=4)
    return net


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "hugging face resnet": hugging_resnet,
    "hugging face convnext": hugging_convnext,
    "functional": Functional,
    "segmentation, not understood": Segments,
    "segmentation, bfloat16": lambda: Segments().bfloat16(),
    "hugging face vit": hugging_vit,
    "hugging face vit, bfloat16": lambda: hugging_vit().bfloat16(),
    "hugging face dino, registers": hugging_dino,
    "hugging face swin": hugging_swin,
    "quantised, a sigmoid at the end": quantized,
    "compiled": lambda: torch.compile(Heads(), backend="eager"),  # type: ignore[dict-item,return-value]
}


def looked(row: Method, net: nn.Module) -> Any:
    images: Any = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    if row.takes == "dataset":
        known = split(6)
        images = type(known)(
            F.interpolate(known.images.float(), (SIDE, SIDE)).to(torch.uint8), known.labels, known.names
        )
    if row.takes in ("nothing", "start"):
        images = None
    channels = {"channels": [0, 3]} if row.channels else {}
    settings = {**channels, **FAST.get(row.name, {})}
    if "Swin" in type(getattr(net, "bare", net)).__name__ and row.name == "dream":
        settings["octaves"] = 1  # a smaller picture changes the windows of transformers' Swin for good
    elif row.name == "dream":
        try:
            return run(row.name, net, None, images, **settings).result
        except ModelError as error:  # a transformer of one size
            assert "does not take pictures of" in str(error) and "ask for fewer octaves" in str(error)
            settings["octaves"] = 1
    return run(row.name, net, None, images, **settings).result


@ROWS
@pytest.mark.parametrize("network", [*NETWORKS, "a user's file"])
def test_every_method_looks_into_every_network(row: Method, network: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = (
        from_file(tmp_path)
        if network not in NETWORKS
        else wrap(NETWORKS[network](), mean=[0.5] * 3, std=[0.25] * 3, size=SIDE, classes=4)
    )
    result = looked(row, net)
    for name, tensor in tensors_of(result):
        if tensor.is_floating_point() and name.rpartition(".")[2] not in ("spread", "best"):
            assert tensor.isfinite().all(), name


class Hidden(nn.Module):
    """x * (x > 0): a rectifier that no rule can see."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x * (x > 0))  # type: ignore[no-any-return]


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)))  # type: ignore[no-any-return]


class Pieces(nn.Module):
    """Its last layer puts out seven vectors, which stand for no grid of patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.patch(x).flatten(2).transpose(1, 2)[:, :7])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("net", "method", "layer", "said"),
    [
        (Hidden(), "deconvnet", "b", r"x \* \(x > 0\)"),
        (Hidden(), "guided", "b", r"x \* \(x > 0\)"),
        (Detached(), "gradient", "b", "gradient"),
        (Detached(), "deconvnet", "b", "gradient"),
        (Detached(), "invert", "b", "gradient"),
        (Detached(), "maximize", "b", "gradient"),
        (Pieces(), "feature-maps", "mix", "no map"),
        (Pieces(), "maximize", "mix", "no map"),
        (nn.Linear(3, 3), "filters", "first", "no convolution"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_in_one_sentence(net: nn.Module, method: str, layer: str, said: str) -> None:
    row = next(row for row in METHODS if row.name == method)
    images = torch.rand(2, 3, 16, 16) if row.takes == "pictures" else None
    with pytest.raises(ModelError, match=said) as caught:
        run(method, net, layer, images, **FAST.get(method, {}))
    assert "\n" not in str(caught.value) and re.search(r"[.?]$", str(caught.value))
