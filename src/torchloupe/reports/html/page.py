"""A report's parts -> HTML: one file that asks nothing of any network, or an index and a file a layer."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from torchloupe.features.hooks import OUTPUT
from torchloupe.reports.html.charts import Chart
from torchloupe.reports.html.tables import (
    classes_left,
    confused,
    confusion,
    diagram,
    layer_row,
    per_class,
    twin_layer,
    twins,
)
from torchloupe.reports.sections.performance import Outside
from torchloupe.reports.sections.training_film import Learned
from torchloupe.reports.sections.units import Layer
from torchloupe.runtime.environment import __version__

SECTIONS = (
    ("how-well", "How well"),
    ("network", "The network"),
    ("layers", "Layers and units"),
    ("twin", "The honest twin"),
    ("learned", "How it learned"),
    ("made", "How it was made"),
)
INDEX = "index.html"


@dataclass(frozen=True)
class Contents:
    """All that a page says."""

    title: str
    outside: Outside | None
    loss_chart: Chart | None
    accuracy_chart: Chart | None
    facts: Sequence[tuple[str, str]]
    mistakes: Sequence[dict[str, Any]]
    layers: Sequence[Layer]
    learned: Learned | None
    samples: Sequence[dict[str, Any]]
    photos: dict[str, Any] | None
    """Sprite of the test pictures outside of layers; None without data."""
    shown: dict[str, Any]
    """Sprite of the sample pictures."""
    classes: Sequence[str]
    data_classes: Sequence[str]
    """Of the data by which units' answers were measured."""
    has_data: bool
    looked: str
    """What dead channels were counted on."""
    left_out: Sequence[str]
    late: Sequence[str]
    """What was not begun for lack of time."""
    refused: Sequence[tuple[str, str, str]]
    methods: Sequence[tuple[str, str]]
    took: str
    seed: int
    weights: str
    surroundings: str


def whole(contents: Contents) -> str:
    """Return the report as one file."""
    return _page(contents, contents.layers, {}, index=True)


def parts(contents: Contents) -> dict[str, str]:
    """Return the report as an index page and one page a layer: file name -> HTML."""
    names = {layer["name"]: f"layer-{number + 1}.html" for number, layer in enumerate(contents.layers)}
    twin = twin_layer(contents.layers)
    here = [layer for layer in contents.layers if layer["name"] in (OUTPUT, twin)]
    pages = {INDEX: _page(contents, here, names, index=True)}
    for layer in contents.layers:
        others = {name: file for name, file in names.items() if name != layer["name"]}
        pages[names[layer["name"]]] = _page(contents, [layer], others, index=False)
    return pages


def _page(contents: Contents, embedded: Sequence[Layer], pages: Mapping[str, str], *, index: bool) -> str:
    """Fill the template; `embedded` layers are in this file, the others in `pages`."""
    css, js = _asset("report.css"), _asset("report.js")
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, js))
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )
    inside = {layer["name"] for layer in embedded}
    hrefs = {
        layer["name"]: ("" if layer["name"] in inside else pages.get(layer["name"], "")) + anchor(layer["name"])
        for layer in contents.layers
    }
    blocks = [(str(number), as_script(layer)) for number, layer in enumerate(embedded)]
    words = _words(contents, hrefs) if index else _none(contents, hrefs)
    known = [(id_, name) for id_, name in SECTIONS if _has(contents, id_)]
    title = contents.title if index else f"{contents.title}: {embedded[0]['name']}"
    return _template().render(
        policy=policy,
        css=Markup(css),
        js=Markup(js),
        version=__version__,
        title=title,
        index=index,
        home="" if index else INDEX,
        here=[id_ for id_, _ in known] if index else ["layers", "made"],
        sections=known,
        layers_title="Layers and units" if index else f"Layer {embedded[0]['name']}",
        data=as_script(_data(contents, embedded, pages, index=index)),
        blocks=blocks,
        samples=contents.samples,
        looked=contents.looked,
        left_out=[*contents.left_out, *contents.late],
        refused=contents.refused,
        methods=contents.methods,
        took=contents.took,
        seed=contents.seed,
        weights=contents.weights,
        surroundings=contents.surroundings,
        table=[layer_row(layer, hrefs[layer["name"]]) for layer in contents.layers],
        **words,
    )


def _has(contents: Contents, section: str) -> bool:
    return {
        "how-well": contents.outside is not None,
        "network": len(contents.layers) > 1,
        "twin": twin_layer(contents.layers) is not None,
        "learned": contents.learned is not None,
    }.get(section, True)


def _words(contents: Contents, hrefs: Mapping[str, str]) -> dict[str, Any]:
    """Return what only the index says."""
    last = next((layer for layer in contents.layers if layer["name"] == OUTPUT), None)
    row = []
    for card in (last or {}).get("units", [])[:10]:
        alive = [m for m in card.get("max", []) if not m["dead"]]
        if alive:
            best = max(alive, key=lambda m: -1e9 if m["a"] is None else m["a"])
            copy = card["max"].index(best)
            row.append({"c": card["c"], "name": card.get("name", str(card["c"])), "t": best["t"], "copy": copy})
    return {
        "outside": contents.outside,
        "per_class": per_class(contents.outside),
        "classes_left": classes_left(contents.outside),
        "confusion": confusion(contents.outside),
        "confused": confused(contents.outside),
        "loss_chart": contents.loss_chart,
        "accuracy_chart": contents.accuracy_chart,
        "facts": contents.facts,
        "mistakes": contents.mistakes,
        "classes_row": row,
        "diagram": diagram(contents.layers, hrefs) if _has(contents, "network") else None,
        "twins": twins(contents.layers),
        "learned": contents.learned,
    }


def _none(contents: Contents, hrefs: Mapping[str, str]) -> dict[str, Any]:
    """Return the same for the page of one layer."""
    return dict.fromkeys(_words(contents, hrefs))


def _data(contents: Contents, embedded: Sequence[Layer], pages: Mapping[str, str], *, index: bool) -> dict[str, Any]:
    """Return what the script needs beside the layers."""
    sprites: dict[str, Any] = {"samples": contents.shown}
    sprites |= {"photos": contents.photos} if index and contents.photos else {}
    film = None
    if index and (made := contents.learned) is not None:
        sprites |= {"learned-filters": made.filters} if made.filters else {}
        sprites |= {"learned-pictures": made.images} if made.images else {}
        film = {
            "epochs": [moment.epoch for moment in made.moments],
            "layer": made.layer,
            "units": made.units,
            "filters": made.filter_count,
            "film": {f"learned-{name}": text for name, text in made.film.items()},
            "about": {f"learned-{name}": about for name, about in _film_made(contents, made).items()},
        }
    return {
        "title": contents.title,
        "layers": [layer["name"] for layer in contents.layers],
        "blocks": {layer["name"]: number for number, layer in enumerate(embedded)},
        "pages": dict(pages),
        "samples": contents.samples,
        "sprites": sprites,
        "units": [_found(layer) for layer in contents.layers],
        "classes": list(contents.classes),
        "data_classes": list(contents.data_classes),
        "has_data": contents.has_data,
        "learned": film,
    }


def _film_made(contents: Contents, made: Learned) -> dict[str, dict[str, Any]]:
    """Return how each film was made."""
    shared = {
        "epochs": [moment.epoch for moment in made.moments],
        "seed": made.seed,
        "weights_of_the_report": contents.weights,
        "torchloupe": __version__,
    }
    scale = "each filter from its smallest weight to its largest"
    settings = {"steps": made.steps, "copies": 1}
    return {
        "filters": {"method": "filters", "channels": list(range(made.filter_count)), "scale": scale, **shared},
        "pictures": {
            "method": "maximize",
            "layer": made.layer,
            "channels": list(made.units),
            "settings": settings,
            **shared,
        },
    }


def _found(layer: Layer) -> list[list[Any]]:
    """Return what the search looks through: number, name, strongest class, dead."""
    rows = []
    for card in layer["units"]:
        classes = [-math.inf if v is None else v for v in card.get("classes", [])]
        strongest = classes.index(max(classes)) if classes else -1
        rows.append([card["c"], card.get("name", ""), strongest, int(card.get("dead", False))])
    return rows


def as_script(value: Any) -> Markup:
    r"""Return JSON that can stand in a script element whatever texts it holds.

    >>> str(as_script({"name": "</script>&"}))
    '{"name":"\\u003c/script\\u003e\\u0026"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def anchor(layer: str) -> str:
    """Return the address of a layer within a page, as the script writes it.

    >>> anchor("layer2.1")
    '#/layer2.1'
    """
    return "#/" + quote(layer, safe="!'()*-._~")


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("report.html.j2"))


@lru_cache(maxsize=4)
def _asset(name: str) -> str:
    return (files("torchloupe.reports.html") / "templates" / name).read_text(encoding="utf-8").strip()
