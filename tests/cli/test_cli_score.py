"""`torchloupe score`: what it prints and writes, and how it ends."""

import json
from pathlib import Path

import pytest
import torch

from commands import Run, one_sentence
from contract import small_run

QUICK = ("--n", "4", "--methods", "grad-cam,input_x_gradient")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("scored") / "run")


def test_the_table(run: Run, folder: Path) -> None:
    ended = run("score", folder, *QUICK)
    assert ended.code == 0, ended
    lines = ended.out.splitlines()
    assert lines[0] == "run on 4 test pictures of shapes: means ± half of the 95 % interval"
    names = [line.split()[0] for line in lines[4:] if line.strip()]
    assert names[:6] == ["grad-cam", "input-x-gradient", "-", "uniform", "center", "sobel"]
    assert lines[-1].startswith("leads: ") and "mean rank" in lines[-1] and "mass" in lines[2]
    assert "docs/explanations.md" in ended.err and "Note" not in ended.err


def test_json_and_files(run: Run, folder: Path) -> None:
    ended = run("score", folder, *QUICK, "--json", "--seed", "2", "--out", "scores.json")
    assert ended.code == 0 and ended.err == "", ended
    found = json.loads(ended.out)
    assert (found["model"], found["data"], found["n"], found["seed"]) == ("run", "shapes", 4, 2)
    assert list(found["methods"]) == ["grad-cam", "input-x-gradient"] and found["best"] in found["methods"]
    cell = found["methods"]["grad-cam"]["auc"]
    assert cell.keys() == {"value", "interval", "n", "against"} and cell["n"] == 4 and len(cell["interval"]) == 2
    assert (
        list(found["controls"]) == ["uniform", "center", "sobel"]
        and found["controls"]["uniform"]["auc"]["value"] == 0.5
    )
    assert found["controls"]["uniform"]["stability"] == {"value": None, "interval": None, "n": 0}
    assert found["measures"]["deletion"] == {"better": "lower"} and found["left_out"] == {}
    assert json.loads(Path("scores.json").read_text()) == found
    ended = run("score", folder, *QUICK, "--quiet", "--seed", "2", "--out", "scores.csv")
    assert ended.out == f"{found['best']}\n" and Path("scores.csv").read_text().startswith("kind,name,measure")


def test_a_network_of_ones_own_without_masks(run: Run, folder: Path) -> None:
    from test_cli_show import noise

    for i in range(12):
        noise(Path("pets") / ("train", "test")[i % 2] / ("ant", "bee")[i // 6] / f"{i}.png", seed=i)
    Path("net.py").write_text(
        "from torch import nn\n"
        "def make(classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(5, classes))\n"
    )
    torch.manual_seed(0)
    own = ("--classes", "2", "--normalize", "none", "--size", "16")
    ended = run("score", "net.py:make", *own, "--data", "pets", *QUICK)
    assert ended.code == 0 and "Note: left out: mass, pointing, auc (the data know no masks" in ended.err, ended
    assert "mass" not in ended.out and "n = 4" in ended.out
    one_sentence(run("score", "net.py:make", *own, "--quiet"), 2, "give --data")


def test_wrong_usage(run: Run, folder: Path) -> None:
    one_sentence(run("score"), 2, "MODEL")
    one_sentence(run("score", folder, "--methods", "grad-cm", "--quiet"), 2, "grad-cam")
    one_sentence(run("score", folder, "--n", "1"), 2, "--n")
    one_sentence(run("score", folder, "--out", "scores.png"), 2, ".csv")
    one_sentence(run("score", "nowhere", "--quiet"), 4, "nowhere")
    one_sentence(run("score", folder, "--data", "nowhere", "--quiet"), 3, "nowhere")
