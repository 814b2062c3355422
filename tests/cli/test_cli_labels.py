"""Labels and class names at the command line: a run that was trained with them goes on, is tested and looked into."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from commands import Run, one_sentence
from pets import as_folder, pets, png
from torchloupe.data.drawn.shapes import shapes


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The same pictures of `shapes` in class folders, and in one folder with a CSV elsewhere."""
    home = tmp_path_factory.mktemp("drawn")
    data = shapes(train=60, test=10, size=12)
    counts: dict[str, int] = {}
    rows = ["picture,class"]
    for image, label in zip(data.train.images, data.train.labels.tolist(), strict=True):
        kind = data.classes[label]
        counts[kind] = counts.get(kind, 0) + 1
        name = f"{counts[kind]:03}.png"
        for path in (home / "folders" / kind / name, home / "flat" / f"{counts[kind]:03}-{kind}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        rows.insert(1, f"{counts[kind]:03}-{kind}.png,{kind}")
    (home / "who-is-who.csv").write_text("\n".join(rows))
    return home / "folders", home / "flat", home / "who-is-who.csv"


QUICK = ("--steps", "3", "--batch", "16", "--device", "cpu", "--model", "resnet20", "--quiet")


def test_a_flat_folder_with_a_csv_trains_as_class_folders_do_bit_for_bit(
    tmp_path: Path, run: Run, drawn: tuple[Path, Path, Path]
) -> None:
    folders, flat, labels = drawn
    assert run("train", "--data", str(folders), *QUICK, "--out", str(tmp_path / "a")).code == 0
    trained = run("train", "--data", str(flat), "--labels", str(labels), *QUICK, "--out", str(tmp_path / "b"))
    assert trained.code == 0
    one, other = (load_file(tmp_path / which / "model.safetensors") for which in "ab")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    configs = [json.loads((tmp_path / which / "config.json").read_text()) for which in "ab"]
    assert configs[0]["data"]["crc32"] == configs[1]["data"]["crc32"] and configs[0]["classes"] == configs[1]["classes"]
    assert "labels" not in configs[0]["data"] and configs[1]["data"]["labels"] == str(labels)
    tests = [json.loads(run("test", str(tmp_path / which), "--json", "--device", "cpu").out) for which in "ab"]
    assert tests[0]["accuracy"] == tests[1]["accuracy"] and tests[0]["loss"] == tests[1]["loss"]
    assert not list((tmp_path / "b").glob("test-*")), "its own data, not others"
    looked = run("show", "top-examples", str(tmp_path / "b"), "--channels", "0", "--device", "cpu")
    assert looked.code == 0 and "not at hand" not in looked.err
    copy = shutil.copy(labels, tmp_path / "copy.csv")
    asked = run("test", str(tmp_path / "b"), "--data", str(folders), "--json", "--device", "cpu")
    assert asked.code == 0 and json.loads(asked.out)["accuracy"] == tests[0]["accuracy"], (
        "its labels are of its own data"
    )
    again = run("test", str(tmp_path / "b"), "--data", str(flat), "--labels", str(copy), "--json", "--device", "cpu")
    assert json.loads(again.out)["accuracy"] == tests[0]["accuracy"]


def test_a_run_goes_on_with_its_labels_and_names(tmp_path: Path, run: Run, drawn: tuple[Path, Path, Path]) -> None:
    _, flat, labels = drawn
    kinds = sorted({path.stem.partition("-")[2] for path in flat.iterdir()})
    (tmp_path / "names.txt").write_text("\n".join(f"{kind} the {kind}" for kind in kinds))
    told = ("--data", str(flat), "--labels", str(labels), "--class-names", str(tmp_path / "names.txt"))
    out = ("--out", str(tmp_path / "run"))
    assert run("train", *told, *QUICK, *out).code == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["classes"] == [f"the {kind}" for kind in kinds]
    assert config["data"]["class_names"] == str(tmp_path / "names.txt")
    (tmp_path / "run" / "model.safetensors").unlink()
    gone_on = run("train", "--resume", *out, "--device", "cpu", "--quiet")
    assert gone_on.code == 0 and (tmp_path / "run" / "model.safetensors").is_file()
    labels.rename(labels.with_suffix(".old"))
    try:
        one_sentence(run("test", str(tmp_path / "run"), "--quiet"), 3, "who-is-who.csv", "no such file", "--labels")
    finally:
        labels.with_suffix(".old").rename(labels)


@pytest.fixture
def several(tmp_path: Path) -> tuple[Path, Path]:
    folder = as_folder(tmp_path / "flat", {f"{i}.png": png(40 * i) for i in range(6)})
    rows = ("cat", "cat|dog", "dog", "cat|dog", "dog", "cat")
    splits = ("train", "train", "test", "test", "test", "test")
    lines = [f"{i}.png,{row},{split}" for i, (row, split) in enumerate(zip(rows, splits, strict=True))]
    (tmp_path / "l.csv").write_text("\n".join(["file,classes,split", *lines]))
    return folder, tmp_path / "l.csv"


NET = """
import torch
from torch import nn
class Net(nn.Module):
    def forward(self, x):  # brightness of blue says cat, of red says dog
        return torch.stack([x[:, 2].mean((1, 2)), x[:, 0].mean((1, 2))], 1)
"""


def test_a_multilabel_network_is_tested_on_labels_of_several(
    tmp_path: Path, run: Run, several: tuple[Path, Path]
) -> None:
    folder, labels = several
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    data = ("--data", str(folder), "--labels", str(labels))
    net = (f"{tmp_path / 'net.py'}:Net", "--classes", str(tmp_path / "names.txt"), "--normalize", "none")
    done = run("test", *net, "--multilabel", *data, "--json", "--out", str(tmp_path / "out"))
    assert done.code == 0, done.err
    # Test pictures 2 to 5, redder and less blue each: cat ranks 2 3 4 5 and has 3 5; dog ranks 5 4 3 2 and has 4 3 2.
    found = json.loads(done.out)
    assert found["n"] == 4 and found["average_precision"]["cat"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found["average_precision"]["dog"] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    one_sentence(run("test", *net, *data, "--quiet"), 3, "have several classes", "takes one each", "--multilabel")


def test_everything_else_refuses_pictures_of_several_classes(
    tmp_path: Path, run: Run, several: tuple[Path, Path]
) -> None:
    data = ("--data", str(several[0]), "--labels", str(several[1]))
    refused = run("train", *data, "--quiet", "--out", str(tmp_path / "run"))
    one_sentence(refused, 3, "have several classes, and training takes one each")
    refused = run("show", "top-examples", "cifar10", *data, "--quiet")
    one_sentence(refused, 3, "have several classes, and looking inside a network takes one each")


def test_data_show_counts_them(tmp_path: Path, run: Run, several: tuple[Path, Path]) -> None:
    out = ("--out", str(tmp_path / "sheet.png"))
    shown = run("data", "show", str(several[0]), "--labels", str(several[1]), *out)
    assert f"Next: torchloupe test MODEL --multilabel --data {several[0]} --labels {several[1]}" in shown.err
    rows = [line.split() for line in shown.out.splitlines()[:4]]
    assert rows == [["class", "train", "test"], ["cat", "2", "2"], ["dog", "1", "3"], ["all", "2", "4"]]
    (tmp_path / "map.txt").write_text("cat Felis catus\ndog Canis familiaris")
    named = run(
        "data", "show", str(as_folder(tmp_path / "pets", pets())), "--class-names", str(tmp_path / "map.txt"), *out
    )
    assert named.code == 0 and "Felis catus" in named.out and "Canis familiaris" in named.out
