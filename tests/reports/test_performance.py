"""The figures of a test that a report takes: the run's own, and no others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from torchloupe.checkpoints.open import Origin
from torchloupe.data.dataset import Dataset, Split, checksum
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network, wrap
from torchloupe.reports.sections.performance import performance
from torchloupe.runs.config import Config


def data_of(seed: int, name: str) -> Dataset:
    images = torch.randint(0, 256, (12, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    split = Split(images, torch.arange(12) % 2, tuple(f"{i}.png" for i in range(12)))
    return Dataset(name, split, split, ("a", "b"), (0.5,) * 3, (0.25,) * 3, name)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def network(run: Path, own: Dataset) -> Network:
    torch.manual_seed(0)
    net = wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), mean=None, std=None, size=8, classes=["a", "b"])
    about = {"source": str(run / "gone"), "name": own.name, "crc32": checksum(own)}
    net.origin = Origin(str(run), {}, Config("net", ("a", "b"), None, None, 8, data=about), run, run.name)
    return net


def test_results_on_other_data_are_not_taken_for_the_runs_own(run_folder: Path, cache_folder: Path) -> None:
    own, other = data_of(0, "own"), data_of(1, "other")
    net = network(run_folder, own)
    found = performance(Subject(net, other), 12)
    assert found is not None and found.figures["data"] == "other" and not list(run_folder.iterdir())
    assert performance(Subject(net), 12) is None, "the run's own data are gone, and were never tested on"
    (spare,) = (cache_folder / "models").glob("test-*")
    for file in spare.iterdir():  # as an earlier version wrote `test RUN --data other`
        (run_folder / file.name).write_bytes(file.read_bytes())
    assert performance(Subject(net), 12) is None
    assert net.origin is not None
    config = replace(net.origin.config, data={**(net.origin.config.data or {}), "crc32": checksum(other)})
    net.origin = replace(net.origin, config=config)
    taken = performance(Subject(net), 12)
    assert taken is not None and not taken.measured
    assert taken.figures == json.loads((run_folder / "test.json").read_text())
