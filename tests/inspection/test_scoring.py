"""Scoring the catalog's methods: names, pictures, masks, and what is written."""

import json

import pytest
import torch
from torch import nn

from torchloupe.attribution.scoring.localization import relevance_mass
from torchloupe.data.dataset import Dataset
from torchloupe.data.drawn.shapes import shapes
from torchloupe.data.subsets import take
from torchloupe.errors import DataError, UsageError
from torchloupe.evaluation.explanations import FEW, tabulate
from torchloupe.inspection.catalog import ATTRIBUTIONS, find_method
from torchloupe.inspection.scoring import (
    PASSES,
    SETTINGS,
    USUAL,
    Scores,
    _masks,
    costly,
    csv,
    leads,
    score,
    text,
    written,
)
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import wrap

SIDE = 16


def small() -> Subject:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    bare = nn.Sequential(*layers, nn.Linear(24, 10))
    return Subject(wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, size=SIDE, classes=10), title="small")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes(size=SIDE, train=10, test=40)


def test_every_method_of_the_catalog_gets_a_score(data: Dataset) -> None:
    found = score(small(), data, n=2)
    names = [row.name for row in ATTRIBUTIONS]
    assert list(found.table.methods) == [*names, "gradient", "guided"] == list(USUAL) and not found.table.left_out
    for name, row in found.table.methods.items():
        assert {"insertion", "deletion", "road", "mass", "pointing", "auc"} <= row.keys(), name
        sums = "residual" in find_method(name).numbers
        assert ("completeness" in row) == sums, name
    assert list(found.table.controls) == ["uniform", "center", "sobel"]
    assert found.table.randomized.keys() == found.table.methods.keys()


def test_the_same_seed_gives_the_same_table(data: Dataset) -> None:
    names = ["smoothgrad", "lrp"]
    first, again = (score(small(), data, n=6, methods=names, seed=3).to_json() for _ in range(2))
    assert first == again and first["n"] == 6 and first["seed"] == 3
    assert score(small(), data, n=6, methods=names, seed=4).to_json()["methods"] != first["methods"]
    assert json.loads(json.dumps(first, allow_nan=False)) == first


def test_masks_are_those_of_the_pictures(data: Dataset) -> None:
    """A constant map's mass is the mean area of the masks of the same pictures."""
    found = score(small(), data, n=40, methods=["gradient"], few=2)
    assert data.test.masks is not None
    area = relevance_mass(torch.ones(40, SIDE, SIDE), data.test.masks).mean().item()
    assert found.table.controls["uniform"]["mass"].value == pytest.approx(area, rel=1e-5)
    assert found.table.methods["gradient"]["stability"].n == 2


def test_masks_at_another_size() -> None:
    large, little = shapes(size=32, train=10, test=20).test, shapes(size=16, train=10, test=20).test
    assert large.masks is not None and little.masks is not None
    found = _masks(large, torch.arange(20), (16, 16))
    assert found is not None and (found == little.masks).float().mean() > 0.98


def test_what_is_refused(data: Dataset) -> None:
    with pytest.raises(UsageError, match="did you mean 'grad-cam'"):
        score(small(), data, n=4, methods=["gradcam"])
    with pytest.raises(UsageError, match="no method of attribution 'invert'"):
        score(small(), data, n=4, methods=["invert"])
    many = wrap(nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), mean=None, std=None, classes=10, multilabel=True)
    with pytest.raises(UsageError, match="sigmoid each"):
        score(Subject(many), data, n=4)
    none = take(data.test, torch.arange(0))
    nothing = Dataset("empty", none, none, data.classes, data.mean, data.std, "empty")
    with pytest.raises(DataError, match="no pictures"):
        score(small(), nothing, n=4)


def test_costs_are_of_methods_that_there_are() -> None:
    names = {row.name for row in ATTRIBUTIONS}
    assert PASSES.keys() <= names and SETTINGS.keys() <= names
    assert costly(USUAL) == ["occlusion", "gradient-shap", "rise"] and FEW >= 64
    for name, settings in SETTINGS.items():
        assert settings.keys() <= {setting.name for setting in find_method(name).settings} | {"steps"}


def plain() -> Scores:
    road = {"road": torch.tensor([0.4, 0.5, 0.6])}
    some = {"road": torch.tensor([0.1, 0.2])}
    table = tabulate({"a": road, "b": some}, {"uniform": {"road": torch.tensor([0.0, 0.3, 0.6])}}, {"a": some})
    return Scores("net", "shapes", "test", 3, 0, table)


def test_the_table_as_text() -> None:
    lines = text(plain()).splitlines()
    assert lines[0] == "net on 3 test pictures of shapes: means ± half of the 95 % interval"
    assert [line.split()[0] for line in lines[2:] if line] == ["road", "n", "a", "b", "-", "uniform", "-", "a"]
    assert "0.50 ±0.25" in lines[4] and "(2)" in lines[5] and "(2)" not in lines[4]
    assert leads(plain().table) == (
        "leads: a (mean rank 1.0 of 2 by road); it does not beat its best control on: road (uniform)."
    )


def test_a_leader_that_hardly_needs_the_weights_is_told() -> None:
    values = {"road": torch.tensor([0.4, 0.5]), "randomization": torch.tensor([0.8, 0.9])}
    assert "Its maps stay alike (0.85) when weights are drawn anew" in leads(tabulate({"guided": values}, {}))
    values["randomization"] = torch.tensor([0.1, 0.2])
    assert "alike" not in leads(tabulate({"lrp": values}, {}))


def test_the_table_in_files() -> None:
    assert json.loads(written(plain(), ".json")) == plain().to_json()
    rows = [line.split(",") for line in csv(plain()).splitlines()]
    assert {len(row) for row in rows} == {12} and [row[:3] for row in rows[1:]] == [
        ["method", "a", "road"],
        ["method", "b", "road"],
        ["control", "uniform", "road"],
        ["randomized", "a", "road"],
    ]
    assert written(plain(), ".txt").decode().splitlines()[-1] == leads(plain().table)
    with pytest.raises(UsageError, match=r"\.csv"):
        written(plain(), ".png")
