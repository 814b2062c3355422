"""What a layer still knows of its picture, by linear probes: its pixels, and its class."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.data.dataset import Split
from torchloupe.data.subsets import stratified, take
from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError
from torchloupe.evaluation.ridge import LEAST, Kernel, added, kernel, predict
from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.trace import at_once, placed
from torchloupe.models.network import Network
from torchloupe.runtime.progress import Progress

FIT, TUNED, TESTED = 2000, 500, 1000
"""Images that the probes are fitted to, that choose λ, and that they are measured on."""
SIDE = 32
"""Images are foretold at this side at most."""
ENTRIES = 1 << 26
"""Features that are held at once."""
DRAWS = 1000
"""Bootstrap samples of the images measured on."""
Mean = Callable[[Tensor], Tensor]
"""Of a value an image over images, or over each of several samples of them."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, by the bootstrap over images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Probe:
    """How much of an image, and of its class, ridge regression reads from a layer, on images held out."""

    layer: str
    features: int
    pixels: Estimate
    """R²: the share of the images' variance about the mean image that is foretold; 0 for none of it."""
    psnr: Estimate
    """dB, of the mean squared error, at most 32 x 32."""
    accuracy: Estimate
    """Share of images whose class is foretold."""
    penalties: tuple[float, float]
    """λ for pixels and for classes, as shares of the features' mean square length."""


@dataclass(frozen=True)
class Floor:
    """What is had without a network: the mean image, each image's own mean color, the commonest class."""

    mean_image: float
    """dB."""
    mean_color: float
    """dB."""
    chance: float


@dataclass(frozen=True)
class Probed:
    """Probes of a network's layers, in the order given, and what they must beat."""

    probes: tuple[Probe, ...]
    floor: Floor
    fitted: int
    tuned: int
    tested: int


def probe(
    model: nn.Module,
    layers: Sequence[str],
    train: Split,
    test: Split,
    *,
    count: int = FIT,
    seed: int = 0,
    progress: Progress | None = None,
) -> Probed:
    """Measure how much of an image and of its class can be read from each layer (names resolved) linearly.

    Ridge regression from all of a layer's activations to the image, and to the classes (Alain & Bengio 2017), in closed
    form: fitted to `count` images of `train`, λ chosen on others of `train` (a quarter as many), measured on `test`
    (1,000 at most). Nothing is searched for, so that what is lost is lost by the layer, not by an optimizer. Figures
    of a network mean something beside those of its parameter-randomization control, and beside the floor.

    Raises:
        DataError: too few images, or images with several classes.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> data = shapes(size=8, train=60, test=20)
    >>> found = probe(nn.Sequential(nn.Identity(), nn.Conv2d(3, 2, 3)), ["0", "1"], data.train, data.test, count=40)
    >>> [(each.layer, each.features) for each in found.probes], found.tested
    ([('0', 192), ('1', 72)], 20)
    """
    if train.labels.ndim != 1:
        raise DataError("probes are for images of one class each.")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError("probes need images of one size.")
    tuned = max(1, min(TUNED, len(train) // 5, count // 4))
    some = stratified(train.labels, min(count, len(train) - tuned) + tuned, seed)
    some = some[torch.randperm(len(some), generator=torch.Generator().manual_seed(seed))]
    fitted = len(some) - tuned
    known, held = take(train, some), take(test, stratified(test.labels, TESTED, seed))
    if min(fitted, len(held)) < LEAST:
        raise DataError(f"probes need images to fit to and to measure on, not {fitted} and {len(held)}.")
    images, labels = torch.cat([known.images, held.images]), torch.cat([known.labels, held.labels])
    size = model.size if isinstance(model, Network) else None
    shown, onehot = _shown(images, size), F.one_hot(labels).double()
    pixels = shown.flatten(1)
    draws = _draws(len(held), seed)
    probes = []
    for number, layer in enumerate(layers):
        found, features = _kernel(model, layer, images, size, fitted)
        probes.append(_read(layer, features, found, pixels, onehot, len(held), draws))
        if progress is not None:
            progress(number + 1, len(layers))
    return Probed(tuple(probes), _floor(shown, labels, fitted, len(held)), fitted, tuned, len(held))


def _read(
    layer: str, features: int, known: Kernel, pixels: Tensor, onehot: Tensor, tested: int, draws: Tensor
) -> Probe:
    """Foretell images and classes by a layer's kernel, and measure how well."""
    fitted, end = len(known.fit), len(pixels) - tested
    targets = pixels, onehot
    seen, named = predict(known, [each[:fitted] for each in targets], [each[fitted:end] for each in targets])
    truth = pixels[end:]
    error, spread = ((truth - values).square().mean(1) for values in (seen.values, pixels[:fitted].mean(0)))
    clipped = (truth - seen.values.clamp(0, 1)).square().mean(1)
    right = (named.values.argmax(1) == onehot[end:].argmax(1)).double()
    return Probe(
        layer,
        features,
        _estimate(lambda mean: 1 - mean(error) / mean(spread), draws),
        _estimate(lambda mean: -10 * mean(clipped).log10(), draws),
        _estimate(lambda mean: mean(right), draws),
        (seen.penalty, named.penalty),
    )


def _shown(images: UInt8[Tensor, "n c h w"], size: int | None) -> Float64[Tensor, "n c y x"]:
    """Return what is to be foretold: the images as the network sees them, at 32 x 32 at most."""
    shown = to_float(images, size).double()
    return F.interpolate(shown, (SIDE, SIDE), mode="area") if max(shown.shape[2:]) > SIDE else shown


def _kernel(
    model: nn.Module, layer: str, images: UInt8[Tensor, "n c h w"], size: int | None, fitted: int
) -> tuple[Kernel, int]:
    """Return the kernel of a layer's activations and how many there are, in as many passes as memory asks for."""
    first = placed(model, to_float(images[:1], size))
    step = at_once(model, layer, first)
    found: Kernel | None = None
    with frozen_eval(model), torch.no_grad():
        shape = activations(model, layer, first).shape
        channels, area = shape[1], math.prod(shape[2:])
        some = max(1, ENTRIES // (len(images) * area))
        for channel in range(0, channels, some):
            parts = [
                activations(model, layer, placed(model, to_float(images[start : start + step], size)))[
                    :, channel : channel + some
                ]
                .flatten(1)
                .clone()  # not a view that holds all channels
                for start in range(0, len(images), step)
            ]
            features = torch.cat(parts)
            found = added(kernel(features[:fitted], features[fitted:]), found)
    assert found is not None
    return found, channels * area


def _draws(n: int, seed: int) -> Float64[Tensor, "draws n"]:
    """Return the share of each image in each bootstrap sample."""
    drawn = torch.randint(n, (DRAWS, n), generator=torch.Generator().manual_seed(seed))
    times = torch.zeros(DRAWS, n, dtype=torch.float64)
    return times.scatter_add_(1, drawn, torch.ones_like(times)) / n


def _estimate(figure: Callable[[Mean], Tensor], draws: Float64[Tensor, "draws n"]) -> Estimate:
    """Return a figure that is made of means over images, and how much it varies with the images."""
    low, high = figure(lambda values: draws @ values).quantile(draws.new_tensor([0.025, 0.975])).tolist()
    return Estimate(float(figure(Tensor.mean)), low, high)


def _floor(shown: Float64[Tensor, "n c y x"], labels: Int64[Tensor, " n"], fitted: int, tested: int) -> Floor:
    held = shown[-tested:]
    errors = ((held - other).square().mean() for other in (shown[:fitted].mean(0), held.mean((2, 3), keepdim=True)))
    mean_image, mean_color = (float(-10 * error.log10()) for error in errors)
    common = labels[:fitted].bincount().argmax()
    return Floor(mean_image, mean_color, float((labels[-tested:] == common).double().mean()))
