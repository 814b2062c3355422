"""The one entry: what is asked reaches the method, what is shown can be saved and made again to the byte."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import torchloupe
from contract import FAST, LOOKED_AT, images, net, small_run, split
from torchloupe.checkpoints.file import read_tensors
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import ModelError, UsageError
from torchloupe.inspection.catalog import Method
from torchloupe.inspection.repeat import repeat
from torchloupe.inspection.run import run
from torchloupe.inspection.subject import Subject

ROWS = pytest.mark.parametrize("row", LOOKED_AT, ids=[row.name for row in LOOKED_AT])


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return small_run(tmp_path / "run")


def asked(row: Method, **more: Any) -> dict[str, Any]:
    channels = {"channels": [0, 3]} if row.channels else {}
    return {**channels, **FAST.get(row.name, {}), **more}


@ROWS
def test_python_functions_take_the_model_the_layer_and_pictures(row: Method) -> None:
    function = getattr(torchloupe, row.function)
    given: list[Any] = [] if row.takes in ("nothing", "start") else [split() if row.takes == "dataset" else images()]
    shown = function(net(), *([] if row.explains else [row.layer]), *given, **asked(row))
    assert shown.layer == shown.result.layer
    assert function.__doc__.splitlines()[0] == row.summary
    keyword = "dataset" if row.takes == "dataset" else "images"
    if given:
        layer = {"layer": row.layer} if row.layered else {}
        again = function(net(), **layer, **{keyword: given[0]}, **asked(row))
        assert again.result.layer == shown.result.layer


@ROWS
def test_saving_writes_the_sheet_the_tensors_and_the_json(row: Method, tmp_path: Path) -> None:
    given = split() if row.takes == "dataset" else images() if row.takes == "pictures" else None
    shown = run(row.name, net(torch.float32), None, given, **asked(row))
    files = shown.save(tmp_path / "deep" / "a.png")
    assert files[0] == tmp_path / "deep" / "a.png"
    for file in files:
        with Image.open(file) as image:
            assert np.asarray(image).std() > 0
    tensors, _ = read_tensors(tmp_path / "deep" / "a.safetensors")
    assert tensors
    told = json.loads((tmp_path / "deep" / "a.json").read_text())
    assert told["method"] == row.name and told["layer"] == shown.layer
    assert set(told["settings"]) == {setting.name for setting in row.settings}
    for name in row.numbers:
        if getattr(shown.result, name) is not None:
            assert len(np.ravel(told["numbers"][name])) == getattr(shown.result, name).numel()


@ROWS
def test_again_gives_the_same_bytes(row: Method, run_folder: Path, tmp_path: Path) -> None:
    network = torchloupe.load(run_folder)
    given = ["test:1", "test:5"] if row.takes in ("pictures", "start") else None
    out = run_folder / "pictures" / "x"
    made = (
        run(row.name, network, None, given, seed=2, **asked(row))
        if row.seeded
        else run(row.name, network, None, given, **asked(row))
    )
    files = made.save(out / "a.png", cmap="jet")
    moved = tmp_path / "elsewhere"
    run_folder.rename(moved)  # the whole run goes to another place
    place = moved / "pictures" / "x"
    repeated, told = repeat(place / "a.json")
    new = repeated.save(tmp_path / "new" / "a.png", **told.look)
    assert [file.name for file in new] == [file.name for file in files] == told.files
    for name in (*told.files, "a.safetensors"):
        assert (tmp_path / "new" / name).read_bytes() == (place / name).read_bytes(), name


def test_again_knows_tensors_and_refuses_what_has_changed(run_folder: Path, tmp_path: Path) -> None:
    network = torchloupe.load(run_folder)
    given = torch.rand(2, 3, 32, 32)
    made = run("feature-maps", network, "layer1", given)
    made.save(tmp_path / "a.png")
    repeated, _ = repeat(tmp_path / "a.json")
    torch.testing.assert_close(repeated.maps, made.maps, rtol=0, atol=0)
    with torch.no_grad():
        network.get_parameter("fc.bias").add_(1)
    run("feature-maps", network, "layer1", given).save(tmp_path / "b.png")
    with pytest.raises(ModelError, match="are not those"):
        repeat(tmp_path / "b.json")
    run("feature-maps", net(torch.float32), "layer1", images(dtype=torch.float32)).save(tmp_path / "c.png")
    with pytest.raises(ModelError, match="made in code"):
        repeat(tmp_path / "c.json")
    (tmp_path / "d.json").write_text("[]")
    with pytest.raises(ModelError, match="does not describe a picture"):
        repeat(tmp_path / "d.json")


def test_again_computes_with_the_pictures_threads_and_leaves_the_callers(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("feature-maps", torchloupe.load(run_folder), "layer1", torch.rand(2, 3, 32, 32)).save(tmp_path / "a.png")
    about = json.loads((tmp_path / "a.json").read_text())
    about["environment"]["threads"] = 2
    (tmp_path / "a.json").write_text(json.dumps(about))
    seen: list[int] = []

    def spy(*words: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return run(*words, **options)

    monkeypatch.setattr("torchloupe.inspection.repeat.run", spy)
    assert torch.get_num_threads() == 1
    repeat(tmp_path / "a.json")
    assert seen == [2] and torch.get_num_threads() == 1


def test_wrong_words_are_told() -> None:
    for name in ("maximize", "invert"):
        with pytest.raises(UsageError, match="'top:9' stands alone"):
            run(name, net(), images="top:9", **FAST[name])
    with pytest.raises(UsageError, match="did you mean 'invert'"):
        run("inwert", net())
    with pytest.raises(UsageError, match="no setting 'stps'; did you mean 'steps'"):
        run("invert", net(), stps=3)
    with pytest.raises(UsageError, match="no pictures to look at"):
        run("invert", torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)))  # of no known size
    with pytest.raises(UsageError, match="no data set"):
        run("top-examples", net())
    with pytest.raises(UsageError, match="channels 0 to"):
        run("feature-maps", net(), "conv1", images(), channels=99)
    with pytest.raises(UsageError, match="suffix"):
        run("filters", net()).save("a.doc")
    with pytest.raises(AttributeError):
        getattr(torchloupe, "inwert")  # noqa: B009


def test_a_notebook_shows_the_sheet() -> None:
    shown = run("filters", net(torch.float32))
    assert shown._repr_png_()[:4] == b"\x89PNG"
    assert "conv1" in repr(shown)
    with pytest.raises(AttributeError):
        shown.nothing  # noqa: B018


def test_a_model_brings_its_data_its_statistics_and_its_best_pictures(run_folder: Path) -> None:
    studied = Subject(torchloupe.load(run_folder))
    made = run("maximize", studied, "layer1", channels=[1], steps=2, copies=1)
    known = studied.split()
    assert known is not None
    with torch.no_grad():
        bare = studied.model.bare
        x = (known.images.float() / 255 - 0.5) / 0.25
        means = bare.layer1(bare.relu1(bare.bn1(bare.pool1(bare.conv1(x))))).mean((2, 3))  # type: ignore[operator, union-attr]
    torch.testing.assert_close(made.best.double(), means[:, 1].amax()[None].double(), rtol=1e-5, atol=1e-6)
    assert (run_folder / "statistics.safetensors").is_file() and list(run_folder.glob("health-*.safetensors"))
    fresh = Subject(torchloupe.load(run_folder))
    fresh._dataset = None
    assert fresh.statistics()[1] == studied.statistics()[1] == "shapes"
    torch.testing.assert_close(fresh.best("layer1"), studied.best("layer1"))


def test_health_is_not_taken_from_other_weights_or_data(run_folder: Path) -> None:
    first = Subject(torchloupe.load(run_folder))
    before = first.best("layer1")
    changed = torchloupe.load(run_folder)
    with torch.no_grad():
        changed.get_parameter("layer1.0.bn.bias").add_(1)
    after = Subject(changed).best("layer1")
    assert before is not None and after is not None and not torch.equal(before, after)
    assert first.weights != Subject(changed).weights
    other = Subject(torchloupe.load(run_folder), shapes(train=20, test=20, seed=5)).best("layer1")
    assert other is not None and not torch.equal(before, other)


def test_any_module_that_takes_pictures_in_zero_one() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True))
    assert torchloupe.feature_maps(plain, "last", torch.rand(2, 3, 9, 9)).maps.shape == (2, 5, 5, 5)
    assert torchloupe.gradient(plain, "[0]", torch.rand(2, 3, 9, 9), randomized=False).signal.shape == (2, 3, 9, 9)
