"""MODEL: every form of the word, and what is said of a wrong one."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from torchloupe.checkpoints.file import save_model
from torchloupe.checkpoints.open import SHIPPED, load, open_model
from torchloupe.errors import ModelError
from torchloupe.models import build
from torchloupe.models.network import Network
from torchloupe.runs.config import Config
from torchloupe.runtime.files import write_json

NET = """
from torch import nn
def make(classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))
"""


def save(path: Path, mark: float) -> None:
    """Write a checkpoint whose first bias is `mark`."""
    net = build("resnet20", classes=2)
    with torch.no_grad():
        net.get_parameter("linear.bias")[0] = mark
    save_model(path, net, Config("resnet20", ("cat", "dog"), None, None, 16))


def mark(network: Network) -> float:
    return network.get_parameter("linear.bias")[0].item()


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, the newer one with snapshots; a third has not ended."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("old", "new", "unended")):
        folder = tmp_path / "runs" / name
        write_json(folder / "config.json", {})
        os.utime(folder / "config.json", (1000 + number, 1000 + number))
        if name != "unended":
            save(folder / "model.safetensors", number)
            os.utime(folder / "model.safetensors", (2000 + number, 2000 + number))
    for epoch, value in (("0", 10.0), ("0.25", 10.25), ("16", 26.0)):
        save(tmp_path / "runs" / "new" / "snapshots" / f"epoch-{epoch}.safetensors", value)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "old.pth").write_bytes(b"x")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("runs/old", 0),
        ("runs/old/", 0),
        ("old", 0),
        ("last", 1),
        ("runs/new/model.safetensors", 1),
        ("runs/new@16", 26),
        ("new@0.25", 10.25),
        ("last@0", 10),
        ("runs/new/snapshots/epoch-16.safetensors", 26),
    ],
)
def test_each_form_finds_its_weights(runs: Path, word: str, value: float) -> None:
    found = open_model(word)
    assert mark(found.network) == value
    assert found.run is not None and found.run.name == ("old" if value == 0 else "new")
    assert found.network.classes == ("cat", "dog") and not found.network.training


def test_a_path_does_and_a_file_outside_a_run_has_no_run(runs: Path, tmp_path: Path) -> None:
    assert mark(load(runs / "old")) == 0
    save(tmp_path / "alone.safetensors", 5)
    found = open_model("alone.safetensors")
    assert found.run is None and found.title == "alone" and mark(found.network) == 5


def test_last_is_the_one_started_or_finished_last(runs: Path) -> None:
    os.utime(runs / "old" / "model.safetensors", (9000, 9000))
    assert mark(load("last")) == 0
    os.utime(runs / "unended" / "config.json", (9999, 9999))
    with pytest.raises(ModelError, match=r"training has not ended.*--resume --out runs/unended"):
        load("last")


def test_a_factory_with_classes_and_weights(tmp_path: Path) -> None:
    network = load("net.py:make", classes=["a", "b", "c"], mean=[0.5] * 3, std=[0.25] * 3, size=8)
    assert network.classes == ("a", "b", "c") and network.mean == (0.5,) * 3 and network.size == 8
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 3)
    weights = {name: torch.full_like(value, 0.5) for name, value in network.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "theirs.safetensors")
    filled = load("net.py:make", classes=3, weights="theirs.safetensors")
    assert filled.classes == ("0", "1", "2") and all((p == 0.5).all() for p in filled.parameters())


def test_a_name_of_ours_with_classes() -> None:
    assert load("resnet20", classes=5).get_parameter("linear.bias").shape == (5,)


def test_a_run_hides_a_network_of_the_same_name(runs: Path) -> None:
    (runs / "old").rename(runs / "resnet20")
    assert mark(load("resnet20")) == 0


@pytest.mark.parametrize(
    ("word", "say"),
    [
        ("lats", "did you mean 'last'"),
        ("resnet200", "did you mean 'resnet20'"),
        ("olds", "did you mean 'old'"),
        ("runs/olt", "no model 'runs/olt'"),
        ("nothing@3", "no run 'nothing'"),
        ("new@3", "has no snapshot of epoch 3. It has: 0, 0.25, 16"),
        ("last@3", "no snapshot of epoch 3"),
        ("old@1", "It has: none"),
        ("unended", "training has not ended"),
        ("runs", "is not a run"),
        ("old.pth", "torchloupe convert old.pth"),
        ("net.py", "net.py:factory"),
        ("net.py:make", "--classes"),
        ("net.py:mak", "--classes"),
        ("none.py:make", "--classes"),
        ("resnet20", "--classes"),
        ("", "no model"),
    ],
)
def test_a_wrong_word_is_told_in_one_sentence(word: str, say: str) -> None:
    with pytest.raises(ModelError) as raised:
        load(word)
    assert say in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("word", "say"),
    [
        ("net.py:mak", "did you mean 'make'"),
        ("nte.py:make", "did you mean 'net.py'"),
        ("no.such.module:make", "no module 'no.such.module'"),
    ],
)
def test_a_wrong_factory_is_told_in_one_sentence(word: str, say: str) -> None:
    with pytest.raises(ModelError) as raised:
        load(word, classes=3)
    assert say in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("weights", ["none.safetensors", "runs/old/model.safetensors", "old.pth", "runs", "net.py"])
def test_unfit_weights_are_told_in_one_sentence(weights: str) -> None:
    with pytest.raises(ModelError) as raised:
        load("net.py:make", classes=3, weights=weights)
    assert weights in str(raised.value) and "\n" not in str(raised.value)


def test_a_stray_file_among_the_snapshots_does_not_confuse(runs: Path) -> None:
    (runs / "new" / "snapshots" / "epoch-best.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"It has: 0, 0\.25, 16"):
        load("new@3")


def test_the_shipped_network_is_known_by_its_name(tmp_path: Path) -> None:
    found = open_model("cifar10").network
    assert found.origin is not None and found.origin.word == "cifar10"
    by_path = open_model(SHIPPED["cifar10"].parent).network
    assert by_path.origin is not None and by_path.origin.word == "cifar10"
    for place in ("torchloupe/shipped/cifar10", "torchloupe/checkpoints/shipped/cifar10"):
        moved = open_model(tmp_path / "gone" / place).network
        assert moved.origin is not None and moved.origin.word == "cifar10"
    for other in ("shipped/cifar10", "torchloupe/shipped/cifar99", "mine/shipped/cifar10"):
        with pytest.raises(ModelError, match="no model"):
            open_model(tmp_path / "gone" / other)


def test_each_file_of_a_run_has_a_title_and_a_word_of_its_own(runs: Path) -> None:
    save(runs / "new" / "best.safetensors", 7)
    said = {
        "new": ("new", "runs/new"),
        "runs/new/model.safetensors": ("new", "runs/new"),
        "new@0.25": ("new@0.25", "runs/new/snapshots/epoch-0.25.safetensors"),
        "runs/new/best.safetensors": ("new/best", "runs/new/best.safetensors"),
    }
    for word, (title, opened) in said.items():
        found = open_model(word)
        assert found.title == title and found.network.origin is not None
        assert (found.network.origin.title, Path(found.network.origin.word)) == (title, Path(opened))
        assert mark(load(found.network.origin.word)) == mark(found.network)
