"""Seconds and memory of every way of looking inside, beside the study's way, captum and lucent, in one run.

    python bench/pictures.py RUN_OF_LOUPE RUN_OF_RESNET20 --lucent-python VENV/bin/python

Each method runs in a process of its own, so that its peak of memory is its own. Prints and stores Markdown tables.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common import Timed, memory_now, memory_peak, ratio, table, timed, write
from study_way import deconvolve_first, maximize_one
from torchloupe.checkpoints.open import load
from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.trace import resolve
from torchloupe.inspection.catalog import METHODS, find_method
from torchloupe.inspection.run import run
from torchloupe.inspection.subject import Subject

STUDY = "study"
UNITS = 3
"""Units that the slow ways are timed on."""


def study_at_224() -> torch.nn.Module:
    """The study's network with random weights, its pictures at 224 x 224."""
    torch.manual_seed(0)
    return load(STUDY, classes=10, size=224)


def prepared(model: str, data: str) -> Subject:
    """Open a network with its data: those of the run, or for `study` the given ones."""
    return Subject(study_at_224(), data) if model == STUDY else Subject(load(model))


def one(method: str, model: str, data: str, runs: int) -> dict[str, Any]:
    """Run one method several times; seconds and the growth of the process's peak memory."""
    studied = prepared(model, data)
    row = find_method(method)
    images: Any = [f"test:{i}" for i in range(16)] if row.takes == "pictures" else None
    more: dict[str, Any] = {}
    if row.takes == "start":
        more = {"channels": list(range(8 if model == STUDY else 64)), "copies": 1}
        if model == STUDY:  # no pass over the data set at 224 x 224
            studied.best = lambda layer, progress=None: None  # type: ignore[method-assign]
        else:
            studied.best(resolve(studied.model, "last"))
    if row.takes == "dataset":
        images = studied.split()
        if model == STUDY:
            images = replace(images, images=images.images[:256], labels=images.labels[:256], names=images.names[:256])
    small = model != STUDY
    before = memory_now()
    taken = timed(lambda: run(method, studied, None, images, **more), runs if small else 1, warm=int(small))
    return {"seconds": taken.seconds, "memory": memory_peak() - before}


def each_method(loupe: str, data: str, runs: int) -> str:
    """Table of seconds and peak memory."""
    rows = []
    for row in METHODS:
        cells: list[object] = [row.name]
        for model in (loupe, STUDY):
            call = [sys.executable, __file__, "--one", row.name, "--model", model, "--data", data, "--runs", str(runs)]
            said = subprocess.run(call, capture_output=True, text=True, check=True)
            found = json.loads(said.stdout.splitlines()[-1])
            cells += [str(Timed(tuple(found["seconds"]))), f"{found['memory']:.0f} MB"]
        rows.append(cells)
    head = ["method, default settings", "`loupe`, 32²: seconds", "memory", "`study`, 224²: seconds", "memory"]
    note = (
        "16 test pictures each; `maximize` 64 channels of the last block on `loupe`, 8 on `study`, one copy; "
        "`top-examples` all channels of the last block over 10,000 pictures on `loupe`, 256 on `study`. "
        "Inversion and the backward methods include their random-weights twin. Median (range) of "
        f"{runs} runs on `loupe`; `study` (random weights) once, cold. Memory is what the process's peak grew by."
    )
    return f"## Every method\n\n{note}\n\n{table(head, rows)}"


def against_the_best(models: list[str], data: str) -> str:
    """How many live channels of the last block have a picture that beats the best of all test pictures."""
    rows = []
    for model in models:
        studied = prepared(model, data)
        layer = resolve(studied.model, "last")
        health = studied.health([layer])
        assert health is not None
        live = (~health[layer].dead).nonzero()[:, 0].tolist()
        made = run("maximize", studied, layer, channels=live, copies=1)
        share = made.shifted / made.best
        wins = (share > 1).double().mean()
        low, middle, high = share.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
        spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        rows.append([Path(model).name, layer, len(live), f"{wins:.1%}", spread])
    head = ["network", "layer", "live channels", "beat the best test picture", "ratio: median (5 % to 95 %)"]
    note = (
        "`maximize` with its default settings, one picture a channel; its activation, averaged over the 13 shifts of "
        "up to 2 pixels, over the best of all 10,000 test pictures as they are."
    )
    return f"## Maximisation against the best real picture\n\n{note}\n\n{table(head, rows)}"


def deconvolution(loupe: str, data: str, runs: int) -> str:
    """The first layer of 16 pictures: ours, the study's way, captum."""
    rows = []
    for model in (loupe, STUDY):
        studied = prepared(model, data)
        split = studied.split()
        assert split is not None
        from torchloupe.data.tensors import to_float

        images = to_float(split.images[:16], studied.size)
        ours = timed(lambda: run("deconvnet", studied, "first", images, keep=0.1, randomized=False), runs)
        slow = timed(lambda: deconvolve_first(studied.model, "conv1", images), 1, warm=0)
        captum = timed(lambda: captum_first(studied.model, images), 1, warm=0)
        name = "`study`, 224²" if model == STUDY else "`loupe`, 32²"
        rows.append([name, ours, slow, ratio(slow, ours), captum, ratio(captum, ours)])
    head = ["network", "torchloupe, s", "the study's way, s", "ratio", "captum, s", "ratio"]
    note = (
        "All maps of `conv1` of 16 pictures (64 of `study`, those of `loupe`'s first layer), strongest 10 % kept. "
        "captum's `NeuronDeconvolution` is called once a channel, for all pictures together, "
        "and starts from ones instead of the activations."
    )
    return f"## Deconvolution of the first layer\n\n{note}\n\n{table(head, rows)}"


def captum_first(model: torch.nn.Module, images: torch.Tensor) -> None:
    """captum, one call a channel."""
    from captum.attr import NeuronDeconvolution

    bare: Any = model.bare
    conv = bare.get_submodule("conv1")
    method = NeuronDeconvolution(bare, conv)
    for channel in range(conv.out_channels):
        method.attribute(images.clone().requires_grad_(), lambda out, c=channel: out[:, c].sum((1, 2)))


def maximization(resnet: str, data: str, lucent: str | None, runs: int) -> str:
    """Seconds a unit and the activation reached: ours, the study's way, lucent, on a trained resnet20."""
    studied, layer = prepared(resnet, data), "layer3.2"
    channels = list(range(64))
    studied.best(layer)
    made: list[Any] = []
    ours = timed(lambda: made.append(run("maximize", studied, layer, channels=channels, copies=1)), runs)
    per_unit = Timed(tuple(s / len(channels) for s in ours.seconds))
    reached = made[-1].activation
    start = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    slow, slow_reached = [], []
    for channel in channels[:UNITS]:
        began = time.perf_counter()
        image = maximize_one(studied.model, layer, channel, start, lr=0.11)
        slow.append(time.perf_counter() - began)
        with frozen_eval(studied.model), torch.no_grad():
            slow_reached.append(activations(studied.model, layer, image)[0, channel].mean().item())
    best = studied.best(layer)
    assert best is not None
    rows = [["torchloupe, 64 units at once", per_unit, "", f"{(reached / best).median():.3g}", ""]]
    rows.append(_beside("the study's way, from noise", Timed(tuple(slow)), slow_reached, per_unit, reached, best))
    if lucent:
        call = [
            lucent,
            str(Path(__file__).parent / "peer_lucent.py"),
            str(Path(resnet).resolve()),
            layer,
            ",".join(map(str, channels[:UNITS])),
        ]
        said = subprocess.run(call, capture_output=True, text=True, check=True)
        found = json.loads(said.stdout.splitlines()[-1])
        rows.append(
            _beside(
                "lucent 0.1.8 `render_vis`, 512 steps",
                Timed(tuple(found["seconds"])),
                found["activation"],
                per_unit,
                reached,
                best,
            )
        )
    head = [
        "way",
        "seconds a unit",
        "torchloupe is faster by",
        "activation / best test picture, median",
        "torchloupe's activation on the same units / this one's",
    ]
    note = (
        "Channels of the last block of a trained `resnet20`, pictures of 32 x 32 from noise, one each; activation: "
        "spatial mean of the block's output on the final picture."
    )
    return f"## Maximisation\n\n{note}\n\n{table(head, rows)}"


def _beside(
    name: str, seconds: Timed, theirs: list[float], ours: Timed, reached: torch.Tensor, best: torch.Tensor
) -> list[object]:
    them = torch.tensor(theirs)
    share = (them / best[: len(them)]).median()
    return [
        name,
        seconds,
        ratio(seconds, ours),
        f"{share:.3g}",
        ", ".join(f"{v:.2f}" for v in reached[: len(them)] / them),
    ]


def growth(loupe: str, data: str) -> str:
    """Seconds against units, pictures and size."""
    studied = prepared(loupe, data)
    best = studied.best(resolve(studied.model, "last"))
    assert best is not None
    split = studied.split()
    assert split is not None
    few = split.images[:64].float() / 255

    def timing(method: str, **settings: Any) -> Timed:
        return timed(lambda: run(method, studied, "last", **settings), runs=2, warm=0)

    rows: list[list[Any]] = [
        *(
            ["maximize", "units", units, timing("maximize", channels=list(range(units)), copies=1)]
            for units in (16, 32, 64, 128, 256)
            if units <= len(best)
        ),
        *(["invert", "pictures", n, timing("invert", images=few[:n], randomized=False)] for n in (4, 8, 16, 32, 64)),
        *(["deconvnet", "pictures", n, timing("deconvnet", images=few[:n], randomized=False)] for n in (4, 16, 64)),
    ]
    for side in (32, 64, 96, 128):
        big = torch.nn.functional.interpolate(few[:8], (side, side), mode="bilinear")
        rows.append(["invert", "side of 8 pictures", side, timing("invert", images=big, randomized=False)])
    each = [f"{1000 * row[3].median / (row[2] if 'side' not in row[1] else row[2] ** 2 / 128):.3g}" for row in rows]
    cells = [[*row, per] for row, per in zip(rows, each, strict=True)]
    head = ["method", "against", "n", "seconds", "ms a unit or picture (of side 32)"]
    return f"## Growth (`loupe`, last block)\n\n{table(head, cells)}"


def whole_set(loupe: str, runs: int) -> str:
    """`torchloupe pictures` as a command, from start to end, for a run without kept results and with them."""
    seconds = []
    for kept in Path(loupe).glob("health-*"):
        kept.unlink()
    for _ in range(runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            call = [
                str(Path(sys.executable).parent / "torchloupe"),
                "pictures",
                loupe,
                "--out",
                folder,
                "--quiet",
            ]
            began = time.perf_counter()
            subprocess.run(call, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
    return (
        "## The whole set\n\n`torchloupe pictures` for `loupe`, start of Python included: "
        f"{Timed(tuple(seconds[1:]))} s; {seconds[0]:.3g} s the first time, when the best activations of all test "
        "pictures are looked for as well (they are then kept in the run's folder)."
    )


def main() -> None:
    """Read the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loupe", nargs="?")
    parser.add_argument("resnet20", nargs="?")
    parser.add_argument("--data", default="auto")
    parser.add_argument("--lucent-python")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", action="append", help="set, best, maximisation, deconvolution, growth or methods")
    parser.add_argument("--one")
    parser.add_argument("--model")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one, asked.model, asked.data, asked.runs)))
        return
    sections: dict[str, Callable[[], str]] = {
        "set": lambda: whole_set(asked.loupe, asked.runs),
        "best": lambda: against_the_best([asked.loupe, asked.resnet20], asked.data),
        "maximisation": lambda: maximization(asked.resnet20, asked.data, asked.lucent_python, asked.runs),
        "deconvolution": lambda: deconvolution(asked.loupe, asked.data, asked.runs),
        "growth": lambda: growth(asked.loupe, asked.data),
        "methods": lambda: each_method(asked.loupe, asked.data, asked.runs),
    }
    for name in asked.only or sections:
        title, _, body = sections[name]().partition("\n\n")
        write(f"pictures-{name}", title.removeprefix("## "), [body], f"python bench/pictures.py --only {name}")


if __name__ == "__main__":
    main()
