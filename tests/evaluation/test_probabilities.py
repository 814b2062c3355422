"""Probabilities are those of softmax and sigmoid by hand, whatever the batch and the memory."""

import pytest
import torch
from torch import Tensor, nn

from torchloupe import wrap
from torchloupe.errors import ResourceError, SmallerBatchWarning
from torchloupe.evaluation.probabilities import Passes, likeliest
from torchloupe.models.network import Network

IMAGES = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """A linear network that runs out of memory beyond `room` pictures."""

    def __init__(self, outputs: int = 3, room: int = 100) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.room, self.sizes = nn.Linear(48, outputs), room, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise RuntimeError("CUDA out of memory")
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def network(bare: nn.Module, classes: int = 3, **more: bool) -> Network:
    return wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, classes=classes, **more)


def by_hand(bare: Small) -> Tensor:
    return (((IMAGES - 0.5) / 0.25).flatten(1) @ bare.fc.weight.T + bare.fc.bias).detach().double()


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_they_are_a_softmax(batch: int) -> None:
    bare = Small()
    found = Passes(network(bare), batch).probabilities(IMAGES)
    e = by_hand(bare).exp()
    torch.testing.assert_close(found, e / e.sum(1, keepdim=True), rtol=1e-5, atol=1e-7)


def test_of_a_multilabel_network_a_sigmoid_each() -> None:
    bare = Small()
    found = Passes(network(bare, multilabel=True)).probabilities(IMAGES)
    torch.testing.assert_close(found, 1 / (1 + (-by_hand(bare)).exp()), rtol=1e-5, atol=1e-7)


def test_of_one_logit_for_two_classes_the_second_is_its_sigmoid() -> None:
    bare = Small(outputs=1)
    found = Passes(network(bare, 2)).probabilities(IMAGES)
    torch.testing.assert_close(found[:, 1], 1 / (1 + (-by_hand(bare)[:, 0]).exp()), rtol=1e-5, atol=1e-7)


def test_where_memory_runs_out_the_batch_halves_and_stays_so() -> None:
    bare = Small(room=3)
    passes = Passes(network(bare), 10)
    with pytest.warns(SmallerBatchWarning) as said:
        found = passes.probabilities(IMAGES)
    assert [str(each.message).split()[-5] for each in said] == ["5", "2"]
    assert max(bare.sizes) == 10 and passes.batch == 2
    bare.sizes.clear()
    assert torch.equal(passes.probabilities(IMAGES), found) and max(bare.sizes) == 2
    torch.testing.assert_close(found, by_hand(bare).softmax(1), rtol=1e-5, atol=1e-7)


def test_too_little_memory_for_one_picture_is_said() -> None:
    with pytest.warns(SmallerBatchWarning), pytest.raises(ResourceError, match="even one picture at a time"):
        Passes(network(Small(room=0))).probabilities(IMAGES)


class AgainstCompany(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3))
        return means - means.mean(0)


def test_a_network_that_compares_its_pictures_sees_each_alone() -> None:
    found = Passes(network(AgainstCompany())).probabilities(IMAGES)
    torch.testing.assert_close(found, torch.full((10, 3), 1 / 3, dtype=torch.float64))


def test_chance_in_a_network_is_the_same_in_every_pass_and_leaves_that_of_the_user() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) + torch.randn(3)

    passes, before = Passes(network(Noisy())), torch.get_rng_state()
    assert torch.equal(passes.probabilities(IMAGES), passes.probabilities(IMAGES))
    assert torch.equal(before, torch.get_rng_state())


def test_the_likeliest_come_first_and_are_no_more_than_there_are() -> None:
    given = torch.tensor([[0.2, 0.5, 0.3], [1.0, 1.0, 0.5]])
    rows = likeliest(given, ["a", "b", "c"], 5)
    assert [[name for name, _ in row] for row in rows] == [["b", "c", "a"], ["a", "b", "c"]]
    assert rows[1][2] == ("c", 0.5) and likeliest(given, ["a", "b", "c"], 1)[0] == [("b", 0.5)]
