"""Influence is what one step of training on a picture does to a logit, to first order."""

import torch
from torch import nn
from torch.nn import functional as F

from torchloupe.evaluation.influence import cosine, influence


def test_influence_is_the_change_of_the_logit_by_one_small_step() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4).double()
    shown, known = torch.rand(3, 6, dtype=torch.float64), torch.rand(5, 6, dtype=torch.float64)
    labels, target = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([1, 3, 0])
    found = influence(shown, known, layer(known).softmax(1).detach(), labels, target)
    step = 1e-6
    for i in range(5):
        layer.zero_grad()
        F.cross_entropy(layer(known[i : i + 1]), labels[i : i + 1]).backward()  # type: ignore[no-untyped-call]
        moved = nn.Linear(6, 4).double()
        with torch.no_grad():
            for name, value in layer.named_parameters():
                assert value.grad is not None
                moved.get_parameter(name).copy_(value - step * value.grad)
            change = (moved(shown) - layer(shown)).gather(1, target[:, None])[:, 0] / step
        torch.testing.assert_close(found[:, i], change, rtol=1e-5, atol=1e-7)


def test_alike_is_one_for_itself_whatever_its_length() -> None:
    x = torch.rand(4, 6, dtype=torch.float64)
    torch.testing.assert_close(cosine(x, 3 * x).diagonal(), torch.ones(4, dtype=torch.float64))
    assert float(cosine(x, x).max()) <= 1 + 1e-12
