"""Time and work to an accuracy: the presets, beside the study's step and the recipe of airbench94-Muon, in one run.

    python bench/train.py --keep FOLDER           # everything but `best`: 80 minutes on two cores; stopped, it goes on
    python bench/train.py --short                 # one training of `quick`, the peers by their steps: 5 minutes

The test split is read at the end of each epoch to tell when a target was reached; the clock stands still meanwhile.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from airbench import BATCH, EPOCHS, Airbench, train_airbench
from common import Timed, ratio, table, timed, write
from startup import measure, startup_table
from torchloupe import data
from torchloupe.data.dataset import Dataset
from torchloupe.models import build
from torchloupe.training.config import PRESETS, TrainConfig, resolve, steps_of
from torchloupe.training.prepare import arguments_of
from trainings import TARGETS, Training, by_airbench, by_preset, kept
from work import (
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

PEER = "airbench94-Muon"
STUDY_STEPS = 10_166
"""Thirteen epochs of 782 steps of 64 pictures."""


@dataclass(frozen=True)
class Trainings:
    """Several trainings by one recipe, and the work of one."""

    name: str
    epochs: float
    flops: float
    each: tuple[Training, ...]

    @property
    def seconds(self) -> Timed:
        """Seconds of each."""
        return Timed(tuple(one.seconds for one in self.each))

    def reached(self, target: float) -> list[float]:
        """Return the seconds of those trainings that reached an accuracy."""
        return [one.reached[str(target)] for one in self.each if str(target) in one.reached]


def preset_flops(dataset: Dataset, name: str) -> tuple[float, float]:
    """Return epochs and floating-point operations of a training by a preset."""
    config = resolved(dataset, name)
    steps = steps_of(config, len(dataset.train))[1]
    net = build(config.model, **arguments_of(config))
    return config.epochs, training_flops(net, dataset.train.images.shape[-1], config, steps)


def airbench_flops(dataset: Dataset) -> tuple[float, float]:
    """Return the same of the peer."""
    step = step_flops(Airbench(torch.rand(200, 3, 32, 32)), 32, 200) / 200 * BATCH
    return EPOCHS, step * EPOCHS * (len(dataset.train) // BATCH)


def in_turn(dataset: Dataset, counts: dict[str, int], amp: str, keep: Path | None) -> list[Trainings]:
    """Train by each recipe so many times, in turn: a machine's speed drifts."""
    done: dict[str, list[Training]] = {name: [] for name, count in counts.items() if count}
    for seed in range(max(counts.values())):
        for name, each in done.items():
            if seed < counts[name]:
                recipe = partial(by_airbench, dataset) if name == PEER else partial(by_preset, dataset, name)
                each.append(kept(keep, name, seed, partial(recipe, seed, amp)))
    rows = []
    for name, trained in done.items():
        epochs, flops = airbench_flops(dataset) if name == PEER else preset_flops(dataset, name)
        rows.append(Trainings(name if name == PEER else f"`{name}`", epochs, flops, tuple(trained)))
    return rows


def resolved(dataset: Dataset, name: str) -> TrainConfig:
    """Return a preset with nothing left open."""
    return resolve(PRESETS[name], ours=True, images=len(dataset.train))


def trainings_table(rows: Sequence[Trainings], rate: float) -> str:
    """Return time, work and accuracy of every recipe."""
    cells = []
    for row in rows:
        achieved = row.flops / row.seconds.median
        cells.append(
            (
                row.name,
                len(row.each),
                f"{row.epochs:g}",
                f"{row.flops / 1e15:.3f}",
                row.seconds,
                mean_std([one.plain for one in row.each]),
                mean_std([one.flipped for one in row.each]),
                f"{achieved / 1e9:.0f} ({achieved / rate:.0%})",
                mean_std([one.smooth for one in row.each if one.smooth is not None]) if row.name != PEER else "",
            )
        )
    head = ["recipe", "n", "epochs", "PFLOP", "seconds of training: median (range)", "test accuracy, %: plain"]
    return table([*head, "two views (flip)", "GFLOP/s (share of GEMM)", "neighbour correlation of filters"], cells)


def targets_table(rows: Sequence[Trainings]) -> str:
    """Return how soon each recipe reaches each accuracy."""
    cells = []
    for target in TARGETS:
        for row in rows:
            found = row.reached(target)
            if found:
                share = statistics.median(found) / row.seconds.median
                part = Timed(tuple(found))
                cells.append(
                    (
                        f"{target:g} %",
                        row.name,
                        f"{len(found)} of {len(row.each)}",
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
    words.add_argument("--airbench", type=int, default=2, help="trainings of airbench94-Muon")
    words.add_argument("--keep", type=Path, help="folder for finished trainings, which are not done again")
    given = words.parse_args()
    torch.set_flush_denormal(True)
    dataset = data.load(given.data)
    dtype, rate = peak(given.amp)
    study = {dt: study_seconds(dataset, mode) for dt, mode in (("float32", "off"), (dtype, given.amp))}
    rows = []
    if given.short:
        rows.extend(in_turn(dataset, {"quick": 1}, given.amp, given.keep))
        peer = [timed(lambda: train_airbench(dataset, 0, amp=given.amp, steps=2), runs=1, warm=0)]
        per_step = (peer[0].seconds[0]) / 2
        note = f"airbench94-Muon, by two steps of {EPOCHS * (len(dataset.train) // BATCH)}: {per_step:.1f} s a step."
    else:
        counts = {name: getattr(given, name) for name in ("quick", "good", "best")} | {PEER: given.airbench}
        rows.extend(in_turn(dataset, counts, given.amp, given.keep))
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
