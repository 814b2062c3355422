"""How well a network does whose classes do not exclude one another: average precision of each, and their mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError
from torchloupe.evaluation.accuracy import matched
from torchloupe.models.forward import called
from torchloupe.models.network import Network
from torchloupe.runtime.memory import halving, smaller
from torchloupe.runtime.progress import Progress


@dataclass(frozen=True, eq=False)
class Precisions:
    """What a multi-label network said about every picture, and the figures made of it."""

    probabilities: Float[Tensor, "n classes"]
    """The sigmoid of each class's logit."""
    truth: Bool[Tensor, "n classes"]
    classes: tuple[str, ...]

    @property
    def per_class(self) -> dict[str, float | None]:
        """Average precision of each class, in [0, 1]; None for a class that no picture has."""
        found = (average_precision(p, t) for p, t in zip(self.probabilities.T, self.truth.T, strict=True))
        return {name: None if math.isnan(ap) else ap for name, ap in zip(self.classes, found, strict=True)}

    @property
    def mean(self) -> float:
        """The mean over the classes that some picture has; NaN where there is none."""
        known = [ap for ap in self.per_class.values() if ap is not None]
        return sum(known) / len(known) if known else math.nan


def average_precision(scores: Float[Tensor, "n"], truth: Bool[Tensor, "n"]) -> float:
    """Return the mean of the precision at each picture that has the class, the surest first; NaN without any.

    Nothing is interpolated; pictures of equal score count at once.

    >>> average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]))
    0.8333333333333333
    """
    order = scores.argsort(descending=True, stable=True)
    hits = truth[order].double().cumsum(0)
    if not len(hits) or not hits[-1]:
        return math.nan
    last = torch.ones_like(truth)
    last[:-1] = scores[order].diff() != 0  # of pictures of equal score the last stands for all
    hits, count = hits[last], torch.arange(1, len(scores) + 1)[last.cpu()]
    gained = hits.diff(prepend=hits.new_zeros(1))
    return float((gained * hits / count).sum() / hits[-1])


def precisions(
    network: Network,
    images: UInt8[Tensor, "n c h w"],
    labels: Int64[Tensor, "n"] | Bool[Tensor, "n classes"],
    classes: Sequence[str],
    *,
    batch: int = 100,
    progress: Progress | None = None,
) -> Precisions:
    """Test a multi-label network on pictures of `classes`: one label each, or a table of which picture has which.

    Raises:
        DataError: the pictures have a class that the network does not know.

    >>> from torch import nn
    >>> from torchloupe import wrap
    >>> bare = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> net = wrap(bare, mean=None, std=None, classes=["cat", "dog"], multilabel=True)
    >>> images = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    >>> precisions(net, images, torch.tensor([0, 1]), ["cat", "dog"]).per_class
    {'cat': 0.5, 'dog': 0.5}
    """
    table = labels.bool() if labels.ndim > 1 else torch.nn.functional.one_hot(labels, len(classes)).bool()
    if table.shape != (len(images), len(classes)):
        raise DataError(f"labels are one a picture, or a table [{len(images)}, {len(classes)}]: {list(labels.shape)}.")
    used = table.any(0).nonzero().flatten()
    numbers, wanted = matched(network, used, classes)
    truth = torch.zeros(len(images), len(wanted), dtype=torch.bool)
    truth[:, numbers] = table[:, used].cpu()
    said = halving(lambda: _said(network, images, smaller(batch), progress), "the test")
    return Precisions(said, truth, wanted)


@torch.no_grad()
def _said(
    network: Network, images: UInt8[Tensor, "n c h w"], batch: int, progress: Progress | None
) -> Float[Tensor, "n classes"]:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    done = []
    for start in range(0, len(images), batch):
        prepared = to_float(images[start : start + batch].to(device), network.size)
        done.append(called(network, prepared).double().sigmoid())  # in less precision sure ones would be equal
        if progress is not None:
            progress(min(start + batch, len(images)), len(images))
    return torch.cat(done).cpu()
