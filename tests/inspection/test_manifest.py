"""The JSON beside an image comes from anyone: it is checked, and what earlier versions wrote stays readable."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import torchloupe
from contract import small_run
from torchloupe.errors import ModelError
from torchloupe.inspection.catalog import find_method, load_function
from torchloupe.inspection.manifest import CHECKS, NEEDED, Manifest, located, parse_manifest, read_manifest, seen_from
from torchloupe.inspection.repeat import again, repeat
from torchloupe.inspection.run import run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return small_run(tmp_path / "run")


@pytest.fixture
def written(run_folder: Path, tmp_path: Path) -> Path:
    """The JSON beside an image."""
    made = run("deconvnet", torchloupe.load(run_folder), "layer1", ["test:1"], channels=[1])
    return made.save(tmp_path / "a.png")[0].with_suffix(".json")


def changed(file: Path, **values: Any) -> Path:
    """Write the JSON with some fields replaced, those of a field by dots."""
    told = json.loads(file.read_text())
    for name, value in values.items():
        place, _, last = name.rpartition("__")
        (told[place] if place else told)[last] = value
    file.write_text(json.dumps(told))
    return file


def test_every_field_is_checked_written_and_read(written: Path) -> None:
    assert set(CHECKS) == set(Manifest.__dataclass_fields__) == set(json.loads(written.read_text()))
    known = read_manifest(written)
    known.write(written.with_name("b.json"))
    assert read_manifest(written.with_name("b.json")) == known
    assert set(CHECKS) - NEEDED == {"labels", "told", "numbers", "torchloupe", "crc32", "report"}, (
        "the first version wrote all others"
    )


WRONG: list[dict[str, Any]] = [
    {"method": "inwert"},
    {"method": ["deconvnet"]},
    {"model": 3},
    {"model_options": []},
    {"model_options": {"weights": 3}},
    {"model_options": {"classes": [1, 2]}},
    {"model_options": {"mean": "0.5"}},
    {"model_options": {"size": 10**9}},
    {"title": None},
    {"weights": 7},
    {"layer": None},
    {"channels": "all"},
    {"channels": [0.5]},
    {"channels": {"each_image": "x"}},
    {"channels": {"other": [1]}},
    {"data": 5},
    {"pictures": []},
    {"pictures": "test:1"},
    {"names": "a"},
    {"labels": ["a", "b"]},
    {"started_from_pictures": 1},
    {"seed": "0"},
    {"seed": True},
    {"seed": 2**70},
    {"settings": []},
    {"settings__keep": "a"},
    {"settings__keep": None},
    {"settings__each": 1},
    {"settings__position": {}},
    {"settings__stps": 1},
    {"environment": None},
    {"environment__threads": 10**9},
    {"environment__threads": "4"},
    {"environment__device": "cuda:99"},
    {"environment__device": "toaster"},
    {"environment__device": 3},
    {"look": []},
    {"look": {"colour": "red"}},
    {"look": {"columns": "8"}},
    {"look": {"columns": 10**9}},
    {"look": {"width": "wide"}},
    {"look": {"vmin": "0"}},
    {"files": []},
    {"files": "a.png"},
    {"files": ["../a.png"]},
    {"files": ["/tmp/a.png"]},
    {"files": ["x/a.png"]},
    {"files": ["..\\a.png"]},
    {"files": ["a.sh"]},
    {"told": 3},
]


@pytest.mark.parametrize("values", WRONG, ids=str)
def test_a_field_that_is_not_what_it_should_be_is_told_in_one_sentence(written: Path, values: dict[str, Any]) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(ModelError) as error:
        repeat(changed(written, **values))
    said = str(error.value)
    assert str(written) in said and len(said) < 500 + len(str(written)) and "\n" not in said
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_field_that_is_missing_is_told(written: Path, name: str) -> None:
    told = json.loads(written.read_text())
    del told[name]
    with pytest.raises(ModelError, match="does not describe a picture"):
        parse_manifest(told, written)


def test_what_is_no_object_is_told(written: Path) -> None:
    for content in ("[" * 100_000, "null", "{}", "3", '"a"'):
        written.write_text(content)
        with pytest.raises(ModelError):
            read_manifest(written)


def test_tensors_that_are_not_there_are_told(run_folder: Path, tmp_path: Path) -> None:
    run("feature-maps", torchloupe.load(run_folder), "layer1", torch.rand(2, 3, 32, 32)).save(tmp_path / "a.png")
    changed(tmp_path / "a.json", names=["only one"], labels=None)
    with pytest.raises(ModelError, match="does not hold the pictures"):
        repeat(tmp_path / "a.json")


def test_words_of_a_data_set_stay_words_where_a_folder_has_the_name(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    assert located("test:0", tmp_path) == seen_from("test:0", tmp_path) == "test:0"
    assert located("x" * 5000, tmp_path) == "x" * 5000


def test_names_of_earlier_versions_held_the_class_too(written: Path) -> None:
    told = json.loads(changed(written, names=["cat  a/1.png", "b.png"], started_from_pictures=True).read_text())
    del told["labels"]
    known = parse_manifest(told, written)
    assert known.names == ["a/1.png", "b.png"] and known.labels == ["cat", None]


def test_a_canvas_that_was_said_and_not_used_is_forgotten(run_folder: Path, tmp_path: Path) -> None:
    made = run("maximize", torchloupe.load(run_folder), "layer1", ["test:1"], channels=[1], steps=1, copies=1)
    made.save(tmp_path / "a.png")
    repeated, _ = repeat(changed(tmp_path / "a.json", settings__canvas=64))
    assert torch.equal(repeated.pictures, made.pictures)


LENS: dict[str, Any] = {
    "title": "Unit 3 of layer1",
    "report": "run",
    "model": "run",
    "method": "maximize",
    "layer": "layer1",
    "unit": 3,
    "seed": 5,
    "settings": {"steps": 40, "copies": 2, "canvas": None, "shifts": False, "position": "$(reboot)"},
    "opened_from": "run",
    "torchloupe": "0.1",
    "weights": "0123456789abcdef",
    "numbers": {},
}


def test_what_a_report_saved_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(LENS))
    with pytest.raises(ModelError) as error:
        repeat(tmp_path / "a.json")
    said = str(error.value)
    wanted = "torchloupe show maximize MODEL --layer layer1 --channels 3 --seed 5 --steps 40 --copies 2 --no-shifts`"
    assert wanted in said and "report" in said and "'run'" in said and "reboot" not in said
    for less in ({"method": "x"}, {"layer": "a; b"}, {"settings": 3, "seed": "a", "unit": "b"}):
        (tmp_path / "a.json").write_text(json.dumps({**LENS, **less}))
        with pytest.raises(ModelError, match="saved from a report"):
            repeat(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["deconvnet", "invert"])
def test_twin_is_randomized_by_its_old_name(run_folder: Path, tmp_path: Path, name: str) -> None:
    settings: dict[str, Any] = {"steps": 1} if name == "invert" else {}
    network, images = torchloupe.load(run_folder), torch.rand(1, 3, 32, 32)
    for asked in (True, False):
        made = run(name, network, "layer1", images, twin=asked, **settings)
        assert (made.twin is None) == (made.randomized is None) == (not asked)
        assert made.twin is made.randomized and made.settings["randomized"] is asked
        direct = load_function(find_method(name).compute)(network, "layer1", images, twin=asked, **settings)
        assert (direct.twin is None) == (direct.randomized is None) == (not asked)
    file = made.save(tmp_path / "a.png")[0].with_suffix(".json")
    told = json.loads(file.read_text())
    told["settings"]["twin"] = told["settings"].pop("randomized")
    file.write_text(json.dumps(told))
    assert repeat(file)[0].randomized is None


def test_the_old_name_stays() -> None:
    assert again is repeat
