"""Whether a map lies where the figure is, for pictures with a mask of it.

What a network looks at need not be the figure: a map that shows rightly that it looks at the ground scores low here.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchloupe.attribution.rank_correlation import ranks


def relevance_mass(maps: Float[Tensor, "b h w"], masks: Bool[Tensor, "b h w"]) -> Float[Tensor, "b"]:
    """Return the share of the positive relevance that lies in the mask, in [0, 1]; chance is the mask's area.

    A map without positive relevance says nothing of where, and counts as a constant one. Arras et al. 2022, "CLEVR-XAI:
    a benchmark dataset for the ground truth evaluation of neural network explanations".

    >>> mask = torch.tensor([[[True, False], [False, False]]])
    >>> relevance_mass(torch.tensor([[[3.0, 1.0], [-9.0, 0.0]]]), mask), relevance_mass(torch.ones(1, 2, 2), mask)
    (tensor([0.7500]), tensor([0.2500]))
    """
    positive = maps.clamp_min(0)
    largest = positive.amax((1, 2), keepdim=True)
    scaled = torch.where(largest > 0, positive / largest, 1.0)  # sums of tiny or huge numbers stay numbers
    return (scaled * masks).sum((1, 2)) / scaled.sum((1, 2))


def pointing_game(maps: Float[Tensor, "b h w"], masks: Bool[Tensor, "b h w"]) -> Float[Tensor, "b"]:
    """Return 1 where the map's maximum lies in the mask, else 0; of several maxima the share that does.

    So a constant map scores the mask's area. Zhang et al. 2018, "Top-down neural attention by excitation backprop",
    here without their tolerance of 15 pixels.

    >>> mask = torch.tensor([[[True, False], [False, False]]])
    >>> pointing_game(torch.tensor([[[3.0, 1.0], [-9.0, 3.0]]]), mask)
    tensor([0.5000])
    """
    peaks = maps == maps.amax((1, 2), keepdim=True)
    return (peaks & masks).sum((1, 2)).to(maps.dtype) / peaks.sum((1, 2))


def pixel_auc(maps: Float[Tensor, "b h w"], masks: Bool[Tensor, "b h w"]) -> Float[Tensor, "b"]:
    """Return the area under the ROC curve of relevance against the mask: the chance that a pixel of it is above others.

    Equal ones count half: a constant map scores 0.5. NaN where the mask is empty or everything.

    >>> mask = torch.tensor([[[True, False], [False, False]]])
    >>> pixel_auc(torch.tensor([[[3.0, 1.0], [-9.0, 3.0]]]), mask)
    tensor([0.8333], dtype=torch.float64)
    """
    inside = masks.flatten(1)
    yes, no = inside.sum(1).double(), (~inside).sum(1).double()
    sums = torch.where(inside, ranks(maps.flatten(1)), 0.0).sum(1)
    return (sums - yes * (yes + 1) / 2) / (yes * no)
