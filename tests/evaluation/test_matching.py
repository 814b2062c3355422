"""Matched units: a permuted copy is found whole, r is numpy's, and chance is not taken for likeness."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nets import Functional, PreActivation, Vgg, hooks_of, images, stirred
from torchloupe import wrap
from torchloupe.errors import DataError, LayerError
from torchloupe.evaluation.cka import cka
from torchloupe.evaluation.matching import features_of, match


def drawn_order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def put_out(conv: nn.Conv2d, order: Tensor) -> None:
    conv.weight.data = conv.weight.data[order]
    if conv.bias is not None:
        conv.bias.data = conv.bias.data[order]


def put_in(conv: nn.Conv2d, order: Tensor) -> None:
    conv.weight.data = conv.weight.data[:, order]


def norm(bn: nn.BatchNorm2d, order: Tensor) -> None:
    for part in (bn.weight, bn.bias, bn.running_mean, bn.running_var):
        assert part is not None
        part.data = part.data[order]


def plain() -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    net = stirred(
        nn.Sequential(
            nn.Conv2d(3, 7, 3, padding=1),
            nn.BatchNorm2d(7),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(7, 9, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(9, 4, 1),
        )
    )
    twin = copy.deepcopy(net)
    first, second = drawn_order(7, 1), drawn_order(9, 2)
    put_out(twin[0], first)  # type: ignore[index]
    norm(twin[1], first)  # type: ignore[index]
    put_in(twin[4], first)  # type: ignore[index]
    put_out(twin[4], second)  # type: ignore[index]
    put_in(twin[6], second)  # type: ignore[index]
    return net, twin, {"0": first, "2": first, "5": second, "6": torch.arange(4)}


def residual() -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """The stream of the sum is one order, the inner of a block another."""
    net = stirred(Functional())
    twin = copy.deepcopy(net)
    stream, inner, last = drawn_order(6, 3), drawn_order(6, 4), drawn_order(5, 5)
    put_out(twin.a, stream)  # type: ignore[arg-type]
    put_in(twin.b, stream)  # type: ignore[arg-type]
    put_out(twin.b, inner)  # type: ignore[arg-type]
    put_in(twin.c, inner)  # type: ignore[arg-type]
    put_out(twin.c, stream)  # type: ignore[arg-type]
    put_in(twin.d, stream)  # type: ignore[arg-type]
    put_out(twin.d, last)  # type: ignore[arg-type]
    return net, twin, {"a": stream, "b": inner, "c": stream, "d": last}


@pytest.mark.parametrize("made", [plain, residual])
def test_a_permuted_copy_is_found_whole(made) -> None:  # type: ignore[no-untyped-def]
    net, twin, orders = made()
    data = images(30, 17, 13)
    assert torch.allclose(net(data.double() / 255).sum(), twin(data.double() / 255).sum())
    found = match(net, twin, data, [(name, name) for name in orders])
    of_net, of_twin = (features_of(model, data, list(orders)) for model in (net, twin))
    for each, (name, order) in zip(found, orders.items(), strict=True):
        alive = of_net[name].std(0) > 0
        assert each.twin.tolist() == torch.where(alive, order.argsort(), -1).tolist(), name
        assert int(alive.sum()) > 3 and torch.equal(each.steady, alive)
        assert each.correlation[alive].min() > 1 - 1e-6 and each.held_out[alive].min() > 1 - 1e-6
        assert cka(of_net[name], of_twin[name]) == pytest.approx(1, abs=1e-8)
        shuffled = of_twin[name][torch.randperm(30, generator=torch.Generator().manual_seed(0))]
        assert cka(of_net[name], shuffled) < 0.5, "of other images it is not"
    assert not hooks_of(net) and not hooks_of(twin)


def test_r_is_that_of_all_values_and_halves_are_every_other_image() -> None:
    a, b, data = stirred(Vgg()), stirred(Vgg(), 5), images(150, 19, 23)  # more than one batch
    found = match(a, b, data, [("features.6", "features.6")])[0]
    x, y = (model.get_submodule("features")[:7](data.double() / 255).detach() for model in (a, b))  # type: ignore[index]

    def table(some: slice) -> NDArray[np.float64]:
        rows = [maps[some].transpose(0, 1).flatten(1).numpy() for maps in (x, y)]
        with np.errstate(invalid="ignore"):
            r: NDArray[np.float64] = np.corrcoef(*rows)[: len(rows[0]), len(rows[0]) :]
        return r

    whole, odd = table(slice(None)), table(slice(1, None, 2))
    for i, k in enumerate(found.twin.tolist()):
        if k >= 0:
            assert float(found.correlation[i]) == pytest.approx(whole[i, k], abs=1e-6)
    half = match(a, b, data[::2], [("features.6", "features.6")])[0]
    expected = [odd[i, k] if k >= 0 else np.nan for i, k in enumerate(half.twin.tolist())]
    assert np.allclose(found.held_out.numpy(), expected, atol=1e-6, equal_nan=True)


def test_what_works_in_place_behind_a_layer_does_not_change_it() -> None:
    net, data = stirred(Vgg()), images(7, 19, 23)
    with torch.no_grad():
        before = net.get_submodule("features")[:2](data.double() / 255)  # type: ignore[index]
    assert torch.allclose(features_of(net, data, ["features.1", "features.5"])["features.1"], before.mean((2, 3)))
    assert float(before.mean()) != pytest.approx(float(before.relu().mean()))


def test_selection_raises_r_and_holding_out_does_not() -> None:
    """Units of chance: nothing to find, and of many units the best on few images looks like something."""

    class Noise(nn.Module):
        """Answers each image by numbers that its pixels seed."""

        def __init__(self, seed: int) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 1)
            self.seed = seed
            self.out = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            made = []
            for image in x:
                word = int((image * 255).sum()) * 7919 + self.seed
                made.append(torch.randn(60, 1, 1, generator=torch.Generator().manual_seed(word)))
            out: Tensor = self.out(torch.stack(made))
            return out

    found = match(Noise(1), Noise(2), images(60), [("out", "out")])[0]
    assert float(found.correlation.mean()) > 0.2 and abs(float(found.held_out.mean())) < 0.1
    assert float(found.steady.float().mean()) < 0.3


def test_other_sides_other_sizes_other_widths() -> None:
    a = stirred(nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.ReLU()))
    b = wrap(copy.deepcopy(nn.Sequential(nn.Conv2d(3, 8, 3))).double(), mean=None, std=None, size=33, classes=8)
    data = images(9, 21, 21)
    found, back = match(a, b, data, [("0", "0")])[0], match(b, a, data, [("0", "0")])[0]
    assert found.units_b == 8 and found.paired.all() and found.images == 9
    assert int(back.paired.sum()) == 5 and back.correlation.isnan().sum() == 3
    assert {(i, k) for i, k in enumerate(found.twin.tolist())} == {
        (k, i) for i, k in enumerate(back.twin.tolist()) if k >= 0
    }
    with torch.no_grad():
        large = F.interpolate(data.double() / 255, (33, 33), mode="bilinear").clamp(0, 1)
        x, y = a[0](data.double() / 255), F.adaptive_avg_pool2d(b.bare(large), (10, 10))  # type: ignore[index]
    k = int(found.twin[2])
    r = np.corrcoef(x[:, 2].flatten().numpy(), y[:, k].flatten().numpy())[0, 1]
    assert float(found.correlation[2]) == pytest.approx(r, abs=1e-6)


def test_units_that_never_change_have_no_twin() -> None:
    a, b = (stirred(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), seed) for seed in (0, 1))
    with torch.no_grad():
        a[0].weight[1], a[0].bias[1] = 0, 1e3  # type: ignore[index]
        b[0].weight[:3] = 0  # type: ignore[index]
    found = match(a, b, images(8), [("0", "0")])[0]
    assert int(found.twin[1]) == -1 and found.correlation[1].isnan() and not found.steady[1]
    assert sorted(found.twin.tolist()) == [-1, -1, -1, 3]
    dead = match(a, b, images(8) * 0, [("0", "0")])[0]
    assert dead.twin.tolist() == [-1] * 4 and dead.held_out.isnan().all()


def test_pre_activation_and_the_output() -> None:
    a, b = stirred(PreActivation()), stirred(PreActivation(), 3)
    found = match(a, b, images(6, 15, 15), [("conv1", "relu"), ("output", "output")])
    assert [len(each.twin) for each in found] == [6, 6]
    assert features_of(a, images(6, 15, 15), ["output"])["output"].shape == (6, 6)
    first = features_of(a, images(6, 15, 15), ["relu", "last"])["relu"]  # it runs twice before the other
    with torch.no_grad():
        assert torch.allclose(first, a.bn1(a.stem(images(6, 15, 15).double() / 255)).relu().mean((2, 3)))  # type: ignore[operator]
    with pytest.raises(DataError, match="4 images"):
        match(a, b, images(3), [("conv1", "conv1")])
    idle = nn.Sequential(nn.Conv2d(3, 2, 3))
    idle.spare = nn.ReLU()
    idle.forward = idle[0].forward  # type: ignore[method-assign]
    with pytest.raises(LayerError, match="'spare' does not run"):
        features_of(idle, images(4), ["spare"])


def test_seeds_lie_between_a_permuted_copy_and_a_random_pair() -> None:
    """Two nets that learned the same from other starts are more alike than one of them and one that learned nothing."""
    from torchloupe.data.drawn.shapes import shapes

    data = shapes(train=120, test=60, size=16)
    x, y = data.train.images.double() / 255, data.train.labels

    def net(seed: int, steps: int) -> nn.Module:
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Conv2d(3, 12, 5, 2), nn.ReLU(), nn.Conv2d(12, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(16, len(data.classes)),
        ).double()  # fmt: skip
        optimizer = torch.optim.Adam(made.parameters(), 0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(made(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return made.eval()

    a, other, untrained = net(0, 40), net(1, 40), net(2, 0)
    copied = copy.deepcopy(a)
    order = drawn_order(12, 6)
    put_out(copied[0], order)  # type: ignore[index]
    put_in(copied[2], order)  # type: ignore[index]
    own = features_of(a, data.test.images, ["output"])["output"]
    alike = [cka(own, features_of(b, data.test.images, ["output"])["output"]) for b in (copied, other, untrained)]
    assert all(larger > smaller + 0.05 for larger, smaller in pairwise(alike)), alike
    held = [float(match(a, b, data.test.images, [("1", "1")])[0].held_out.nanmean()) for b in (copied, other)]
    assert held[0] > 1 - 1e-9 and held[1] < 0.98
