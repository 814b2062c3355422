"""Single trainings for `train.py`, by our presets and by the peer; each can be kept, so that a long bench can go on."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from airbench import train_airbench
from torchloupe.data.dataset import Dataset
from torchloupe.evaluation.accuracy import judge, predict
from torchloupe.runs.metrics import read_metrics
from torchloupe.training.config import PRESETS
from torchloupe.training.loop import train
from work import correlation

TARGETS = (86.34, 88.0, 90.0)


@dataclass(frozen=True)
class Training:
    """One training; accuracies in percent."""

    seconds: float
    plain: float
    flipped: float
    reached: dict[str, float]
    """Target -> seconds by the end of the first epoch whose test accuracy is there."""
    smooth: float | None = None
    """Correlation of neighbouring pixels in the first layer's filters."""


def kept(folder: Path | None, name: str, seed: int, make: Callable[[], Training]) -> Training:
    """Return a training that was kept under this name and seed, else do it, keep it and say how it went."""
    path = None if folder is None else folder / f"{name}-{seed}.json"
    if path is not None and path.is_file():
        done = Training(**json.loads(path.read_text(encoding="utf-8")))
        how = "kept"
    else:
        done, how = make(), "done"
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(done)), encoding="utf-8")
    print(
        f"{name}, seed {seed}: {done.seconds:.1f} s, {done.plain:.2f} %, flips {done.flipped:.2f} % ({how})", flush=True
    )
    return done


def by_preset(dataset: Dataset, name: str, seed: int, amp: str) -> Training:
    """Train by a preset."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        network = train(dataset, replace(PRESETS[name], seed=seed), out, device="cpu", amp=amp)
        rows = read_metrics(out, "epoch")
        lines = (out / "timing.jsonl").read_text(encoding="utf-8").splitlines()
        times = [float(json.loads(line)["train_seconds"]) for line in lines]
    accuracies = []
    for flip in (False, True):
        said = predict(network, dataset.test.images, flip=flip, amp=amp)
        accuracies.append(100 * judge(said, dataset.test.labels, dataset.classes).accuracy)
    reached: dict[str, float] = {}
    for target in TARGETS:
        there = [t for t, row in zip(times, rows, strict=True) if 100 * row["test_accuracy"] >= target]
        reached |= {str(target): there[0]} if there else {}
    filters = correlation(network.get_parameter("conv1.weight").detach())
    return Training(times[-1], accuracies[0], accuracies[1], reached, filters)


def by_airbench(dataset: Dataset, seed: int, amp: str) -> Training:
    """Train by the peer's recipe, which is tested at its end only."""
    run = train_airbench(dataset, seed, amp=amp)
    reached = {str(target): run.seconds for target in TARGETS if 100 * run.plain >= target}
    return Training(run.seconds, 100 * run.plain, 100 * run.flipped, reached)
