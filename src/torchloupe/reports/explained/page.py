"""Explained pictures -> HTML: one file that asks nothing of any network, a card for each picture."""

import base64
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from markupsafe import Markup
from torch import Tensor

from torchloupe.attribution.maps import Attribution
from torchloupe.errors import in_one_line
from torchloupe.figures.colors import overlaid, reach, rgb
from torchloupe.inspection.catalog import find_method
from torchloupe.reports.explained.measured import ALIKE, ARGUE, PARTS, PUSH, TRAINING, Explained
from torchloupe.reports.html.page import asset, policy, template
from torchloupe.reports.html.sprites import EXACT, reduced, webp
from torchloupe.runtime.environment import __version__

MOST = 224
"""Side of the largest picture on the page, in its own pixels."""
TOP = 5


@dataclass(frozen=True)
class Shown:
    """A picture inside the page."""

    data: str
    width: int
    height: int
    text: str


@dataclass(frozen=True)
class Bar:
    """A signed number with its bar about zero."""

    name: str
    value: float
    start: float
    """In percent of the bar's room."""
    length: float

    @property
    def text(self) -> str:
        """The number, with one sign everywhere."""
        return f"{self.value:+.2f}".replace("-", "−")


@dataclass(frozen=True)
class Part:
    """What is said with one part of the picture covered."""

    text: str
    change: float
    """Of the predicted class's probability."""
    level: int
    """0 to 4, by how much is lost."""
    other: bool
    """It answers otherwise."""


def page(found: Explained, leads: str = "") -> str:
    """Return the page of explained pictures; `leads` says which explanation scored best."""
    css = f"{asset('report.css')}\n{asset('explained.css')}"
    js = asset("theme.js")
    ends = {name: reach(torch.cat([each.map for each in both])) for name, both in found.maps.items()}
    rights = [t == a for t, a in zip(found.true, found.probabilities.argmax(1).tolist(), strict=True) if t is not None]
    return template("explained.html.j2").render(
        policy=policy(css, js),
        css=Markup(css),
        js=Markup(js),
        version=__version__,
        title=found.studied.title,
        n=len(found.images.names),
        known=len(rights),
        right=sum(rights),
        cards=[_card(found, i, ends) for i in range(len(found.images.names))],
        methods=[_method(name, both, ends[name]) for name, both in found.maps.items()],
        head=found.head,
        training=found.training,
        looked=None if found.training is None else len(found.training.split),
        most=TRAINING,
        parts=PARTS,
        leads=in_one_line(leads),
    )


def _method(name: str, both: tuple[Attribution, Attribution], end: float) -> dict[str, Any]:
    row = find_method(name)
    missing = [float(each.residual.abs().median()) for each in both if each.residual is not None]
    where = "" if both[0].layer == "output" else f" of {both[0].layer}"
    told = f"its sums miss the logit by {max(missing):.1%} (median)" if missing else ""
    return {"title": f"{row.title}{where}", "summary": row.summary, "end": f"{end:.3g}", "missing": told}


def _card(found: Explained, i: int, ends: dict[str, float]) -> dict[str, Any]:
    said = found.probabilities[i]
    answer, other, true = int(said.argmax()), int(found.other[i]), found.true[i]
    top = [(found.class_name(k), float(said[k]), k == true) for k in said.topk(min(TOP, len(said))).indices.tolist()]
    image = found.images.images[i : i + 1]
    maps = [
        {
            "title": find_method(name).title,
            "pictures": [
                _shown(overlaid(image, each.map[i : i + 1], ends[name]), f"for {found.class_name(k)}")
                for each, k in zip(both, (answer, other), strict=True)
            ],
        }
        for name, both in found.maps.items()
    ]
    return {
        "number": i + 1,
        "name": found.images.names[i],
        "answer": found.class_name(answer),
        "share": f"{float(said[answer]):.1%}",
        "true": None if true is None else found.class_name(true),
        "right": true == answer,
        "other": found.class_name(other),
        "top": top,
        "picture": _shown(rgb(image), found.images.names[i]),
        "maps": maps,
        "parts": _parts(found, i, answer),
        "pushes": _pushes(found, i, answer, other),
        "difference": f"{float(found.logits[i, answer] - found.logits[i, other]):.2f}",
        **_neighbours(found, i),
    }


def _shown(image: UInt8[Tensor, "1 3 h w"], text: str) -> Shown:
    small = reduced(image, MOST)[0]
    data = webp(small.permute(1, 2, 0), exact=max(small.shape[1:]) <= EXACT)
    return Shown(base64.b64encode(data).decode(), small.shape[2], small.shape[1], text)


def _parts(found: Explained, i: int, answer: int) -> list[list[Part]]:
    before = float(found.probabilities[i, answer])
    return [[_part(found, cell, answer, before) for cell in row] for row in found.covered[i]]


def _part(found: Explained, said: Float[Tensor, " classes"], answer: int, before: float) -> Part:
    now, change = int(said.argmax()), float(said[answer]) - before
    level = min(4, int(max(0.0, -change) * 5))
    text = f"{100 * float(said[answer]):.0f} %" if now == answer else found.class_name(now)
    return Part(text, change, level, now != answer)


def _pushes(found: Explained, i: int, answer: int, other: int) -> list[Bar]:
    """Return the units that add most to the predicted class's logit minus the other's, either way, and the rest."""
    if found.pushes is None or found.head is None:
        return []
    values = found.pushes[i].double()
    order = values.argsort(descending=True)
    count = min(PUSH, len(order) // 2)
    chosen = [k for k in order[:count].tolist() if values[k] > 0] + [
        k for k in order[-count:].tolist() if values[k] < 0
    ]
    bias = float(found.head.bias[answer] - found.head.bias[other])
    rest = float(values.sum()) - sum(float(values[k]) for k in chosen)
    rows = [(f"unit {k}", float(values[k])) for k in chosen]
    rows += [(f"{len(order) - len(chosen)} other units", rest), ("bias", bias)]
    largest = max(1e-12, *(abs(value) for _, value in rows))
    return [Bar(name, value, 50 + min(0.0, 50 * value / largest), abs(50 * value / largest)) for name, value in rows]


def _neighbours(found: Explained, i: int) -> dict[str, list[dict[str, Any]]]:
    if found.training is None or found.alike is None or found.argue is None:
        return {"alike": [], "for_it": [], "against": []}
    near = found.alike[i].topk(min(ALIKE, found.alike.shape[1]))
    up = found.argue[i].topk(min(ARGUE, found.argue.shape[1]))
    down = (-found.argue[i]).topk(min(ARGUE, found.argue.shape[1]))
    return {
        "alike": [_neighbour(found, k, f"cosine {v:.2f}") for k, v in _pairs(near)],
        "for_it": [_neighbour(found, k, f"+{v:.2f}") for k, v in _pairs(up) if v > 0],
        "against": [_neighbour(found, k, f"−{v:.2f}") for k, v in _pairs(down) if v > 0],
    }


def _pairs(found: Any) -> list[tuple[int, float]]:
    return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))


def _neighbour(found: Explained, k: int, number: str) -> dict[str, Any]:
    assert found.training is not None
    name = found.training.split.names[k]
    label = found.class_name(int(found.training.labels[k]))
    picture = _shown(rgb(found.training.split.images[k : k + 1].float() / 255), f"{label}: {name}")
    return {"name": name, "label": label, "number": number, "picture": picture}
