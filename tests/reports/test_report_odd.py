"""Reports of odd networks, odd data and odd places: nothing foreign is touched, nothing stale told, nothing ends it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchloupe
from reporting import SMALL, hostile_run, own_cache
from torchloupe.data.dataset import Dataset, Split
from torchloupe.features.hooks import OUTPUT
from torchloupe.inspection.subject import Subject, subject
from torchloupe.models.network import wrap
from torchloupe.reports import report as reports
from torchloupe.reports.contents import Layer, Performance
from torchloupe.reports.html.tables import layer_row, per_class
from torchloupe.reports.making import Making
from torchloupe.reports.paper.escape import in_latex
from torchloupe.reports.plan import Plan
from torchloupe.reports.report import prepare, write
from torchloupe.reports.sections.performance import performance, reliability_diagram


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("odd")
    with own_cache(home):
        return hostile_run(home)


def some(studied: Subject, out: Path, *layers: str, budget: float | None = None) -> reports.ReportFile:
    planned, samples = prepare(studied, budget=None, layers=layers or None)
    return write(studied, out, Plan(planned.layers, SMALL, 0.0, ()), samples, budget=budget)


def small_net(
    inputs: int = 3, classes: int = 2, *, sides: tuple[int, int] = (12, 12), fixed: bool = False
) -> nn.Module:
    torch.manual_seed(0)
    pool = nn.Flatten() if fixed else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    width = 4 * (sides[0] - 2) * (sides[1] - 2) if fixed else 4
    return nn.Sequential(nn.Conv2d(inputs, 4, 3), nn.ReLU(), pool, nn.Linear(width, classes))


def data_of(height: int, width: int, classes: tuple[str, ...] = ("a", "b"), n: int = 20) -> Dataset:
    images = torch.randint(0, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    labels = torch.arange(n) % len(classes)
    part = Split(images, labels, tuple(f"{i}.png" for i in range(n)))
    return Dataset("odd", part, part, classes, (0.5,) * 3, (0.25,) * 3, "odd")


@pytest.mark.parametrize("largest", [0, 2**30], ids=["several files", "one file"])
def test_a_folder_of_the_users_own_is_not_touched(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(reports, "LARGEST", largest)
    own = tmp_path / "site" / "index.html"
    own.parent.mkdir()
    own.write_text("<h1>mine</h1>", encoding="utf-8")
    (tmp_path / "site" / "layer-1.html").write_text("mine, too", encoding="utf-8")
    made = some(subject(run_folder), tmp_path / "site.html", "conv1")
    assert own.read_text(encoding="utf-8") == "<h1>mine</h1>"
    assert (tmp_path / "site" / "layer-1.html").read_text(encoding="utf-8") == "mine, too"
    assert made.path == (tmp_path / "site-pages" / "index.html" if largest == 0 else tmp_path / "site.html")
    again = some(subject(run_folder), tmp_path / "site.html", "conv1")
    assert again.path == made.path, "a folder of its own is taken again"
    named = some(subject(run_folder), tmp_path / "bare", "conv1")
    assert named.path.name == ("index.html" if largest == 0 else "bare.html")


def test_time_that_runs_out_between_two_layers_leaves_a_page(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., Any] = Making.attempt

    def attempt(self: Making, what: str, layer: str, make: Callable[[], Any]) -> Any:
        if layer == "layer2.0":
            self.deadline = 0.0
        return whole(self, what, layer, make)

    monkeypatch.setattr(Making, "attempt", attempt)
    made = some(subject(run_folder), tmp_path / "r.html", budget=1000.0)
    first, later = made.contents.layers[0], made.contents.layers[-2]
    assert first.effective is not None and later.receptive_field is not None, "what was measured for all layers stays"
    assert "used up" in made.path.read_text(encoding="utf-8")


def test_the_table_of_layers_says_what_is_known_of_a_field() -> None:
    row = Layer("a", "ReLU", 4, receptive_field=(5, 7), clipped=True)
    assert layer_row(row, "#")["field"] == "7*"
    assert layer_row(replace(row, effective=3.2), "#")["field"] == "7*, 3"
    assert layer_row(replace(row, receptive_field=None), "#")["field"] == ""


def test_the_worst_of_many_classes_are_those_with_pictures() -> None:
    names = tuple(str(i) for i in range(30))
    shares = dict.fromkeys(names) | {"3": 0.5, "4": 0.25, "5": 0.0}
    counts = [[0] * 30 for _ in names]
    counts[3][3] = counts[3][4] = counts[4][4] = counts[5][6] = 1
    counts[4][5] = 3
    found = per_class(Performance({"per_class": shares}, names, tuple(map(tuple, counts)), (), measured=True))
    assert [row[:2] for row in found] == [("5", 0.0), ("4", 0.25), ("3", 0.5)]
    assert [row[2] for row in found] == ["0.0 to 79.3 %", "4.6 to 69.9 %", "9.5 to 90.5 %"]


class Sick(nn.Module):
    """Answers some pictures with no number."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small_net()

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.body(x)
        return torch.where(x[:, :1, 0, 0] > 0.5, torch.nan, said)


def test_answers_that_are_no_numbers_do_not_end_the_report(tmp_path: Path) -> None:
    net = wrap(Sick(), mean=None, std=None, size=12, classes=["a", "b"])
    made = some(Subject(net, data_of(12, 12)), tmp_path / "r.html")
    assert made.contents.performance is not None and reliability_diagram(made.contents.performance)
    rows = made.contents.performance.figures["reliability"]
    assert 0 < sum(row["n"] for row in rows) < 20 and all(math.isfinite(row["confidence"]) for row in rows)


@pytest.mark.parametrize(
    "other", [{"mean": [0.2] * 3}, {"std": [0.9] * 3}, {"classes": ["b", "a"]}], ids=["mean", "std", "classes"]
)
def test_what_was_measured_for_another_normalisation_or_order_of_classes_is_not_told(other: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.25] * 3, "size": 12, "classes": ["a", "b"]}
    bare, data = small_net(), data_of(12, 12)
    before, after = (Subject(wrap(bare, **{**settings, **change}), data) for change in ({}, other))
    assert before.weights != after.weights
    first, second = performance(before, 20), performance(after, 20)
    assert first is not None and first.measured and second is not None and second.measured
    third = performance(Subject(wrap(bare, **settings), data), 20)
    assert third is not None and not third.measured and third.figures == first.figures


def test_pictures_are_made_as_large_as_those_the_network_is_shown(tmp_path: Path) -> None:
    net = wrap(small_net(sides=(12, 20), fixed=True), mean=None, std=None, size=None, classes=["a", "b"])
    made = some(Subject(net, data_of(12, 20)), tmp_path / "r.html")
    assert not made.contents.refused
    for layer in made.contents.layers:
        assert layer.about["maximize"]["settings"]["canvas"] == [12, 20]
        assert (layer.sprites["maximize"].height, layer.sprites["maximize"].width) == (12, 20)
    zipped = tmp_path / "a.zip"
    from torchloupe.reports.paper.handin import hand_in

    names = hand_in(Subject(net, data_of(12, 20)), zipped, "markdown")
    assert any("units" in name for name in names) and any("classes" in name for name in names)


class Picky(nn.Module):
    """Fails in its own way where features are asked for a gradient."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.body, self.error = small_net(), error

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            raise self.error
        said: Tensor = self.body(x)
        return said


@pytest.mark.parametrize("error", [AssertionError("no"), IndexError("no"), KeyError("no"), ZeroDivisionError("no")])
def test_whatever_a_network_raises_is_listed(error: Exception, tmp_path: Path) -> None:
    net = wrap(Picky(error), mean=None, std=None, size=12, classes=["a", "b"])
    made = some(Subject(net, data_of(12, 12)), tmp_path / "r.html", "body.1")
    assert any(type(error).__name__ in why for _, _, why in made.contents.refused)
    assert made.contents.performance is not None


def test_a_network_for_grey_pictures_without_data(tmp_path: Path) -> None:
    net = wrap(small_net(1), mean=[0.5], std=[0.5], size=12, classes=["a", "b"])
    made = torchloupe.report(net, tmp_path / "r.html", budget=1, units=1, layers=["1"])
    assert not made.refused and [layer.name for layer in made.contents.layers] == ["1", OUTPUT]


def test_the_strongest_test_picture_is_of_as_many_as_were_looked_at() -> None:
    studied = Subject(wrap(small_net(), mean=None, std=None, size=12, classes=["a", "b"]), data_of(12, 12))
    studied.health(["1"], most=7)
    shown = torchloupe.maximize(studied, "1", channels=[0], copies=1, steps=1)
    assert shown.about["best_of"] == 7


@pytest.mark.parametrize("name", ["[other]", "*misc", "a`b", "a--b", "two\n\nlines"])
def test_no_name_of_a_class_changes_what_latex_does(name: str) -> None:
    said = in_latex(name)
    assert not said.startswith(("[", "*")) and "`" not in said and "--" not in said and "\n" not in said


def test_a_grey_network_is_shown_colour_pictures_as_grey_ones(tmp_path: Path) -> None:
    net = small_net(inputs=1)
    made = torchloupe.report(net, tmp_path / "a.html", pictures="samples:3", layers=["0"], units=1, budget=2)
    assert made.path.is_file() and not made.refused
    drawn = reports.sample_images(Subject(net, data_of(12, 12)), (), 2, 0)
    assert drawn.images.shape == (2, 1, 12, 12)
