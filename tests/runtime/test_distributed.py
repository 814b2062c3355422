"""Two gloo ranks learn what one learns: exactly so for networks without BatchNorm, in float64."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torchloupe.checkpoints.file import read_tensors
from torchloupe.models import build
from torchloupe.runs.metrics import read_metrics
from torchloupe.runtime.distributed import in_parallel, unused_parameters

NET = """
from torch import nn

def make(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""

LEARN = """
import json, os, sys
from contextlib import contextmanager
from pathlib import Path
import torch
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
from torchloupe.runtime import distributed
from torchloupe.training.journal import Journal

@contextmanager
def watched(seen):
    \"\"\"Note over how many pictures a measurement was summed up, on all ranks.\"\"\"
    add_up = distributed.add_up
    def noted(values):
        result = add_up(values)
        seen.append(int(result[2]))
        return result
    distributed.add_up = noted
    yield
    distributed.add_up = add_up

from torchloupe.training.config import TrainConfig
from torchloupe.data.drawn.shapes import shapes
from torchloupe.training.loop import train

out, model, size, batch, test = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
config = TrainConfig(model=model, epochs=2, batch=batch, optimizer="sgd", lr=0.05, cutout=3, seed=3)
counted = []
measure = Journal._measure
def measured(self, network, split):
    with watched(counted):
        return measure(self, network, split)
Journal._measure = measured
train(shapes(train=min(60, max(11, 9 * batch)), test=test, size=size), config, out, device="cpu")
threads = [path.joinpath("comm").read_text() for path in Path("/proc/self/task").glob("*")]  # none beyond Linux
assert not [name for name in threads if "gloo" in name], "threads of the group outlive it and abort at exit"
if int(os.environ.get("RANK", 0)) == 0:
    (out / "counted.json").write_text(json.dumps(counted))
"""


def learn(ranks: int, *arguments: str) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    script = Path(arguments[0]).parent / "learn.py"
    script.write_text(LEARN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("batch", "test"),
    [
        pytest.param(20, 499, id="even shares"),
        pytest.param(7, 15, id="shares of 4 and 3"),
        pytest.param(1, 11, id="a rank without pictures"),
    ],
)
def test_two_ranks_learn_what_one_learns(tmp_path: Path, batch: int, test: int) -> None:
    (tmp_path / "net.py").write_text(NET)
    model = f"{tmp_path / 'net.py'}:make"
    for ranks in (1, 2):
        learn(ranks, str(tmp_path / f"r{ranks}"), model, "16", str(batch), str(test))
        counted = json.loads((tmp_path / f"r{ranks}" / "counted.json").read_text())
        assert set(counted) == {test}, "each picture counts once"
    one, two = (read_tensors(tmp_path / f"r{ranks}" / "model.safetensors")[0] for ranks in (1, 2))
    start = read_tensors(tmp_path / "r1/snapshots/epoch-0.safetensors")[0]
    for name, tensor in one.items():
        assert tensor.dtype == torch.float64
        assert not torch.equal(tensor, start[name])
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-12)
    rows = [read_metrics(tmp_path / f"r{ranks}") for ranks in (1, 2)]
    assert len(rows[0]) == len(rows[1])
    for mine, other in zip(*rows, strict=True):  # reduced over the ranks, written by rank 0 alone
        assert mine.pop("kind") == other.pop("kind")
        assert mine == pytest.approx(other, rel=1e-5)


def test_a_network_with_unused_parameters_learns_on_two_ranks(tmp_path: Path) -> None:
    learn(2, str(tmp_path / "r"), "study", "32", "20", "15")
    start, end = (
        read_tensors(tmp_path / "r" / name)[0] for name in ("snapshots/epoch-0.safetensors", "model.safetensors")
    )
    assert not torch.equal(start["fc1.weight"], end["fc1.weight"])
    assert torch.equal(start["resblock1_2.downsample.weight"], end["resblock1_2.downsample.weight"])


def test_the_unused_parameters_of_study_are_the_shortcuts_of_its_second_blocks() -> None:
    net = build("study")
    unused = unused_parameters(net, torch.zeros(2, 3, 32, 32))
    blocks = [f"resblock{i}_2.{part}" for i in range(1, 5) for part in ("downsample.weight", "bn3.weight", "bn3.bias")]
    assert sorted(unused) == sorted(blocks)


def test_finding_unused_parameters_leaves_the_network_alone() -> None:
    net = build("study").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    unused_parameters(net, torch.rand(2, 3, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


def test_alone_nothing_is_wrapped() -> None:
    net = build("resnet20")
    assert in_parallel(net, torch.zeros(1, 3, 32, 32)) is net
