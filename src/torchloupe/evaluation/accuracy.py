"""How well a network does: loss, accuracy, per class, confusion, calibration, the most confident mistakes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, did_you_mean
from torchloupe.evaluation.calibration import Calibration, calibrate
from torchloupe.evaluation.intervals import wilson
from torchloupe.evaluation.probabilities import at_a_time
from torchloupe.features.hooks import one_at_a_time
from torchloupe.features.owner import random_state_restored, reseed
from torchloupe.features.trace import placed
from torchloupe.models.forward import called
from torchloupe.models.layout import laid_out
from torchloupe.models.network import Network
from torchloupe.runtime.device import at_least_float32, autocast
from torchloupe.runtime.memory import halving, smaller
from torchloupe.runtime.progress import Progress


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a network said about every picture, and the figures made of it."""

    probabilities: Float[Tensor, "n classes"]
    labels: Int64[Tensor, "n"]
    classes: tuple[str, ...]
    losses: Float[Tensor, "n"]
    """Cross-entropy of each picture, in nats."""

    @property
    def predicted(self) -> Int64[Tensor, "n"]:
        """The most probable class of each picture."""
        return self.probabilities.argmax(1)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return self.losses.double().mean().item()

    @property
    def accuracy(self) -> float:
        """Share of pictures whose most probable class is the true one, in [0, 1]."""
        return (self.predicted == self.labels).double().mean().item()

    @property
    def confusion(self) -> Int64[Tensor, "classes classes"]:
        """Counts; row: true class, column: predicted class."""
        n = len(self.classes)
        return torch.bincount(self.labels * n + self.predicted, minlength=n * n).view(n, n)

    @property
    def per_class(self) -> dict[str, float | None]:
        """Accuracy of each class in [0, 1]; None for a class without pictures."""
        right, all_ = self.confusion.diagonal(), self.confusion.sum(1)
        pairs = zip(self.classes, right.tolist(), all_.tolist(), strict=True)
        return {name: (hits / n if n else None) for name, hits, n in pairs}

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, over pictures (Wilson 1927)."""
        return wilson(int((self.predicted == self.labels).sum()), len(self.labels))

    @property
    def per_class_interval(self) -> dict[str, tuple[float, float] | None]:
        """The same of each class; None for a class without pictures."""
        right, all_ = self.confusion.diagonal(), self.confusion.sum(1)
        pairs = zip(self.classes, right.tolist(), all_.tolist(), strict=True)
        return {name: (wilson(hits, n) if n else None) for name, hits, n in pairs}

    @property
    def calibration(self) -> Calibration:
        """Whether it is as sure as it is right."""
        return calibrate(self.probabilities, self.labels)

    def mistakes(self) -> Int64[Tensor, "m"]:
        """Indices of wrongly classified pictures, the most confident first."""
        wrong = (self.predicted != self.labels).nonzero().flatten()
        confidence = self.probabilities.amax(1)[wrong]
        return wrong[confidence.argsort(descending=True, stable=True)]


def align(labels: Int64[Tensor, "n"], classes: Sequence[str], wanted: Sequence[str]) -> Int64[Tensor, "n"]:
    """Renumber labels from one list of class names to another, by name.

    Raises:
        DataError: a class that occurs in the labels is unknown to the model.

    >>> align(torch.tensor([0, 1]), ["cat", "dog"], ["ant", "dog", "cat"])
    tensor([2, 1])
    """
    used = [classes[i] for i in torch.unique(labels).tolist()]
    unknown = [name for name in used if name not in wanted]
    if unknown:
        raise DataError(
            f"the model knows no class {unknown[0]!r}{did_you_mean(unknown[0], list(wanted)) or '.'} "
            f"It knows: {', '.join(wanted[:12])}{' …' if len(wanted) > 12 else ''}; "
            "rename the folders, or train on these classes."
        )
    table = torch.tensor([wanted.index(name) if name in wanted else -1 for name in classes], dtype=torch.int64)
    return table[labels]


@torch.no_grad()
def predict(
    network: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    *,
    size: int | None = None,
    flip: bool = False,
    batch: int = 500,
    amp: str = "auto",
    progress: Progress | None = None,
) -> Float[Tensor, "n classes"]:
    """Return the log-probabilities of uint8 pictures; `flip` averages the mirrored picture's probabilities in.

    The network runs on the device that it is on, in the mode that it is in; one picture at a time where its answer to
    one depends on the others. Chance in it is the same in every pass.

    Raises:
        DataError: it takes pictures of another number of channels.

    >>> from torchloupe import load
    >>> predict(load("resnet20", classes=3), torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).exp().sum().round()
    tensor(2.)
    """
    takes = network.mean if isinstance(network, Network) else None
    if takes is not None and len(takes) != images.shape[1]:
        raise DataError(
            f"the network takes pictures with {len(takes)} values a pixel, and these have {images.shape[1]}. "
            "Test it in its own program."
        )
    batch = at_a_time(batch, size or max(images.shape[2:]))
    return halving(lambda: _predict(network, images, size, flip, smaller(batch), amp, progress), "the test")


def _predict(
    network: nn.Module,
    images: UInt8[Tensor, "n c h w"],
    size: int | None,
    flip: bool,
    batch: int,
    amp: str,
    progress: Progress | None,
) -> Float[Tensor, "n classes"]:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    if not network.training and len(images) and one_at_a_time(network, placed(network, to_float(images[:1], size))):
        batch = 1
    done = []
    for start in range(0, len(images), batch):
        prepared = to_float(images[start : start + batch].to(device), size)
        prepared = laid_out(network, prepared)
        with random_state_restored(), autocast(device, amp):
            reseed()
            logits = at_least_float32(called(network, prepared)).log_softmax(1)
            if flip:
                flipped = at_least_float32(called(network, prepared.flip(3))).log_softmax(1)
                logits = torch.logaddexp(logits, flipped) - math.log(2)
        done.append(logits)
        if progress is not None:
            progress(min(start + batch, len(images)), len(images))
    return torch.cat(done).cpu() if done else torch.zeros(0, 0)


def _numbered(network: Network, classes: Sequence[str]) -> bool:
    """Tell whether a network knows its classes by number only (`--classes 10`), so that there are no names to match."""
    known = network.classes
    plain = known == tuple(map(str, range(len(classes)))) and set(classes) != set(known)
    return plain and (network.origin is None or network.origin.run is None)


def labels_of(network: nn.Module, labels: Int64[Tensor, "n"], classes: Sequence[str]) -> Int64[Tensor, "n"]:
    """Return labels of `classes` numbered as a network numbers its classes.

    Raises:
        DataError: it says no classes, or does not know one of these.

    >>> from torchloupe import load
    >>> labels_of(load("resnet20", classes=["cat", "dog"]), torch.tensor([0, 1]), ["dog", "cat"])
    tensor([1, 0])
    """
    if not isinstance(network, Network):
        raise DataError("the network says no classes, so that no answer is right or wrong.")
    if network.multilabel:
        raise DataError(
            "the network is multi-label: an image may have several classes, so that there is no accuracy. "
            "`torchloupe test` measures the average precision of each class."
        )
    return matched(network, labels, classes)[0]


def matched(
    network: Network, labels: Int64[Tensor, "n"], classes: Sequence[str]
) -> tuple[Int64[Tensor, "n"], tuple[str, ...]]:
    """Return labels of `classes` numbered as a network numbers its classes, and the names of these.

    Raises:
        DataError: it does not know one of them.

    >>> from torchloupe import load
    >>> matched(load("resnet20", classes=["cat", "dog"]), torch.tensor([0]), ["dog", "cat"])
    (tensor([1]), ('cat', 'dog'))
    """
    if _numbered(network, classes):
        return labels, tuple(classes)
    return align(labels, classes, network.classes), network.classes


def examine(
    network: Network,
    images: UInt8[Tensor, "n c h w"],
    labels: Int64[Tensor, "n"],
    classes: Sequence[str],
    *,
    tta: bool = False,
    batch: int = 500,
    progress: Progress | None = None,
) -> tuple[Evaluation, float | None]:
    """Test a network on labelled pictures of `classes`; with `tta` also the accuracy with mirrored ones averaged in.

    Classes are matched by name; those of a network that knows only numbers, by their order.

    Raises:
        DataError: the pictures have a class that the network does not know.

    >>> from torchloupe import load
    >>> net = load("resnet20", classes=["cat", "dog"])
    >>> examine(net, torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]), ["dog", "cat"])[0].labels
    tensor([1, 0])
    """
    wanted = tuple(classes) if _numbered(network, classes) else network.classes
    true = labels_of(network, labels, classes)

    def counted(passes: int) -> Progress:
        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(done + passes * total, (2 if tta else 1) * total)

        return tell

    logits = predict(network, images, size=network.size, batch=batch, progress=counted(0))
    evaluation = judge(logits, true, wanted)
    if not tta:
        return evaluation, None
    logits = predict(network, images, size=network.size, flip=True, batch=batch, progress=counted(1))
    return evaluation, judge(logits, true, wanted).accuracy


def judge(
    log_probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"], classes: Sequence[str]
) -> Evaluation:
    """Put predictions and true labels (numbered as `classes`) together.

    >>> judge(torch.eye(2).log(), torch.tensor([0, 0]), ["cat", "dog"]).per_class
    {'cat': 0.5, 'dog': None}
    """
    losses = F.nll_loss(log_probabilities, labels, reduction="none")
    return Evaluation(log_probabilities.exp(), labels, tuple(classes), losses)
