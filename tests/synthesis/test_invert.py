"""Feature inversion: against layers that can be undone exactly, and what every method owes to its network."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.errors import DataError, LayerError, UsageError
from torchloupe.features.hooks import activations
from torchloupe.features.random_control import randomize
from torchloupe.models.network import Network, wrap
from torchloupe.synthesis.invert import Inversion, invert
from torchloupe.synthesis.similarity import psnr, ssim


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)) + x)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """In-place ReLU, strided at an odd size; the second channel of the first block is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.block1, self.block2 = Block(7), Block(7)
        self.fc = nn.Linear(7, 4)
        with torch.no_grad():
            assert self.block1.bn.bias is not None
            self.block1.bn.bias[1] = -100

    def forward(self, x: Tensor) -> Tensor:
        x = self.block2(self.block1(self.relu(self.stem(x))))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.b(F.max_pool2d(F.relu(self.a(x)), 2))).mean((2, 3))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 11, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.fixture
def net() -> Network:
    torch.manual_seed(0)
    return wrap(Residual().double(), mean=(0.5,) * 3, std=(0.25,) * 3, classes=4)


def rotation() -> nn.Sequential:
    """A layer that loses nothing: a 1 x 1 convolution by an orthogonal matrix."""
    conv = nn.Conv2d(3, 3, 1, bias=False).double()
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    conv.weight.data = matrix.view(3, 3, 1, 1)
    return nn.Sequential(conv)


def test_an_invertible_layer_gives_the_picture_back(images: Tensor) -> None:
    smooth = 0.25 + 0.5 * F.avg_pool2d(images, 5, stride=1, padding=2, count_include_pad=False)
    found = invert(rotation(), "0", smooth, steps=200, randomized=False)
    assert (found.error < 1e-5).all()
    assert torch.allclose(found.pictures, smooth, atol=0.01)
    assert (found.psnr > 50).all() and (found.ssim > 0.995).all()


def test_without_priors_it_is_exact(images: Tensor) -> None:
    found = invert(rotation(), "0", images, steps=200, tv=0, bounds=0, randomized=False)
    assert torch.allclose(found.pictures, images, atol=1e-7)


def test_the_scores_are_those_of_the_pictures_as_they_are(net: Network, images: Tensor) -> None:
    found = invert(net, "block1", images, steps=12)
    with torch.no_grad():
        there, sought = activations(net, "block1", found.pictures), activations(net, "block1", images)
    error = [float((a - b).norm() ** 2 / b.norm() ** 2) for a, b in zip(there, sought, strict=True)]
    assert found.error.tolist() == pytest.approx(error, rel=1e-9)
    assert torch.equal(found.psnr, psnr(found.pictures, images)) and torch.equal(
        found.ssim, ssim(found.pictures, images)
    )
    assert found.pictures.min() >= 0 and found.pictures.max() <= 1
    assert found.history.shape == (12, 3) and (found.history.diff(dim=0) <= 1e-12).all()
    assert found.image.tolist() == [0, 1, 2] and found.channel.tolist() == [-1] * 3
    assert (
        found.randomized is not None
        and found.randomized.randomized is None
        and found.randomized.pictures.shape == images.shape
    )


def test_each_channel_by_itself_is_that_channel_asked_alone(net: Network, images: Tensor) -> None:
    found = invert(net, "block2", images[:2], channels=[3, 0], each=True, steps=8, randomized=False)
    assert found.image.tolist() == [0, 0, 1, 1] and found.channel.tolist() == [3, 0, 3, 0]
    alone = invert(net, "block2", images[1:2], channels=3, steps=8, randomized=False)
    assert torch.allclose(found.pictures[2:3], alone.pictures, atol=1e-9)
    with torch.no_grad():
        a, b = activations(net, "block2", alone.pictures)[0, 3], activations(net, "block2", images)[1, 3]
    assert float(found.error[2]) == pytest.approx(float((a - b).norm() ** 2 / b.norm() ** 2), rel=1e-6)


def test_some_channels_together(net: Network, images: Tensor) -> None:
    found = invert(net, "stem", images, channels=[0, 4], steps=30, tv=0.001, randomized=False)
    with torch.no_grad():
        a, b = (activations(net, "stem", x)[:, [0, 4]] for x in (found.pictures, images))
    expected = ((a - b) ** 2).sum((1, 2, 3)) / (b**2).sum((1, 2, 3))
    assert torch.allclose(found.error, expected)
    assert (found.error < 0.05).all()


@pytest.mark.parametrize("settings", [{}, {"start": "noise"}, {"jitter": 2}])
def test_a_batch_is_its_singles_and_the_seed_is_all(net: Network, images: Tensor, settings: dict[str, object]) -> None:
    def run(pictures: Tensor, seed: int = 1) -> Inversion:
        control = randomize(net, seed, images)  # by itself it is measured on the images that are inverted
        return invert(net, "block1", pictures, steps=10, seed=seed, control=control, **settings)  # type: ignore[arg-type]

    together = run(images)
    assert torch.equal(together.pictures, run(images).pictures)
    alone = run(images[2:])
    assert torch.allclose(together.pictures[2:], alone.pictures, atol=1e-9)
    assert together.randomized is not None and alone.randomized is not None
    assert torch.allclose(together.randomized.pictures[2:], alone.randomized.pictures, atol=1e-9)
    if settings:  # grey draws nothing
        assert not torch.equal(together.pictures, run(images, seed=2).pictures)


def test_chunks_change_nothing(net: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = invert(net, "block1", images, each=True, steps=6, randomized=False)
    monkeypatch.setattr("torchloupe.synthesis.invert.at_once", lambda *_: 4)
    told: list[tuple[int, int]] = []
    parts = invert(net, "block1", images, each=True, steps=6, progress=lambda done, total: told.append((done, total)))
    assert torch.allclose(whole.pictures, parts.pictures, atol=1e-9)
    assert torch.allclose(whole.history, parts.history, atol=1e-9)
    assert told == [(i, 2 * 6 * 6) for i in range(1, 2 * 6 * 6 + 1)]


def test_a_dead_channel_is_said_and_breaks_nothing(net: Network, images: Tensor) -> None:
    found = invert(net, "block1", images[:1], each=True, steps=6, randomized=False)
    assert found.error.isnan().tolist() == [c == 1 for c in range(7)]
    assert found.pictures.isfinite().all() and found.history.isfinite().all()
    assert torch.allclose(found.pictures[1], torch.full_like(found.pictures[1], 0.5))


@pytest.mark.parametrize(("bright", "gain"), [(0.9, 1.0), (0.65, 5.0)])
def test_a_unit_that_is_silent_on_grey_is_found_all_the_same(bright: float, gain: float) -> None:
    conv = nn.Conv2d(3, 1, 1).double()
    with torch.no_grad():
        conv.weight.fill_(gain)
        assert conv.bias is not None
        conv.bias.fill_(-1.6 * gain)  # grey gives 1.5, so that the slope there is zero; 0.65: blobs give far too much
    images = torch.full((1, 3, 9, 9), 0.2, dtype=torch.float64)
    images[:, :, 2:7, 2:7] = bright
    unit = nn.Sequential(conv, nn.ReLU())
    assert not activations(unit, "1", torch.full_like(images, 0.5)).any()
    found = invert(unit, "1", images, each=True, randomized=False)
    assert float(found.error) < 0.8


def test_the_scale_of_the_features_does_not_matter(images: Tensor) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(3, 4, 3).double()
    tiny = copy.deepcopy(conv)
    for parameter in tiny.parameters():
        parameter.data *= 1e-200  # its square is 0
    a, b = (invert(nn.Sequential(net), "0", images, steps=10, randomized=False) for net in (conv, tiny))
    assert torch.allclose(a.pictures, b.pictures, atol=1e-6)
    assert torch.allclose(a.error, b.error, rtol=1e-6)


@pytest.mark.parametrize("layer", ["first", "last", "block1.conv", "fc", "output"])
def test_any_layer(net: Network, images: Tensor, layer: str) -> None:
    found = invert(net, layer, images[:1], steps=40, randomized=False, tv=0.001)
    assert found.error.isfinite().all() and float(found.error) < 0.15


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("functional", [False, True])
def test_nothing_is_left_behind(net: Network, images: Tensor, around: "type[torch.no_grad]", functional: bool) -> None:
    model: nn.Module = Functional().double() if functional else net
    layer = "output" if functional else "block2"
    expected = invert(model, layer, images, steps=5)
    model.train()
    next(model.parameters()).requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    with around():
        found = invert(model, layer, images.clone(), steps=5)
    assert torch.equal(found.pictures, expected.pictures)
    assert found.randomized is not None and expected.randomized is not None
    assert torch.equal(found.randomized.pictures, expected.randomized.pictures)
    assert not found.pictures.is_inference() and not found.pictures.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags and model.training
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_twin_is_the_same_through_random_weights(net: Network, images: Tensor) -> None:
    found = invert(net, "block1", images, steps=8, seed=4).randomized
    expected = invert(randomize(net, 4, images), "block1", images, steps=8, seed=4, randomized=False)
    assert found is not None and torch.equal(found.pictures, expected.pictures)


def test_float32_is_close_to_float64(images: Tensor) -> None:
    exact = invert(rotation(), "0", images, steps=8, randomized=False)
    short = invert(rotation().float(), "0", images, steps=8, randomized=False)
    assert short.pictures.dtype == torch.float32
    assert torch.allclose(short.pictures.double(), exact.pictures, atol=1e-5)


def test_what_does_not_fit_is_refused(net: Network, images: Tensor) -> None:
    with pytest.raises(UsageError, match="steps=0"):
        invert(net, "block1", images, steps=0)
    with pytest.raises(UsageError, match="channels 0 to 6, not 7"):
        invert(net, "block1", images, channels=[7])
    with pytest.raises(UsageError, match="0 pictures"):
        invert(net, "block1", images[:0])
    with pytest.raises(LayerError, match="block1"):
        invert(net, "blok1", images)
    with pytest.raises(DataError, match="already normalised"):
        invert(net, "block1", images * 4)
