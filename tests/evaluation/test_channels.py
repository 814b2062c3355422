"""The health of channels against one picture at a time, in float64 and without hooks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets import Calls, hooks_of, images, stirred
from torchloupe.errors import ForwardError
from torchloupe.evaluation.channels import ChannelHealth, health
from torchloupe.evaluation.selectivity import class_auc
from torchloupe.features.hooks import OUTPUT
from torchloupe.features.trace import resolve
from torchloupe.models.network import wrap


def network() -> nn.Sequential:
    """Conv, BatchNorm, in-place ReLU with channels of every liveliness, and a head of vectors."""
    net = stirred(
        nn.Sequential(
            nn.Conv2d(3, 5, 3, stride=2),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace=True),
            nn.Conv2d(5, 4, 2),
            nn.Flatten(),
            nn.Linear(48, 6),
        )
    )
    assert isinstance(net, nn.Sequential)
    with torch.no_grad():
        net[1].bias.copy_(torch.tensor([3.0, -1.7, -1.2, -9.0, 0.0]))  # type: ignore[operator]
    return net


def one_by_one(net: nn.Sequential, images: Tensor) -> dict[str, list[Tensor]]:
    """Each layer's output for each picture alone."""
    found: dict[str, list[Tensor]] = {name: [] for name in map(str, range(len(net)))}
    with torch.no_grad():
        for each in images:
            x = each[None].double() / 255
            for name, layer in zip(found, net, strict=True):
                x = layer(x.clone())
                found[name].append(x[0].clone())
    return found


def same(mine: ChannelHealth, features: list[Tensor]) -> None:
    """Compare with figures worked out in plain Python, channel by channel."""
    for c in range(len(features[0])):
        means = [float(each[c].sum()) / each[c].numel() for each in features]
        center = sum(means) / len(means)
        spread = (sum((m - center) ** 2 for m in means) / len(means)) ** 0.5
        alive = sum(any(v != 0 for v in each[c].flatten().tolist()) for each in features)
        assert int(mine.best_index[c]) == means.index(max(means))
        assert float(mine.best[c]) == pytest.approx(max(means), rel=1e-6, abs=1e-12)
        assert float(mine.mean[c]) == pytest.approx(center, rel=1e-6, abs=1e-12)
        assert float(mine.std[c]) == pytest.approx(spread, rel=1e-6, abs=1e-12)
        assert float(mine.live[c]) == pytest.approx(alive / len(features), rel=1e-6)


@pytest.mark.parametrize("batch", [None, 1, 4, 7, 22, 23, 99])
def test_every_layer_whatever_the_batch(batch: int | None) -> None:
    net, data = network(), images()
    found, expected = health(net, data, batch=batch), one_by_one(net, data)
    assert set(found) == set("012345")
    for name, features in expected.items():
        same(found[name], features)
    shares = found["2"].live
    assert shares[0] == 1 and shares[3] == 0 and bool(((shares > 0) & (shares < 1)).any()), "every kind is there"
    assert found["2"].dead.tolist() == [False, False, False, True, False]


def test_far_from_zero_the_spread_is_still_exact() -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 1)).double()
    nn.init.constant_(net[0].bias, 1e7)  # type: ignore[arg-type]
    found = health(net, images(), batch=4)["0"]
    means = [each[0].mean() for each in one_by_one(net, images())["0"]]
    expected = torch.stack(means).std(correction=0)
    assert 0.001 < float(expected) < 1 and float(found.std) == pytest.approx(float(expected), rel=1e-5)


def test_of_equal_pictures_the_first_is_the_best() -> None:
    data = images(5).repeat(3, 1, 1, 1)
    for batch in (1, 4, 15):
        found = health(network(), data, layers=["0"], batch=batch)["0"]
        assert int(found.best_index.max()) < 5 and len(set(found.best_index.tolist())) > 1


def passes(net: Any, x: Tensor) -> Any:
    return net.part(x)


def negated(net: Any, x: Tensor) -> Any:
    return net.part(-x)


@pytest.mark.parametrize(("n", "live", "dead"), [(200, 1, True), (200, 2, False), (300, 2, True), (300, 3, False)])
def test_dead_is_below_one_percent_and_only_behind_a_rectifier(n: int, live: int, dead: bool) -> None:
    data = torch.zeros(n, 3, 4, 3, dtype=torch.uint8)
    data[-live:, 1, 3, 2] = 1
    for sign in (1, -1):
        found = health(Calls(passes if sign == 1 else negated, part=nn.Identity()), data, batch=64)["part"]
        assert found.live.tolist() == pytest.approx([0, live / n, 0])
        assert found.rectified is (sign == 1), "what may be negative has no silence"
        assert found.dead.tolist() == ([True, dead, True] if found.rectified else [False] * 3)
        assert found.lowest is not None and found.lowest.tolist() == pytest.approx([0, min(0, sign) / 255, 0])
        old = replace(found, lowest=None)
        assert old.rectified is found.rectified and torch.equal(old.dead, found.dead), "of earlier versions: by means"


@pytest.mark.parametrize("classes", [2, 40, 200, 1000])
def test_a_unit_that_knows_one_class_only_is_not_dead(classes: int) -> None:
    data = torch.zeros(2 * classes, 3, 2, 2, dtype=torch.uint8)
    labels = torch.arange(2 * classes) % classes
    data[labels == 1, 0] = 200
    data[1, 1] = 200  # on half of the class
    found = health(nn.Sequential(nn.Identity()), data, labels=labels, ranked=True)["0"]
    assert found.dead.tolist() == [False, False, True]
    assert found.class_selectivity[0] == 1 and found.selectivity[0] == pytest.approx(1)
    assert found.auc is not None and found.auc[0, 1] == 1 and found.auc[2].tolist() == [0.5] * classes


@pytest.mark.parametrize("batch", [1, 5, 23])
def test_classes_are_ranked_over_all_pictures_or_over_evenly_spread_ones(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, data, labels = network(), images(), torch.tensor([0, 2, 2, 0, 4] * 5)[:23]
    means = torch.stack(one_by_one(net, data)["2"]).mean((2, 3)).float()
    for room, every in ((2**25, 1), (23 * 5 // 3 + 1, 3)):
        monkeypatch.setattr("torchloupe.evaluation.channels.ROOM", room)
        found = health(net, data, layers=["2"], labels=labels, ranked=True, batch=batch)["2"]
        assert found.auc is not None and found.class_count is not None and found.images == 23
        torch.testing.assert_close(found.auc, class_auc(means[::every], labels[::every], 5), equal_nan=True)
        assert found.class_count.tolist() == labels[::every].bincount(minlength=5).tolist()
    assert health(net, data, layers=["2"], labels=labels)["2"].auc is None
    assert health(net, data, layers=["2"], ranked=True)["2"].auc is None


def test_a_planted_duplicate_says_the_same_of_every_class() -> None:
    net, data, labels = network(), images(), torch.arange(23) % 3
    for tensor in (net[0].weight, net[0].bias, net[1].weight, net[1].bias, net[1].running_mean, net[1].running_var):
        with torch.no_grad():
            tensor[4] = tensor[2]  # type: ignore[index,operator]
    found = health(net, data, layers=["2"], labels=labels, ranked=True)["2"]
    assert found.auc is not None and torch.equal(found.auc[4], found.auc[2])
    assert found.selectivity[4] == found.selectivity[2] and not torch.equal(found.auc[4], found.auc[0])


def test_channels_on_the_last_axis() -> None:
    net = Calls(lambda net, x: net.mix(x.permute(0, 2, 3, 1)).flatten(1), mix=nn.Linear(3, 5)).double()
    with torch.no_grad():
        features = [net.get_submodule("mix")(each.double().movedim(0, 2) / 255).movedim(2, 0) for each in images()]
    found = health(net, images(), batch=6)
    assert list(found) == ["mix"]
    same(found["mix"], features)


def test_a_layer_that_runs_twice_counts_by_its_first_call() -> None:
    def run(net: Any, x: Tensor) -> Any:
        return net.relu(net.conv(net.relu(x - 0.5)))

    net = Calls(run, relu=nn.ReLU(), conv=nn.Conv2d(3, 3, 3)).double()
    features = [F.relu(each.double() / 255 - 0.5) for each in images()]
    same(health(net, images(), batch=5)["relu"], features)


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_networks_own_output(wrapped: bool) -> None:
    net, data = network(), images()
    model = wrap(net, mean=None, std=None, classes=6) if wrapped else net
    assert OUTPUT not in health(model, data)
    found = health(model, data, layers=[OUTPUT, "2"], batch=4)
    assert set(found) == {OUTPUT, "2"}
    same(found[OUTPUT], one_by_one(net, data)["5"])


def test_a_child_called_output_comes_before_the_networks_own() -> None:
    net = Calls(lambda net, x: 2 * net.output(x), output=nn.Identity())
    same(health(net, images(), layers=[OUTPUT], batch=4)[OUTPUT], list(images().double() / 255))


def test_the_output_of_a_network_that_gives_a_tuple() -> None:
    net = Calls(lambda net, x: (net.part(x), "more"), part=nn.Conv2d(3, 4, 3))
    assert health(net, images(), layers=[OUTPUT])[OUTPUT].best.shape == (4,)


def test_a_layer_asked_for_by_its_second_name() -> None:
    net = Calls(lambda net, x: net.two(x), one=nn.Conv2d(3, 4, 3))
    net.two = net.one
    name = resolve(net, "two")
    assert health(net, images(), layers=[name])[name].best.shape == (4,)


def test_pieces_and_unknown_layers_are_left_out() -> None:
    net = Calls(lambda net, x: net.fc(net.part(x[:, :, :1, :7]).mean(2)), part=nn.Flatten(2), fc=nn.Linear(3, 2))
    assert list(health(net, images())) == ["fc"]
    assert list(health(net, images(), layers=["fc", "part", "none"])) == ["fc"]


def test_pictures_are_resized_where_asked_and_progress_is_told() -> None:
    sides: set[tuple[int, int]] = set()

    def run(net: Any, x: Tensor) -> Any:
        sides.add((x.shape[2], x.shape[3]))
        return net.part(x)

    told: list[tuple[int, int]] = []
    health(Calls(run, part=nn.Identity()), images(), size=7, batch=10, progress=lambda *at: told.append(at))
    assert sides == {(7, 7)} and told == [(10, 23), (20, 23), (23, 23)]


def test_after_an_error_no_hook_is_left_and_all_is_put_back() -> None:
    passes: list[int] = []

    def run(net: Any, x: Tensor) -> Any:
        passes.append(len(x))
        if len(passes) > 4:
            raise ZeroDivisionError
        return net.conv(x)

    net = Calls(run, conv=nn.Conv2d(3, 4, 3)).train()
    with pytest.raises(ForwardError, match="ZeroDivisionError"):
        health(net, images(), batch=2)
    assert passes[4] == 2 and set(passes[5:]) <= {1} and not hooks_of(net), "one picture at a time is tried for advice"
    assert all(module.training for module in net.modules()) and all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("batch", [1, 5, 23])
def test_what_a_channel_does_on_each_class(batch: int) -> None:
    net, data = network(), images()
    labels = torch.tensor([0, 2, 2, 0, 4] * 5)[:23]
    found = health(net, data, labels=labels, batch=batch)
    for name, features in one_by_one(net, data).items():
        for c in range(len(features[0])):
            means = [float(each[c].mean()) for each in features]
            kinds: dict[int, list[float]] = {0: [], 2: [], 4: []}
            for value, kind in zip(means, labels.tolist(), strict=True):
                kinds[kind].append(value)
            center = sum(means) / 23
            whole = sum((v - center) ** 2 for v in means)
            inside = sum((v - sum(vs) / len(vs)) ** 2 for vs in kinds.values() for v in vs)
            for kind, values in kinds.items():
                mean = sum(values) / len(values)
                assert float(found[name].class_mean[c, kind]) == pytest.approx(mean, rel=1e-5, abs=1e-6)
            expected = 1 - inside / whole if whole else 0.0
            assert float(found[name].selectivity[c]) == pytest.approx(expected, abs=1e-6)
        assert found[name].class_mean[:, [1, 3]].isnan().all(), "a class without pictures has no mean"


def test_selectivity_is_one_for_a_channel_that_only_knows_the_class_and_zero_for_a_constant() -> None:
    data = torch.zeros(12, 3, 4, 4, dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2] * 4)
    data[:, 0] = 40 * labels.to(torch.uint8)[:, None, None]
    data[:, 1] = 77
    found = health(nn.Sequential(nn.Identity()), data, labels=labels, batch=5)["0"]
    assert found.selectivity.tolist() == pytest.approx([1, 0, 0])
    bare = health(nn.Sequential(nn.Identity()), data)["0"]
    assert bare.class_mean.shape == (3, 0) and bool(bare.selectivity.isnan().all())
