"""`torchloupe convert MODEL --to onnx | exported`: from a word to a file that others run, or one sentence."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import torchloupe
from commands import Run, one_sentence

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, classes)
    def forward(self, x):
        return {"out": self.head(self.net(x)), "aux": x}
class Deciding(Net):
    def forward(self, x):
        return self.head(self.net(x)) if x.sum() > 0 else self.head(-self.net(x))
"""


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of pictures of 14 by 10 pixels."""
    home, dice = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for kind in ("ant", "bee"):
        (home / kind).mkdir()
        for i in range(10):
            Image.fromarray(dice.integers(0, 256, (10, 14, 3), np.uint8)).save(home / kind / f"{i}.png")
    return home


TINY = ("--steps", "2", "--batch", "8", "--device", "cpu", "--low-size", "0", "--quiet")


def test_a_run_is_compared_on_its_own_pictures_and_answers_as_it_does(tmp_path: Path, run: Run, pets: Path) -> None:
    assert run("train", "--data", str(pets), *TINY, "--out", "r").code == 0
    before = sorted(path.name for path in Path("r").iterdir())
    ended = run("convert", "r", "--out", "net.onnx")
    assert ended.code == 0 and "the same answers for 4 pictures" in ended.out, ended.err
    assert "pictures of 10 x 14 in [0, 1]" in ended.err
    network, data = torchloupe.load("r"), torchloupe.data.load(pets)
    images = data.test.images.float() / 255
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"pictures": images.numpy()})[0])
    with torch.no_grad():
        assert torch.allclose(found, network(images), atol=1e-5)
    about = json.loads(onnx.load("net.onnx").metadata_props[0].value)
    assert about["classes"] == ["ant", "bee"] and about["picture"] == [3, 10, 14]
    assert sorted(path.name for path in Path("r").iterdir()) == before
    test = json.loads(run("test", "r", "--json", "--device", "cpu").out)
    assert about["weights"] == test["weights"], "the digest is that of the figures"
    assert run("convert", "r", "--to", "exported", "--out", "net.pt2", "--quiet").code == 0
    with torch.no_grad():
        assert torch.allclose(torch.export.load("net.pt2").module()(images), network(images), atol=1e-6)


def test_a_network_of_ones_own_by_name(tmp_path: Path, run: Run) -> None:
    Path("net.py").write_text(NET)
    words = ("net.py:Net", "--classes", "3", "--normalize", "none", "--output", "out")
    ended = run("convert", *words, "--size", "12", "--out", "n.onnx", "--quiet")
    assert ended.code == 0 and "the same answers for 16 pictures" in ended.out and ended.err == ""
    one_sentence(run("convert", *words, "--out", "n.onnx", "--quiet"), 2, "what size of pictures", "--size")


def test_a_network_that_decides_by_values_is_refused_in_one_sentence(tmp_path: Path, run: Run) -> None:
    Path("net.py").write_text(NET)
    words = ("net.py:Deciding", "--classes", "3", "--normalize", "none", "--size", "12")
    for out in ("n.onnx", "n.pt2"):
        ended = run("convert", *words, "--out", out, "--quiet")
        one_sentence(ended, 4, "net.py:Deciding", "cannot be exported", "data-dependent", ".safetensors")
        assert not Path(out).exists()


WRONG = [
    (("cifar10", "--to", "onnx", "--out", "n.pt2"), 2, ".onnx"),
    (("cifar10", "--to", "exported", "--out", "n.onnx"), 2, ".pt2"),
    (("cifar10", "--out", "n.onnx", "--partial"), 2, "--partial"),
    (("nowhere", "--out", "n.onnx"), 4, "nowhere"),
    (("cifar10", "--out", "n.onnx", "--classes", "3"), 2, "--classes"),
    (("o.pth", "--model", "resnet20", "--classes", "3", "--weights", "w", "--out", "n.safetensors"), 2, "--weights"),
    (("o.pth", "--classes", "3", "--out", "n.safetensors"), 2, "--model"),
]


@pytest.mark.parametrize(("words", "code", "part"), WRONG, ids=[" ".join(words) for words, *_ in WRONG])
def test_what_does_not_fit_is_told_in_a_sentence(
    tmp_path: Path, run: Run, words: tuple[str, ...], code: int, part: str
) -> None:
    one_sentence(run("convert", *words, "--quiet"), code, part)
    assert not list(Path().glob("n.*"))


def test_a_foreign_checkpoint_is_brought_in_first(tmp_path: Path, run: Run) -> None:
    torch.save({}, "o.pth")
    one_sentence(run("convert", "o.pth", "--out", "n.onnx", "--quiet"), 4, "o.pth", "torchloupe convert")
