"""Feature maps: what a forward pass without hooks gives, and PCA as a singular value decomposition gives it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.errors import DataError, LayerError, UsageError
from torchloupe.features.feature_maps import feature_maps, principal
from torchloupe.models.network import wrap


class InPlace(nn.Module):
    """Every ReLU overwrites what the layer before it put out; one is a module, one a function, one a method."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, stride=2), nn.Conv2d(6, 4, 2)
        self.relu = nn.ReLU(inplace=True)
        with torch.no_grad():
            assert self.b.bias is not None
            self.b.weight[2] = 0
            self.b.bias[2] = -1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.a(x))
        x = F.relu(self.b(x), inplace=True)
        return self.c(x).relu_().mean((2, 3))  # type: ignore[no-any-return]

    def plainly(self, x: Tensor) -> dict[str, Tensor]:
        a = F.conv2d(x, self.a.weight, self.a.bias, padding=1)
        b = F.conv2d(a.clamp(min=0), self.b.weight, self.b.bias, stride=2)
        c = F.conv2d(b.clamp(min=0), self.c.weight, self.c.bias)
        return {"a": a, "relu": a.clamp(min=0), "b": b, "c": c, "output": c.clamp(min=0).mean((2, 3))[..., None, None]}


def net() -> InPlace:
    torch.manual_seed(0)
    return InPlace().double()


def images(n: int = 3, side: tuple[int, int] = (11, 8), seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(x)
        return out


@pytest.mark.parametrize("layer", ["a", "relu", "b", "c", "output"])
def test_maps_are_those_of_a_plain_pass(layer: str) -> None:
    model, x = net(), images()
    with torch.no_grad():
        expected = model.plainly(x)[layer]
    assert layer not in ("a", "b", "c") or bool((expected < 0).any()), "nothing would be overwritten"
    found = feature_maps(model, layer, x)
    torch.testing.assert_close(found.maps, expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(found.images, x) and found.channel.tolist() == list(range(expected.shape[1]))


def test_a_wrapped_network_normalises_first() -> None:
    model, x = net(), images()
    wrapped = wrap(model, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], classes=4)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    with torch.no_grad():
        expected = model.plainly((x - mean) / std)["b"]
    torch.testing.assert_close(feature_maps(wrapped, "b", x).maps, expected, rtol=1e-12, atol=1e-14)


def test_channels_are_taken_in_the_order_asked() -> None:
    model, x = net(), images()
    whole = feature_maps(model, "b", x)
    some = feature_maps(model, "b", x, channels=[4, 0, 2])
    assert some.channel.tolist() == [4, 0, 2]
    assert torch.equal(some.maps, whole.maps[:, [4, 0, 2]]) and torch.equal(some.pca, principal(some.maps))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = net(), images(5)
    whole = feature_maps(model, "b", x)
    monkeypatch.setattr("torchloupe.features.feature_maps.at_once", lambda *_: 2)
    torch.testing.assert_close(feature_maps(model, "b", x).maps, whole.maps, rtol=1e-12, atol=1e-14)


def test_dead_is_zero_everywhere_in_every_picture() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU()).double()
    with torch.no_grad():
        weight = torch.zeros(4, 3, 1, 1, dtype=torch.float64)
        weight[0, 0], weight[1, 1], weight[2, 2], weight[3] = 1, 1, -1, -1
        model[0].weight.copy_(weight)  # type: ignore[operator]
    x = torch.zeros(2, 3, 5, 7, dtype=torch.float64)
    x[1, 0, 4, 6] = 0.25  # one position of one picture
    x[:, 2] = 0.5
    assert feature_maps(model, "1", x).dead.tolist() == [False, True, True, True]
    assert feature_maps(model, "1", x[:1]).dead.tolist() == [True] * 4
    assert feature_maps(model, "0", x).dead.tolist() == [False, True, False, False]  # before the ReLU
    assert feature_maps(model, "1", x, channels=[3, 0]).dead.tolist() == [True, False]


class Last(nn.Module):
    """Channels on the last axis inside, as in ConvNeXt and Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv2d(3, 5, 3), nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mix(self.conv(x).permute(0, 2, 3, 1))
        return out.mean((1, 2))


def test_channels_on_the_last_axis_come_first() -> None:
    torch.manual_seed(1)
    model, x = Last().double(), images(2, (9, 7))
    with torch.no_grad():
        expected = torch.einsum("oc,bcyx->boyx", model.mix.weight, model.conv(x)) + model.mix.bias.view(-1, 1, 1)
    torch.testing.assert_close(feature_maps(model, "mix", x).maps, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("channels", "stride", "side"),
    [
        (5, 1, (7, 6)),  # maps of 5 x 4
        (4, 5, (13, 11)),
    ],
)
def test_channels_about_as_many_as_rows_are_no_sign_of_channels_last(
    channels: int, stride: int, side: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, channels, 3, stride, padding=stride // 5), nn.ReLU()).double()
    x = images(2, side)
    torch.testing.assert_close(feature_maps(model, "1", x).maps, on(model, x), rtol=1e-12, atol=1e-14)


def by_svd(features: Tensor) -> np.ndarray:
    """PCA by numpy: the sign from the largest loading, each component from its 1st to its 99th percentile."""
    b, n, y, x = features.shape
    rows = np.moveaxis(features.double().numpy(), 1, 3).reshape(-1, n)
    rows = rows - rows.mean(0)
    vectors = np.linalg.svd(rows, full_matrices=False)[2][:3]
    out = np.full((b * y * x, 3), 0.5)
    for k, vector in enumerate(vectors):
        part = rows @ (vector if vector[np.abs(vector).argmax()] > 0 else -vector)
        low, high = np.percentile(part, [1, 99])
        out[:, k] = np.clip((part - low) / (high - low), 0, 1)
    return np.moveaxis(out.reshape(b, y, x, 3), 3, 1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("side", [(7, 5), (16, 9)])
def test_pca_is_that_of_a_singular_value_decomposition(n: int, side: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(n)
    features = torch.randn(2, n, *side, generator=generator, dtype=torch.float64)
    features = torch.einsum("ij,bjyx->biyx", torch.randn(n, n, generator=generator, dtype=torch.float64), features) + 3
    found = principal(features)
    torch.testing.assert_close(found, torch.from_numpy(by_svd(features)), rtol=0, atol=1e-8)
    assert n >= 3 or bool((found[:, n:] == 0.5).all())
    assert float(found[:, 0].min()) == 0 and float(found[:, 0].max()) == 1


def test_the_sign_is_the_same_whatever_comes_out_of_the_decomposition() -> None:
    features = torch.zeros(1, 3, 1, 100, dtype=torch.float64)
    features[0, 0, 0] = torch.linspace(-5, 1, 100)
    assert bool((principal(features)[0, 0, 0].diff() >= 0).all())
    assert bool((principal(-features)[0, 0, 0].diff() <= 0).all())


def test_constant_and_dependent_maps_are_mid_grey() -> None:
    constant = torch.arange(4.0, dtype=torch.float64).view(1, 4, 1, 1).expand(2, 4, 5, 3)
    assert torch.equal(principal(constant), torch.full((2, 3, 5, 3), 0.5, dtype=torch.float64))
    one = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = principal(torch.cat([one, 2 * one, -one], 1))
    assert bool((found[:, 1:] == 0.5).all()) and float(found[:, 0].max()) == 1


def test_percentiles_of_many_positions_too() -> None:
    features = torch.rand(1, 1, 1000, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features[0, 0, 0, 0] = 1000  # one that would darken all others
    assert float(principal(features)[0, 0].mean()) == pytest.approx(0.5, abs=0.01)


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="channels 0 to 5"):
        feature_maps(net(), "b", images(), channels=[6])
    with pytest.raises(LayerError, match="no layer 'd'"):
        feature_maps(net(), "d", images())
    with pytest.raises(DataError, match="already normalised"):
        feature_maps(net(), "b", 3 * images())
