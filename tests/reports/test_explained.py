"""The page that says why: every number against the network, hostile names, a browser."""

import base64
import io
import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from browsing import chromium, opened
from commands import Run, one_sentence
from contract import SIDE, net, small_run, split
from reporting import hostile_run, own_cache
from torchloupe.data.dataset import Dataset
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import UsageError
from torchloupe.inspection.inputs import Images
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import wrap
from torchloupe.reports.explained.explain import explain
from torchloupe.reports.explained.measured import PARTS, Explained, measure, mistakes
from torchloupe.reports.explained.page import page

QUICK = ("grad-cam", "input-x-gradient")


def quiet(name: str) -> Any:
    return nullcontext(lambda done, of: None)


def data() -> Dataset:
    drawn = shapes(train=40, test=40, size=SIDE)
    return drawn


def studied() -> Subject:
    known = data()
    bare = net(torch.float32).bare
    bare.fc = nn.Linear(10, len(known.classes))
    return Subject(wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, size=SIDE, classes=known.classes), known)


def found() -> Explained:
    torch.manual_seed(0)
    subject = studied()
    return measure(subject, mistakes(subject, 5), quiet, methods=QUICK)


@pytest.fixture(scope="module")
def made() -> Explained:
    return found()


def test_mistakes_are_the_surest_wrong_answers() -> None:
    subject = studied()
    model, known = subject.model, data()
    with torch.no_grad():
        said = model(known.test.images.float() / 255).softmax(1)
    sure, answer = said.max(1)
    wrong = [i for i in sure.argsort(descending=True).tolist() if answer[i] != known.test.labels[i]]
    assert len(wrong) > 5 and mistakes(subject, 5).names == tuple(known.test.names[i] for i in wrong[:5])


def test_the_numbers_are_those_of_the_network(made: Explained) -> None:
    model = made.studied.model
    with torch.no_grad():
        logits = model(made.images.images)
    torch.testing.assert_close(made.logits, logits)
    torch.testing.assert_close(made.probabilities, logits.softmax(1))
    answer = logits.argmax(1)
    assert all(t is not None and t != a for t, a in zip(made.true, answer.tolist(), strict=True))
    assert made.other.tolist() == list(made.true)
    assert made.pushes is not None and made.head is not None
    rows = torch.arange(5)
    bias = made.head.bias[answer] - made.head.bias[made.other]
    torch.testing.assert_close(made.pushes.sum(1) + bias, logits[rows, answer] - logits[rows, made.other])
    for first, second in made.maps.values():
        assert first.target.tolist() == answer.tolist() and second.target.tolist() == made.other.tolist()


def test_covering_by_a_plain_loop(made: Explained) -> None:
    model, images = made.studied.model, made.images.images
    edges = [-(-SIDE * i // PARTS) for i in range(PARTS + 1)]
    for y in range(PARTS):
        for x in range(PARTS):
            covered = images.clone()
            covered[:, :, edges[y] : edges[y + 1], edges[x] : edges[x + 1]] = 0.5
            with torch.no_grad():
                torch.testing.assert_close(made.covered[:, y, x], model(covered).softmax(1))


def test_a_training_picture_is_most_like_itself() -> None:
    subject, known = studied(), data()
    image = known.train.images[7:8].float() / 255
    made = measure(subject, Images(image, ("mine.png",), None), quiet, methods=QUICK)
    assert made.alike is not None and made.training is not None
    assert made.training.split.names[int(made.alike[0].argmax())] == known.train.names[7]
    assert float(made.alike.max()) == pytest.approx(1, abs=1e-5) and made.training.whole == 40


def test_the_page_says_it(made: Explained) -> None:
    html = page(made)
    assert html.count('<article class="explained"') == 5
    answers = made.probabilities.argmax(1).tolist()
    classes = data().classes
    for i, name in enumerate(made.images.names):
        assert name in html
        true = made.true[i]
        assert true is not None
        assert f"<bdi>{classes[answers[i]]}</bdi> {float(made.probabilities[i].max()):.1%}" in html
        assert f"but it is <bdi>{classes[true]}</bdi>" in html
    first = re.search(r'<div class="whole">\n?<img class="pixels" src="data:image/webp;base64,([^"]+)"', html)
    assert first is not None
    with Image.open(io.BytesIO(base64.b64decode(first[1]))) as image:
        shown = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).long()
    expected = (made.images.images[0] * 255).round().permute(1, 2, 0).long()
    assert torch.equal(shown, expected)
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)


def test_bars_add_up_to_the_difference_of_the_logits(made: Explained) -> None:
    html = page(made)
    for table, difference in zip(
        re.findall(r'<table class="signed">(.*?)</table>', html, re.S),
        re.findall(r"difference of the two logits, ([\d.]+)\.", html),
        strict=True,
    ):
        values = [float(text.replace("−", "-")) for text in re.findall(r'class="num">([+−][\d.]+)', table)]
        assert sum(values) == pytest.approx(float(difference), abs=0.005 * len(values) + 0.005)


class Segments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


@pytest.mark.parametrize("size", [8, 300])
def test_a_network_without_a_last_linear_layer_and_without_data_is_explained(size: int) -> None:
    model = wrap(Segments(), mean=[0.5] * 3, std=[0.25] * 3, size=size, classes=4)
    made = measure(
        Subject(model), Images(torch.rand(2, 3, size, size), ("a", "b"), None), quiet, methods=("smoothgrad",)
    )
    assert made.pushes is None and made.training is None
    html = page(made)
    assert html.count('<article class="explained"') == 2 and "Training pictures" not in html


def test_what_cannot_be_explained_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no explanation 'grid-cam'"):
        explain(studied(), None, tmp_path / "a.html", methods=["grid-cam"])
    perfect = data()
    subject = studied()
    right = torch.empty(0, dtype=torch.long)
    with torch.no_grad():
        answer = subject.model(perfect.test.images.float() / 255).argmax(1)
    right = (answer == perfect.test.labels).nonzero()[:, 0]
    assert len(split(2)) == 2 and len(right) < len(answer)
    with pytest.raises(UsageError, match="up to 200"):
        explain(subject, torch.rand(201, 3, SIDE, SIDE), tmp_path / "a.html")


def test_the_command_writes_the_page_and_says_what_it_found(run: Run, tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    ended = run("explain", "run", "test:0-2", "--methods", "grad-cam", "--json", "--device", "cpu")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert Path(told["file"]) == Path("run/explain.html") and Path(told["file"]).is_file()
    assert [set(row) for row in told["pictures"]] == [{"file", "class", "probability", "true"}] * 3
    worst = run("explain", "run", "--mistakes", "2", "--methods", "grad-cam,lrp", "--out", "worst.html", "--quiet")
    assert worst.code == 0 and worst.out.strip() == "worst.html"
    assert Path("worst.html").read_text(encoding="utf-8").count("but it is") == 2


def test_what_scored_best_for_the_run_leads(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run(tmp_path / "run")
    monkeypatch.setattr("torchloupe.inspection.scoring.USUAL", ("lrp", "layer-cam"))
    assert run("score", "run", "--n", "3", "--methods", "lrp", "--quiet").code == 0
    assert not Path("run/scores.json").exists(), "some of them say nothing of the others"
    scored = run("score", "run", "--n", "3")
    assert scored.code == 0 and "run/scores.json; `torchloupe explain` leads with it" in scored.err
    best = json.loads(Path("run/scores.json").read_text())["best"]
    assert run("explain", "run", "test:0", "--device", "cpu").code == 0
    html = Path("run/explain.html").read_text(encoding="utf-8")
    heads = re.findall(r"<h4>([^<]+)</h4><div class=\"two\">", html)
    assert len(heads) == 4 and heads[0] == {"lrp": "Layer-wise relevance propagation", "layer-cam": "LayerCAM"}[best]
    assert "measured it for this network: <bdi>leads: " in html


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"best": 3, "leads": "a"}', '{"best": "grid-cam", "leads": "a"}', '{"best": "lrp"}', "[" * 9999],
)
def test_damaged_scores_are_as_none(run: Run, tmp_path: Path, text: str) -> None:
    small_run(tmp_path / "run")
    Path("run/scores.json").write_text(text)
    ended = run("explain", "run", "test:0", "--device", "cpu", "--quiet")
    assert ended.code == 0 and "measures it for this network" in Path("run/explain.html").read_text(encoding="utf-8")


def test_a_sentence_in_the_scores_is_escaped(made: Explained) -> None:
    html = page(made, "<script>alert(1)</script>\u202e" + "x" * 9999)
    assert "<script>alert" not in html and "\u202e" not in html and "x" * 700 not in html


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["test:0", "--mistakes", "3"], ["not both"]),
        (["--out", "a.pdf"], ["HTML", "a.html"]),
        (["--methods", "grid-cam"], ["no explanation", "grad-cam"]),
        (["nowhere.png"], ["nowhere.png"]),
    ],
)
def test_what_the_command_does_not_do_is_told(run: Run, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    small_run(tmp_path / "run")
    ended = run("explain", "run", *words)
    assert ended.code in (2, 3)
    one_sentence(ended, ended.code, *parts)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_silently_and_nothing_overflows(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, width: int, scheme: str
) -> None:
    home = tmp_path_factory.mktemp("explained")
    with own_cache(home):
        from torchloupe.checkpoints.open import load

        network = load(hostile_run(home))
        made = measure(Subject(network), mistakes(Subject(network), 2), quiet, methods=QUICK)
    path = home / "page.html"
    path.write_text(page(made), encoding="utf-8", errors="backslashreplace")
    with opened(browser, path, color_scheme=scheme, viewport={"width": width, "height": 900}) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.page.locator("article").count() == 2
        before = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        seen.page.locator("#theme").click()
        assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        seen.clean()
