"""Muon, the grouping of parameters, and the schedule, against literal derivations."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from torchloupe.models import MODELS, build
from torchloupe.training.config import FINE_TUNE, TrainConfig, resolve
from torchloupe.training.optimizers import Muon, build_optimizers, orthogonalize, rate, split_parameters


def resolved(optimizer: str = "muon", **more: float) -> TrainConfig:
    return resolve(TrainConfig(optimizer=optimizer, **more), ours=True, images=1000)  # type: ignore[arg-type]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (12, 12)])
def test_orthogonalize_keeps_the_singular_vectors_and_evens_the_values(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ orthogonalize(matrix, steps=5) @ vt.T  # diagonal, if the vectors are kept
    values = core.diagonal()
    assert (core - values.diag()).abs().max() < 1e-9
    assert values.min() > 0.6 and values.max() < 1.3  # the tuned quintic's tolerance (K. Jordan 2024)
    assert torch.linalg.norm(orthogonalize(matrix, 5) - u @ vt) < 0.35 * math.sqrt(min(shape))


@pytest.mark.parametrize("steps", [1, 3])
def test_orthogonalize_is_the_quintic_on_the_singular_values(steps: int) -> None:
    matrix = random(6, 9)
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    values = values / (values.square().sum().sqrt() + 1e-7)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(orthogonalize(matrix, steps), u @ values.diag() @ vt)


def test_orthogonalize_of_nothing_is_nothing() -> None:
    assert not orthogonalize(torch.zeros(3, 5)).any()


def test_muon_steps_as_derived() -> None:
    filters, lr, momentum = random(4, 3, 2, 2, seed=1), 0.3, 0.7
    parameter = nn.Parameter(filters.clone())
    optimizer = Muon([parameter], lr, momentum)
    weight, velocity = filters.clone(), torch.zeros(4, 12, dtype=torch.float64)
    for step in range(3):
        gradient = random(4, 3, 2, 2, seed=10 + step)
        parameter.grad = gradient.clone()
        optimizer.step()
        flat = gradient.flatten(1)
        velocity = momentum * velocity + flat
        u, values, vt = torch.linalg.svd(flat + momentum * velocity, full_matrices=False)  # Nesterov's look ahead
        values = values / (values.square().sum().sqrt() + 1e-7)
        for _ in range(3):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        weight = weight * 2.0 / weight.square().sum().sqrt()  # the norm is reset to √4 before the step
        weight = weight - lr * (u @ values.diag() @ vt).view_as(weight)
        torch.testing.assert_close(parameter.data, weight)


def test_muon_takes_any_memory_layout() -> None:
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter = nn.Parameter(random(4, 3, 2, 2).to(memory_format=layout))
        parameter.grad = random(4, 3, 2, 2, seed=1).to(memory_format=layout)
        Muon([parameter], 0.1, 0.5).step()
        ends.append(parameter.data)
    torch.testing.assert_close(*ends)


def test_muon_resets_the_norm_and_leaves_what_has_no_gradient() -> None:
    moved, still = nn.Parameter(random(9, 2, 3, 3)), nn.Parameter(random(5, 2, 1, 1))
    before = still.detach().clone()
    moved.grad = torch.zeros_like(moved)
    Muon([moved, still], 0.1, 0.5).step()
    assert moved.norm().item() == pytest.approx(3.0)
    assert torch.equal(still, before)


@pytest.mark.parametrize("optimizer", ["muon", "sgd", "adam", "adamw"])
@pytest.mark.parametrize("name", [row.name for row in MODELS])
def test_each_parameter_is_in_exactly_one_group(name: str, optimizer: str) -> None:
    with torch.device("meta"):
        net = build(name, classes=3)
    groups = [group for each in build_optimizers(net, resolved(optimizer)) for group in each.param_groups]
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters())
    assert len(set(grouped)) == len(grouped)


def test_each_kind_of_parameter_gets_its_rate_and_decay() -> None:
    net = build("resnet20", classes=3)
    kinds = {name: module for name, module in net.named_modules() if not list(module.children())}
    want = {}
    for name, module in kinds.items():
        for key, parameter in module.named_parameters():
            filters, head = isinstance(module, nn.Conv2d), isinstance(module, nn.Linear) and key == "weight"
            want[f"{name}.{key}"] = (parameter, filters, head)
    config = resolved("muon")
    rates = rates_of(net, config)
    for parameter, filters, head in want.values():
        expected = config.lr if filters else config.lr_head if head else config.lr_norm
        assert rates[parameter][0] == expected
    config = resolved("sgd")
    rates = rates_of(net, config)
    for parameter, filters, head in want.values():
        assert rates[parameter] == (config.lr, config.weight_decay if filters or head else 0.0)


def rates_of(
    net: nn.Module, config: TrainConfig, fast: set[nn.Parameter] | None = None
) -> dict[nn.Parameter, tuple[float, float]]:
    groups = [group for each in build_optimizers(net, config, fast) for group in each.param_groups]
    return {p: (group["lr"], group.get("weight_decay", 0.0)) for group in groups for p in group["params"]}


@pytest.mark.parametrize("optimizer", ["muon", "sgd", "adam", "adamw"])
def test_fine_tuning_slows_everything_but_the_new_head(optimizer: str) -> None:
    net = build("resnet20", classes=3)
    head = set(net.get_submodule("linear").parameters())
    normal, tuned = rates_of(net, resolved(optimizer)), rates_of(net, resolved(optimizer), head)
    assert normal.keys() == tuned.keys()
    for parameter, (lr, decay) in normal.items():
        assert tuned[parameter][0] == pytest.approx(lr if parameter in head else lr * FINE_TUNE)
        assert tuned[parameter][1] == decay
    same_classes = rates_of(net, resolved(optimizer), set())  # weights to start from, and nothing new
    assert all(same_classes[p][0] == pytest.approx(lr * FINE_TUNE) for p, (lr, _) in normal.items())


def test_frozen_parameters_are_left_out() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    net[0].weight.requires_grad_(False)
    assert sum(map(len, split_parameters(net))) == 5


@pytest.mark.parametrize("net", [nn.Linear(4, 2), nn.Conv2d(3, 2, 1, bias=False)], ids=["no filters", "filters only"])
def test_muon_trains_networks_that_lack_a_kind(net: nn.Module) -> None:
    optimizers = build_optimizers(net, resolved("muon"))
    grouped = [id(p) for each in optimizers for group in each.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(map(id, net.parameters()))


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 100])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.2, 0.37, 0.5, 0.99])
def test_schedule_goes_up_to_the_peak_and_down_to_zero(warmup: float, steps: int) -> None:
    config = TrainConfig(warmup=warmup)
    factors = [rate(config, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1
    assert factors[-1] <= 1 / (steps * (1 - warmup)) + 1e-9
    assert rate(config, steps, steps) == 0
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert abs(peak - warmup * steps) <= 1


def test_schedule_is_a_triangle() -> None:
    config = TrainConfig(warmup=0.25)
    up, down = [(step + 1) / 4 for step in range(4)], [(16 - step) / 12 for step in range(4, 16)]
    assert [rate(config, step, 16) for step in range(16)] == pytest.approx(up + down)
    constant = replace(config, schedule="constant")
    assert {rate(constant, step, 16) for step in range(16)} == {1.0}


def test_smoothed_muon_is_muon_on_what_is_blurred() -> None:
    filters, gradient, lr = random(4, 3, 5, 7, seed=1), random(4, 3, 5, 7, seed=2), 0.3
    parameter = nn.Parameter(filters.clone())
    parameter.grad = gradient.clone()
    Muon([{"params": [parameter], "smooth": 0.9}], lr, momentum=0.0).step()

    def gauss(image: Tensor) -> Tensor:  # pixel by pixel
        out = torch.zeros_like(image)
        for i, j, y, x in itertools.product(range(5), range(7), range(5), range(7)):
            out[..., i, j] += image[..., y, x] * math.exp(-((y - i) ** 2 + (x - j) ** 2) / (2 * 0.9**2))
        return out

    pulled = orthogonalize(gauss(gradient).flatten(1))  # the gradient of v in w = gauss(v), as gauss is symmetric
    update = gauss(pulled.view(4, 3, 5, 7))
    update *= pulled.norm() / update.norm()
    expected = filters * 2 / filters.norm() - lr * update
    torch.testing.assert_close(parameter.detach(), expected)


def test_only_large_filters_that_see_the_picture_are_smoothed() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Conv2d(8, 8, 5), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))

    def smoothed(config: TrainConfig) -> list[nn.Parameter]:
        muon = build_optimizers(net, config)[0]
        return [p for group in muon.param_groups if group["smooth"] for p in group["params"]]

    assert [p is net[0].weight for p in smoothed(resolved(smooth=0.8))] == [True]
    assert smoothed(resolved(smooth=0.0)) == []


def neighbors(filters: Tensor) -> float:
    pairs = [(filters[..., 1:], filters[..., :-1]), (filters[..., 1:, :], filters[..., :-1, :])]
    return float(sum(((a * b).sum() / (a.norm() * b.norm())).item() for a, b in pairs) / 2)


def test_smoothed_filters_end_smooth_whatever_the_gradient() -> None:
    ends = {}
    for smooth in (0.0, 0.8):
        parameter = nn.Parameter(random(16, 3, 5, 5, seed=3))
        muon = Muon([{"params": [parameter], "smooth": smooth}], 0.2, 0.6)
        for step in range(60):
            parameter.grad = random(16, 3, 5, 5, seed=step)
            muon.step()
        ends[smooth] = neighbors(parameter.detach())
    assert abs(ends[0.0]) < 0.15 and ends[0.8] > 0.5
