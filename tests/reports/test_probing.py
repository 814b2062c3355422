"""The probes of a report: which networks, on which pictures, and that the page says so."""

from pathlib import Path

import pytest
import torch
from torch import nn

from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.drawn.shapes import shapes
from torchloupe.evaluation.probe import probe
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network, wrap
from torchloupe.reports.making import Making
from torchloupe.reports.report import prepare, report
from torchloupe.reports.sections.probing import probing


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes(size=12, train=200, test=60)


def network() -> Network:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)
    )
    return wrap(net, mean=[0.5] * 3, std=[0.5] * 3, size=12, classes=10)


def making(net: Network, data: Dataset | None) -> Making:
    studied = Subject(net, data)
    planned, samples = prepare(studied, layers=["0"], units=1, budget=1)
    return Making(studied, planned, samples, 3, None)


def test_each_network_is_probed_on_the_same_pictures(data: Dataset) -> None:
    net = network()
    under_way = making(net, data)
    found = probing(under_way)
    assert found is not None and found.networks == ["trained", "random", "permuted"]
    assert found.layers == ["0", "output"] and found.features == [600, 10]
    own = probe(net, ["0", "output"], data.train, data.test, count=under_way.plan.amount.probed, seed=3)
    assert [each.mean for each in found.psnr[0]] == pytest.approx([each.psnr.value for each in own.probes], abs=1e-2)
    other = under_way.studied.control(3, under_way.samples.images, "permuted")[0]
    own = probe(other, ["0", "output"], data.train, data.test, count=under_way.plan.amount.probed, seed=3)
    assert [each.mean for each in found.accuracy[2]] == pytest.approx([e.accuracy.value for e in own.probes], abs=1e-2)
    assert (found.fitted, found.tested) == (own.fitted, own.tested) and found.chance == pytest.approx(0.1)
    assert found.psnr_chart.count('class="line') == found.accuracy_chart.count('class="line') == 3


def test_without_data_or_with_several_classes_a_picture_there_are_none(data: Dataset) -> None:
    assert probing(making(network(), None)) is None
    many = [Split(s.images, torch.eye(10, dtype=torch.bool)[s.labels], s.names) for s in (data.train, data.test)]
    under_way = making(network(), data)
    under_way.studied._dataset = Dataset("many", many[0], many[1], data.classes, data.mean, data.std, "many")
    assert probing(under_way) is None


def test_the_page_says_what_they_are_measured_on(data: Dataset, tmp_path: Path) -> None:
    made = report(network(), tmp_path / "r.html", data=data, layers=["0"], units=1, budget=None, quiet=True)
    html = made.path.read_text(encoding="utf-8")
    assert '<section id="known">' in html and "trained" in html and "permuted" in html
    assert made.contents.probing is not None
    assert f"measured on {made.contents.probing.tested} test pictures" in html
    without = report(network(), tmp_path / "w.html", layers=["0"], units=1, budget=1, quiet=True)
    assert '<section id="known">' not in without.path.read_text(encoding="utf-8")
