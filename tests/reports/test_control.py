"""The control of a report: every number beside those that it could lose to."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from reporting import SMALL
from torchloupe.attribution.backprop import gradient
from torchloupe.attribution.rank_correlation import spearman
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import UsageError
from torchloupe.features.random_control import randomize
from torchloupe.inspection.subject import Subject
from torchloupe.models import build
from torchloupe.models.network import Network, wrap
from torchloupe.reports.contents import Layer
from torchloupe.reports.html.tables import RULES, controls
from torchloupe.reports.making import Making
from torchloupe.reports.plan import Plan, cost
from torchloupe.reports.report import report, sample_images, write
from torchloupe.reports.sections.control import backpropagated, cascade_chart, control_images

DATA = shapes(train=40, test=30)


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    net = wrap(build("loupe", widths=(6, 8, 8)), mean=(0.5,) * 3, std=(0.25,) * 3, size=16, classes=10)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def making(data: Any = DATA, **settings: Any) -> Making:
    studied = Subject(network(), data)
    return Making(studied, Plan(("layer2.0",), SMALL, 0.0, ()), sample_images(studied, (), 3, 0), 0, None, **settings)


def test_every_pair_of_networks_has_its_row() -> None:
    found, made = Layer("layer2.0", ""), making(second=network(1))
    backpropagated(made, found)
    assert not made.refused and set(found.controls) == set(RULES)
    for rows in found.controls.values():
        pairs = {row.pair: row for row in rows}
        assert [(pair, row.networks) for pair, row in pairs.items()] == [
            ("trained, random", 3),
            ("random, random", 3),
            ("trained, permuted", 3),
            ("trained, trained", 1),
        ]
        for row in rows:
            for each in (row.signed, row.absolute):
                assert each.n == 5 and each.mean is not None and each.low is not None and each.high is not None
                assert -1 <= each.low <= each.mean <= each.high <= 1
    table = controls([found])
    assert table is not None and len(table["rows"]) == 4 and table["n"] == 5 and table["draws"] == 3
    assert table["rows"][0]["span"] == 4 and len(table["rows"][3]["cells"]) == 6


def test_the_numbers_are_those_of_networks_drawn_and_measured_by_hand() -> None:
    found, made = Layer("layer2.0", ""), making()
    backpropagated(made, found)
    net = network()
    some = DATA.train.images.float() / 255
    some = nn.functional.interpolate(some, (16, 16), mode="bilinear", antialias=True) if some.shape[2] != 16 else some
    x = sample_images(made.studied, (), 5, 0).images
    trained = gradient(net, "layer2.0", x, randomized=False).signal
    randoms = [gradient(randomize(net, k, some), "layer2.0", x, randomized=False).signal for k in range(3)]
    by_hand = torch.stack([spearman(trained, each) for each in randoms]).mean()
    assert found.controls["gradient"][0].signed.mean == pytest.approx(float(by_hand), abs=2e-3)
    assert control_images(made) == f"40 train pictures of {DATA.name}"


def test_without_data_the_samples_are_compared() -> None:
    found, made = Layer("layer2.0", ""), making(None)
    backpropagated(made, found)
    assert found.controls["gradient"][0].signed.n == 3 and control_images(made) == "the 3 pictures shown"


def test_the_cascade_begins_with_the_trained_network() -> None:
    made = making()
    chart, layers = cascade_chart(made, RULES)
    assert layers[0] == "fc" and layers[-1] == "conv1" and len(layers) == 7 and not made.refused
    assert chart.count("<path") == 3
    assert cascade_chart(made, ()) == ("", [])


def test_a_second_training_is_of_the_same_network(tmp_path: Any) -> None:
    other = wrap(build("loupe", widths=(6, 8, 9)), mean=None, std=None, size=16, classes=10)
    with pytest.raises(UsageError, match="is another network"):
        report(network(), tmp_path / "r.html", second=other)


def test_a_report_of_two_trainings_says_how_alike_they_are(tmp_path: Any) -> None:
    small = replace(SMALL, units=1, steps=1, inversion_steps=1, copies=1, traced=1)
    studied = Subject(network(), DATA)
    shown = sample_images(studied, (), 2, 0)
    made = write(
        studied,
        tmp_path / "r.html",
        Plan(("layer2.0",), small, 0.0, ()),
        shown,
        budget=None,
        second=Subject(network(1)),
    )
    page = made.path.read_text(encoding="utf-8")
    assert "trained, trained" in page and "another training" in page and "--second RUN" not in page
    assert "40 train pictures" in page and "Cascading randomization" in page and made.contents.second


def test_what_the_control_costs_is_counted() -> None:
    """A cascade takes a pass over the images that statistics are measured on, and three signals, for each layer."""

    def seconds(**settings: Any) -> float:
        return cost(["output"], {"output": 10}, {"output": 0.3}, SMALL, 0, 0, **settings)

    plain = seconds()
    assert seconds(weighted=4) - plain == pytest.approx(4 * (256 * 0.1 + 3 * 3 * 0.3))
    assert seconds(weighted=25) == plain, "of more layers none is shown"
