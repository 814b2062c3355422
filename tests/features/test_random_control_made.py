"""The random control where weights are made from others, and where a user's seed might meet ours."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from torchloupe.attribution.backprop import gradient
from torchloupe.errors import ModelError
from torchloupe.features.random_control import randomize
from torchloupe.models import build


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU())


def pruned(net: nn.Sequential) -> None:
    prune.l1_unstructured(net[2], "weight", amount=0.5)  # type: ignore[no-untyped-call]


MADE: dict[str, Callable[[nn.Sequential], object]] = {
    "plain": lambda net: None,
    "pruned": pruned,
    "old weight norm": lambda net: weight_norm(net[2]),
    "old spectral norm": lambda net: spectral_norm(net[2]),
    "weight norm": lambda net: parametrizations.weight_norm(net[2]),
    "spectral norm": lambda net: parametrizations.spectral_norm(net[2]),
    "orthogonal": lambda net: parametrizations.orthogonal(net[2]),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_random_network_is_random_and_of_the_same_scale(kind: str) -> None:
    net, x = plain(), torch.rand(2, 3, 12, 12)
    MADE[kind](net)
    net.train()(x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    net.train()(x)
    net.eval()
    drawn = randomize(net, 0, x)
    before, after = net(x).detach(), drawn(x).detach()
    old, new = (each.get_submodule("2").weight for each in (net, drawn))
    assert isinstance(old, Tensor) and isinstance(new, Tensor)
    assert not torch.equal(before, after) and drawn is not net
    assert (old != new).float().mean() > 0.45
    assert 0.02 < float(after.std() / before.std()) < 50
    assert torch.equal(after, randomize(net, 0)(x)) and not torch.equal(after, randomize(net, 1)(x))
    if kind == "pruned":
        assert torch.equal(old == 0, new == 0)
    if "spectral" in kind:
        assert torch.linalg.matrix_norm(new.detach().flatten(1), 2).item() == pytest.approx(1, rel=0.05)
    shown = gradient(net, "3", x)
    assert shown.randomized is not None and not torch.equal(shown.signal, shown.randomized.signal)


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_a_network_built_under_a_users_seed_does_not_meet_its_own_initialisation(seed: int) -> None:
    torch.manual_seed(seed)
    net = build("resnet20")
    for name, weight in randomize(net, seed).named_parameters():
        if weight.ndim > 1:
            assert (weight != net.get_parameter(name)).double().mean() > 0.99


class Fixed(nn.Module):
    """A parametrization that puts out what was trained, whatever it is made from."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.kept = weight.detach().clone()

    def forward(self, weight: Tensor) -> Tensor:
        return self.kept + 0 * weight


class Loud(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.conv.weight.normal_(std=1e4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


def test_what_is_not_random_or_out_of_scale_is_refused() -> None:
    fixed = plain()
    parametrize.register_parametrization(fixed[2], "weight", Fixed(fixed.get_parameter("2.weight")))
    with pytest.raises(ModelError, match=r"weight '2.weight' stays as it was trained"):
        randomize(fixed)

    with pytest.raises(ModelError, match=r"activations are \d+ times as large"):
        randomize(Loud(), 0, torch.rand(1, 3, 5, 5))  # it resets its part after that has reset itself
    wide = nn.Sequential(nn.Conv2d(3, 64, 3, bias=False), nn.ReLU())
    with torch.no_grad():
        wide.get_parameter("0.weight").mul_(1e-4)
    with pytest.raises(ModelError, match=r"activations are \d+ times as large"):
        randomize(wide, 0, torch.rand(1, 3, 5, 5))
