"""Two networks compared: what is measured, what is left out and said, and a page that asks for nothing."""

import base64
import copy
import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_report import Page
from torch import nn

import torchloupe
from browsing import chromium, needed, opened
from reporting import CLASSES, SCRIPT
from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import DataError, LayerError, UsageError
from torchloupe.evaluation.accuracy import predict
from torchloupe.inspection.places import comparison_file
from torchloupe.models.network import Network, wrap
from torchloupe.reports.comparison import measured
from torchloupe.reports.comparison.compare import compare
from torchloupe.reports.comparison.measured import Comparison
from torchloupe.reports.comparison.page import SHOWN, page
from torchloupe.reports.comparison.units import UNITS, ranked


def small(classes: Any, seed: int = 0, widths: tuple[int, int] = (6, 12), size: int | None = 16) -> Network:
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(3, widths[0], 3, 2), nn.ReLU(), nn.Conv2d(widths[0], widths[1], 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[1], len(classes)),
    )  # fmt: skip
    return wrap(body, mean=(0.5,) * 3, std=(0.3,) * 3, size=size, classes=classes)


def hostile(n: int = 60) -> Dataset:
    """Noise with names that mean harm; classes too."""
    chance = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (n, 3, 16, 16), generator=chance, dtype=torch.uint8)
    names = tuple(f"{SCRIPT[:-10]}/{i} <b onclick=x>&amp;\u202e.png" for i in range(n))
    split = Split(pictures, torch.arange(n) % len(CLASSES), names)
    return Dataset("d <img src=x onerror=y>", split, split, CLASSES, (0.5,) * 3, (0.3,) * 3, "nowhere")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    data, nets = hostile(), [small(CLASSES, seed) for seed in (0, 1)]
    with torch.no_grad():
        for net in nets:  # so that they do not say one thing of all
            last: Any = net.bare[-1]  # type: ignore[index]
            last.weight.mul_(50)
            last.bias.sub_(net(data.train.images.float() / 255).mean(0))
    out = tmp_path_factory.mktemp("compared") / "a <b>.html"
    return compare(nets[0], nets[1], out, data=data, images=40, quiet=True)


def test_what_is_measured_is_what_the_networks_say(made: Comparison) -> None:
    data, (a, b) = made.split, (made.a.model, made.b.model)
    guesses = [predict(net, data.images).argmax(1) for net in (a, b)]
    right = [guess == data.labels for guess in guesses]
    found = made.to_json()
    answers = found["answers"]
    assert answers["accuracy_a"] == pytest.approx(float(right[0].double().mean()))
    assert answers["files_only_b"] == [data.names[i] for i in range(60) if right[1][i] and not right[0][i]]
    assert answers["both"] + answers["only_a"] + answers["only_b"] + answers["neither"] == found["n"] == 60
    assert found["images"] == 40 == len(made.chosen) and made.by_name
    assert found["layers_a"] == ["0", "1", "3", "output"] and len(found["cka"]) == 4
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for pair in found["pairs"]:
        assert pair["a"] == pair["b"] and pair["units_a"] == len(pair["units"])
        assert pair["random"] is not None and -1 <= pair["cka_random"] <= 1
        i = found["layers_a"].index(pair["a"])
        assert pair["cka"] == found["cka"][i][i]


def test_a_network_beside_itself(tmp_path: Path) -> None:
    data = shapes(train=20, test=40, size=16)
    net = small(data.classes)
    found = compare(net, copy.deepcopy(net), tmp_path / "same", data=data, quiet=True)
    assert found.path == tmp_path / "same.html" and found.agreement is not None
    assert found.agreement.same == 1 and found.agreement.p_value == 1 and found.agreement.difference == 0
    assert torch.allclose(found.cka.diagonal(), torch.ones(4, dtype=torch.float64), atol=1e-6)
    for pair in found.pairs:
        assert pair.matching is not None and pair.control is not None
        paired = pair.matching.paired
        assert torch.equal(pair.matching.twin[paired], torch.arange(len(paired))[paired])
        assert pair.shares["r"] == pytest.approx(1, abs=1e-5) and pair.shares["steady"] == 1
        random = pair.shares["random"]
        assert random is not None and random < 0.95, pair.a
    html = found.path.read_text(encoding="utf-8")
    for words in ("Only A is right: 0", "p\u00a0=\u00a01.", "is no surprise"):
        assert words in html


def test_other_layers_other_sizes_other_widths(tmp_path: Path) -> None:
    data = shapes(train=20, test=40, size=16)
    a, b = small(data.classes), torchloupe.load("resnet20", classes=data.classes, size=24)
    found = compare(a, b, tmp_path / "c.html", data=data, images=24, control=False, quiet=True)
    assert not found.by_name and found.agreement is not None
    for pair in found.pairs:
        row = found.cka[found.layers_a.index(pair.a)]
        assert pair.cka == float(row.max()) == float(row[found.layers_b.index(pair.b)])
        assert pair.control is None and pair.cka_random is None
    assert found.path is not None and "Random weights" not in found.path.read_text(encoding="utf-8")
    named = compare(a, b, data=data, layers=["first"], layers_b=["layer1.0"], images=24, quiet=True)
    assert [(pair.a, pair.b) for pair in named.pairs] == [("0", "layer1.0")] and named.path is None
    with pytest.raises(LayerError, match="layer9"):
        compare(a, b, data=data, layers=["layer9"], quiet=True)


def test_what_cannot_be_said_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes(train=20, test=40, size=16)
    a, other, bare = small(data.classes), small((*data.classes, "more")), small(data.classes).bare
    for b, words in ((other, "only B knows 'more'"), (bare, "says no classes")):
        found = compare(a, b, tmp_path / "left.html", data=data, images=8, control=False, quiet=True)
        assert found.agreement is None and found.tests is None and words in found.notes[0]
        assert found.path is not None
        html = found.path.read_text(encoding="utf-8")
        assert 'id="answers"' not in html and words.replace("'", "&#39;") in html and 'id="layers"' in html
        assert found.to_json()["answers"] is None
    monkeypatch.setattr(measured, "WIDEST", 6)
    found = compare(a, small(data.classes, 1), data=data, images=8, quiet=True)
    assert [pair.matching is None for pair in found.pairs] == [False, False, True, True]
    assert "units of 3 and 3 are not matched" in found.notes[0]
    assert "No units" not in page(found)
    with pytest.raises(UsageError, match="--data"):
        compare(a, other, quiet=True)
    with pytest.raises(UsageError, match="4 images"):
        compare(a, other, data=data, images=3, quiet=True)
    with pytest.raises(DataError, match="4 images"):
        compare(small(CLASSES), small(CLASSES), data=hostile(3), quiet=True)


def test_a_layer_that_never_changes(tmp_path: Path) -> None:
    data = shapes(train=20, test=40, size=16)
    a, b = small(data.classes), small(data.classes, 1)
    with torch.no_grad():
        b.bare[0].weight.zero_()  # type: ignore[index]
    found = compare(a, b, tmp_path / "still.html", data=data, images=12, control=False, quiet=True)
    assert found.cka[:, 0].isnan().all() and found.to_json()["cka"][0][0] is None
    assert found.pairs[0].shares["r"] is None and math.isnan(found.pairs[0].cka)
    assert ranked(found.pairs[0]) == []


def test_one_file_that_asks_for_nothing(made: Comparison) -> None:
    assert made.path is not None
    html = made.path.read_text(encoding="utf-8")
    found = Page(html)
    policy = next(str(a["content"]) for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy and "*" not in policy
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert text is not None
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    for tag, attrs in found.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, attrs)
        assert not [name for name in attrs if name.startswith("on") or name == "style"], (tag, attrs)
    assert {tag for tag, _ in found.tags} & {"iframe", "object", "embed", "link", "img", "b-"} <= {"link"}
    targets = {str(a["href"])[1:] for tag, a in found.tags if tag == "a"}
    assert targets <= {str(a["id"]) for _, a in found.tags if "id" in a}


def test_hostile_names_stay_text(made: Comparison) -> None:
    assert made.path is not None
    html = made.path.read_text(encoding="utf-8")
    found = Page(html)
    assert len([1 for tag, _ in found.tags if tag == "script"]) == 1
    assert not [attrs for tag, attrs in found.tags if tag == "img" or "onclick" in attrs]
    assert "onerror" in html and "<img src=x" not in html and "<b onclick" not in html
    names = made.to_json()["answers"]["files_only_a"]
    shown = re.findall(r'<ol class="files">.*?</ol>', html, re.DOTALL)
    assert names and shown[0].count("<li>") == len(names)


def test_pictures_and_pairs_that_are_shown(made: Comparison) -> None:
    assert made.path is not None and made.agreement is not None
    found = Page(made.path.read_text(encoding="utf-8"))
    photos = [attrs for tag, attrs in found.tags if tag == "use"]
    changed = sum(min(SHOWN, len(only)) for only in (made.agreement.only_a, made.agreement.only_b))
    pairs = sum(min(UNITS, len(ranked(pair))) for pair in made.pairs)
    assert pairs and len(photos) == changed + 8 * pairs
    boxes = [a["viewbox"] for tag, a in found.tags if tag == "svg" and a.get("class") == "photo"]
    assert len(boxes) == len(photos) and all(str(box).endswith(" 15.6 15.6") for box in boxes)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_silently_and_nothing_overflows(browser: Any, made: Comparison, width: int, scheme: str) -> None:
    assert made.path is not None
    with opened(browser, made.path, color_scheme=scheme, viewport={"width": width, "height": 900}) as seen:
        page = seen.page
        assert page.title() != "taken"
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{wide} pixels too wide"
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        seen.clean()
        found = needed("axe_playwright_python.sync_playwright").Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_where_it_goes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = tmp_path / "run"
    assert comparison_file(run, str(run), "run", "b@1") == run / "compare-b@1.html"
    snapshot = str(run / "snapshots" / "epoch-2.safetensors")
    assert comparison_file(run, snapshot, "run@2", "b") == run / "snapshots" / "epoch-2-compare-b.html"
    assert comparison_file(None, "", "cifar10", "net.py:Net") == Path("cifar10-compare-Net.html")
