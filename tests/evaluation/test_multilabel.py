"""Average precision, against a loop over every picture, and what a network of several classes at once is not asked."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from commands import Run
from torchloupe import wrap
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import DataError
from torchloupe.evaluation.accuracy import examine
from torchloupe.evaluation.multilabel import average_precision, precisions
from torchloupe.models.network import Network


def by_loop(scores: list[float], truth: list[bool]) -> float:
    """The mean, over pictures that have the class, of the share that has it among all that score no less."""
    found = []
    for score, has in zip(scores, truth, strict=True):
        if has:
            above = [other for s, other in zip(scores, truth, strict=True) if s >= score]
            found.append(sum(above) / len(above))
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_that_of_a_loop(seed: int, ties: bool) -> None:
    chance = torch.Generator().manual_seed(seed)
    scores = torch.rand(50, generator=chance, dtype=torch.float64)
    scores = (5 * scores).round() if ties else scores
    truth = torch.rand(50, generator=chance) < 0.3
    assert average_precision(scores, truth) == pytest.approx(by_loop(scores.tolist(), truth.tolist()), abs=1e-12)


def test_of_nothing_there_is_none() -> None:
    assert average_precision(torch.rand(5), torch.zeros(5, dtype=torch.bool)) != 0.0
    assert average_precision(torch.rand(5), torch.ones(5, dtype=torch.bool)) == 1.0


def network(classes: list[str]) -> Network:
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3), nn.Sigmoid())
    return wrap(bare, mean=None, std=None, size=8, classes=classes, multilabel=True)


def images(n: int = 30) -> Tensor:
    return torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_each_class_is_a_sigmoid_whatever_the_others() -> None:
    net, table = network(["a", "b", "c"]), torch.rand(30, 3, generator=torch.Generator().manual_seed(2)) < 0.4
    found = precisions(net, images(), table, ["a", "b", "c"], batch=7)
    torch.testing.assert_close(found.probabilities.float(), net.bare(images() / 255), rtol=1e-5, atol=1e-6)
    by_hand = [by_loop(found.probabilities[:, c].tolist(), table[:, c].tolist()) for c in range(3)]
    assert list(found.per_class.values()) == pytest.approx(by_hand)
    assert found.mean == pytest.approx(sum(by_hand) / 3)


def test_classes_are_matched_by_name_and_one_label_a_picture_is_a_table_too() -> None:
    net, labels = network(["a", "b", "c"]), torch.tensor([0, 1] * 15)
    found = precisions(net, images(), labels, ["c", "a"])
    assert found.truth[:, 2].tolist() == (labels == 0).tolist() and found.truth[:, 0].tolist() == (labels == 1).tolist()
    assert found.per_class["b"] is None
    with pytest.raises(DataError, match="knows no class 'd'"):
        precisions(net, images(), labels, ["c", "d"])


def test_what_needs_one_class_says_so() -> None:
    with pytest.raises(DataError, match="multi-label: an image may have several classes, so that there is no accuracy"):
        examine(network(["a", "b", "c"]), images(), torch.zeros(30, dtype=torch.int64), ["a", "b", "c"])


CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 5, 4), nn.Conv2d(4, classes, 1)

    def forward(self, x):
        x = self.conv(x).relu()
        return {"aux": x, "out": self.head(x)}
"""


def test_a_run_remembers_the_part(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE)
    out, about = str(tmp_path / "run"), ["--quiet", "--device", "cpu"]
    how = ["--model", f"{tmp_path / 'net.py'}:Net", "--data", "shapes", "--steps", "2", "--batch", "8", "--out", out]
    assert "Name the part" in run("train", *how, *about).err
    made = run("train", *how, "--output", "out", *about)
    assert made.code == 0, made.err
    assert '"output": "out"' in (tmp_path / "run" / "config.json").read_text()
    tested = run("test", out, *about)
    assert tested.code == 0 and 0 <= float(tested.out) <= 1, tested.err


def test_the_command_line_names_the_part_and_measures_labels(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "classes.txt").write_text("\n".join(shapes(train=10, test=10).classes))
    about = [f"{tmp_path / 'net.py'}:Net", "--classes", str(tmp_path / "classes.txt"), "--normalize", "none"]
    about += ["--size", "32", "--quiet", "--device", "cpu"]
    shown = run("show", "feature-maps", *about, "--layer", "conv", "--pictures", "samples:0-1", "--out", str(tmp_path))
    assert shown.code == 0, shown.err  # a look at an inner layer asks for no logits
    refused = run("show", "maximize", *about, "--layer", "output", "--steps", "2", "--out", str(tmp_path))
    assert refused.code == 4 and "Name the part that holds them with --output" in refused.err
    made = run(
        *("show", "maximize", *about, "--output", "out", "--layer", "output", "--channels", "1"),
        *("--steps", "2", "--copies", "1", "--out", str(tmp_path / "a.png")),
    )
    assert made.code == 0, made.err
    first = (tmp_path / "a.png").read_bytes()
    assert '"output": "out"' in (tmp_path / "a.json").read_text()
    (tmp_path / "a.png").unlink()
    again = run("again", str(tmp_path / "a.json"), "--quiet")
    assert again.code == 0 and (tmp_path / "a.png").read_bytes() == first, again.err
    tested = run("test", *about, "--output", "out", "--multilabel", "--data", "shapes", "--out", str(tmp_path / "test"))
    assert tested.code == 0 and 0 < float(tested.out) < 1, tested.err
    assert (tmp_path / "test" / "average-precision.json").is_file()
