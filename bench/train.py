"""Time and work to an accuracy: the presets, beside the study's step and the recipe of airbench94-Muon, in one run.

    python bench/train.py            # everything but `best`: about 1 1/2 hours on two cores
    python bench/train.py --short        # one training of `quick`, the peers by their steps: 5 minutes

The test split is read at the end of each epoch to tell when a target was reached; the clock stands still meanwhile.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from airbench import BATCH, EPOCHS, Airbench, train_airbench
from common import Timed, ratio, table, timed, write
from startup import measure, startup_table
from torchloupe import data
from torchloupe.config import PRESETS, TrainConfig, resolve, steps_of
from torchloupe.data.dataset import Dataset
from torchloupe.evaluate import judge, predict
from torchloupe.metrics import read_metrics
from torchloupe.models import build
from torchloupe.prepare import arguments_of
from torchloupe.train import train
from work import (
    correlation,
    first_layers,
    mean_std,
    net_seconds,
    peak,
    profiled,
    split,
    step_flops,
    step_seconds,
    training_flops,
)

TARGETS = (86.34, 88.0, 90.0)
STUDY_STEPS = 10_166
"""Thirteen epochs of 782 steps of 64 pictures."""


@dataclass(frozen=True)
class Trainings:
    """Several trainings by one recipe; accuracies in percent."""

    name: str
    epochs: float
    flops: float
    seconds: Timed
    plain: list[float]
    flipped: list[float]
    reached: dict[float, list[float]]
    """Of each target, the seconds of those trainings that reached it, by the end of the epoch in which they did."""
    smooth: Sequence[float] = ()
    """Correlation of neighbouring pixels in each one's first-layer filters."""


def preset(dataset: Dataset, name: str, seeds: Sequence[int], amp: str) -> Trainings:
    """Train by a preset with each seed."""
    seconds: list[float] = []
    plain: list[float] = []
    flipped: list[float] = []
    reached: dict[float, list[float]] = {target: [] for target in TARGETS}
    smooth: list[float] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            network = train(dataset, replace(PRESETS[name], seed=seed), out, device="cpu", amp=amp)
            rows, times = read_metrics(out, "epoch"), read_metrics_of_time(out)
        seconds.append(times[-1])
        smooth.append(correlation(network.get_parameter("conv1.weight").detach()))
        for flip, accuracies in ((False, plain), (True, flipped)):
            said = predict(network, dataset.test.images, flip=flip, amp=amp)
            accuracies.append(100 * judge(said, dataset.test.labels, dataset.classes).accuracy)
        for target in TARGETS:
            there = [t for t, row in zip(times, rows, strict=True) if 100 * row["test_accuracy"] >= target]
            reached[target] += there[:1]
        print(f"{name}, seed {seed}: {seconds[-1]:.1f} s, {plain[-1]:.2f} %, flips {flipped[-1]:.2f} %", flush=True)
    config = resolved(dataset, name)
    steps = steps_of(config, len(dataset.train))[1]
    flops = training_flops(build(config.model, **arguments_of(config)), dataset.train.images.shape[-1], config, steps)
    return Trainings(f"`{name}`", config.epochs, flops, Timed(tuple(seconds)), plain, flipped, reached, smooth)


def read_metrics_of_time(out: Path) -> list[float]:
    """Return the seconds of training at the end of each epoch."""
    import json

    lines = (out / "timing.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["train_seconds"] for line in lines]


def resolved(dataset: Dataset, name: str) -> TrainConfig:
    """Return a preset with nothing left open."""
    return resolve(PRESETS[name], ours=True, pictures=len(dataset.train))


def airbench(dataset: Dataset, seeds: Sequence[int], amp: str) -> Trainings:
    """Train the peer with each seed."""
    flops = step_flops(Airbench(torch.rand(200, 3, 32, 32)), 32, 200) / 200 * BATCH
    runs = []
    for seed in seeds:
        runs.append(train_airbench(dataset, seed, amp=amp))
        run = runs[-1]
        print(f"airbench, seed {seed}: {run.seconds:.1f} s, {100 * run.plain:.2f} %, flips {100 * run.flipped:.2f} %")
    reached = {t: [r.seconds for r in runs if 100 * r.plain >= t] for t in TARGETS}
    times = Timed(tuple(r.seconds for r in runs))
    plain, flipped = [100 * r.plain for r in runs], [100 * r.flipped for r in runs]
    return Trainings("airbench94-Muon", EPOCHS, flops * runs[0].steps, times, plain, flipped, reached)


def trainings_table(rows: Sequence[Trainings], rate: float) -> str:
    """Return time, work and accuracy of every recipe."""
    cells = []
    for row in rows:
        achieved = row.flops / row.seconds.median
        cells.append(
            (
                row.name,
                len(row.plain),
                f"{row.epochs:g}",
                f"{row.flops / 1e15:.3f}",
                row.seconds,
                mean_std(row.plain),
                mean_std(row.flipped),
                f"{achieved / 1e9:.0f} ({achieved / rate:.0%})",
                mean_std(list(row.smooth)) if row.smooth else "",
            )
        )
    head = ["recipe", "n", "epochs", "PFLOP", "seconds of training: median (range)", "test accuracy, %: plain"]
    return table([*head, "two views (flip)", "GFLOP/s (share of GEMM)", "neighbour correlation of filters"], cells)


def targets_table(rows: Sequence[Trainings]) -> str:
    """Return how soon each recipe reaches each accuracy."""
    cells = []
    for target in TARGETS:
        for row in rows:
            found = row.reached[target]
            if found:
                share = statistics.median(found) / row.seconds.median
                part = Timed(tuple(found))
                cells.append(
                    (
                        f"{target:g} %",
                        row.name,
                        f"{len(found)} of {len(row.plain)}",
                        part,
                        f"{row.flops * share / 1e15:.3f}",
                    )
                )
    return table(["plain test accuracy", "recipe", "trainings that reach it", "seconds", "PFLOP"], cells)


def study_seconds(dataset: Dataset, amp: str) -> Timed:
    """Time the study's step: its network, 64 pictures of 224 x 224, Adam with AMSGrad."""
    return Timed(tuple(step_seconds(dataset, resolved(dataset, "study"), amp=amp, steps=3, warm=1)))


def split_table(dataset: Dataset, names: Sequence[str], amp: str) -> str:
    """Return where the time of a step goes: whole pictures, and low resolution where a preset has it."""
    rows = []
    for name in names:
        config = resolved(dataset, name)
        for until, side in ((0.0, dataset.train.images.shape[-1]), (1.0, config.low_size)):
            if side:
                parts = split(dataset, replace(config, low_until=until), amp=amp)
                whole = parts.pop("step")
                shares = [f"{part:.1f} ({part / whole:.0%})" for part in parts.values()]
                rows.append((f"`{name}`, {config.batch} x {side}²", f"{whole:.1f}", *shares))
    head = ["step", "ms", "data (gather)", "augmentation", "forward", "backward", "optimizer", "rest"]
    return table(head, rows)


def first_layer_table(amp: str) -> str:
    """Return what the first layer costs: a step's passes with it and with cheaper ones."""
    rows = []
    for name, net in first_layers().items():
        times = [Timed(tuple(1000 * s for s in net_seconds(net, side, 500, amp))) for side in (20, 32)]
        rows.append((name, *times))
    return table(["first layer of `loupe`", "ms, 20²: median (range)", "ms, 32²"], rows)


def profile_table(dataset: Dataset, amp: str) -> str:
    """Return the operators of a step of `quick` on whole pictures."""
    config = replace(resolved(dataset, "quick"), low_until=0.0)
    return table(["operator", "ms a step"], [(f"`{n}`", f"{ms:.1f}") for n, ms in profiled(dataset, config, amp=amp)])


def main() -> None:
    """Run it."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", default="auto")
    words.add_argument("--amp", default="auto", choices=["auto", "on", "off"])
    words.add_argument("--short", action="store_true")
    words.add_argument("--quick", type=int, default=5, help="trainings of `quick`")
    words.add_argument("--good", type=int, default=3, help="trainings of `good`")
    words.add_argument("--best", type=int, default=0, help="trainings of `best`")
    words.add_argument("--airbench", type=int, default=3, help="trainings of airbench94-Muon")
    given = words.parse_args()
    torch.set_flush_denormal(True)
    dataset = data.load(given.data)
    dtype, rate = peak(given.amp)
    study = {dt: study_seconds(dataset, mode) for dt, mode in (("float32", "off"), (dtype, given.amp))}
    rows = []
    if given.short:
        rows.append(preset(dataset, "quick", [0], given.amp))
        peer = [timed(lambda: train_airbench(dataset, 0, amp=given.amp, steps=2), runs=1, warm=0)]
        per_step = (peer[0].seconds[0]) / 2
        note = f"airbench94-Muon, by two steps of {EPOCHS * (len(dataset.train) // BATCH)}: {per_step:.1f} s a step."
    else:
        names = [name for name in ("quick", "good", "best") if getattr(given, name)]
        rows.extend(preset(dataset, name, range(getattr(given, name)), given.amp) for name in names)
        if given.airbench:
            rows.append(airbench(dataset, range(given.airbench), given.amp))
        note = ""
    dtype, again = peak(given.amp)
    first = rows[0].seconds
    whole = {dt: Timed(tuple(s * STUDY_STEPS for s in times.seconds)) for dt, times in study.items()}
    compared = [
        (
            f"the study's recipe, {dt}: {STUDY_STEPS:,} steps of 64",
            f"{study[dt]}",
            f"{whole[dt].median / 3600:.1f} h",
            ratio(whole[dt], first),
        )
        for dt in study
    ]
    parts = [
        f"{dataset.name}: {len(dataset.train):,} train and {len(dataset.test):,} test pictures. Training multiplies "
        f"in {dtype}; a product of two matrices of {2048}² runs at {rate / 1e9:.0f} GFLOP/s before and "
        f"{again / 1e9:.0f} after. Work is counted by torch's `FlopCounterMode` (multiply and add: two). "
        "Accuracies: mean ± standard deviation over seeds. " + note,
        trainings_table(rows, max(rate, again)),
        "## Time to an accuracy\n\nBy the end of the first epoch whose test accuracy is there.\n\n"
        + targets_table(rows),
        "## Beside the study's recipe\n\nIts steps are timed, its whole is their number times that.\n\n"
        + table(["recipe", "s a step", "whole", f"against {rows[0].name}"], compared),
        "## Where a step goes\n\n"
        + split_table(dataset, [r.name.strip("`") for r in rows if "`" in r.name], given.amp),
        "By operator (profiler), whole pictures:\n\n" + profile_table(dataset, given.amp),
        "## What the first layer costs\n\nForward and backward pass of 500 pictures.\n\n"
        + first_layer_table(given.amp),
    ]
    if given.short:
        parts.append("## Start\n\n" + startup_table(measure(runs=5)))
    write(
        "train-short" if given.short else "train", "Training", parts, "python bench/train.py" + " --short" * given.short
    )


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s in all")
