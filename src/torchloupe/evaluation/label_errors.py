"""Labels that are likely wrong, by confident learning (Northcutt et al. 2021)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def label_errors(
    probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]
) -> tuple[Int64[Tensor, "m"], Int64[Tensor, "m"]]:
    """Return which images are likely labelled wrongly, the likeliest first, and the class that each likely is.

    The threshold of a class is the mean probability that images labelled so get for it. An image counts as of the
    likeliest class whose threshold it reaches; where that is not its label, the label is suspected. The order is by how
    much more probability that class has than the label. The probabilities must come from a network that was not trained
    on these images: one that learned the wrong labels by heart finds none.

    Northcutt et al. 2021, "Confident learning: estimating uncertainty in dataset labels".

    >>> said = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    >>> label_errors(said, torch.tensor([0, 0, 1, 1]))
    (tensor([3]), tensor([0]))
    """
    classes = probabilities.shape[1]
    said = probabilities.double()
    own = said.gather(1, labels[:, None])[:, 0]
    total = torch.zeros(classes, dtype=said.dtype).index_add_(0, labels, own)
    count = torch.bincount(labels, minlength=classes)
    threshold = torch.where(count > 0, total / count.clamp(min=1), 2.0)  # a class without images is reached by none
    reached = torch.where(said >= threshold, said, -1.0)
    best, likely = reached.max(1)
    suspected = (best >= 0) & (likely != labels)
    margin = torch.where(suspected, best - own, -1.0)
    order = margin.sort(descending=True, stable=True).indices[: int(suspected.sum())]
    return order, likely[order]
