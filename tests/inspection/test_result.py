"""What a result writes: whatever was asked in, plain JSON out, and nothing half done."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torchloupe
from contract import images, net, small_run
from torchloupe.errors import UsageError
from torchloupe.inspection.repeat import repeat
from torchloupe.inspection.run import run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return small_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("deconvnet", {"channels": torch.tensor([5, 1])}),
        ("deconvnet", {"channels": torch.tensor([5, 1]), "position": torch.tensor([[1, 2], [3, 0]])}),
        ("deconvnet", {"channels": range(5, 7)}),
        ("gradient", {"channels": np.array([5, 1]), "each": np.bool_(True)}),
        ("guided", {"channels": np.int64(3), "keep": np.float32(0.5), "position": np.array([1, 2])}),
        ("guided", {"channels": torch.tensor([5, 1]), "position": torch.tensor([1, 2])}),
        ("feature-maps", {"channels": torch.tensor([5, 1])}),
        ("feature-maps", {"channels": range(3)}),
        ("maximize", {"direction": torch.linspace(-1, 1, 8), "steps": np.int64(2), "copies": 1, "shifts": False}),
        ("maximize", {"direction": np.linspace(-1, 1, 8), "steps": torch.tensor(2), "copies": 1, "canvas": (16, 20)}),
        ("invert", {"channels": range(2), "steps": 2, "each": True}),
        ("dream", {"channels": np.array([5, 1]), "steps": 1, "octaves": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
@pytest.mark.usefixtures("wrong_shapes")  # numbers of every kind, not of the annotated one
def test_whatever_kind_of_number_was_asked_is_written_and_repeated(
    run_folder: Path, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    given = None if name == "maximize" else ["test:1", "test:5"]
    made = run(name, torchloupe.load(run_folder), "layer1", given, seed=2, **settings)
    (file, *_) = made.save(tmp_path / "a.png", columns=np.int64(8))
    assert json.loads((tmp_path / "a.json").read_text())["look"] == {"columns": 8}
    repeated, told = repeat(tmp_path / "a.json")
    (new, *_) = repeated.save(tmp_path / "new" / "a.png", **told.look)
    for suffix in (".png", ".safetensors"):
        assert new.with_suffix(suffix).read_bytes() == file.with_suffix(suffix).read_bytes()


def test_one_channel_an_image_stays_that_and_a_list_stays_a_list(run_folder: Path, tmp_path: Path) -> None:
    network, given = torchloupe.load(run_folder), ["test:1", "test:5"]
    for channels, found in ((torch.tensor([5, 1]), [5, 1]), ([5, 1], [-1, -1])):
        run("gradient", network, "layer1", given, channels=channels).save(tmp_path / "a.png")
        assert repeat(tmp_path / "a.json")[0].channel.tolist() == found


def test_what_is_no_number_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    for settings in ({"channels": torch.tensor([0.5, 1.0])}, {"channels": ["a"]}, {"position": object()}):
        with pytest.raises(UsageError, match=next(iter(settings))):
            run("deconvnet", net(), "conv1", images(2), **settings)


def test_the_json_is_written_before_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr("torchloupe.figures.plots.save_figure", full)
    with pytest.raises(OSError, match="no room"):
        run("filters", net(torch.float32)).save(tmp_path / "a.png")
    assert (tmp_path / "a.json").is_file() and not (tmp_path / "a.png").exists()
