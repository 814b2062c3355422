"""Reports in a real Chromium, opened from disk: silent, offline, every link and key, hostile names, axe."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from browsing import chromium, needed, opened, painted
from reporting import CLASSES, hostile_run, own_cache, small_report
from torchloupe.errors import ModelError
from torchloupe.figures.colors import rgb, signed
from torchloupe.inspection.repeat import repeat
from torchloupe.reports import report as package
from torchloupe.reports.html.charts import line_chart
from torchloupe.reports.html.page import parts, whole
from torchloupe.runtime.files import atomic_write

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> package.ReportFile:
    home = tmp_path_factory.mktemp("report")
    with own_cache(home):
        return small_report(hostile_run(home), home / "report <b> \u202e.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.mark.parametrize("where", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_silently_and_nothing_overflows(
    browser: Any, made: package.ReportFile, where: dict[str, Any], scheme: str
) -> None:
    with opened(browser, made.path, color_scheme=scheme, **where) as seen:
        page = seen.page
        assert page.title() != "taken" and page.locator("h1").inner_text()
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{wide} pixels too wide"
        tiles = page.locator("main canvas").count()
        assert tiles > 40 and painted(page, "main canvas") == tiles
        for section in ("how-well", "network", "layers", "control", "training", "made"):
            assert page.locator(f"#{section} h2").is_visible()
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        bright = [sum(map(int, text.strip("rgb()").split(","))) for text in (ink, paper)]
        assert (bright[0] < bright[1]) is (scheme == "light")
        seen.clean()


def test_every_link_leads_somewhere(browser: Any, made: package.ReportFile) -> None:
    with opened(browser, made.path, **DESKTOP) as seen:
        page = seen.page
        hrefs = set(page.eval_on_selector_all("a[href]", "nodes => nodes.map(a => a.getAttribute('href'))"))
        for layer in made.contents.layers:
            page.evaluate(f"location.hash = {json.dumps('#/' + layer.name)}")
            page.wait_for_function(
                f"() => document.querySelector('#panel h3').textContent === {json.dumps(layer.name)}"
            )
            hrefs |= set(page.eval_on_selector_all("#panel a[href]", "nodes => nodes.map(a => a.getAttribute('href'))"))
        units = [href for href in hrefs if href.count("/") == 2 and href.startswith("#/")]
        assert len(units) == sum(len(layer.units) for layer in made.contents.layers)
        for href in sorted(hrefs):
            if href.startswith("#/"):
                page.evaluate(f"location.hash = {json.dumps(href)}")
                page.wait_for_timeout(10)
                assert page.locator("#panel .flag", has_text="not shown in this report").count() == 0, href
                assert page.locator("#panel h3").count() == 1
            elif href.startswith("#"):
                assert page.locator(f'[id="{href[1:]}"]').count() == 1, href
        seen.clean()


def test_keys_walk_through_layers_and_units(browser: Any, made: package.ReportFile) -> None:
    units = [unit.channel for unit in made.contents.layers[0].units]
    with opened(browser, made.path, "#/conv1", **DESKTOP) as seen:
        page = seen.page

        def where() -> str:
            page.wait_for_timeout(60)  # the page hears of its new address a moment later
            return str(page.evaluate("location.hash"))

        page.keyboard.press("ArrowRight")
        assert where() == f"#/conv1/{units[0]}"
        page.keyboard.press("ArrowRight")
        assert where() == f"#/conv1/{units[1]}"
        page.keyboard.press("ArrowLeft")
        assert where() == f"#/conv1/{units[0]}"
        page.keyboard.press("ArrowLeft")
        assert where() == f"#/conv1/{units[-1]}"
        assert page.evaluate("document.activeElement.id") == "unit-title"
        page.keyboard.press("ArrowDown")
        assert where() == "#/layer1.0"
        page.keyboard.press("ArrowUp")
        assert where() == "#/conv1"
        page.keyboard.press("ArrowUp")
        assert where() == "#/conv1", "there is nothing above"
        page.keyboard.press("ArrowRight")
        assert where() == f"#/conv1/{units[0]}"
        page.keyboard.press("Escape")
        assert where() == "#/conv1"
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "search"
        page.keyboard.type("layer2.1/")
        assert page.locator("#found a").count() == 5
        page.keyboard.press("ArrowRight")
        assert where() == "#/conv1", "arrows belong to the text there"
        page.locator("#found a").first.click()
        assert where().startswith("#/layer2.1/")
        page.locator("select").select_option("drop")
        assert page.locator(".units li").count() == 5
        seen.clean()


def test_a_picture_is_saved_with_its_json(browser: Any, made: package.ReportFile, tmp_path: Path) -> None:
    unit = made.contents.layers[5].units[0]
    with opened(browser, made.path, f"#/layer3.1/{unit.channel}", **DESKTOP) as seen:
        page = seen.page
        page.locator(".card .tile").first.click()
        assert page.locator("#lens").is_visible() and page.locator("#lens-title").inner_text()
        page.wait_for_function("() => document.getElementById('save-png').href.startsWith('blob:')")
        for name, start in (("save-png", b"\x89PNG"), ("save-json", b"{")):
            with page.expect_download() as caught:
                page.locator(f"#{name}").click()
            caught.value.save_as(tmp_path / name)
            assert (tmp_path / name).read_bytes().startswith(start)
        told = json.loads((tmp_path / "save-json").read_text(encoding="utf-8"))
        assert (told["method"], told["layer"], told["unit"]) == ("maximize", "layer3.1", unit.channel)
        assert told["seed"] == 0 and told["settings"]["steps"] == 4 and told["weights"] == made.contents.weights
        page.keyboard.press("Escape")
        assert not page.locator("#lens").is_visible()
        for tile in page.locator("#how-well .tile").all()[:2]:
            tile.click()
            page.locator("#lens-close").click()
        seen.clean()


KINDS = {
    "#/conv1/{0}": {"Filter": "filters", "Feature visualization": "maximize", "Deconvnet": "deconvnet"},
    "#/layer2.1": {"Reconstruction from": "invert", "guided from": "guided", "PCA": "feature-maps"},
    "#/layer2.1/{2}": {"Map of": "feature-maps", "Feature visualization": "maximize", "activation": "top-examples"},
}


@pytest.mark.parametrize("at", KINDS)
def test_what_is_saved_can_be_made_again(browser: Any, made: package.ReportFile, tmp_path: Path, at: str) -> None:
    place = at.format(*(layer.units[0].channel for layer in made.contents.layers))
    (run,) = made.path.parent.glob("run*")
    with opened(browser, made.path, place, **DESKTOP) as seen:
        page = seen.page
        for number, (label, method) in enumerate(KINDS[at].items()):
            page.locator(f"#panel .tile[aria-label*='{label}']").first.click()
            page.wait_for_function("() => document.getElementById('save-png').href.startsWith('blob:')")
            for name in ("png", "json"):
                with page.expect_download() as caught:
                    page.locator(f"#save-{name}").click()
                caught.value.save_as(tmp_path / f"{number}.{name}")
            page.locator("#lens-close").click()
            file = tmp_path / f"{number}.json"
            with pytest.raises(ModelError, match=r"again .*--model MODEL"):
                repeat(file)
            again, _ = repeat(file, model=str(run))
            assert again.method.name == method
            if method in ("maximize", "guided", "invert"):
                values = rgb(again.pictures) if method != "guided" else signed(again.signal)
                with Image.open(file.with_suffix(".png")) as image:
                    small = image.convert("RGB").resize((values.shape[3], values.shape[2]), Image.Resampling.NEAREST)
                tile = torch.tensor(list(small.tobytes()), dtype=torch.int16).view(*values.shape[2:], 3)
                assert (tile - values[0].permute(1, 2, 0)).abs().float().mean() < 1, label
        seen.clean()


def test_the_theme_switch_and_the_film(browser: Any, made: package.ReportFile, tmp_path: Path) -> None:
    with opened(browser, made.path, color_scheme="light", reduced_motion="reduce", **DESKTOP) as seen:
        page = seen.page

        def ground() -> str:
            return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

        before = ground()
        page.locator("#theme").click()
        assert ground() != before
        page.locator("#theme").click()
        assert ground() == before
        play = page.locator("#films button").first
        assert play.inner_text() == "Play", "nothing moves where motion is not wanted"
        still = page.locator("#films p").first.inner_text()
        play.click()
        page.wait_for_function(f"() => document.querySelector('#films p').textContent !== {json.dumps(still)}")
        play.click()
        assert play.inner_text() == "Play"
        for number, method in enumerate(("filters", "maximize")):
            with page.expect_download() as caught:
                page.locator("#films figure").nth(number).get_by_text("JSON").click()
            caught.value.save_as(tmp_path / method)
            told = json.loads((tmp_path / method).read_text(encoding="utf-8"))
            assert (
                told["method"] == method
                and told["weights_of_the_report"] == made.contents.weights
                and told["epochs"][0] == 0
            )
        seen.clean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("at", ["", "#/conv1", "#/layer3.1/", "#/output/0", "lens"])
def test_axe_finds_nothing(browser: Any, made: package.ReportFile, at: str, scheme: str) -> None:
    axe = needed("axe_playwright_python.sync_playwright")
    if at.endswith("1/"):
        at += str(made.contents.layers[5].units[0].channel)
    with opened(browser, made.path, at if at != "lens" else "#/output/0", color_scheme=scheme, **DESKTOP) as seen:
        if at == "lens":
            seen.page.locator(".card .tile").first.click()
        found = axe.Axe().run(seen.page)
        assert found.violations_count == 0, found.generate_report()


def test_without_scripts_the_figures_are_still_there(browser: Any, made: package.ReportFile) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(made.path.resolve().as_uri())
    assert page.locator("#how-well table").first.is_visible() and page.locator("#network table").is_visible()
    assert page.locator("noscript").count() == 1
    context.close()


def test_hostile_names_run_nothing(browser: Any, made: package.ReportFile) -> None:
    with opened(browser, made.path, "#/output/0", **DESKTOP) as seen:
        page = seen.page
        text = page.evaluate("document.body.textContent")
        assert all(name in text for name in CLASSES)
        page.locator("#search").fill("<img")
        page.locator("#found").wait_for()
        assert page.title() != "taken" and page.locator("img").count() == 0
        for hash_ in ("#/<img src=x onerror=alert(1)>", "#/%", "#/conv1/999999", "#/__proto__/1", "#/%2e%2e/1"):
            page.evaluate(f"location.hash = {json.dumps(hash_)}")
            page.wait_for_timeout(30)
        assert page.locator("img").count() == 0
        seen.clean()


def test_a_report_in_several_files(browser: Any, made: package.ReportFile, tmp_path: Path) -> None:
    for name, html in parts(made.contents).items():
        atomic_write(tmp_path / name, html.encode())
    with opened(browser, tmp_path / "index.html", **DESKTOP) as seen:
        page = seen.page
        page.wait_for_timeout(300)
        assert painted(page, "main canvas") == page.locator("main canvas").count() > 20
        page.locator("#rail a", has_text="layer2.0").click()
        page.wait_for_url("**/layer-3.html#/layer2.0")
        page.wait_for_selector("html[data-ready=yes]")
        assert page.locator("#panel h3").inner_text() == "layer2.0" and page.locator(".units li").count() == 5
        page.keyboard.press("ArrowDown")
        page.wait_for_url("**/layer-4.html#/layer2.1")
        page.wait_for_selector("html[data-ready=yes]")
        page.locator("header a", has_text="How well").click()
        page.wait_for_url("**/index.html#how-well")
        seen.clean()


def test_it_prints(browser: Any, made: package.ReportFile, tmp_path: Path) -> None:
    with opened(browser, made.path, **DESKTOP) as seen:
        seen.page.pdf(path=str(tmp_path / "a.pdf"), format="A4")
        assert (tmp_path / "a.pdf").stat().st_size > 20_000
        seen.clean()


def test_on_paper_there_is_nothing_to_press_and_nothing_cut(browser: Any, made: package.ReportFile) -> None:
    with opened(browser, made.path, color_scheme="dark", viewport={"width": 700, "height": 990}) as seen:
        page = seen.page
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        pressed = page.locator("main button:not(.tile), main a.button, main select, main input").all()
        assert pressed and not any(each.is_visible() for each in pressed)
        assert page.evaluate("document.documentElement.scrollWidth") <= 700
        seen.clean()


def test_arrows_scroll_a_wide_table_and_do_not_leave_it(browser: Any, made: package.ReportFile) -> None:
    with opened(browser, made.path, "#/layer2.0", viewport={"width": 230, "height": 800}) as seen:
        page = seen.page
        table = page.locator("#panel .tile-table").first
        table.focus()
        before = page.evaluate("location.hash")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert page.evaluate("location.hash") == before
        page.wait_for_function("() => document.querySelector('#panel .tile-table').scrollLeft > 0")
        seen.clean()


def test_the_chosen_layer_is_in_sight_where_layers_scroll_sideways(browser: Any, made: package.ReportFile) -> None:
    with opened(browser, made.path, "#/output", viewport={"width": 230, "height": 800}) as seen:
        page = seen.page
        assert page.evaluate(
            "() => { const r = document.getElementById('rail'); return r.scrollWidth > r.clientWidth }"
        )
        for name in ("output", "conv1"):
            page.evaluate("(name) => { location.hash = '#/' + name }", name)
            page.wait_for_function(
                "(name) => { const a = document.querySelector('#rail [aria-current]');"
                " const [i, o] = [a, a.closest('ol')].map((e) => e.getBoundingClientRect());"
                " return a.dataset.layer === name && i.left >= o.left - 1 && i.right <= o.right + 1 }",
                arg=name,
            )
        seen.clean()


def test_every_curve_can_be_seen_even_of_one_point(browser: Any, made: package.ReportFile, tmp_path: Path) -> None:
    one = line_chart("Loss", [("train", "a", [0.0, 1.0], [2.0, 1.0]), ("test", "b", [1.0], [1.5])])
    alone = tmp_path / "one.html"
    atomic_write(alone, whole(replace(made.contents, loss_chart=one)).encode())
    with opened(browser, alone) as seen:
        lengths = seen.page.eval_on_selector_all("path.line", "(paths) => paths.map((p) => p.getTotalLength())")
        assert len(lengths) > 2 and min(lengths) > 0
        seen.clean()
