"""How probable a network holds each class of an image: a softmax, or of a multi-label network a sigmoid each."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from torchloupe.features.hooks import one_at_a_time
from torchloupe.features.owner import random_state_restored, reseed
from torchloupe.features.trace import placed
from torchloupe.models.forward import called
from torchloupe.models.layout import laid_out
from torchloupe.models.network import Network
from torchloupe.runtime.device import autocast
from torchloupe.runtime.memory import halving, smaller

USUAL = 64
"""Side of images up to which as many are taken at a time as is said."""


def at_a_time(batch: int, side: int) -> int:
    """Return how many images of a side go at a time where `batch` of up to 64 x 64 would: as many pixels, 1 at least.

    >>> at_a_time(500, 32), at_a_time(500, 224)
    (500, 40)
    """
    return max(1, min(batch, batch * USUAL * USUAL // side**2)) if side > USUAL else batch


class Passes:
    """A network, and how many images it takes at a time: fewer from then on, once memory ran out.

    >>> from torchloupe import load
    >>> passes = Passes(load("resnet20", classes=3))
    >>> passes.probabilities(torch.rand(2, 3, 32, 32)).sum(1).round(decimals=6)
    tensor([1., 1.], dtype=torch.float64)
    """

    def __init__(self, network: Network, batch: int = 500, amp: str = "off") -> None:
        self.network, self.batch, self.amp = network, batch, amp

    def probabilities(self, images: Float[Tensor, "b c h w"]) -> Float64[Tensor, "b classes"]:
        """Return the probability of each class, on the CPU, of images in [0, 1]; in double precision.

        The network runs on the device that it is on, in the mode that it is in, in full precision unless `amp` says
        else (see `autocast`); one image at a time where its answer to one depends on the others. Chance in it is the
        same in every pass.

        Raises:
            ResourceError: there is too little memory for a single image.
            ForwardError: the network's own code raised an error.
        """
        usual = min(at_a_time(self.batch, max(images.shape[2:])), len(images))

        def work() -> tuple[Tensor, int]:
            size = smaller(usual)
            parts = [self._pass(part) for part in torch.split(images, size)]
            return torch.cat(parts), size

        found, size = halving(work, "predicting")
        if size < usual:
            self.batch = max(1, self.batch * size // usual)
        return found

    @torch.no_grad()
    def _pass(self, images: Float[Tensor, "b c h w"]) -> Float64[Tensor, "b classes"]:
        there = placed(self.network, images)
        alone = not self.network.training and one_at_a_time(self.network, there[:1])
        logits = []
        for part in torch.split(there, 1 if alone else len(there)):
            with random_state_restored(), autocast(part.device, self.amp):
                reseed()
                logits.append(called(self.network, laid_out(self.network, part)).cpu())
        found = torch.cat(logits).double()  # in less precision sure ones would be equal
        return found.sigmoid() if self.network.multilabel else found.softmax(1)


def likeliest(
    probabilities: Float[Tensor, "b classes"], classes: Sequence[str], count: int = 5
) -> list[list[tuple[str, float]]]:
    """Return the `count` most probable classes of each image, the likeliest first, with their probabilities.

    >>> likeliest(torch.tensor([[0.25, 0.75]]), ["cat", "dog"], 1)
    [[('dog', 0.75)]]
    """
    values, index = probabilities.sort(dim=1, descending=True, stable=True)
    rows = zip(values[:, :count].tolist(), index[:, :count].tolist(), strict=True)
    return [[(classes[i], p) for p, i in zip(*row, strict=True)] for row in rows]
