"""Which training images argue for an answer, and which are alike, as the last linear layer sees them."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def influence(
    features: Float[Tensor, "b units"],
    known: Float[Tensor, "n units"],
    probabilities: Float[Tensor, "n classes"],
    labels: Int64[Tensor, "n"],
    target: Int64[Tensor, "b"],
) -> Float[Tensor, "b n"]:
    """Return by how much one step of training on each known image would raise the logit of each image's class.

    The product of the logit's gradient and the falling loss's, by the weights and biases of the last linear layer
    (Pruthi et al. 2020, "TracIn", of the last layer and checkpoint): (1[label = class] - p(class)) · (h · h' + 1).
    Above 0 the image argues for the class. `features` and `known` are what goes into that layer.

    >>> one = torch.ones(1, 2)
    >>> influence(one, one, torch.tensor([[0.25, 0.75]]), torch.tensor([0]), torch.tensor([0]))
    tensor([[2.2500]])
    """
    push = torch.nn.functional.one_hot(labels, probabilities.shape[1]).to(probabilities) - probabilities
    return push[:, target].T.to(features) * (features @ known.T + 1)


def cosine(features: Float[Tensor, "b units"], known: Float[Tensor, "n units"]) -> Float[Tensor, "b n"]:
    """Return the cosine of the angle between the features of each image and of each known one.

    >>> cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    tensor([[1., 0.]])
    """
    return torch.nn.functional.normalize(features, dim=1) @ torch.nn.functional.normalize(known, dim=1).T
