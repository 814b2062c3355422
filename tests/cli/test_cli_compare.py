"""`torchloupe compare`: what it prints and writes, of networks of every kind, and how it ends."""

import json
from pathlib import Path

import pytest
import torch
from test_cli_show import noise

from commands import Run, one_sentence
from torchloupe.checkpoints.file import save_model
from torchloupe.models import build
from torchloupe.runs.config import Config

NET = """
from torch import nn
def make(classes):
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes))
"""
OWN = ("--classes", "names.txt", "--normalize", "none", "--size", "16")


def trained(folder: Path, seed: int, classes: tuple[str, ...], side: int, data: dict[str, str] | None) -> Path:
    """A run of a very small network as training leaves it."""
    torch.manual_seed(seed)
    net = build("loupe", classes=len(classes), widths=(4, 4, 4))
    config = Config("loupe", classes, (0.5,) * 3, (0.25,) * 3, side, {"widths": [4, 4, 4]}, data)
    folder.mkdir()
    save_model(folder / "model.safetensors", net, config)
    save_model(folder / "snapshots" / "epoch-0.25.safetensors", net, config)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    for i in range(24):
        noise(home / "pets" / ("train", "test")[i % 2] / ("ant", "bee")[i // 12] / f"{i}.png", seed=i)
    data = {"source": str(home / "pets"), "name": "pets"}
    trained(home / "a", 0, ("ant", "bee"), 16, data)
    trained(home / "b", 1, ("bee", "ant"), 20, data)
    trained(home / "c", 2, ("ant", "wasp"), 16, None)
    return home


def test_two_runs(run: Run, home: Path) -> None:
    ended = run("compare", home / "a", home / "b", "--pictures", "8")
    assert ended.code == 0, ended
    page = home / "a" / "compare-b.html"
    assert ended.out.splitlines()[-1] == str(page) and page.read_text().startswith("<!doctype html>")
    for part in ("A  a", "B  b", "McNemar's exact test p", "n = 12", "held out", "layer3.1"):
        assert part in ended.out
    assert "offline" in ended.err and not list(Path().glob("*.html"))
    assert run("compare", home / "a", home / "b@0.25", "--quiet", "--layers", "conv1").out == (
        f"{home / 'a' / 'compare-b@0.25.html'}\n"
    )


def test_json(run: Run, home: Path) -> None:
    ended = run("compare", home / "a", home / "b", "--json", "--out", "page.html", "--layers", "first,output")
    assert ended.code == 0 and ended.err == ""
    found = json.loads(ended.out)
    assert (found["a"]["title"], found["b"]["size"], found["n"], found["split"]) == ("a", 20, 12, "test")
    answers = found["answers"]
    assert answers["both"] + answers["only_a"] + answers["only_b"] + answers["neither"] == 12
    assert answers["difference"] == pytest.approx(answers["accuracy_a"] - answers["accuracy_b"])
    assert len(answers["files_only_a"]) == answers["only_a"] and answers["classes"] == ["ant", "bee"]
    assert found["layers_a"] == ["conv1", "output"] and len(found["cka"]) == 2 and found["images"] == 12
    assert [len(pair["units"]) for pair in found["pairs"]] == [4, 2] and found["pairs"][0]["random"] is not None
    assert found["page"] == "page.html" and Path("page.html").is_file() and found["notes"] == []


def test_other_classes(run: Run, home: Path) -> None:
    ended = run("compare", home / "a", home / "c", "--out", "page.html", "--no-randomized", "--layers", "conv1")
    assert ended.code == 0 and "Note: Accuracies are left out" in ended.err and "'bee'" in ended.err
    assert "McNemar" not in ended.out and "conv1" in ended.out


def test_a_network_of_ones_own(run: Run, home: Path) -> None:
    Path("net.py").write_text(NET)
    Path("names.txt").write_text("ant\nbee\n")
    for seed in (0, 1):
        torch.manual_seed(seed)
        namespace: dict[str, object] = {}
        exec(NET, namespace)
        from safetensors.torch import save_file

        save_file(namespace["make"](2).state_dict(), f"w{seed}.safetensors")  # type: ignore[operator]
    words = ["--weights", "w0.safetensors", "--weights-b", "w1.safetensors", *OWN, "--data", str(home / "pets")]
    ended = run("compare", "net.py:make", "net.py:make", *words)
    assert ended.code == 0 and Path("make-compare-make.html").is_file(), ended
    ended = run("compare", home / "a", "net.py:make", "--weights-b", "w1.safetensors", *OWN, "--out", "page.html")
    assert ended.code == 0 and "layer3.1" in ended.out and "McNemar" in ended.out, ended
    ended = run("compare", "net.py:make", home / "a", "--weights", "w1.safetensors", *OWN, "--json", "--out", "b.html")
    assert ended.code == 0 and json.loads(ended.out)["n"] == 12, "the data of B's run"


def test_wrong_usage(run: Run, home: Path) -> None:
    Path("net.py").write_text(NET)
    Path("names.txt").write_text("ant\nbee\n")
    one_sentence(run("compare", home / "a"), 2, "'B'")
    one_sentence(run("compare", home / "c", home / "c", "--quiet"), 2, "give --data")
    one_sentence(run("compare", "net.py:make", "net.py:make", *OWN, "--quiet"), 2, "give --data")
    one_sentence(run("compare", home / "a", home / "b", "--pictures", "3"), 2, "--pictures")
    one_sentence(run("compare", home / "a", home / "b", "--weights-b", "w", "--quiet"), 2, "leave --weights")
    one_sentence(run("compare", home / "a", home / "b", "--layers", "conv9", "--quiet"), 4, "conv9", "conv1")
    one_sentence(run("compare", home / "a", "none", "--quiet"), 4, "'none'")
    one_sentence(run("compare", home / "a", home / "b", "--data", "nowhere", "--quiet"), 3, "nowhere")
    assert not list(Path().glob("*.html"))
