"""Reports: what is in them, what is said of what is not, and that the numbers are those of a plain evaluation."""

import base64
import hashlib
import io
import json
import re
from dataclasses import fields
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import torchloupe
from reporting import CLASSES, SMALL, hostile_run, own_cache, small_report
from torchloupe.data.subsets import stratified
from torchloupe.errors import LayerError, UsageError
from torchloupe.evaluation.accuracy import predict
from torchloupe.evaluation.channels import ChannelHealth
from torchloupe.evaluation.significance import mcnemar
from torchloupe.features.hooks import OUTPUT
from torchloupe.inspection.subject import Subject, subject
from torchloupe.models import build
from torchloupe.models.network import wrap
from torchloupe.reports import report as package
from torchloupe.reports.contents import Effect, Example, FromNoise, Inversions, Layer, Told, Unit
from torchloupe.reports.html.page import as_script, parts, whole
from torchloupe.reports.html.sprites import EXACT, animation, reduced, sprite
from torchloupe.reports.plan import TIERS, Plan, layers_of, plan, units_of
from torchloupe.reports.report import left_out, prepare, sample_images, write
from torchloupe.training.config import PRESETS


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("report")
    with own_cache(home):
        return hostile_run(home)


@pytest.fixture(scope="module")
def made(run_folder: Path) -> package.ReportFile:
    with own_cache(run_folder.parent):
        return small_report(run_folder, run_folder / "report.html")


class Page(HTMLParser):
    """What a browser would load, follow and run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append((self.tags[-1][0] if self.tags else "", data))

    def blocks(self) -> dict[str, Any]:
        found = {}
        for (tag, attrs), text in self.with_text():
            if tag == "script" and attrs.get("type") == "application/json":
                found[str(attrs["id"])] = json.loads(text)
        return found

    def with_text(self) -> list[tuple[tuple[str, dict[str, str | None]], str]]:
        html = self.rawdata_kept
        pattern = re.compile(r'<script type="application/json" id="([^"]+)">(.*?)</script>', re.DOTALL)
        return [(("script", {"type": "application/json", "id": id_}), text) for id_, text in pattern.findall(html)]

    def feed(self, data: str) -> None:
        self.rawdata_kept = data
        super().feed(data)


def test_one_file_that_asks_for_nothing(made: package.ReportFile) -> None:
    html = made.path.read_text(encoding="utf-8")
    page = Page(html)
    policy = next(str(a["content"]) for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy and "*" not in policy
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert text is not None
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, attrs)
        assert not [name for name in attrs if name.startswith("on") or name == "style"], (tag, attrs)
    assert {tag for tag, _ in page.tags} & {"iframe", "object", "embed", "link", "img"} <= {"link"}
    assert made.size == len(html.encode()) and made.path.name == "report.html"


def test_hostile_names_stay_text(made: package.ReportFile) -> None:
    html = made.path.read_text(encoding="utf-8")
    page = Page(html)
    assert not [attrs for tag, attrs in page.tags if tag == "img" or "onclick" in attrs]
    assert len([1 for tag, _ in page.tags if tag == "script"]) == 2 + len(made.contents.layers)
    outside = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "onerror=document" in outside and "<img src=x" not in outside
    blocks = page.blocks()
    assert tuple(blocks["data"]["classes"]) == tuple(sorted(CLASSES))
    assert "<i>marks</i>" not in outside and "&lt;i&gt;marks" in outside


def test_json_in_a_script_ends_neither_the_script_nor_the_page() -> None:
    text = "</script><!-- <script> & \u2028 \u2029 \u202e"
    assert not re.search(r"[<>&\u2028\u2029]", str(as_script({text: text})))
    assert json.loads(str(as_script({text: [text]}))) == {text: [text]}
    with pytest.raises(ValueError, match="JSON"):
        as_script(float("nan"))


def test_everything_that_the_issue_of_a_report_lists_is_in_it(made: package.ReportFile) -> None:
    contents = made.contents
    assert not contents.refused
    assert [layer.name for layer in contents.layers] == [
        "conv1", "layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer3.1", OUTPUT,
    ]  # fmt: skip
    assert contents.performance is not None and contents.performance.figures["n"] == 40
    assert contents.loss_chart and contents.accuracy_chart and contents.facts and contents.photos
    for layer in contents.layers:
        inner = layer.name != OUTPUT
        assert len(layer.units) == (5 if inner else 4) and layer.images == 40
        assert (layer.dead is None) is (layer.name in ("conv1", OUTPUT)), "it applies behind a rectifier"
        assert layer.about["maximize"]["settings"]["steps"] == SMALL.steps and layer.about["maximize"]["weights"]
        for unit in layer.units:
            assert len(unit.maximizing) == 2 and len(unit.examples) == 4 and len(unit.class_means) == 4
            told = unit.told
            assert told is not None and (told.classes, told.inside, told.images) == (4, 10, 40)
            assert told.auc is not None and told.low is not None and told.high is not None
            assert told.low < told.auc <= told.high and unit.live_ends is not None
            assert unit.class_selectivity is None or layer.dead is not None
            assert (len(unit.backpropagated), len(unit.maps)) == ((2, 3) if inner else (0, 0))
            assert (unit.drop is not None) is inner and (unit.filter is not None) is (layer.name == "conv1")
        if inner:
            assert layer.ablated is not None and layer.ablated.images == (40 if layer.name == "layer3.1" else 24)
            assert layer.inversions is not None and len(layer.inversions.scores) == 6
            assert layer.inversions.chart.count("<path") == 2
            assert set(layer.controls) == set(layer.correlations) == {"deconvnet", "guided", "gradient"}
            assert {row.signed.n for rows in layer.controls.values() for row in rows} == {5}
    assert contents.layers[0].ablated is not None and contents.layers[0].ablated.site == "relu1"
    assert contents.cascade_chart.count("<path") == 3 and contents.cascade_layers[0] == "fc"
    film = contents.film
    assert film is not None and film.moments[0].epoch == 0 and len(film.moments) >= 3
    assert set(film.strips) == {"filters", "maximize"} and film.strips["maximize"].count == 3 and film.probe == 40


def test_sprites_hold_every_tile_that_is_pointed_at(made: package.ReportFile) -> None:
    contents = made.contents
    for layer in contents.layers:
        shown = {"maximize": [copy.tile for unit in layer.units for copy in unit.maximizing]}
        for name in ("backpropagated", "maps"):
            shown[name] = [t for unit in layer.units for t in getattr(unit, name)]
        for name, tiles in shown.items():
            assert not tiles or sorted(tiles) == list(range(layer.sprites[name].count))
        for each in layer.sprites.values():
            with Image.open(io.BytesIO(each.data)) as image:
                assert image.width == each.columns * each.width and image.height % each.height == 0
                assert image.width // each.width * (image.height // each.height) >= each.count
    assert contents.photos is not None
    for layer in contents.layers:
        places = {example.tile for unit in layer.units for example in unit.examples}
        assert places == set(range(layer.sprites["photos"].count))
    assert contents.film is not None and contents.performance is not None
    film = {each.tile for moment in contents.film.moments for each in moment.mended}
    assert {m.tile for m in contents.performance.mistakes} | film == set(range(contents.photos.count))
    assert contents.shown.count == len(contents.samples) == 3


def test_the_script_reads_only_fields_that_there_are() -> None:
    script = (files("torchloupe.reports.html") / "templates" / "report.js").read_text(encoding="utf-8")
    kinds = {"layer": Layer, "unit": Unit, "copy": FromNoise, "example": Example, "inversions": Inversions}
    kinds |= {"effect": Effect, "told": Told}
    for word, kind in kinds.items():
        read = set(re.findall(rf"\b{word}\.(\w+)", script))
        assert read, f"the script speaks of no {word}"
        assert read <= {field.name for field in fields(kind)}, word
    assert not re.search(r"layer\.ablated\.(?!accuracy|images|site|units|found\b|found_mean)", script)


def test_tiles_come_back_to_the_bit() -> None:
    images = torch.randint(0, 256, (7, 3, 9, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    made = sprite(images)
    with Image.open(io.BytesIO(made.data)) as image:
        pixels = torch.tensor(list(image.convert("RGB").tobytes()), dtype=torch.uint8).view(
            image.height, image.width, 3
        )
    for t, shown in enumerate(images):
        y, x = t // made.columns * made.height, t % made.columns * made.width
        assert torch.equal(pixels[y : y + 9, x : x + 12].permute(2, 0, 1), shown)
    large = torch.randint(0, 256, (2, 3, 300, 200), dtype=torch.uint8)
    assert reduced(large).shape == (2, 3, 112, 75) and reduced(images) is images
    assert reduced(large)[0].float().mean() == pytest.approx(float(large[0].float().mean()), abs=1)
    assert len(sprite(torch.zeros(1, 3, EXACT + 1, 4, dtype=torch.uint8)).data) > 0
    frames = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    with Image.open(io.BytesIO(animation(frames))) as image:
        assert (image.n_frames, image.info["loop"]) == (3, 0)  # type: ignore[attr-defined]


def test_ablation_is_that_of_a_plain_evaluation_for_ten_random_channels(
    made: package.ReportFile, run_folder: Path
) -> None:
    studied = subject(run_folder)
    dataset = studied.dataset()
    assert dataset is not None
    network = studied.model
    rows = [
        (layer.name, layer.ablated, unit)
        for layer in made.contents.layers
        if layer.name in ("layer3.1", "conv1") and layer.ablated is not None
        for unit in layer.units
    ]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))[:10].tolist()
    assert len(order) == 10
    changed = 0
    for place in order:
        layer, ablation, unit = rows[place]
        few = stratified(dataset.test.labels, ablation.images)
        images, labels = dataset.test.images[few], dataset.test.labels[few]
        silent = subject(run_folder).model
        relu = silent.get_submodule("layer3.1.relu" if layer == "layer3.1" else "relu1")
        relu.forward = lambda x, c=unit.channel: x.relu() * _mask(x, c)
        right = predict(silent, images).argmax(1) == labels
        every = predict(network, images).argmax(1) == labels
        assert ablation.accuracy == pytest.approx(float(every.double().mean()), abs=1e-4)
        assert unit.drop == pytest.approx(float(every.double().mean() - right.double().mean()), abs=1e-4)
        assert unit.effect is not None and unit.mean_effect is not None
        assert (unit.effect.lost, unit.effect.gained) == (int((every & ~right).sum()), int((right & ~every).sum()))
        assert unit.effect.p == pytest.approx(mcnemar(unit.effect.lost, unit.effect.gained), rel=1e-2)
        assert ablation.units == 5 and ablation.found <= 5 and ablation.found_mean is not None
        changed += int(bool((right != every).any()))
    assert changed, "no channel matters: the test would pass whatever ablation does"


def _mask(x: Tensor, channel: int) -> Tensor:
    mask = torch.ones(x.shape[1], dtype=x.dtype)
    mask[channel] = 0
    return mask[:, None, None]


def test_what_was_measured_is_kept_and_read_the_next_time(made: package.ReportFile, run_folder: Path) -> None:
    names = {path.name.rpartition("-")[0] for path in run_folder.glob("*.safetensors")}
    assert {"health", "learned", "ablation-layer3.1"} <= names and (run_folder / "test.json").is_file()
    before = {path: path.stat().st_mtime_ns for path in run_folder.glob("*.safetensors")}
    again = small_report(run_folder, run_folder / "again.html")
    assert {path: path.stat().st_mtime_ns for path in run_folder.glob("*.safetensors")} == before
    assert again.contents.performance is not None and not again.contents.performance.measured
    for one, other in zip(made.contents.layers, again.contents.layers, strict=True):
        assert one == other
    assert made.contents.performance is not None
    assert again.contents.performance.mistakes == made.contents.performance.mistakes


def test_where_the_data_are_gone_what_was_kept_is_told(
    made: package.ReportFile, run_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in run_folder.iterdir():
        if path.is_file() and path.name != "config.json":
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "config.json").write_bytes((run_folder / "config.json").read_bytes())
    from torchloupe.checkpoints.file import read_tensors, save_tensors

    tensors, about = read_tensors(copy / "model.safetensors")
    about["data"]["source"] = str(tmp_path / "gone")
    save_tensors(copy / "model.safetensors", tensors, about)
    found = small_report(copy, tmp_path / "report.html", pictures=("samples",)).contents
    assert not found.has_data and found.performance is not None and found.performance.figures["n"] == 40
    assert {m.tile for m in found.performance.mistakes} == {None}
    assert found.film is not None and found.film.moments[-1].accuracy is not None
    for layer in found.layers:
        assert layer.images == 40 and all(len(unit.class_means) == 4 for unit in layer.units)
        assert all(unit.told is not None for unit in layer.units)
        assert layer.name == OUTPUT or all(unit.drop is not None for unit in layer.units)
        assert all(unit.examples and unit.maximizing for unit in layer.units)
        assert layer.name == OUTPUT or all(unit.effect is not None for unit in layer.units)
    assert "sample" in dict(found.methods)["Maximally activating pictures"]
    for path in copy.glob("ablation-*.safetensors"):  # as version 0.1 wrote it
        tensors, about = read_tensors(path)
        old = {name: tensor for name, tensor in tensors.items() if "/" not in name}
        del about["figures"], about["replacements"]
        save_tensors(path, old, about)
    figures = json.loads((copy / "test.json").read_text(encoding="utf-8"))
    for name in ("calibration", "interval", "per_class_interval"):
        del figures[name]
    (copy / "test.json").write_text(json.dumps(figures), encoding="utf-8")
    old_report = small_report(copy, tmp_path / "old.html", pictures=("samples",)).contents
    assert "of an earlier version" in (tmp_path / "old.html").read_text(encoding="utf-8")
    for before, layer in zip(found.layers, old_report.layers, strict=True):
        assert [unit.drop for unit in layer.units] == [unit.drop for unit in before.units]
        assert all(unit.effect is unit.mean_effect is None for unit in layer.units)


class Hidden(nn.Module):
    """No ReLU that can be seen, and logits that pass no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.deep = nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.deep(x * (x > 0))
        out: Tensor = self.fc(x.detach().mean((2, 3)))
        return out


def test_what_a_network_refuses_is_listed_and_the_report_goes_on(tmp_path: Path) -> None:
    net = wrap(Hidden(), mean=None, std=None, size=12, classes=["a", "b"])
    studied = Subject(net)
    planned, samples = prepare(studied, budget=None, units=2)
    found = write(studied, tmp_path / "r.html", Plan(planned.layers, SMALL, 0, ()), samples).contents
    refused = {(what, layer) for what, layer, _ in found.refused}
    assert ("maximize", OUTPUT) in refused and ("deconvnet", "deep") in refused
    assert all(why.endswith(".") for _, _, why in found.refused)
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "What the network refused" in html and "detaches its features" in html
    assert [layer.name for layer in found.layers] == ["conv", "deep", OUTPUT] and found.performance is None


def test_time_that_is_used_up_leaves_the_rest_out(run_folder: Path, tmp_path: Path) -> None:
    studied = subject(run_folder)
    planned, samples = prepare(studied, budget=None)
    made = write(studied, tmp_path / "r.html", Plan(planned.layers, SMALL, 0.0, ()), samples, budget=1e-6)
    (sentence,) = made.contents.late
    assert (
        "--budget was used up" in sentence
        and "health; near-duplicates; " in sentence
        and "maps of conv1, layer1.0" in sentence
        and not made.refused
    )
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "What is left out" in html and "used up" in html and "What the network refused" not in html


def test_a_large_report_is_a_folder_with_an_index(
    made: package.ReportFile, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = parts(made.contents)
    assert list(pages) == ["index.html", *(f"layer-{i + 1}.html" for i in range(7))]
    for name, html in pages.items():
        inside = set(Page(html).blocks()["data"]["blocks"])
        if name != "index.html":
            assert len(inside) == 1
        for tag, attrs in Page(html).tags:
            href = attrs.get("href") or "#"
            assert href.startswith(("#", "data:")) or href.split("#")[0] in pages, (tag, attrs)
    monkeypatch.setattr(package, "LARGEST", 1000)
    studied = subject(run_folder)
    planned, samples = prepare(studied, budget=None)
    written = write(studied, tmp_path / "r.html", Plan(planned.layers, SMALL, 0, ()), samples)
    assert written.path == tmp_path / "r" / "index.html" and any("folder" in line for line in left_out(written))
    assert {p.name for p in (tmp_path / "r").iterdir()} == set(pages) and not (tmp_path / "r.html").exists()
    assert whole(made.contents).count('type="application/json"') == 8


def alive(selectivity: list[float], live: list[float]) -> ChannelHealth:
    n, zeros = len(live), torch.zeros(len(live))
    classes = torch.zeros(n, 2)
    return ChannelHealth(zeros, zeros.long(), zeros, zeros, torch.tensor(live), classes, torch.tensor(selectivity))


def test_units_are_those_that_tell_classes_apart_and_the_others_are_counted() -> None:
    known = alive([0.1, 0.9, 0.5, 0.8, 0.99], [1.0, 1.0, 1.0, 1.0, 0.0])
    assert units_of(5, 2, known) == (
        (1, 3),
        "3 of 5 units are not shown; those shown have the largest correlation ratios.",
    )
    assert units_of(5, 5, known) == units_of(5, None, known) == ((0, 1, 2, 3, 4), "")
    assert units_of(5, 2, alive([float("nan")] * 5, [1.0] * 5))[0] == units_of(5, 2, None)[0] == (0, 2)


def test_layers_worth_a_look() -> None:
    image = torch.rand(1, 3, 32, 32)
    assert layers_of(build("resnet20"), image)[0] == (
        "conv1", *(f"layer{k}.{i}" for k in (1, 2, 3) for i in (0, 1, 2)), OUTPUT,
    )  # fmt: skip
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
    assert layers_of(plain, image)[0] == ("0", "1", "3", OUTPUT)
    deep = nn.Sequential(*[layer for _ in range(20) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())])
    for (
        parameter
    ) in deep.parameters():  # else, by chance, a layer goes dead, and those behind it are not of the picture
        parameter.data.abs_()
    found, said = layers_of(deep, image)
    assert len(found) == 12 and found[0] == "0" and found[-2:] == ("39", OUTPUT) and "10 of 21" in said[0]
    head = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2))
    assert layers_of(head, image)[0] == (OUTPUT,)


def test_a_plan_fits_its_budget_or_says_what_it_costs() -> None:
    net, image = build("loupe"), torch.rand(1, 3, 32, 32)
    full = plan(net, image, budget=None, images=10_000, snapshots=9)
    assert full.amount == TIERS[0] and not full.omitted and full.seconds > 0
    small = plan(net, image, budget=1e-3, images=10_000, snapshots=9)
    assert small.amount == TIERS[-1] and small.seconds < full.seconds and "--budget" in small.omitted[-1]
    assert plan(net, image, budget=None, units="all").amount.units is None
    more = plan(net, image, budget=None, units=64, images=10_000)
    assert more.amount.units == 64
    with pytest.raises(LayerError):
        plan(net, image, layers=["nothing"])
    with pytest.raises(UsageError, match="--units"):
        prepare(Subject(net), units=0)


def test_samples_where_there_are_no_data() -> None:
    studied = Subject(wrap(build("resnet20"), mean=None, std=None, size=32, classes=10))
    shown = sample_images(studied, (), 5, 0)
    assert len(shown.names) == 5 and shown.images.shape[2:] == (32, 32) and shown.words is not None
    assert PRESETS["quick"].model == "loupe"


def test_any_module_is_reported_on_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    made = torchloupe.report(net, "mine.html", pictures="samples:0-1", layers=["0"], units=2, budget=1)
    assert made.path == Path("mine.html")
    assert [layer.name for layer in made.contents.layers] == ["0", "output"]
    assert len(made.contents.layers[0].units) == 2
    assert len(made.contents.samples) == 2
    assert callable(torchloupe.report)  # still, though its module was imported
