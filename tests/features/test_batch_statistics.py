"""BatchNorm statistics measured on images, against what they mean and against closed forms."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets import hooks_of, stirred
from torchloupe.features.batch_statistics import measurable, measure_batch_statistics, normalizers
from torchloupe.features.hooks import frozen_eval, observe
from torchloupe.features.random_control import randomize
from torchloupe.models import build
from torchloupe.models.network import wrap


def images(n: int = 24, side: tuple[int, int] = (33, 29), seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name, ran", [("resnet20", 19), ("loupe", 6), ("study", 21)])
@pytest.mark.parametrize("kind", ["initial", "permuted"])
def test_every_norm_puts_out_its_bias_and_its_weight(name: str, ran: int, kind: str) -> None:
    """Of a whole residual network, each layer behind those that are measured already: in eval mode, in another pass."""
    net = wrap(stirred(build(name)).double(), mean=(0.4,) * 3, std=(0.2,) * 3, classes=10)
    x = images(8 if name == "study" else 24)
    drawn = randomize(net, 0, x, kind=kind)  # type: ignore[arg-type]
    put_out: dict[str, Tensor] = {}

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> None:
        if isinstance(module, nn.BatchNorm2d):
            put_out[name] = output.clone()

    with frozen_eval(drawn), torch.no_grad(), observe(drawn, see):
        drawn(x)
    assert len(put_out) == ran
    for layer, output in put_out.items():
        norm = drawn.get_submodule(layer)
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
        mean, var = output.mean((0, 2, 3)), output.var((0, 2, 3), correction=0)
        assert torch.allclose(mean, norm.bias.detach(), atol=1e-9), layer
        exact = norm.weight.detach() ** 2 * norm.running_var / (norm.running_var + norm.eps)
        assert torch.allclose(var, exact, rtol=1e-8, atol=1e-12), layer
        live = norm.running_var > 1e-2
        assert live.any() and torch.allclose(var[live], norm.weight.detach()[live] ** 2, rtol=2e-3)
    assert not hooks_of(drawn) and not drawn.training


def test_of_a_linear_network_they_are_the_closed_form() -> None:
    """Mean A m and variance diag(A C A') of data of mean m and covariance C; then the same of what the first gives."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Linear(5, 4), nn.BatchNorm1d(4)).double()
    with torch.no_grad():
        for norm in (net[2], net[4]):
            norm.get_parameter("weight").uniform_(0.5, 2)
            norm.get_parameter("bias").normal_()
    x = images(50, (2, 2))
    rows = x.flatten(1)
    m, c = rows.mean(0), torch.cov(rows.T, correction=0)
    assert measure_batch_statistics(net, x) == 50
    for linear, norm in ((net[1], net[2]), (net[3], net[4])):
        a, b = linear.get_parameter("weight").detach(), linear.get_parameter("bias").detach()
        m, c = a @ m + b, a @ c @ a.T
        assert torch.allclose(norm.get_buffer("running_mean"), m, atol=1e-12)
        assert torch.allclose(norm.get_buffer("running_var"), c.diagonal(), atol=1e-12)
        gain = norm.get_parameter("weight").detach() / (c.diagonal() + norm.eps).sqrt()  # type: ignore[operator]
        m, c = norm.get_parameter("bias").detach(), gain[:, None] * c * gain


def test_dropout_is_off_and_the_rest_stays() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.9), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)).train()
    bare = copy.deepcopy(net)
    x, state = images().float(), torch.random.get_rng_state()
    measure_batch_statistics(net, x)
    assert torch.equal(torch.random.get_rng_state(), state) and all(module.training for module in net.modules())
    assert torch.allclose(net[2].get_buffer("running_mean"), net[0](x).mean((0, 2, 3)).detach(), atol=1e-5)
    kept = {key: value for key, value in net.state_dict().items() if "running" not in key}
    assert all(torch.equal(value, bare.state_dict()[key]) for key, value in kept.items())


class Twice(nn.Module):
    """One norm at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        self.norm(x)
        out: Tensor = self.norm(x * 2 + 1)
        return out


def test_a_norm_that_runs_twice_takes_all_that_it_sees() -> None:
    net, x = Twice().double(), images()
    measure_batch_statistics(net, x)
    both = torch.cat([x, 2 * x + 1])
    assert torch.allclose(net.norm.get_buffer("running_mean"), both.mean((0, 2, 3)))
    assert torch.allclose(net.norm.get_buffer("running_var"), both.var((0, 2, 3), correction=0))


class OneOnly(nn.Module):
    """Takes one image, breaks behind its norm, and has one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.idle = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            raise ValueError("one at a time")
        x = self.norm(x)
        return self.idle(x @ x)  # type: ignore[no-any-return]


def test_what_runs_of_a_network_counts() -> None:
    net, x = OneOnly(), images(3).float()
    measure_batch_statistics(net, x)
    assert torch.allclose(net.norm.get_buffer("running_mean"), x[:1].mean((0, 2, 3)))
    assert not net.idle.get_buffer("running_mean").any()
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    measure_batch_statistics(pooled, x[:1])  # one value a channel has no spread
    assert not pooled[1].get_buffer("running_mean").any()


def test_without_norms_nothing_is_measured() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.InstanceNorm2d(4))
    assert not normalizers(net) and measurable(net, images()) is measure_batch_statistics(net, images().float()) is None


def test_only_those_named_are_measured() -> None:
    net, x = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)).double(), images()
    measure_batch_statistics(net, x, ["1"])
    assert not net[0].get_buffer("running_mean").any()
    expected = F.batch_norm(x, torch.zeros(3).double(), torch.ones(3).double()).mean((0, 2, 3))
    assert torch.allclose(net[1].get_buffer("running_mean"), expected)
