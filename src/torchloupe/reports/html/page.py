"""A report's parts -> HTML: one file that asks nothing of any network, or an index and a file a layer."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from torchloupe.features.hooks import OUTPUT
from torchloupe.reports.contents import Contents, Layer, TrainingFilm, plain_values
from torchloupe.reports.html.tables import (
    classes_left,
    confused,
    confusion,
    controlled_layer,
    controls,
    diagram,
    interval_words,
    layer_row,
    per_class,
    probes,
)
from torchloupe.reports.sections.performance import reliability_diagram
from torchloupe.runs.results import said_of_calibration
from torchloupe.runtime.environment import __version__

SECTIONS = (
    ("how-well", "How well"),
    ("network", "The network"),
    ("layers", "Layers and units"),
    ("known", "What the layers know"),
    ("control", "Randomization control"),
    ("training", "How it learned"),
    ("made", "How it was made"),
)
INDEX = "index.html"


def whole(contents: Contents) -> str:
    """Return the report as one file."""
    return _page(contents, contents.layers, {}, index=True)


def parts(contents: Contents) -> dict[str, str]:
    """Return the report as an index page and one page a layer: file name -> HTML."""
    names = {layer.name: f"layer-{number + 1}.html" for number, layer in enumerate(contents.layers)}
    controlled = controlled_layer(contents.layers)
    here = [layer for layer in contents.layers if layer.name in (OUTPUT, controlled)]
    pages = {INDEX: _page(contents, here, names, index=True)}
    for layer in contents.layers:
        others = {name: file for name, file in names.items() if name != layer.name}
        pages[names[layer.name]] = _page(contents, [layer], others, index=False)
    return pages


def _page(contents: Contents, embedded: Sequence[Layer], pages: Mapping[str, str], *, index: bool) -> str:
    """Fill the template; `embedded` layers are in this file, the others in `pages`."""
    css, js = asset("report.css"), asset("report.js")
    inside = {layer.name for layer in embedded}
    hrefs = {
        layer.name: ("" if layer.name in inside else pages.get(layer.name, "")) + anchor(layer.name)
        for layer in contents.layers
    }
    blocks = [(str(number), as_script(plain_values(layer))) for number, layer in enumerate(embedded)]
    words = _words(contents, hrefs) if index else _none(contents, hrefs)
    known = [(id_, name) for id_, name in SECTIONS if _has(contents, id_)]
    title = contents.title if index else f"{contents.title}: {embedded[0].name}"
    return template("report.html.j2").render(
        policy=policy(css, js),
        css=Markup(css),
        js=Markup(js),
        version=__version__,
        title=title,
        index=index,
        home="" if index else INDEX,
        here=[id_ for id_, _ in known] if index else ["layers", "made"],
        sections=known,
        layers_title="Layers and units" if index else f"Layer {embedded[0].name}",
        data=as_script(_data(contents, embedded, pages, index=index)),
        blocks=blocks,
        samples=contents.samples,
        counted_on=contents.counted_on,
        left_out=[*contents.left_out, *contents.late],
        refused=contents.refused,
        methods=contents.methods,
        took=contents.took,
        seed=contents.seed,
        weights=contents.weights,
        surroundings=contents.surroundings,
        table=[layer_row(layer, hrefs[layer.name]) for layer in contents.layers],
        **words,
    )


def _has(contents: Contents, section: str) -> bool:
    return {
        "how-well": contents.performance is not None,
        "network": len(contents.layers) > 1,
        "known": contents.probing is not None,
        "control": controlled_layer(contents.layers) is not None,
        "training": contents.film is not None,
    }.get(section, True)


def _words(contents: Contents, hrefs: Mapping[str, str]) -> dict[str, Any]:
    """Return what only the index says."""
    tested = contents.performance
    return {
        "performance": tested,
        "per_class": per_class(tested),
        "interval": interval_words(tested, "accuracy"),
        "interval_mirrored": interval_words(tested, "accuracy_flip_tta"),
        "calibration": [] if tested is None else said_of_calibration(tested.figures),
        "classes_left": classes_left(tested),
        "confusion": confusion(tested),
        "confused": confused(tested),
        "reliability": Markup(reliability_diagram(tested)),
        "loss_chart": Markup(contents.loss_chart),
        "loss_called": contents.loss_called,
        "accuracy_chart": Markup(contents.accuracy_chart),
        "facts": contents.facts,
        "classes_row": _strongest(contents.layers),
        "diagram": diagram(contents.layers, hrefs) if _has(contents, "network") else None,
        "probes": None if contents.probing is None else probes(contents.probing),
        "controls": controls(contents.layers),
        "cascade_chart": Markup(contents.cascade_chart),
        "cascade_layers": contents.cascade_layers,
        "control_images": contents.control_images,
        "second": contents.second,
        "film": contents.film,
    }


def _strongest(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return for each of the first classes the feature visualization with the largest logit."""
    row = []
    for unit in next((layer.units for layer in layers if layer.name == OUTPUT), [])[:10]:
        alive = [(i, each) for i, each in enumerate(unit.maximizing) if not each.dead]
        if alive:
            copy, best = max(alive, key=lambda each: -math.inf if each[1].activation is None else each[1].activation)
            name = unit.name or str(unit.channel)
            row.append({"channel": unit.channel, "name": name, "tile": best.tile, "copy": copy})
    return row


def _none(contents: Contents, hrefs: Mapping[str, str]) -> dict[str, Any]:
    """Return the same for the page of one layer."""
    return dict.fromkeys(_words(contents, hrefs))


def _data(contents: Contents, embedded: Sequence[Layer], pages: Mapping[str, str], *, index: bool) -> dict[str, Any]:
    """Return what the script needs beside the layers."""
    sprites = {"samples": contents.shown}
    if index and contents.photos:
        sprites["photos"] = contents.photos
    film = contents.film if index else None
    for name, strip in film.strips.items() if film else ():
        sprites[f"film-{name}"] = strip.sprite
    return {
        "title": contents.title,
        "layers": [layer.name for layer in contents.layers],
        "blocks": {layer.name: number for number, layer in enumerate(embedded)},
        "pages": dict(pages),
        "samples": list(contents.samples),
        "sample_words": list(contents.sample_words),
        "sprites": plain_values(sprites),
        "units": [_searched(layer) for layer in contents.layers],
        "classes": list(contents.classes),
        "data_classes": list(contents.data_classes),
        "has_data": contents.has_data,
        "film": film and _plain_film(film),
    }


def _plain_film(film: TrainingFilm) -> dict[str, Any]:
    strips = [
        {
            "sprite": f"film-{name}",
            "title": strip.title,
            "count": strip.count,
            "columns": strip.columns,
            "animation": base64.b64encode(strip.animation).decode(),
            "about": strip.about,
        }
        for name, strip in film.strips.items()
    ]
    return {"epochs": [moment.epoch for moment in film.moments], "strips": strips}


def _searched(layer: Layer) -> list[list[Any]]:
    """Return what the search goes through: channel, name, class with the largest mean, dead."""
    return [[unit.channel, unit.name or "", unit.class_most, int(unit.dead)] for unit in layer.units]


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


def policy(css: str, js: str) -> str:
    """Return what a page may load and run: its own style and script, pictures inside it, and nothing else.

    >>> policy("", "").startswith("default-src 'none'; img-src data: blob:; style-src 'sha256-")
    True
    """
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, js))
    return (
        f"default-src 'none'; img-src data: blob:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=4)
def template(name: str) -> Template:
    """Return a page's template, which escapes whatever is put into it.

    >>> template("report.html.j2").name is None
    True
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset(name))


@lru_cache(maxsize=8)
def asset(name: str) -> str:
    """Return the text of a file that pages are made of.

    >>> asset("report.css")[:5]
    ':root'
    """
    return (files("torchloupe.reports.html") / "templates" / name).read_text(encoding="utf-8").strip()
