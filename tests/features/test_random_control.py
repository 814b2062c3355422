"""The randomized network: other weights, and nothing else touched."""

import copy

import pytest
import torch
from torch import nn

from nets import stirred
from torchloupe.errors import UsageError
from torchloupe.features.hooks import frozen_eval
from torchloupe.features.random_control import randomize
from torchloupe.models import build
from torchloupe.models.network import Network, wrap


class Scaled(nn.Module):
    """A parameter of its own, which no module knows how to draw anew."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0, 1, 24).view(4, 6))
        self.conv = nn.Conv2d(3, 4, 3)
        self.same = self.conv  # shared

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.same(self.conv(x)[:, :3]) * self.scale.mean()
        return out


def test_the_model_and_the_random_state_stay() -> None:
    net = wrap(build("resnet20"), mean=(0.5,) * 3, std=(0.25,) * 3, classes=10)
    before = copy.deepcopy(net.state_dict())
    state = torch.random.get_rng_state()
    drawn = randomize(net, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    mine = {tensor.data_ptr() for tensor in net.state_dict().values()}
    assert not any(tensor.data_ptr() in mine for tensor in drawn.state_dict().values() if tensor.numel())


def test_every_weight_is_drawn_anew_and_by_seed() -> None:
    net = build("resnet20")
    first, again, other = randomize(net, 1), randomize(net, 1), randomize(net, 2)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        if weight.ndim > 1:
            assert (weight != net.state_dict()[name]).double().mean() > 0.99
            assert (weight != other.state_dict()[name]).double().mean() > 0.99  # floats meet


def test_a_networks_own_initializer_is_used() -> None:
    """Every residual convolution of `loupe` begins as the identity: so does its control, where it was trained."""
    net = build("loupe")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.rand_like(parameter))
    drawn, other = randomize(net), randomize(net, 1)
    x = torch.rand(2, 128, 4, 4)
    assert torch.equal(drawn.get_submodule("layer3.1.conv")(x), x)
    widen = drawn.get_parameter("layer2.0.conv.weight")
    assert torch.equal(widen[:32], build("loupe").get_parameter("layer2.0.conv.weight")[:32])
    assert (widen[32:] != other.get_parameter("layer2.0.conv.weight")[32:]).double().mean() > 0.99
    fc = drawn.get_parameter("fc.weight")
    assert abs(float(fc.detach().std()) / (0.3 / 128**0.5) - 1) < 0.1 and not drawn.get_parameter("fc.bias").any()


@pytest.mark.parametrize("name, std", [("resnet18", (2 / (9 * 512)) ** 0.5), ("resnet20", (2 / (9 * 64)) ** 0.5)])
def test_he_initializers_are_used(name: str, std: float) -> None:
    net = build(name)
    drawn = randomize(net)
    weight = drawn.get_parameter("layer4.1.conv2.weight" if name == "resnet18" else "layer3.2.conv2.weight")
    assert abs(float(weight.detach().std()) / std - 1) < 0.02


def test_permuted_weights_are_the_same_in_another_order() -> None:
    net = wrap(stirred(build("study")), mean=None, std=None, classes=10)
    drawn, other = randomize(net, kind="permuted"), randomize(net, 1, kind="permuted")
    for name, weight in net.named_parameters():
        mine, second = drawn.get_parameter(name).detach(), other.get_parameter(name).detach()
        assert torch.equal(mine.flatten().sort().values, weight.detach().flatten().sort().values)
        for one, two in ((mine, weight.detach()), (mine, second)):
            assert (one != two).double().mean() > 0.8, name
    assert not drawn.get_buffer("bn1.running_mean").any()


@pytest.mark.usefixtures("wrong_shapes")
def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="'initial' or 'permuted', not 'shuffled'"):
        randomize(nn.Conv2d(3, 4, 3), kind="shuffled")  # type: ignore[arg-type]


def test_batch_statistics_are_forgotten_where_no_images_are_given() -> None:
    norm = nn.BatchNorm2d(3)
    norm(torch.rand(4, 3, 5, 5))
    drawn = next(randomize(nn.Sequential(norm)).children())
    assert isinstance(drawn, nn.BatchNorm2d)
    assert drawn.running_mean is not None and not drawn.running_mean.any()
    assert norm.running_mean is not None and norm.running_mean.any()


def test_other_parameters_are_shuffled_and_shared_ones_stay_shared() -> None:
    net = Scaled()
    drawn = randomize(net)
    assert isinstance(drawn, Scaled)
    assert drawn.same is drawn.conv
    assert not torch.equal(drawn.scale, net.scale)
    assert torch.equal(drawn.scale.flatten().sort().values, net.scale.flatten().sort().values)


def test_a_network_stays_one_with_mode_and_flags() -> None:
    net = wrap(build("loupe"), mean=(0.5,) * 3, std=(0.25,) * 3, classes=10)
    net.train()
    net.get_parameter("fc.bias").requires_grad_(False)
    drawn = randomize(net)
    assert isinstance(drawn, Network) and drawn.mean == net.mean and drawn.training
    assert not drawn.get_parameter("fc.bias").requires_grad and drawn.get_parameter("fc.weight").requires_grad


def test_a_drawn_made_under_inference_mode_passes_gradients() -> None:
    net = nn.Conv2d(1, 2, 3)
    with torch.inference_mode():
        drawn = randomize(net)
        with frozen_eval(drawn):
            x = torch.zeros(1, 1, 3, 3, requires_grad=True)
            (gradient,) = torch.autograd.grad(drawn(x).sum(), x)
    assert gradient.any()
