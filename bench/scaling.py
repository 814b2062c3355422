"""Seconds an epoch against pictures, width, side, batch, threads and ranks: tables and curves.

    python bench/scaling.py

Pictures come by repetition, other sides by resizing. Every point is a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure

from common import RESULTS, Timed, table, write
from torchloupe import data
from torchloupe.data.dataset import Dataset
from torchloupe.data.subsets import take
from torchloupe.data.tensors import to_float
from torchloupe.models import build
from torchloupe.training.config import PRESETS, resolve, steps_of
from torchloupe.training.prepare import arguments_of
from work import step_flops, step_seconds

PICTURES = (12_500, 25_000, 50_000, 100_000, 200_000)
WIDTHS = (8, 16, 32, 48, 64, 96)
SIDES = (32, 64, 96)
BATCHES = (64, 125, 250, 500, 1000)
POINT = {"pictures": 50_000, "width": 32, "side": 32, "batch": 250, "threads": 2, "ranks": 1}
STEPS = 30
WHY = """## Where they bend, and why

- Pictures: nowhere beyond this machine's drift (a fifth). A picture costs the same whatever their number; the data set
  is bytes in memory.
- Width: in proportion to its square from 32 up. Below, what is not a matrix product (normalisation, ReLU, pooling,
  augmentation, the optimizer's own work) keeps its size, and convolutions of few channels fill no register tile.
- Side: nearly to its square. At 96 the maps of a batch outgrow every cache, and passes over memory cost more.
- Batch: up to 250 each step's fixed work (Newton-Schulz of every filter bank, the calls themselves) is spread over more
  pictures; from there on it is flat within this machine's noise.
- Threads: the second one brings less than two: both wait for the same memory.
- Ranks: two of one thread are as fast as one of two; the gradients that they exchange are about a megabyte a step.
"""


def resized(dataset: Dataset, side: int) -> Dataset:
    """Return a data set of at most 4,000 train pictures of another side."""
    some = take(dataset.train, torch.arange(min(4000, len(dataset.train))))
    images = (to_float(some.images, side) * 255).round().to(torch.uint8)
    return replace(dataset, train=replace(some, images=images, masks=None))


def repeated(dataset: Dataset, images: int) -> Dataset:
    """Return a data set with so many train pictures."""
    return replace(dataset, train=take(dataset.train, torch.arange(images) % len(dataset.train)))


def point(given: dict[str, int], word: str) -> dict[str, float]:
    """Time steps of one setting in this process (or, under torchrun, in all of them)."""
    torch.set_num_threads(given["threads"])
    torch.set_flush_denormal(True)
    dataset = data.load(word)
    dataset = resized(dataset, given["side"]) if given["side"] != 32 else repeated(dataset, given["pictures"])
    own = replace(PRESETS["quick"], net_width=given["width"], batch=given["batch"], low_until=0.0)
    config = resolve(own, ours=True, images=len(dataset.train))
    per_epoch = given["pictures"] // given["batch"]
    seconds = step_seconds(dataset, config, amp="auto", steps=STEPS)
    net = build("loupe", **arguments_of(config))
    work = step_flops(net, given["side"], given["batch"])
    median = Timed(tuple(seconds)).median
    low, high = min(seconds), max(seconds)
    return {
        "epoch": median * per_epoch,
        "low": low * per_epoch,
        "high": high * per_epoch,
        "rate": work / median,
        "steps": steps_of(config, given["pictures"])[0],
    }


def in_process(setting: dict[str, int], word: str) -> dict[str, float]:
    """Measure one point in a process of its own."""
    call = [sys.executable, __file__, "--data", word, "--point", json.dumps(setting)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ranked(word: str, ranks: int, threads: int) -> dict[str, float]:
    """Train one epoch under torchrun with gloo; the run's own clock."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
        call = ["-m", "torchloupe", "train", "--data", word, "--epochs", "1", "--low-until", "0", "--quiet"]
        options = ["--device", "cpu", "--threads", str(threads), "--batch", str(POINT["batch"]), "--out", str(out)]
        subprocess.run([*launch, *call, *options], check=True, capture_output=True)
        seconds = json.loads((out / "timing.jsonl").read_text().splitlines()[-1])["train_seconds"]
    return {"epoch": seconds, "low": seconds, "high": seconds, "rate": 0.0}


def series(name: str, values: tuple[int, ...], word: str) -> list[tuple[int, dict[str, float]]]:
    """Measure one curve."""
    found = []
    for value in values:
        setting = {**POINT, name: value}
        found.append((value, in_process(setting, word)))
        print(name, value, found[-1][1], flush=True)
    return found


def curve_table(name: str, found: list[tuple[int, dict[str, float]]]) -> str:
    """Return one curve as a table."""
    base = found[0]
    rows = []
    for value, measured in found:
        grown = measured["epoch"] / base[1]["epoch"]
        spread = f"{measured['epoch']:.3g} ({measured['low']:.3g} to {measured['high']:.3g})"
        rate = f"{measured['rate'] / 1e9:.0f}" if measured["rate"] else ""
        rows.append((f"{value:,}", spread, f"{grown:.2f}", rate))
    return table([name, "s an epoch: median (range)", "times the first", "GFLOP/s"], rows)


def draw(curves: dict[str, list[tuple[int, dict[str, float]]]], path: Path) -> None:
    """Draw the curves, double-logarithmic, with a line of proportion where there is one."""
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    powers = {"pictures": 1, "width": 2, "side": 2, "batch": 0}
    for place, (name, power) in enumerate(powers.items(), start=1):
        axes = figure.add_subplot(1, len(powers), place)
        x = [value for value, _ in curves[name]]
        y = [measured["epoch"] for _, measured in curves[name]]
        middle = len(x) // 2
        axes.loglog(x, [y[middle] * (v / x[middle]) ** power for v in x], color="0.75", lw=1.2)
        lows, highs = ([row[end] for _, row in curves[name]] for end in ("low", "high"))
        axes.vlines(x, lows, highs, color="#2a6f97", lw=3, alpha=0.3)
        axes.loglog(x, y, "o-", color="#2a6f97", ms=4, lw=1.6)
        room = max(1.25, (8 * min(y) / max(y)) ** 0.5)  # no axis of less than a factor of eight: noise looks like noise
        axes.set_ylim(min(y) / room, max(y) * room)
        axes.set_xticks(x, [f"{v:,}" for v in x], fontsize=7, rotation=30 if name == "pictures" else 0)
        axes.minorticks_off()
        ticks = [v for v in (1, 2, 5, 10, 20, 50, 100, 200) if min(y) / room <= v <= max(y) * room]
        axes.set_yticks(ticks, [str(v) for v in ticks], fontsize=7)
        axes.set_title(name, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if place == 1:
            axes.set_ylabel("seconds an epoch", fontsize=8)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=160)


def main() -> None:
    """Measure everything, or one point."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", default="auto")
    words.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.point:
        print(json.dumps(point(given.point, given.data)))
        return
    values = {"pictures": PICTURES, "width": WIDTHS, "side": SIDES, "batch": BATCHES, "threads": (1, 2)}
    curves = {name: series(name, wanted, given.data) for name, wanted in values.items()}
    ranks = [(count, ranked(given.data, count, 2 // count)) for count in (1, 2)]
    draw(curves, RESULTS / "scaling.png")
    fixed = ", ".join(f"{name} {value:,}" for name, value in POINT.items())
    parts = [
        f"Whole pictures, network `loupe`; unless the table says otherwise: {fixed}. {STEPS} steps are timed after "
        "three, and multiplied up to an epoch. Grey: in proportion (width and side: to their square).",
        "![curves](scaling.png)",
        *(f"## By {name}\n\n{curve_table(name, found)}" for name, found in curves.items()),
        "## By ranks (gloo, one machine, two threads in all; one whole epoch by the run's clock)\n\n"
        + curve_table("ranks", ranks),
    ]
    parts.append(WHY)
    write("scaling", "Scaling", parts, "python bench/scaling.py")


if __name__ == "__main__":
    main()
