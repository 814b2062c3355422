"""Correlations that can say no: ranks by hand, cascades at their ends, an attribution that no weight changes."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from nets import PreActivation, Vgg, hooks_of, stirred
from torchloupe.attribution.backprop import gradient
from torchloupe.attribution.randomization import Cascade, cascading_randomization, compare, likeness
from torchloupe.attribution.rank_correlation import mean_of, ranks, spearman, student
from torchloupe.errors import DataError, UsageError
from torchloupe.features.cascade import cascade
from torchloupe.features.random_control import randomize
from torchloupe.models import build
from torchloupe.models.network import wrap


def images(n: int = 4, side: tuple[int, int] = (21, 19), seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ranks_with_ties_by_hand() -> None:
    values = torch.tensor([[3.0, 1.0, 3.0, 2.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    assert ranks(values).tolist() == [[5, 1.5, 5, 3, 5, 1.5], [3.5] * 6]


def test_spearman_with_ties_by_hand() -> None:
    """Ranks 1 2.5 2.5 4 and 2 1 4 3: deviations -1.5 0 0 1.5 and -.5 -1.5 1.5 .5; 1.5 over the root of 4.5 times 5."""
    a, b = torch.tensor([[1.0, 5.0, 5.0, 7.0]]), torch.tensor([[2.0, -3.0, 9.0, 4.0]])
    assert spearman(a, b).item() == pytest.approx(1.5 / math.sqrt(4.5 * 5))
    assert spearman(a, b**3).item() == spearman(a, b).item(), "only the order counts"
    assert spearman(a, torch.ones_like(a)).isnan().all() and spearman(a, a).item() == 1
    with pytest.raises(DataError, match="one shape"):
        spearman(a, b[:, :3])


def test_spearman_without_ties_is_the_sum_of_squared_rank_differences() -> None:
    generator = np.random.default_rng(0)
    a, b = (torch.from_numpy(generator.permutation(60).astype(float)).view(1, 3, 4, 5) for _ in range(2))
    d = (a - b).flatten()
    assert spearman(a, b).item() == pytest.approx(1 - 6 * float((d**2).sum()) / (60 * (60**2 - 1)))


def test_the_interval_is_students() -> None:
    """Tables of t: 2.447 of 6 degrees of freedom, 2.262 of 9, 2.042 of 30, 1.984 of 100."""
    for freedom, t in ((6, 2.447), (9, 2.262), (30, 2.042), (100, 1.984)):
        assert student(freedom) == pytest.approx(t, abs=1e-3)
    values = torch.linspace(-0.2, 0.4, 10)
    found = mean_of(values)
    half = 2.262 * float(np.std(values.numpy(), ddof=1)) / math.sqrt(10)
    assert found.mean == pytest.approx(0.1) and found.n == 10
    assert found.low == pytest.approx(0.1 - half, abs=1e-3) and found.high == pytest.approx(0.1 + half, abs=1e-3)
    assert mean_of(torch.tensor([0.9, 1.0])).high == 1 and math.isnan(mean_of(torch.tensor([0.5])).low)
    assert mean_of(torch.tensor([torch.nan])).n == 0


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = 0.1 + 0.2 * torch.randn(4000, 6, generator=generator)
    held = [found.low <= 0.1 <= found.high for found in map(mean_of, draws)]
    assert sum(held) / len(held) == pytest.approx(0.95, abs=0.01)


def test_each_row_compares_what_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    trained, *others = (torch.randn(5, 3, 7, 6, generator=generator) for _ in range(6))
    first, second, third, shuffled, other = others
    rows = {row.pair: row for row in compare(trained, [first, second, third], [shuffled], other)}
    assert list(rows) == ["trained, random", "random, random", "trained, permuted", "trained, trained"]
    assert [row.networks for row in rows.values()] == [3, 3, 1, 1] and rows["trained, random"].signed.n == 5
    mean = torch.stack([spearman(first, second), spearman(first, third), spearman(second, third)]).mean()
    assert rows["random, random"].signed.mean == pytest.approx(mean.item())
    of_sizes = spearman(trained.abs(), other.abs()).mean().item()
    assert rows["trained, trained"].absolute.mean == pytest.approx(of_sizes)
    with pytest.raises(UsageError, match="two independent draws"):
        compare(trained, [first])


class Straight(nn.Module):
    """Puts the picture out beside what its weights make, so that its logits' gradient knows no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x)
        return x.square().sum((2, 3))


def of_class(x: Tensor, target: int = 1) -> Callable[[nn.Module], Tensor]:
    return lambda net: gradient(net, "output", x, target=target, randomized=False).signal


def test_an_attribution_that_knows_no_weight_is_told() -> None:
    net, x = Straight().double(), images()
    signals = [of_class(x)(each) for each in (net, randomize(net, 0), randomize(net, 1), randomize(net, 2))]
    for row in compare(signals[0], signals[1:]):
        assert row.signed.mean == row.absolute.mean == pytest.approx(1)
    found = cascading_randomization(of_class(x), net, x)
    assert torch.allclose(found.signed, torch.ones(2, 4, dtype=torch.float64)) and found.layers == ("", "conv")


def test_one_that_knows_them_is_told_apart() -> None:
    net, x = wrap(stirred(build("resnet20")), mean=None, std=None, classes=10), images(6)
    signals = [of_class(x)(each) for each in (net, *(randomize(net, seed, x) for seed in range(3)))]
    for row in compare(signals[0], signals[1:]):
        assert abs(row.signed.mean) < 0.1 and row.signed.low < row.signed.mean < row.signed.high
    assert likeness("", [(signals[0], signals[0])]).signed.mean == pytest.approx(1)


def weight_normed() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 19 * 17, 3))
    parametrizations.weight_norm(net[0])
    return net.double().eval()


NETS: dict[str, Callable[[], nn.Module]] = {
    "study": lambda: wrap(stirred(build("study")), mean=(0.5,) * 3, std=(0.25,) * 3, classes=10),
    "loupe": lambda: stirred(build("loupe")),
    "pre-activation": lambda: stirred(PreActivation()),
    "vgg": lambda: stirred(Vgg()),
    "weight norm": weight_normed,
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("kind", ["initial", "permuted"])
def test_a_cascade_goes_from_the_trained_network_to_the_random_one(name: str, kind: Any) -> None:
    """What does not run (the study's unused projections) is randomized with the last layer."""
    net, x = NETS[name](), images()
    steps = list(cascade(net, x, 3, kind=kind))
    trained, drawn = net.state_dict(), randomize(net, 3, x, kind=kind).state_dict()
    first, last = steps[0][1].state_dict(), steps[-1][1].state_dict()
    assert all(torch.equal(value, first[key]) for key, value in trained.items())
    assert all(torch.equal(value, last[key]) for key, value in drawn.items())
    assert steps[0][0] == "" and len({layer for layer, _ in steps}) == len(steps) and not hooks_of(net)
    changed = [{k for k, v in each.state_dict().items() if not torch.equal(v, trained[k])} for _, each in steps]
    for before, after in pairwise(changed):
        assert before < after or (before <= after and "loupe" in name), "layer by layer, none goes back"


def test_the_order_is_from_the_output_down() -> None:
    net = build("resnet20")
    layers = [layer for layer, _ in cascade(net, images().float())]
    assert layers[:4] == ["", "linear", "layer3.2.conv2", "layer3.2.conv1"] and layers[-1] == "conv1"
    assert len(layers) == 1 + 20


def test_a_cascade_of_attributions_begins_at_one_and_ends_at_the_control() -> None:
    net, x = wrap(stirred(build("resnet20")), mean=None, std=None, classes=10), images()
    found = cascading_randomization(of_class(x), net, x, seed=2)
    assert isinstance(found, Cascade) and found.signed.shape == found.absolute.shape == (21, 4)
    assert torch.equal(found.signed[0], torch.ones(4, dtype=torch.float64))
    end = of_class(x)(randomize(net, 2, x))
    assert torch.allclose(found.signed[-1], spearman(of_class(x)(net), end))
    assert torch.allclose(found.absolute[-1], spearman(of_class(x)(net).abs(), end.abs()))
