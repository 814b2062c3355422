"""The figures of a test, against plain loops over numpy numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchloupe.errors import DataError
from torchloupe.evaluation.accuracy import Evaluation, align, examine, judge, predict
from torchloupe.evaluation.intervals import wilson
from torchloupe.models.network import wrap
from torchloupe.runs.results import figures_of, near_chance

CLASSES = ("ant", "bee", "cat", "dog")
N = 60


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def said() -> Tensor:
    """Log-probabilities [60, 4]."""
    return (3 * torch.randn(N, 4, generator=chance())).log_softmax(1)


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(0, 3, (N,), generator=chance(1))  # no dog


@pytest.fixture
def evaluation(said: Tensor, labels: Tensor) -> Evaluation:
    return judge(said, labels, CLASSES)


def test_loss_accuracy_confusion_and_classes(evaluation: Evaluation, said: Tensor, labels: Tensor) -> None:
    right, loss = 0, 0.0
    matrix = np.zeros((4, 4), dtype=int)
    for row, label in zip(said.numpy().astype(float), labels.tolist(), strict=True):
        guess = max(range(4), key=lambda k: row[k])
        right += guess == label
        loss -= row[label]
        matrix[label, guess] += 1
    assert evaluation.accuracy == pytest.approx(right / N)
    assert evaluation.loss == pytest.approx(loss / N, rel=1e-6)
    assert evaluation.confusion.tolist() == matrix.tolist()
    assert evaluation.per_class["dog"] is None
    for k in range(3):
        assert evaluation.per_class[CLASSES[k]] == pytest.approx(matrix[k, k] / matrix[k].sum())


def test_an_examination_matches_classes_by_name_or_numbers_by_order(images: Tensor) -> None:
    net = wrap(
        nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 3)), mean=None, std=None, classes=["c", "a", "b"]
    )
    labels = torch.arange(len(images)) % 3
    found, mirrored = examine(net, images, labels, ["a", "b", "c"], tta=True)
    assert torch.equal(found.labels, (labels + 1) % 3) and found.classes == ("c", "a", "b")
    said = predict(net, images)
    assert torch.equal(found.predicted, said.argmax(1))
    both = predict(net, images, flip=True).argmax(1)
    assert mirrored == pytest.approx(float((both == found.labels).double().mean()))
    numbered = wrap(net.bare, mean=None, std=None, classes=3)
    found, mirrored = examine(numbered, images, labels, ["a", "b", "c"])
    assert torch.equal(found.labels, labels) and found.classes == ("a", "b", "c") and mirrored is None
    with pytest.raises(DataError, match="knows no class 'd'"):
        examine(net, images, labels, ["a", "b", "d"])


def test_figures_say_all_of_it(evaluation: Evaluation) -> None:
    figures = figures_of(evaluation).to_json()
    p = figures["accuracy"]
    assert figures["n"] == N and p == evaluation.accuracy and figures["loss"] == evaluation.loss
    assert figures["standard_error"] == pytest.approx((p * (1 - p) / N) ** 0.5)
    assert figures["per_class"] == evaluation.per_class
    assert figures["interval"] == list(wilson(round(p * N), N))
    for name, row in zip(CLASSES, evaluation.confusion.tolist(), strict=True):
        right = row[CLASSES.index(name)]
        assert figures["per_class_interval"][name] == (list(wilson(right, sum(row))) if sum(row) else None)
    found = evaluation.calibration
    assert figures["calibration_error"] == found.error and sum(row["n"] for row in figures["reliability"]) == N
    assert figures["calibration"]["gap"] == pytest.approx(
        float(evaluation.probabilities.amax(1).double().mean()) - p, abs=1e-6
    )
    assert len(figures["calibration"]["reliability_after"]) == len(found.bins_after) > 1
    assert figures["calibration"]["error_after"] == found.error_after and figures["calibration"]["temperature"] > 0


def test_all_right_has_an_interval() -> None:
    figures = figures_of(judged(1000, 1000)).to_json()
    low, high = figures["interval"]
    assert low > 0.996 and high == 1 and figures["standard_error"] == 0


def test_mistakes_are_wrong_and_come_most_confident_first(evaluation: Evaluation) -> None:
    rows = evaluation.probabilities.tolist()
    wrong = [i for i in range(N) if rows[i].index(max(rows[i])) != evaluation.labels[i]]
    assert evaluation.mistakes().tolist() == sorted(wrong, key=lambda i: (-max(rows[i]), i))
    assert judge(torch.eye(2).log(), torch.tensor([0, 1]), ["a", "b"]).mistakes().tolist() == []


def test_align_goes_by_name() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    assert align(labels, ["dog", "ant", "cat"], CLASSES).tolist() == [3, 0, 2, 2]
    assert align(labels[:2], ["dog", "ant", "newt"], CLASSES).tolist() == [3, 0]  # a class without pictures may differ
    with pytest.raises(DataError, match=r"no class 'dogs'; did you mean 'dog'\?.*ant, bee, cat, dog") as raised:
        align(torch.tensor([1]), ["cat", "dogs"], CLASSES)
    assert "\n" not in str(raised.value)


class Tell(nn.Module):
    """Logits that depend on each picture alone, and on left and right."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        return torch.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3)), x[:, 0, 0, 0]], 1) * 9


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (11, 3, 6, 8), dtype=torch.uint8, generator=chance(2))


@pytest.fixture
def network() -> nn.Module:
    return wrap(Tell(), mean=None, std=None, classes=3)


def by_loop(images: Tensor) -> np.ndarray:
    """Probabilities that `Tell` gives, in numpy."""
    x = images.numpy().astype(float) / 255
    logits = 9 * np.stack([x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3)), x[:, 0, 0, 0]], 1)
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(1, keepdims=True))


@pytest.mark.parametrize("flip", [False, True])
def test_predict_is_softmax_and_its_mean_with_the_mirrored(images: Tensor, network: nn.Module, flip: bool) -> None:
    wanted = by_loop(images)
    if flip:
        wanted = (wanted + by_loop(images.flip(3))) / 2
    np.testing.assert_allclose(predict(network, images, flip=flip).exp().numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 11, 500])
def test_predict_does_not_depend_on_the_batch(images: Tensor, network: nn.Module, batch: int) -> None:
    ticks: list[tuple[int, int]] = []
    note: Callable[[int, int], None] = lambda done, total: ticks.append((done, total))  # noqa: E731
    got = predict(network, images, size=16, batch=batch, progress=note)
    torch.testing.assert_close(got, predict(network, images, size=16))
    assert ticks[-1] == (11, 11) and len(ticks) == -(-11 // batch)


def test_predict_resizes_and_leaves_no_gradient(images: Tensor, network: nn.Module) -> None:
    assert not predict(network, images).requires_grad
    big = images.repeat_interleave(4, 2).repeat_interleave(3, 3)
    assert big.shape[2:] == (24, 24)
    assert not torch.equal(predict(network, images, size=24), predict(network, images))
    assert predict(network, images[:0]).shape[0] == 0


def judged(right: int, of: int, classes: int = 10) -> Evaluation:
    """So many right answers of so many, the classes equally often."""
    labels = torch.arange(of) % classes
    guess = torch.where(torch.arange(of) < right, labels, (labels + 1) % classes)
    return judge(torch.eye(classes).clamp_min(1e-3)[guess].log(), labels, [str(i) for i in range(classes)])


def test_near_chance() -> None:
    assert near_chance(judged(100, 1000)) and near_chance(judged(120, 1000)) and near_chance(judged(0, 1000))
    assert not near_chance(judged(140, 1000)) and not near_chance(judged(900, 1000))
    assert near_chance(judged(1, 10)) and not near_chance(judged(2, 10))  # few pictures: half as much again at most


def test_always_naming_the_largest_class_is_guessing() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    lazy = judge(torch.tensor([[0.9, 0.1]]).log().expand(100, 2), labels, ["a", "b"])
    assert lazy.accuracy == pytest.approx(0.9) and near_chance(lazy)


def test_a_perfect_answer_is_not_guessing_even_with_one_class() -> None:
    right = judge(torch.tensor([[0.9, 0.1]]).log().expand(20, 2), torch.zeros(20, dtype=torch.int64), ["a", "b"])
    assert not near_chance(right)


def test_pictures_of_other_channels_are_told() -> None:
    gray = wrap(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), mean=[0], std=[1], classes=2)
    with pytest.raises(DataError, match="1 values a pixel, and these have 3"):
        predict(gray, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
