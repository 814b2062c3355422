"""The networks that come with the package: what lies beside them, and that their figures are true."""

import json
import re
import time
from pathlib import Path

import pytest
import torch

import torchloupe
from commands import Run
from reporting import SMALL
from torchloupe import data
from torchloupe.checkpoints.open import SHIPPED, open_model
from torchloupe.data.dataset import Dataset, Split
from torchloupe.evaluation.accuracy import examine
from torchloupe.features.hooks import OUTPUT
from torchloupe.inspection.places import own_run
from torchloupe.inspection.subject import Subject
from torchloupe.reports.making import Making
from torchloupe.reports.plan import Plan
from torchloupe.reports.report import contents_of, prepare, sample_images
from torchloupe.reports.sections.training_film import training_film
from torchloupe.runtime.files import read_json

NAMES = pytest.mark.parametrize("name", SHIPPED)
LARGEST = 8_000_000
STARTED = time.time()
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".npy", ".npz")


def test_there_is_one_for_cifar10() -> None:
    assert "cifar10" in SHIPPED
    net = torchloupe.load("cifar10")
    assert len(net.classes) == 10 and net.size == 32 and not net.training


@NAMES
def test_it_is_small_and_says_nothing_of_where_it_was_made(name: str) -> None:
    home = SHIPPED[name].parent
    assert SHIPPED[name].stat().st_size <= LARGEST
    assert not [path for path in home.iterdir() if path.suffix in PICTURES or path.name == "predictions.csv"]
    for path in home.iterdir():
        text = path.read_bytes().decode("latin-1")
        assert not re.search(r"/(home|tmp|work|root|Users)/", text), path.name
    loaded = open_model(name)
    assert loaded.config.data is not None and loaded.config.data["source"] is None
    assert loaded.run == home and own_run(loaded.run) is None, "nothing is written into the package"


@NAMES
def test_its_card_says_its_figures(name: str) -> None:
    home = SHIPPED[name].parent
    card, test = (home / "README.md").read_text(encoding="utf-8"), read_json(home / "test.json")
    assert test["weights"] == Subject(open_model(name).network).weights
    assert f"**{100 * test['accuracy']:.2f} %**" in card and f"{test['n']:,}" in card
    assert f"{100 * test['accuracy_flip_tta']:.2f} %" in card and "torchloupe train" in card


def test_its_accuracy_is_what_it_says(real_data: Path) -> None:
    dataset = data.load("auto")
    assert dataset.source.startswith(str(real_data)) or real_data in Path(dataset.source).parents
    found, _ = examine(torchloupe.load("cifar10"), dataset.test.images, dataset.test.labels, dataset.classes)
    said = read_json(SHIPPED["cifar10"].parent / "test.json")["accuracy"]
    assert found.accuracy == pytest.approx(said, abs=0.002), "another processor rounds otherwise"


@NAMES
def test_a_report_without_data_is_whole(name: str) -> None:
    studied = Subject(open_model(name).network)
    assert studied.dataset() is None and studied.statistics()[1] != "generic"
    planned, _ = prepare(studied, budget=None)
    samples = sample_images(studied, (), SMALL.samples, 0)
    found = contents_of(studied, Plan(planned.layers, SMALL, 0.0, ()), samples)
    assert found.performance is not None and found.performance.figures["n"] == 10_000 and not found.refused
    assert found.film is not None and len(found.film.moments) > 3 and found.loss_chart and found.facts
    for layer in found.layers:
        for unit in layer.units:
            assert len(unit.class_means) == 10 and unit.maximizing[0].ratio is not None and unit.examples
            assert layer.name == OUTPUT or unit.drop is not None
    blocks = [layer for layer in found.layers if layer.name != OUTPUT]
    assert blocks[-1].ablated is not None and blocks[-1].ablated.images == 10_000


def test_every_command_takes_it_by_name(run: Run) -> None:
    for words in (
        ("layers", "cifar10"),
        ("show", "filters", "cifar10"),
        ("show", "maximize", "cifar10", "--channels", "0", "--steps", "2", "--copies", "1"),
        ("show", "deconvnet", "cifar10", "--pictures", "samples:0-1"),
    ):
        ended = run(*words)
        assert ended.code == 0, ended
    assert Path("cifar10/pictures/filters/conv1.png").is_file(), "beside where the command was called"
    told = json.loads(Path("cifar10/pictures/maximize/layer3-1.json").read_text())
    assert told["told"]["best_of"] is None or told["told"]["best_of"] > 0
    ended = run("test", "cifar10")
    assert ended.code == 2 and "--data" in ended.err


def given(name: str = "given") -> Dataset:
    """Data of the shipped network's classes that are not its own."""
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(images, torch.arange(40) % 10, tuple(f"{i}.png" for i in range(40)))
    return Dataset(name, split, split, torchloupe.load("cifar10").classes, (0.5,) * 3, (0.25,) * 3, name)


def test_given_other_data_it_still_says_how_it_learned() -> None:
    without = Subject(open_model("cifar10").network)
    studied = Subject(open_model("cifar10").network, given())
    films = []
    for each in (without, studied):
        planned, _ = prepare(each, budget=None)
        making = Making(each, Plan(planned.layers, SMALL, 0.0, ()), sample_images(each, (), SMALL.samples, 0), 0, None)
        film = training_film(making)
        assert film is not None and not making.refused
        films.append(film)
    old, new = films
    assert [moment.epoch for moment in new.moments] == [moment.epoch for moment in old.moments] and len(new.moments) > 3
    assert new.strips == old.strips and set(new.strips) == {"filters", "maximize"}
    assert old.probe == 1000 and old.moments[-1].accuracy is not None
    assert new.probe == 0 and {(moment.accuracy, moment.mended) for moment in new.moments} == {(None, ())}
    home = SHIPPED["cifar10"].parent
    assert not [path for path in home.iterdir() if path.stat().st_mtime > STARTED], "nothing is written there"


def test_its_own_data_given_find_what_was_measured_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchloupe.inspection.subject.checksum", lambda dataset: "d89de81d")
    studied = Subject(open_model("cifar10").network, given())
    known = studied.health(["layer3.1"], most=5)
    assert known is not None and known["layer3.1"].images == 10_000
