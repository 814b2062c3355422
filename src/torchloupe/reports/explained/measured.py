"""What a card of each picture needs: answers, maps, units, neighbours, arguments, and answers with parts covered."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from torchloupe.attribution.maps import Attribution, class_logits
from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.subsets import spread_out
from torchloupe.data.tensors import to_float
from torchloupe.evaluation.accuracy import labels_of, predict
from torchloupe.evaluation.influence import cosine, influence
from torchloupe.features.head import Head, head, head_features
from torchloupe.features.hooks import frozen_eval
from torchloupe.features.trace import at_once, placed
from torchloupe.inspection.catalog import find_method, load_function
from torchloupe.inspection.inputs import Images, from_split
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network
from torchloupe.runtime.memory import halving
from torchloupe.runtime.progress import Progress

METHODS = ("occlusion", "grad-cam", "integrated-gradients")
"""Shown where none are asked for: one that covers, one of maps, one of pixels that sums up."""
PARTS = 4
"""Parts along a side of a picture that are covered, one after the other."""
COVER = 0.5
"""What they are covered with."""
TRAINING = 5000
"""Training pictures that are looked through, at most."""
ALIKE, ARGUE, PUSH = 3, 3, 4
"""Neighbours, arguments either way, and units either way that a card shows."""

Ticking = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, eq=False)
class Training:
    """Training pictures that were looked through, as the last linear layer sees them."""

    split: Split
    features: Float[Tensor, "n units"]
    probabilities: Float[Tensor, "n classes"]
    labels: Int64[Tensor, "n"]
    """In the network's order of classes."""
    whole: int
    """Pictures of the train split."""


@dataclass(frozen=True, eq=False)
class Explained:
    """Some pictures and all that is said of why the network answers as it does."""

    studied: Subject
    images: Images
    probabilities: Float[Tensor, "b classes"]
    logits: Float[Tensor, "b classes"]
    true: tuple[int | None, ...]
    """The class of each picture in its data, where that is known."""
    other: Int64[Tensor, "b"]
    """The class beside the predicted one: the true one where that is another, else the second likeliest."""
    maps: dict[str, tuple[Attribution, Attribution]]
    """Of each method: for the predicted class, and for the other."""
    covered: Float[Tensor, "b parts parts classes"]
    """Probabilities with each part covered."""
    head: Head | None
    pushes: Float[Tensor, "b units"] | None
    """What each unit before the last layer adds to the predicted class's logit minus the other's."""
    training: Training | None
    alike: Float[Tensor, "b n"] | None
    argue: Float[Tensor, "b n"] | None

    def class_name(self, number: int) -> str:
        """Return the name of a class, or its number where the network says no names."""
        classes = getattr(self.studied.model, "classes", ())
        return str(classes[number]) if number < len(classes) else f"class {number}"


def mistakes(studied: Subject, count: int, progress: Progress | None = None) -> Images:
    """Return the test pictures that a network is surest of and wrong, the surest first.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> from torchloupe.checkpoints.open import load
    >>> data = shapes(train=10, test=20, size=16)
    >>> found = mistakes(Subject(load("resnet20", classes=data.classes, size=16), data), 3)
    >>> len(found.names)
    3
    """
    model, dataset, split = studied.model, studied.dataset(), studied.split()
    assert isinstance(model, Network) and dataset is not None and split is not None
    said = predict(model, split.images, size=studied.size, amp="off", progress=progress).exp()
    labels = labels_of(model, split.labels, dataset.classes)
    sure, answer = said.max(1)
    order = torch.where(answer.cpu() != labels, sure.cpu(), -1.0).sort(descending=True)
    wrong = order.indices[order.values >= 0][:count]
    word = "test" if split is dataset.test else "train"
    return from_split(split, wrong.tolist(), word, dataset.classes, studied.size)


def measure(
    studied: Subject, images: Images, ticking: Ticking, *, methods: Sequence[str] = METHODS, seed: int = 0
) -> Explained:
    """Explain a network's answers to some pictures.

    Raises:
        ModelError: no gradient passes, where a method needs one.
    """
    model = studied.model
    batch = placed(model, images.images)
    classes = list(model.classes) if isinstance(model, Network) else []
    with frozen_eval(model), torch.no_grad():
        size = at_once(model, "output", batch)
        logits = torch.cat([class_logits(model, batch[i : i + size]).cpu() for i in range(0, len(batch), size)])
    said = logits.softmax(1)
    answer = said.argmax(1)
    known = [classes.index(label) if label in classes else None for label in images.labels or [None] * len(answer)]
    second = said.topk(2, 1).indices[:, 1]
    other = torch.tensor(
        [s if t is None or t == a else t for a, s, t in zip(answer.tolist(), second.tolist(), known, strict=True)]
    )
    maps = {}
    for name in methods:
        with ticking(name) as tick:
            maps[name] = _maps(model, name, images.images, answer, other, seed, tick)
    with ticking("covering") as tick:
        covered = halving(lambda: _covered(model, batch, tick), "covering")
    last = head(model, batch)
    pushes = training = alike = argue = None
    if last is not None:
        features = head_features(model, batch, last.layer)
        both = (last.weight[answer] - last.weight[other]).cpu()
        pushes = features * both
        training = _training(studied, last, ticking)
        if training is not None:
            alike = cosine(features, training.features)
            argue = influence(features, training.features, training.probabilities, training.labels, answer)
    return Explained(
        studied, images, said, logits, tuple(known), other, maps, covered, last, pushes, training, alike, argue
    )


def _maps(
    model: nn.Module, name: str, images: Tensor, answer: Tensor, other: Tensor, seed: int, tick: Progress
) -> tuple[Attribution, Attribution]:
    row = find_method(name)
    compute = load_function(row.compute)
    more = {"seed": seed} if row.seeded else {}

    def one(target: Tensor) -> Attribution:
        found: Attribution = halving(lambda: compute(model, images, target=target, **more), name)
        return found

    first = one(answer)
    tick(1, 2)
    second = one(other)
    tick(2, 2)
    return first, second


def _covered(model: nn.Module, images: Tensor, progress: Progress) -> Float[Tensor, "b parts parts classes"]:
    """Return probabilities with each of `PARTS` x `PARTS` parts of each picture covered."""
    size = at_once(model, "output", images)
    height, width = images.shape[2:]
    which = torch.arange(len(images)).repeat_interleave(PARTS * PARTS)
    part = torch.arange(PARTS * PARTS).repeat(len(images))
    rows, columns = (torch.arange(side, device=images.device) * PARTS // side for side in (height, width))
    out: list[Tensor] = []
    with frozen_eval(model), torch.no_grad():
        for begin in range(0, len(which), size):
            one, spot = which[begin : begin + size], part[begin : begin + size].to(images.device)
            inside = (rows == spot[:, None] // PARTS)[:, :, None] & (columns == spot[:, None] % PARTS)[:, None, :]
            shown = images[one].masked_fill(inside[:, None], COVER)
            out.append(class_logits(model, shown).softmax(1).cpu())
            progress(min(begin + size, len(which)), len(which))
    return torch.cat(out).view(len(images), PARTS, PARTS, -1)


def _training(studied: Subject, last: Head, ticking: Ticking) -> Training | None:
    dataset: Dataset | None = studied.dataset()
    model = studied.model
    if dataset is None or not len(dataset.train) or not isinstance(model, Network) or dataset.train.labels.ndim != 1:
        return None
    chosen = spread_out(len(dataset.train), TRAINING)
    split = Split(
        dataset.train.images[chosen],
        dataset.train.labels[chosen],
        tuple(dataset.train.names[i] for i in chosen.tolist()),
    )
    features = []
    step = 250
    with ticking("training pictures") as tick:
        for start in range(0, len(split), step):
            part = to_float(split.images[start : start + step], studied.size)
            features.append(head_features(model, part, last.layer))
            tick(min(start + step, len(split)), len(split))
    found = torch.cat(features)
    said = (found @ last.weight.cpu().T + last.bias.cpu()).softmax(1)
    return Training(split, found, said, labels_of(model, split.labels, dataset.classes), len(dataset.train))
