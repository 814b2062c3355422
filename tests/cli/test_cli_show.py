"""Looking inside from the command line: what each command writes and says, and how it ends."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from commands import Run, one_sentence
from contract import FAST, LOOKED_AT
from rasters import codes, spot
from torchloupe.checkpoints.file import read_tensors, save_model
from torchloupe.inspection.catalog import Method
from torchloupe.inspection.picture_set import SET
from torchloupe.models import build
from torchloupe.runs.config import Config

ROWS = pytest.mark.parametrize("row", LOOKED_AT, ids=[row.name for row in LOOKED_AT])
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "jpg": b"\xff\xd8\xff", "webp": b"RIFF"}
TANH = """
from torch import nn
def make(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, classes))
"""
OWN = ("net.py:make", "--classes", "2", "--normalize", "none", "--size", "16")


def noise(file: Path, side: tuple[int, int] = (16, 16), seed: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*side, 3), dtype=np.uint8)).save(file)
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, and the run of a very small network on them as training leaves it."""
    home = tmp_path_factory.mktemp("home")
    for i in range(12):
        noise(home / "pets" / ("train", "test")[i % 2] / ("ant", "bee")[i // 6] / f"{i}.png", seed=i)
    torch.manual_seed(0)
    data = {"source": str(home / "pets"), "name": "pets"}
    config = Config("loupe", ("ant", "bee"), (0.5,) * 3, (0.25,) * 3, 16, {"widths": [4, 4, 4]}, data)
    (home / "run").mkdir()
    save_model(home / "run" / "model.safetensors", build("loupe", classes=2, widths=(4, 4, 4)), config)
    save_model(
        home / "run" / "snapshots" / "epoch-0.25.safetensors", build("loupe", classes=2, widths=(4, 4, 4)), config
    )
    (home / "run" / "config.json").write_text("{}")
    return home


def quick(row: Method) -> list[str]:
    """Few channels, pictures and steps."""
    words = ["--channels", "0,2"] if row.channels else []
    words += ["--pictures", "test:0-1"] if row.takes == "pictures" else []
    return words + [str(w) for name, value in FAST.get(row.name, {}).items() for w in (f"--{name}", value)]


@ROWS
def test_every_method_writes_its_picture_its_tensors_and_its_json(run: Run, home: Path, row: Method) -> None:
    ended = run("show", row.name, home / "run", "--out", "a.png", *quick(row))
    assert ended.code == 0, ended
    files = [Path(line) for line in ended.out.splitlines()]
    assert files[0] == Path("a.png") and sorted(Path().glob("a*.png")) == sorted(files)
    for file in files:
        with Image.open(file) as image:
            assert np.asarray(image).std() > 0
    told, (tensors, _) = json.loads(Path("a.json").read_text()), read_tensors(Path("a.safetensors"))
    assert told["method"] == row.name and told["files"] == [str(file) for file in files] and tensors
    assert told["channels"] == ([0, 2] if row.channels else None)
    assert row.name == "top-examples" or told["pictures"] == (["test:0", "test:1"] if row.takes == "pictures" else None)
    assert all(name in ended.err for name in row.numbers if told["numbers"][name] is not None)
    kept = [*files, Path("a.safetensors")]
    before = [file.read_bytes() for file in kept]
    ended = run("again", "a.json", "--out", "new", "--quiet")
    assert ended.code == 0 and ended.out.splitlines() == [f"new/{file}" for file in files] and ended.err == ""
    assert [(Path("new") / file).read_bytes() for file in kept] == before


def test_again_writes_over_the_old_files(run: Run, home: Path) -> None:
    run("show", "filters", home / "run", "--out", "x/a.png", "--width", "89mm", "--theme", "dark", "--scale", "shared")
    files = [Path("x") / f"a.{suffix}" for suffix in ("png", "safetensors", "json")]
    before = [file.read_bytes() for file in files]
    for file in files[:2]:
        file.unlink()
    assert run("again", "x/a.json").out == "x/a.png\n"
    assert [file.read_bytes() for file in files] == before


def test_the_pictures_that_drive_a_channel_most(run: Run, home: Path) -> None:
    words = ["--pictures", "top:3", "--channels", "2,0", "--layer", "layer1"]
    assert run("show", "guided", home / "run", *words, "--out", "a.png").code == 0
    assert run("show", "top-examples", home / "run", *words[2:], "--count", "3", "--out", "t.png").code == 0
    (found, _), (top, _) = (read_tensors(Path(f"{name}.safetensors")) for name in "at")
    assert found["channel"].tolist() == [2, 2, 2, 0, 0, 0] and torch.equal(found["box"], top["box"].flatten(0, 1))
    assert torch.equal((found["images"] * 255).round().to(torch.uint8), top["images"].flatten(0, 1))
    before = Path("a.png").read_bytes()
    assert run("again", "a.json").code == 0 and Path("a.png").read_bytes() == before


def test_where_files_go_by_default_and_into_a_folder(run: Run, home: Path, tmp_path: Path) -> None:
    ended = run("show", "feature-maps", home / "run", "--layer", "layer1[0]", "--pictures", "test:0")
    folder = home / "run" / "pictures" / "feature-maps"
    assert ended.out.splitlines()[0] == str(folder / "layer1-0.png") and (folder / "layer1-0.json").is_file()
    (tmp_path / "there").mkdir()
    assert run("show", "filters", home / "run", "--out", "there").out == "there/filters-conv1.png\n"


def test_json_holds_the_files_and_the_numbers(run: Run, home: Path) -> None:
    words: list[str | Path] = [
        "show",
        "dream",
        home / "run",
        "--pictures",
        "test:0-2",
        "--steps",
        "1",
        "--out",
        "a.png",
    ]
    ended = run(*words, "--json", "--seed", "3")
    told, (tensors, _) = json.loads(ended.out), read_tensors(Path("a.safetensors"))
    assert json.loads(Path("a.json").read_text())["seed"] == 3
    assert ended.err == "" and told["files"] == ["a.png"] and told["layer"] == "layer3.1"
    for name in ("before", "after"):
        values = tensors[name].double()
        assert told["numbers"][name] == pytest.approx({"mean": float(values.mean()), "std": float(values.std())})


@pytest.mark.parametrize("suffix", MAGIC)
def test_the_suffix_says_the_format(run: Run, home: Path, suffix: str) -> None:
    assert run("show", "filters", home / "run", "--out", f"a.{suffix}").code == 0
    assert Path(f"a.{suffix}").read_bytes().startswith(MAGIC[suffix])


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["inwert", "RUN"], 2, ["no method 'inwert'; did you mean 'invert'?", "top-examples"]),
        (["filters", "RUN", "--strongst", "3"], 2, ["--strongst"]),
        (["filters", "RUN", "--layer", "conv2"], 4, ["no layer 'conv2'; did you mean 'conv1'"]),
        (["filters", "RUN", "--layer", "fc"], 4, ["'fc' (Linear) is no convolution"]),
        (["filters", "RUN", "--channels", "9"], 2, ["channels 0 to 3, not 9"]),
        (["filters", "RUN", "--channels", "a"], 2, ["--channels 'a'"]),
        (["filters", "nothing", "--width", "9ells"], 2, ["'9ells'"]),  # before anything is opened
        (["filters", "RUN", "--out", "a.doc"], 2, ["a.doc"]),
        (["filters", "RUN", "--out", "taken"], 2, ["'taken'"]),
        (["filters", "nothing"], 4, ["'nothing'"]),
        (["feature-maps", "RUN", "--cmap", "virids"], 2, ["did you mean 'viridis'"]),
        (["feature-maps", "RUN", "--pictures", "none.png"], 3, ["no picture 'none.png'"]),
        (["feature-maps", "RUN", "--pictures", "broken.png"], 3, ["'broken.png'"]),
        (["feature-maps", "RUN", "--pictures", "empty"], 3, ["'empty' holds no pictures"]),
        (["feature-maps", "RUN", "--pictures", "test:6"], 2, ["'test' has the pictures 0 to 5, not 6"]),
        (["feature-maps", "RUN", "--data", "nowhere"], 3, ["nowhere"]),
        (["deconvnet", "RUN", "--position", "a,b"], 2, ["position 'a,b'"]),
        (["deconvnet", "RUN", "--position", "0,9"], 2, ["no position"]),
        (["deconvnet", "RUN", "--keep", "0"], 2, ["keep"]),
        (["maximize", "RUN", "--steps", "0"], 2, ["steps"]),
        (["maximize", "RUN", "--direction", "1,2"], 2, ["4 numbers, not 2"]),
        (["feature-maps", *OWN[:-2]], 2, ["--pictures", "--data"]),
        (["deconvnet", *OWN, "--pictures", "RUN/../pets/test/ant"], 4, ["no rectifier"]),
    ],
    ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value, list) else None,
)
def test_what_goes_wrong_is_told_in_one_sentence(
    run: Run, home: Path, tmp_path: Path, words: list[str], code: int, parts: list[str]
) -> None:
    (tmp_path / "net.py").write_text(TANH)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "taken").write_bytes(b"a file")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    one_sentence(run("show", *(word.replace("RUN", str(home / "run")) for word in words), "--quiet"), code, *parts)
    assert [file for file in sorted(tmp_path.iterdir()) if file.name not in ("cache", "__pycache__")] == before


@pytest.mark.parametrize("switch", ["--no-randomized", "--no-twin"])
def test_the_control_is_left_out_by_its_name_and_by_its_old_one(run: Run, home: Path, switch: str) -> None:
    words = ["--pictures", "test:0", "--layer", "layer1", "--out", "a.png", "--quiet"]
    assert run("show", "gradient", home / "run", switch, *words).code == 0
    assert not any(name.startswith("randomized") for name in read_tensors(Path("a.safetensors"))[0])
    assert run("show", "gradient", home / "run", *words).code == 0
    assert any(name.startswith("randomized") for name in read_tensors(Path("a.safetensors"))[0])


@pytest.mark.parametrize("out", ["u.gif", "taken"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_computed(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    def compute(*_: Any, **__: Any) -> None:
        raise AssertionError("computed first")

    monkeypatch.setattr("torchloupe.inspection.run.run", compute)
    Path("taken").write_bytes(b"a file")
    one_sentence(run("show", "maximize", home / "run", "--out", out, "--quiet"), 2, out)


def test_the_canvas_can_be_set(run: Run, home: Path) -> None:
    words = ["--steps", "1", "--copies", "1", "--channels", "0", "--canvas", "24", "--out", "a.png"]
    assert run("show", "maximize", home / "run", *words).code == 0
    assert read_tensors(Path("a.safetensors"))[0]["pictures"].shape == (1, 3, 24, 24)


@pytest.mark.parametrize(
    ("name", "content", "code", "parts"),
    [
        ("none.json", None, 4, ["none.json"]),
        ("a.json", b"{", 4, ["a.json"]),
        ("a.json", b"[1]", 4, ["does not describe a picture"]),
        ("a.png", b"\x89PNG\r\n", 4, ["a.png"]),
        ("a.json", b'{"method": "filters"}', 4, ["does not describe a picture"]),
    ],
)
def test_what_cannot_be_made_again(run: Run, name: str, content: bytes | None, code: int, parts: list[str]) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    one_sentence(run("again", name, "--quiet"), code, *parts)


def test_layers_in_the_order_in_which_they_run(run: Run, home: Path) -> None:
    ended = run("layers", home / "run")
    lines = ended.out.splitlines()
    assert ended.code == 0 and lines[0] == "run: 1,078 parameters" and "6 test pictures" in ended.err
    assert "last is layer3.1: the outermost block with the last convolution" in ended.err
    names = [re.split(r"\s{2,}", line)[0] for line in lines[3:]]
    assert names[:3] == ["conv1", "pool1", "bn1"] and names[-2:] == ["pool", "fc"]
    assert names.index("layer1.0") < names.index("layer1") < names.index("layer2.0.conv")
    conv1 = re.split(r"\s{2,}", lines[3])
    assert conv1[:5] == ["conv1", "Conv2d", "4 x 16 x 16", "300", "5x5"] and conv1[5].startswith("5, ")


def test_layers_as_json(run: Run, home: Path) -> None:
    shutil.copytree(home / "run", "fresh", ignore=shutil.ignore_patterns("health-*"))
    ended = run("layers", "fresh", "--json", "--pictures", "4")
    told = json.loads(ended.out)
    rows = {row["name"]: row for row in told["layers"]}
    assert ended.err == "" and told["pictures"] == 4
    model = build("loupe", classes=2, widths=(4, 4, 4))
    assert told["parameters"] == sum(p.numel() for p in model.parameters())
    block = model.get_submodule("layer2.0")
    assert rows["layer2.0"]["parameters"] == sum(p.numel() for p in block.parameters()) > 0
    assert {row["images"] for row in rows.values()} == {4}
    fields = {
        "conv1": 5,
        "layer1.0.conv": 5 + 1 + 2 * 2,
        "layer2.0.conv": 5 + 1 + 2 * 2 + 2 * 2,
    }  # the pool adds a pixel, each 3 x 3 two steps of 2
    assert {name: rows[name]["field"] for name in fields} == {name: [f, f] for name, f in fields.items()}
    assert rows["layer2"]["output"] == [4, 4, 4] and rows["fc"]["output"] == [2] and rows["layer3"]["clipped"]
    assert rows["conv1"]["dead"] is None, "in front of a rectifier it does not apply"
    assert all(row["dead"] is not None for name, row in rows.items() if "relu" in name)
    assert all(0 <= row["dead"] <= 1 for row in rows.values() if row["dead"] is not None)
    bare = json.loads(run("layers", home / "run", "--json", "--no-data").out)
    assert bare["pictures"] == 0 and all(row["dead"] is None for row in bare["layers"])
    known = json.loads(run("layers", "cifar10", "--json").out)
    block = next(row for row in known["layers"] if row["name"] == "layer1.0")
    assert block["parameters"] == 57_760 and block["images"] == 10_000, "as its report says"
    one_sentence(run("layers", "nothing"), 4, "'nothing'")


def test_where_no_data_are_at_hand_free_pictures_stand_in_and_it_is_said(run: Run) -> None:
    words = ("show", "feature-maps", "cifar10", "--channels", "0")
    ended = run(*words, "--out", "a.png")
    assert ended.code == 0 and "free ones that come with torchloupe" in ended.err
    told = json.loads(Path("a.json").read_text())
    assert len(told["pictures"]) > 8 and told["pictures"][0] == "samples:0"
    before = Path("a.png").read_bytes()
    assert run("again", "a.json", "--quiet").code == 0 and Path("a.png").read_bytes() == before
    assert "free ones" not in run(*words, "--pictures", "samples:3", "--out", "b.png").err


def test_a_sheet_of_any_pictures(run: Run) -> None:
    for i, side in enumerate(((6, 6), (5, 9), (30, 20))):
        noise(Path("in") / f"{i}.png", side, i)
    ended = run("sheet", "in", "in/1.png", "--out", "s.pdf", "--title", "$mine$", "--columns", "2")
    assert ended.code == 0 and ended.out == "s.pdf\n" and Path("s.pdf").read_bytes().startswith(MAGIC["pdf"])
    assert run("sheet", "in", "--out", "s.png", "--size", "6", "--no-captions").code == 0
    with Image.open("s.png") as sheet, Image.open("in/0.png") as image:
        dots, small = (np.asarray(each.convert("RGB")) for each in (sheet, image))
    spot(codes(dots), torch.from_numpy(small.copy()).permute(2, 0, 1))  # crisp
    assert len(np.unique(codes(dots))) == 3 * 36 + 1, "three pictures of 6 x 6, and the paper"
    for i in range(65):
        noise(Path("many") / f"{i}.png", (3, 3), i)
    assert run("sheet", "many", "--out", "m.webp").out.split() == ["m.webp", "m-2.webp"]


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ([], 2, "FILES"),
        (["none.png"], 3, "no picture 'none.png'"),
        (["a.txt"], 3, "'a.txt'"),
        (["a.png", "--out", "s.doc"], 2, "s.doc"),
        (["a.png", "--size", "0"], 2, "--size"),
    ],
)
def test_what_makes_no_sheet(run: Run, words: list[str], code: int, part: str) -> None:
    Path("a.txt").write_text("no picture")
    noise(Path("a.png"))
    one_sentence(run("sheet", *words), code, part)


def test_the_whole_set(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = [item if item.method not in FAST else replace(item, settings={**item.settings, "steps": 2}) for item in SET]
    monkeypatch.setattr("torchloupe.inspection.picture_set.SET", fast)
    ended = run("pictures", home / "run", "--pictures", "test:0-1", "--out", "set", "--quiet")
    assert ended.code == 0 and ended.out == "set\n" and ended.err == ""
    names = {item.name if item.method == "filters" else f"{item.layer}-{item.name}" for item in SET}
    assert len(names) == len(SET)
    for suffix in ("png", "json", "safetensors"):
        written = {re.sub(r"-\d$", "", file.stem) for file in Path("set").glob(f"*.{suffix}")}
        assert written - {"samples", "curves"} == names
    told = {name: json.loads((Path("set") / f"{name}.json").read_text()) for name in names}
    assert told["filters"]["layer"] == "conv1" and Path("set/samples.png").is_file()
    with Image.open(home / "pets" / told["first-maps"]["names"][0]) as image:
        first = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert torch.equal(read_tensors(Path("set/first-maps.safetensors"))[0]["images"], first[None])
    for word, layer, keep in (("first", "conv1", 0.1), ("last", "layer3.1", 0.5)):
        assert {told[name]["layer"] for name in names if name.startswith(word)} == {layer}
        assert told[f"{word}-deconvolution"]["settings"]["keep"] == keep
        assert told[f"{word}-inversion-by-all-filters"]["pictures"] == ["test:0", "test:1"]
        assert told[f"{word}-maps"]["pictures"] == ["test:0"]
        assert told[f"{word}-maximisation-by-one-filter-from-noise"]["started_from_pictures"] is False


def test_what_the_network_refuses_is_listed_and_the_rest_goes_on(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(item for item in SET if item.method in ("filters", "deconvnet", "feature-maps"))
    monkeypatch.setattr("torchloupe.inspection.picture_set.SET", few)
    (tmp_path / "net.py").write_text(TANH)
    words = ["pictures", *OWN, "--data", home / "pets", "--pictures", "test:0-1", "--out", "set", "--format", "svg"]
    ended = run(*words)
    lines = {line.split()[0]: line for line in ended.err.splitlines() if line}
    assert ended.code == 0 and ended.out == "set\n"
    assert "no rectifier" in lines["last-deconvolution"] and not list(Path("set").glob("last-deconvolution*"))
    for name in ("filters", "first-maps", "last-maps", "first-deconvolution"):  # up to the first layer it is linear
        assert "no rectifier" not in lines[name] and Path(f"set/{name}.svg").is_file()
    told: Any = {row["name"]: row for row in json.loads(run(*words, "--json").out)}
    assert "no rectifier" in told["last-deconvolution"]["refused"] and told["last-deconvolution"]["files"] == []
    assert told["filters"]["refused"] == "" and told["filters"]["files"] == ["set/filters.svg"]


def test_a_snapshots_pictures_are_not_taken_for_the_final_ones(run: Run, home: Path) -> None:
    assert run("show", "filters", home / "run").code == 0
    final = home / "run" / "pictures" / "filters" / "conv1.json"
    before = final.read_bytes()
    ended = run("show", "filters", f"{home / 'run'}@0.25")
    file = home / "run" / "snapshots" / "pictures-0.25" / "filters" / "conv1.png"
    assert ended.code == 0 and ended.out == f"{file}\n" and final.read_bytes() == before
    title = json.loads(file.with_suffix(".json").read_text())["title"]
    assert title == "run@0.25" and json.loads(before)["title"] == "run"
    drawn = file.read_bytes()
    assert run("again", file.with_suffix(".json")).code == 0 and file.read_bytes() == drawn


def test_the_set_of_a_snapshot_has_its_own_folder(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchloupe.inspection.picture_set.SET", SET[:1])
    ended = run("pictures", f"{home / 'run'}@0.25", "--pictures", "test:0")
    folder = home / "run" / "snapshots" / "pictures-0.25"
    assert ended.code == 0 and ended.out == f"{folder}\n" and (folder / "filters.png").is_file()


@pytest.mark.parametrize("words", [["show", "feature-maps"], ["pictures"], ["layers"]], ids=lambda words: words[0])
def test_bad_files_are_left_out_where_asked(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr("torchloupe.inspection.picture_set.SET", SET[:1])
    shutil.copytree(home / "pets", tmp_path / "pets")
    (tmp_path / "pets" / "test" / "ant" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    more = [*words, home / "run", "--data", "pets", *(["--out", "out"] if words != ["layers"] else [])]
    one_sentence(run(*more, "--quiet"), 3, "broken.png", "--skip-bad")
    ended = run(*more, "--skip-bad")
    assert ended.code == 0 and "broken.png" in ended.err, "and said which"


def test_data_that_would_have_to_be_downloaded_are_not_without_being_asked(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("downloaded")

    monkeypatch.setattr("torchloupe.data.auto.download", refuse)
    net = build("loupe", classes=2, widths=(4, 4, 4))
    config = Config("loupe", ("ant", "bee"), None, None, 16, {"widths": [4, 4, 4]}, {"source": "cifar10"})
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.json").write_text("{}")
    save_model(tmp_path / "r" / "model.safetensors", net, config)
    for words in (["show", "feature-maps", "r", "--channels", "0"], ["layers", "r"]):
        ended = run(*words)
        assert ended.code == 0 and "torchloupe data get cifar10" in ended.err and "170 MB" in ended.err
    asked: list[str] = []

    def fetch(*_: Any, **__: Any) -> Path:
        asked.append("yes")
        return home / "pets"

    monkeypatch.setattr("torchloupe.data.auto.download", fetch)
    ended = run("show", "feature-maps", "r", "--data", "cifar10", "--channels", "0")
    assert ended.code == 0 and asked == ["yes"] and "downloading cifar10 (170 MB)" in ended.err


def test_pictures_of_the_shipped_network_are_of_its_name(run: Run, tmp_path: Path) -> None:
    assert run("show", "filters", "cifar10").code == 0  # this makes a folder of that name
    file = Path("cifar10/pictures/filters/conv1.json")
    for path in (file, tmp_path / "a.json"):
        if path != file:
            assert run("show", "filters", "cifar10", "--out", "a.png").code == 0
        told = json.loads(path.read_text())
        assert told["model"] == "cifar10"
        assert run("again", path).code == 0
        for old in ("torchloupe/shipped", "torchloupe/checkpoints/shipped"):
            path.write_text(json.dumps({**told, "model": f"../gone/site-packages/{old}/cifar10"}))
            assert run("again", path, "--out", "new").code == 0
