"""What the logits are made of: the last linear layer, found by its numbers."""

import pytest
import torch
from torch import Tensor, nn

from contract import images, net
from torchloupe.features.head import head, head_features
from torchloupe.features.hooks import frozen_eval
from torchloupe.models import build
from torchloupe.models.network import wrap


class Scaled(nn.Module):
    """A factor behind the last layer, another linear layer before it, and one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.beside, self.last = nn.Linear(12, 5), nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(x.flatten(1)).relu()
        out: Tensor = self.last(inner) / 9 + 0 * self.beside(inner)
        return out


@pytest.mark.parametrize("name", ["loupe", "resnet20", "study", "resnet18"])
def test_units_and_bias_add_up_to_the_logits(name: str) -> None:
    torch.manual_seed(0)
    small = {"widths": (6, 8, 10)} if name == "loupe" else {}
    model = wrap(build(name, classes=4, **small).double(), mean=[0.5] * 3, std=[0.25] * 3, size=32, classes=4)
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    found = head(model, x)
    assert found is not None
    features = head_features(model, x, found.layer)
    with frozen_eval(model), torch.no_grad():
        logits = model(x)
    assert float((features @ found.weight.T + found.bias - logits).abs().max()) <= 1e-10


def test_a_factor_behind_the_layer_is_found_and_other_layers_are_not_taken() -> None:
    torch.manual_seed(0)
    model, x = Scaled().double(), torch.rand(2, 3, 2, 2, dtype=torch.float64)
    found = head(model, x)
    assert found is not None and found.layer == "last"
    torch.testing.assert_close(found.weight, model.last.weight / 9)
    torch.testing.assert_close(head_features(model, x, "last") @ found.weight.T + found.bias, model(x))


def test_where_no_linear_layer_gives_the_logits_there_is_no_head() -> None:
    assert head(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.rand(1, 3, 5, 5)) is None
    assert head(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh()), torch.rand(2, 3, 2, 2)) is None


def test_features_come_in_batches_as_they_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = net(), images(5)
    expected = head_features(model, x, "fc")
    monkeypatch.setattr("torchloupe.features.head.at_once", lambda *_: 2)
    torch.testing.assert_close(head_features(model, x, "fc"), expected)
    assert expected.shape == (5, 10)
