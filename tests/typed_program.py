"""A program of a user's, as they would write it: `make check` checks its types, and a test runs it.

Each `assert_type` fails the check where the public API says something else, or nothing (Any).
"""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import PIL.Image
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import torchloupe
from torchloupe import (
    Network,
    Recorder,
    deconvnet,
    dream,
    feature_maps,
    filters,
    gradient,
    guided,
    invert,
    load,
    maximize,
    top_examples,
    wrap,
)
from torchloupe import report as write_report
from torchloupe.attribution.backward import Backward
from torchloupe.inspection.result import Result
from torchloupe.synthesis.invert import Inversion


def look_inside(net: Network, folder: Path) -> list[Path]:
    """Every method once, each with images of another kind."""
    found = filters(net, channels=[0, 1])
    assert_type(found.weight, Tensor)
    assert_type(found.layer, str)
    pages = found.save(folder / "filters.png")
    assert_type(pages, list[Path])

    maps = feature_maps(net, "conv1", torch.rand(2, 3, 16, 16))
    assert_type(maps.maps, Tensor)
    assert_type(maps.figure(), Figure)

    made = invert(net, "layer1.0", np.zeros((16, 16, 3), np.uint8), steps=2, start="noise")
    assert_type(made.pictures, Tensor)
    assert_type(made.randomized, Inversion | None)
    assert_type(made.result, Inversion)

    units = maximize(net, "last", channels=[0], steps=2, copies=1)
    assert_type(units.activation, Tensor)
    assert_type(units.ratio, Tensor | None)

    walked = deconvnet(net, images="samples:0-1", channels=0, position="max", randomized=False)
    assert_type(walked.signal, Tensor)
    assert_type(walked.randomized, Backward | None)
    assert_type(guided(net, "layer1.0", PIL.Image.new("RGB", (20, 16)), randomized=False).signal, Tensor)
    assert_type(gradient(net, layer="layer1.0", images=["samples:0", "samples:2"], randomized=False).kept, Tensor)

    dreamt = dream(net, "layer1.0", torch.rand(3, 16, 16), steps=1, octaves=1)
    assert_type(dreamt.after, Tensor)

    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    top = top_examples(net, "conv1", images, count=2, channels=[0])
    assert_type(top.names, tuple[tuple[str, ...], ...])

    results: list[Result] = [found, maps, made, units, walked, dreamt, top]
    return [*pages, *(page for number, each in enumerate(results) for page in each.save(folder / f"{number}.png"))]


def main(folder: Path) -> None:
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    bare(torch.zeros(1, 3, 8, 8))
    assert_type(wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, classes=["cat", "dog"], size=8), Network)
    net = load("loupe", classes=3, size=16)
    assert_type(net, Network)
    assert_type(net(torch.zeros(1, 3, 16, 16)), Tensor)
    assert_type(torchloupe.__version__, str)
    assert all(page.is_file() for page in look_inside(net, folder))
    written = write_report(net, folder / "report.html", layers=["conv1"], units=1, budget=1)
    assert_type(written.path, Path)
    with Recorder(
        bare, folder / "own", classes=["cat", "dog"], mean=[0.5] * 3, std=[0.25] * 3, size=8, every=2
    ) as recorder:
        recorder.step(loss=torch.tensor(0.5), accuracy=0.5, lr=1, f1=0.25)
        recorder.epoch(val_loss=torch.tensor(0.5), top5=0.9)
    assert_type(recorder, Recorder)
    assert_type(recorder.out, Path)
    assert_type(write_report(bare, run=recorder.out, layers=["0"], units=1, budget=1).path, Path)
    data = torchloupe.data.load("shapes")
    assert_type(data.train.images, Tensor)
    beside = torchloupe.compare(net, net, data=data, layers=["conv1"], images=8, control=False, quiet=True)
    assert_type(beside.cka, Tensor)
    assert_type(beside.to_json(), dict[str, Any])


def refused(net: Network) -> None:
    """What a type checker has to refuse; never run. An `ignore` that is not needed is an error as well."""
    invert(net, stepz=3)  # type: ignore[call-arg]
    invert(net, start="red")  # type: ignore[arg-type]
    maximize(net, images=3)  # type: ignore[arg-type]
    filters(net, "conv1", torch.rand(1, 3, 8, 8))  # type: ignore[call-arg, arg-type]
    feature_maps(3)  # type: ignore[arg-type]
    load("loupe", klasses=3)  # type: ignore[call-arg]
    Recorder(net, "own", classes=3)  # type: ignore[call-arg]
    Recorder(net, "own", classes=3, mean=None, std=None, size=None, every="day")  # type: ignore[arg-type]
    _ = torchloupe.invrt  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Path("typed"))
