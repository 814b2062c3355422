"""A small run with names that mean harm, and reports of it, for the tests of reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchloupe import data
from torchloupe.inspection.subject import Subject, keep_statistics, subject
from torchloupe.reports.plan import Amount, Plan
from torchloupe.reports.report import ReportFile, prepare, sample_images, write
from torchloupe.runs.summary import finish
from torchloupe.training.config import TrainConfig
from torchloupe.training.loop import train

SCRIPT = "<script>document.title='taken'<／script>"
"""A slash cannot stand in a file's name: where names come from code, a real one is used as well."""
CLASSES = (SCRIPT, "\"'><img src=x onerror=document.title='taken'>", "\u202eגמל\u202c שלום", "w" * 180)
SMALL = Amount(
    units=5,
    copies=2,
    steps=4,
    samples=3,
    inversion_steps=6,
    examples=4,
    traced=2,
    images=40,
    ablated=24,
    learned=3,
    controlled=5,
)


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Keep the user's own cache out of fixtures that live longer than a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHLOUPE_CACHE", str(folder / "cache"))
        yield


def hostile_data(folder: Path, train: int = 16, test: int = 10) -> Path:
    """Pictures of four classes, each of a faint colour in noise, in folders with such names."""
    chance = np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        for split, count in (("train", train), ("test", test)):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = chance.integers(0, 160, (16, 16, 3), dtype=np.uint8)
                pixels[..., k % 3] += np.uint8(9 + 2 * k)
                Image.fromarray(pixels).save(place / f"{i} <b onclick=x>&amp;.png")
    return folder


def hostile_run(home: Path) -> Path:
    """Train a very small loupe on them for a few steps; the run's name is hostile too."""
    dataset = data.load(str(hostile_data(home / "pictures")))
    out = home / "run <img src=x onerror=alert(1)> \u202eאב"
    config = TrainConfig(net_width=6, epochs=6, batch=16, min_steps=0, seed=1)
    torch.manual_seed(0)
    train(dataset, config, out, device="cpu")
    finish(out)
    keep_statistics(out, dataset)
    return out


def small_report(run: Path, out: Path, amount: Amount = SMALL, **options: Any) -> ReportFile:
    """Write a report of little of everything."""
    studied: Subject = subject(run)
    planned, _ = prepare(studied, budget=None, **options)
    samples = sample_images(studied, options.get("pictures", ()), amount.samples, 0)
    plan = Plan(planned.layers, amount, planned.seconds, ("A note with <i>marks</i> & more.",))
    return write(studied, out, plan, samples, budget=None)
