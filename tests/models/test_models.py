"""The networks against copies of them written down again from their papers, with functions only."""

import importlib
import inspect
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from torchloupe.errors import ModelError
from torchloupe.models import MODELS, build, find_model

NAMES = [model.name for model in MODELS]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def randomized(net: nn.Module) -> nn.Module:
    """Give BatchNorm statistics, weights and shifts that are not one and zero, in float64."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.normal_(std=0.2)
    return net.double().eval()


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, per channel."""
    mean, var, weight, bias = (
        state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def residual(state: dict[str, Tensor], block: str, x: Tensor, stride: int) -> Tensor:
    out = F.conv2d(x, state[f"{block}.conv1.weight"], stride=stride, padding=1)
    out = norm(state, f"{block}.bn1", out).clamp(min=0)
    return norm(state, f"{block}.bn2", F.conv2d(out, state[f"{block}.conv2.weight"], padding=1))


def study(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Follow field-notes section 1: every `_1` block projected, stride 2 at the first 128, 256, 512."""
    x = norm(state, "bn1", F.conv2d(x, state["conv1.weight"], stride=2, padding=3)).clamp(min=0)
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for place in (1, 2):
            block, stride = f"resblock{stage}_{place}", 2 if place == 1 and stage > 1 else 1
            shortcut = x
            if place == 1:
                shortcut = F.conv2d(x, state[f"{block}.downsample.weight"], stride=stride)
                shortcut = norm(state, f"{block}.bn3", shortcut)
            x = (residual(state, block, x, stride) + shortcut).clamp(min=0)
    x = F.avg_pool2d(x, 7)
    return x.flatten(1) @ state["fc1.weight"].T + state["fc1.bias"]


def cifar(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """Follow He et al., section 4.2, option A."""
    x = norm(state, "bn1", F.conv2d(x, state["conv1.weight"], padding=1)).clamp(min=0)
    for stage in (1, 2, 3):
        for place in range(blocks):
            stride = 2 if place == 0 and stage > 1 else 1
            shortcut = x
            if stride == 2:
                half = torch.zeros(len(x), x.shape[1] // 2, x.shape[2], x.shape[3], dtype=x.dtype)
                shortcut = torch.cat([half, x, half], dim=1)[:, :, ::2, ::2]
            x = (residual(state, f"layer{stage}.{place}", x, stride) + shortcut).clamp(min=0)
    return x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


def resnet18(state: dict[str, Tensor], x: Tensor) -> Tensor:
    x = norm(state, "bn1", F.conv2d(x, state["conv1.weight"], padding=1)).clamp(min=0)
    for stage in (1, 2, 3, 4):
        for place in (0, 1):
            block, stride = f"layer{stage}.{place}", 2 if place == 0 and stage > 1 else 1
            shortcut = x
            if stride == 2:
                shortcut = F.conv2d(x, state[f"{block}.downsample.0.weight"], stride=2)
                shortcut = norm(state, f"{block}.downsample.1", shortcut)
            x = (residual(state, block, x, stride) + shortcut).clamp(min=0)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@torch.no_grad()
def test_study_is_its_description() -> None:
    net = randomized(build("study"))
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    torch.testing.assert_close(net(images), study(net.state_dict(), images), rtol=1e-10, atol=1e-10)


def test_study_has_the_names_and_count_of_the_study() -> None:
    net = build("study")
    assert parameters(net) == 11_535_946
    norms = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "fc1.weight", "fc1.bias", *(f"bn1.{part}" for part in norms)}
    for block in (f"resblock{stage}_{place}" for stage in (1, 2, 3, 4) for place in (1, 2)):
        names |= {f"{block}.{conv}.weight" for conv in ("conv1", "conv2", "downsample")}
        names |= {f"{block}.{bn}.{part}" for bn in ("bn1", "bn2", "bn3") for part in norms}
    assert set(net.state_dict()) == names
    twin = build("study")
    twin.load_state_dict(dict(net.state_dict()), strict=True)


def test_study_never_uses_the_projection_of_second_blocks() -> None:
    net = build("study", classes=3)
    net(torch.randn(2, 3, 33, 33)).sum().backward()
    unused = {name for name, p in net.named_parameters() if p.grad is None}
    assert unused == {name for name, _ in net.named_parameters() if "_2.downsample" in name or "_2.bn3" in name}


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 33, 47])
def test_resnets_are_their_descriptions(side: int) -> None:
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    small, large = randomized(build("resnet20")), randomized(build("resnet18", classes=4))
    torch.testing.assert_close(small(images), cifar(small.state_dict(), images, blocks=3), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(large(images), resnet18(large.state_dict(), images), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "blocks", "millions"), [("resnet20", 3, 0.27), ("resnet32", 5, 0.46), ("resnet56", 9, 0.85)]
)
def test_cifar_resnets_have_the_parameters_of_table_6(name: str, blocks: int, millions: float) -> None:
    count = 3 * 16 * 9 + 2 * 16 + 64 * 10 + 10
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        count += 9 * inputs * outputs + (2 * blocks - 1) * 9 * outputs**2 + 2 * blocks * 2 * outputs
    assert parameters(build(name)) == count
    assert round(count / 1e6, 2) == millions


def test_layers_of_cifar_resnets() -> None:
    convolutions = [m for m in build("resnet56").modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == 56
    assert {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "linear.weight"} <= set(
        build("resnet20").state_dict()
    )


class CountReLU(TorchFunctionMode):
    """Counts every rectifier by function, and those that work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.in_place = 0

    def __torch_function__(
        self, func: object, types: object, args: tuple[object, ...] = (), kwargs: object = None
    ) -> object:
        options = kwargs if isinstance(kwargs, dict) else {}
        if getattr(func, "__name__", "") in ("relu", "relu_", "clamp", "clamp_min", "leaky_relu"):
            self.calls += func is F.relu
            self.in_place += bool(options.get("inplace")) or func is torch.relu_
        return func(*args, **options)  # type: ignore[operator]


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [33, 47])
def test_every_network_takes_any_size_and_rectifies_by_a_module_of_its_own(name: str, side: int) -> None:
    net = build(name, classes=3).eval()
    calls: Counter[str] = Counter()
    rectifiers = {n: m for n, m in net.named_modules(remove_duplicate=False) if isinstance(m, nn.ReLU)}
    for path, module in rectifiers.items():
        module.register_forward_hook(lambda *_, path=path: calls.update([path]))
    images = torch.rand(2, 3, side, side + 4)
    before = images.clone()
    with CountReLU() as counted:
        assert net(images).shape == (2, 3)
    assert calls == dict.fromkeys(rectifiers, 1)
    assert counted.calls == len(rectifiers) > 0
    assert not counted.in_place
    assert not any(m.inplace for m in rectifiers.values())
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_true(name: str) -> None:
    row = find_model(name)
    module, _, factory = row.factory.partition(":")
    make = getattr(importlib.import_module(module), factory)
    assert (
        next(iter(inspect.signature(make).parameters)) == "classes" or "classes" in inspect.signature(make).parameters
    )
    assert inspect.getdoc(importlib.import_module(module))
    assert row.size in (32, 224)
    assert parameters(build(name, classes=10)) > parameters(build(name, classes=2))


def test_names_are_unique_and_the_default_is_first() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert NAMES[0] == "loupe"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: build("studdy"), "did you mean 'study'"),
        (lambda: build("x"), "There are: loupe, study"),
        (lambda: build("study", width=3), "study takes no argument 'width'. It takes the number of classes only"),
        (lambda: build("resnet20", class_count=3), "no argument 'class_count'"),
        (lambda: build("study", classes=0), "not 0"),
        (lambda: build("study", classes=True), "not True"),
        (lambda: build("study", classes="10"), "not '10'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_names_and_arguments(call: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        call()  # type: ignore[operator]
