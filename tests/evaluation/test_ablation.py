"""Ablation against a plain evaluation of the network with one channel's output set to zero by hand."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets import hooks_of, stirred
from torchloupe.data.subsets import stratified
from torchloupe.errors import LayerError, UsageError
from torchloupe.evaluation.ablation import ablate, rectified
from torchloupe.evaluation.significance import mcnemar
from torchloupe.models import build


def data(n: int = 24, h: int = 9, w: int = 11) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 3, h, w), generator=chance, dtype=torch.uint8)
    return images, torch.randint(0, 3, (n,), generator=chance)


class SeenError(Exception):
    """Brings out what a layer puts out."""


class Plain(nn.Module):
    """A residual network with a skip around its middle, and a way to run it without one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(5)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(5, 5, 3, padding=1)
        self.fc = nn.Linear(5, 3)

    def forward(
        self, x: Tensor, silent: tuple[str, int] | None = None, mean: Tensor | None = None, seen: str = ""
    ) -> Tensor:
        def without(name: str, features: Tensor) -> Tensor:
            if name == seen:
                raise SeenError(features)
            if silent is None or silent[0] != name:
                return features
            mask = torch.ones(features.shape[1], dtype=features.dtype)
            mask[silent[1]] = 0
            kept = features * mask[:, None, None]
            return kept if mean is None else kept + mean * (1 - mask)[:, None, None]

        x = without("relu", self.relu(self.bn1(self.conv1(x))))
        y = without("conv2", self.conv2(x))
        out: Tensor = self.fc(F.relu(x + y).mean((2, 3)))
        return out


def by_hand(net: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    net.eval()
    with torch.no_grad():
        return torch.stack(
            [run(image[None].double() / 255).argmax() == y for image, y in zip(images, labels, strict=True)]
        )


def drawn() -> "Plain":
    net = stirred(Plain()).double()
    assert isinstance(net, Plain)
    with torch.no_grad():
        net.conv2.weight.mul_(6)  # so that single channels turn answers
        net.fc.bias.zero_()
    return net


@pytest.mark.parametrize("layer", ["relu", "conv2"])
def test_the_drop_is_that_of_a_plain_evaluation(layer: str) -> None:
    net = drawn()
    images, labels = data(60)
    all_right = by_hand(net, net, images, labels).double()
    found = ablate(net, layer, images, labels, amp="off")
    assert found.shared is (layer == "relu"), (
        "conv2 is joined with what came before it: each channel takes a whole pass"
    )
    assert found.images == 60 and found.accuracy == pytest.approx(float(all_right.mean()))
    some = 0
    for channel in range(5):
        right = by_hand(net, lambda x, c=channel: net(x, (layer, c)), images, labels).double()  # type: ignore[misc]
        assert float(found.drop[channel]) == pytest.approx(float(all_right.mean() - right.mean()), abs=1e-6)
        for kind in range(3):
            mine = labels == kind
            lost = float(all_right[mine].mean() - right[mine].mean())
            assert float(found.class_drop[channel, kind]) == pytest.approx(lost, abs=1e-6)
        some += int(right.ne(all_right).any())
        assert int(found.lost[channel]) == int((all_right > right).sum())
        assert int(found.gained[channel]) == int((all_right < right).sum())
    assert some, "no channel matters: the test would pass whatever ablation does"
    assert not hooks_of(net)


@pytest.mark.parametrize("layer", ["relu", "conv2"])
def test_the_mean_stands_in_its_place(layer: str) -> None:
    net = drawn()
    images, labels = data(60)
    net.eval()
    maps = []
    for image in images:
        with pytest.raises(SeenError) as seen, torch.no_grad():
            net(image[None].double() / 255, seen=layer)
        maps.append(seen.value.args[0][0])
    mean = torch.stack(maps).mean(0)
    all_right = by_hand(net, net, images, labels)
    found = ablate(net, layer, images, labels, replacement="mean", amp="off")
    assert found.replacement == "mean" and found.shared is (layer == "relu")
    for channel in range(5):
        right = by_hand(net, partial(net, silent=(layer, channel), mean=mean), images, labels)
        assert int(found.lost[channel]) == int((all_right & ~right).sum())
        assert int(found.gained[channel]) == int((~all_right & right).sum())
    assert not torch.equal(found.lost, ablate(net, layer, images, labels, amp="off").lost) and not hooks_of(net)


class Planted(nn.Module):
    """Says class 1 where the picture is blue, else 0; channel 3 is dead. `twice`: channels 4 and 5 say blue, both."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 6, 1, bias=False), nn.ReLU(), nn.Linear(6, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.fc.weight.zero_()
            for channel in (0, 1, 2):
                self.conv.weight[channel, channel] = 1
            self.conv.weight[3] = -1
            self.fc.weight[0, 0] = 1  # red, of every picture, speaks for 0
            if twice:
                self.conv.weight[4:6, 2] = 1
                self.fc.weight[1, 4:6] = 2
            else:
                self.fc.weight[1, 2] = 2
            self.fc.weight[:, 3] = 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.relu(self.conv(x)).mean((2, 3)))
        return out


def blue(k: int, g: int, n: int = 100) -> tuple[Tensor, Tensor]:
    """Red pictures, k + g of them blue too; of these k are of class 1 and g are not, as are all others."""
    images = torch.zeros(n, 3, 4, 4, dtype=torch.uint8)
    images[:, 0] = 255
    images[: k + g, 2] = 255
    labels = torch.zeros(n, dtype=torch.int64)
    labels[:k] = 1
    order = torch.randperm(n, generator=torch.Generator().manual_seed(4))
    return images[order], labels[order]


@pytest.mark.parametrize("amp", ["off", "on"])
@pytest.mark.parametrize(
    ("k", "g", "found"), [(20, 2, True), (6, 5, False), (0, 0, False), (2, 12, False), (2, 16, True)]
)
def test_a_planted_unit_flips_the_pictures_it_was_planted_for(k: int, g: int, found: bool, amp: str) -> None:
    ablation = ablate(Planted().eval(), "relu", *blue(k, g), amp=amp)
    assert ablation.accuracy == pytest.approx(1 - g / 100)
    assert (int(ablation.lost[2]), int(ablation.gained[2])) == (k, g)
    assert ablation.p_value[2].item() == pytest.approx(mcnemar(k, g))
    assert ablation.measurable.tolist() == [False, False, found, False, False, False]
    assert ablation.drop[2].item() == pytest.approx((k - g) / 100) and bool((ablation.standard_error > 0).all())
    assert ablation.lost[1] == ablation.lost[3] == 0 == ablation.gained[3], "a dead unit changes nothing"


def test_of_two_that_say_the_same_neither_is_missed() -> None:
    both = ablate(Planted(twice=True).eval(), "relu", *blue(20, 0), amp="off")
    assert both.lost.tolist() == [0] * 6 and not both.measurable.any()


def test_what_is_the_same_on_every_picture_is_missed_as_zero_and_not_as_mean() -> None:
    images, labels = blue(30, 0)
    images[labels == 1, 2] = 255
    images[labels == 0, 2] = 20
    zero, mean = (
        ablate(Planted().eval(), "relu", images, labels, channels=[0], replacement=kind, amp="off")
        for kind in ("zero", "mean")
    )
    assert zero.lost.tolist() == [70] and mean.lost.tolist() == [0]


def test_channels_last_vectors_and_tuples() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(3, 4)
            self.two = Two()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            features = self.mix(x.permute(0, 2, 3, 1))
            vector, _ = self.two(features)
            out: Tensor = self.fc(vector)
            return out

    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, str]:
            return x.mean((1, 2)), "beside"

    net = stirred(Odd()).double()
    images, labels = data()
    for layer in ("mix", "two"):
        found = ablate(net, layer, images, labels, channels=[3, 0], amp="off")
        assert found.channel.tolist() == [3, 0] and found.shared
        silent = stirred(Odd()).double()
        with torch.no_grad():
            silent.fc.weight[:, 3] = 0 if layer == "two" else silent.fc.weight[:, 3]  # type: ignore[union-attr,index,operator]
            silent.mix.weight[3] = silent.mix.weight[3] if layer == "two" else 0  # type: ignore[union-attr,index,operator]
            silent.mix.bias[3] = silent.mix.bias[3] if layer == "two" else 0  # type: ignore[union-attr,index,operator]
        expected = (
            by_hand(net, net, images, labels).double().mean() - by_hand(silent, silent, images, labels).double().mean()
        )
        assert float(found.drop[0]) == pytest.approx(float(expected), abs=1e-6)


def test_a_channel_is_whole_behind_its_blocks_rectifier() -> None:
    net = build("loupe")
    image = torch.rand(1, 3, 32, 32)
    assert rectified(net, "conv1", image) == "relu1"
    assert rectified(net, "layer2.0.conv", image) == "layer2.0.relu"
    assert rectified(net, "layer1.0", image) == "layer1.0", "a block that ends in its rectifier"
    assert rectified(net, "relu1", image) == "relu1"
    assert rectified(net, "layer1.0.bn", image) == "layer1.0.relu"
    assert rectified(net, "output", image) == "output"
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU())
    assert rectified(plain, "0", image) == "0", "what follows mixes channels"


class Functional(nn.Module):
    """A convolution, its normalisation, a ReLU that is no module; or, before activation, with a skip around them."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.conv, self.fc, self.skip = nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Linear(4, 3), skip

    def forward(self, x: Tensor, silent: int | None = None) -> Tensor:
        x = self.stem(x)
        y = self.relu(self.bn(x)) if self.skip else F.relu(self.bn(x))
        if silent is not None:
            y = y * (torch.arange(4) != silent)[:, None, None]
        y = self.conv(y) + x if self.skip else self.conv(y)
        out: Tensor = self.fc(y.mean((2, 3)))
        return out


def test_behind_a_relu_that_is_no_module_a_channel_is_zeroed_after_its_normalisation() -> None:
    net = stirred(Functional(skip=False)).double()
    images, labels = data()
    assert rectified(net, "stem", images[:1].double() / 255) == "bn"
    found = ablate(net, "bn", images, labels, channels=[0, 1, 2, 3])
    with_all = by_hand(net, net, images, labels).double().mean()
    for channel in range(4):
        without = by_hand(net, partial(net, silent=channel), images, labels).double().mean()
        assert found.drop[channel].item() == pytest.approx((with_all - without).item())


def test_a_rectifier_that_only_a_branch_passes_is_not_where_a_channel_is_whole() -> None:
    image = torch.rand(1, 3, 9, 11, dtype=torch.float64)
    assert rectified(stirred(Functional(skip=True)).double(), "stem", image) == "stem"
    assert rectified(stirred(Functional(skip=True)).double(), "bn", image) == "relu"

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.a(x).mean((2, 3)) + self.b(x).relu().mean((2, 3))
            return out

    assert rectified(Branches().double().eval(), "a", image) == "a", "what ran next took the picture, not this"


def test_what_cannot_be_ablated_is_refused() -> None:
    net, (images, labels) = stirred(Plain()), data()
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        ablate(net, "conv9", images, labels)
    with pytest.raises(UsageError, match="channels 0 to 4, not 5"):
        ablate(net, "relu", images, labels, channels=[5])
    with pytest.raises(UsageError, match="needs pictures"):
        ablate(net, "relu", images[:0], labels[:0])
    assert not hooks_of(net)


def test_as_many_of_each_class_as_can_be_had() -> None:
    labels = torch.tensor([0] * 50 + [1] * 5 + [2] * 50)
    chosen = stratified(labels, 45)
    assert labels[chosen].bincount().tolist() == [20, 5, 20]
    assert chosen.tolist() == sorted(set(chosen.tolist())), "each once, in order"
    assert stratified(labels, 45, seed=1).tolist() != chosen.tolist()
    assert len(stratified(labels, 500)) == 105
