"""What is measured and told while a network learns: losses, probes, epochs, timing, and whether it diverged."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchloupe.data.dataset import Split
from torchloupe.data.subsets import sample, take
from torchloupe.evaluation.accuracy import judge, predict
from torchloupe.models.network import Network
from torchloupe.runs import metrics
from torchloupe.runtime import distributed
from torchloupe.training.advice import diverged
from torchloupe.training.chance import seed_for
from torchloupe.training.prepare import Start

PROBED = 1000
"""Test images that the loss is probed on within an epoch, at most."""
PROBES_AN_EPOCH = 4
FEWEST_STEPS = 10
"""Steps between two probes where epochs are short."""


def nothing(*_: object) -> None:
    """Do nothing; the default listener."""


@dataclass
class Listener:
    """What a surface hears of a training; every function gets plain values."""

    step: Callable[[int, int, float], object] = nothing
    """(steps done, steps in all, last known loss)."""
    epoch: Callable[[dict[str, Any]], None] = nothing
    """The epoch's row of metrics.jsonl, with `seconds` of training so far and `eta`."""
    wants_stop: Callable[[], bool] = field(default=lambda: False)


class Journal:
    """Measures a training and writes it down.

    Losses stay on the device and are written every few steps, so that no step waits for it.
    """

    def __init__(self, start: Start, out: Path, per_epoch: int, steps: int, amp: str, listener: Listener) -> None:
        self.start, self.out, self.per_epoch, self.steps, self.amp = start, out, per_epoch, steps, amp
        self.listener = listener
        self.probe = take(start.test, sample(len(start.test), PROBED, seed_for(start.config, "probe")))
        self.loss = math.nan
        self.waiting: list[tuple[dict[str, Any], Tensor]] = []
        self.sums = [0.0, 0.0, 0.0]
        """Of the epoch so far: losses, right answers, images."""
        self.writes = distributed.rank() == 0

    def open(self, about: dict[str, Any] | None) -> None:
        """Begin, or go on from a saved state, forgetting what was written after it."""
        if self.writes:
            metrics.cut(self.out, about["metrics"] if about else 0)
        self.waiting = []
        self.sums = list(about["running"]) if about else [0.0, 0.0, 0.0]

    def position(self) -> dict[str, Any]:
        """Bring everything to the disk; returns what `open` needs to go on from here."""
        self.flush()
        return {"metrics": metrics.sync(self.out) if self.writes else 0, "running": list(self.sums)}

    def step(self, step: int, lr: float, sums: Tensor) -> None:
        """Note a step; `sums` (losses, right answers, images of this rank) stay on the device until `flush`."""
        self.waiting.append(({"kind": "step", "step": step, "epoch": step / self.per_epoch, "lr": lr}, sums))
        self.listener.step(step, self.steps, self.loss)

    def flush(self) -> None:
        """Write the steps that wait.

        Raises:
            DivergedError: their mean loss is not finite, or far above that of guessing.
        """
        if not self.waiting:
            return
        rows = [row for row, _ in self.waiting]
        sums = distributed.add_up(torch.stack([each for _, each in self.waiting])).cpu().double()
        self.waiting = []
        self.sums = [old + sums[:, i].sum().item() for i, old in enumerate(self.sums)]
        means = (sums[:, :2] / sums[:, 2:]).tolist()
        self._write([{**row, "loss": loss, "accuracy": hits} for row, (loss, hits) in zip(rows, means, strict=True)])
        self.loss = sum(loss for loss, _ in means) / len(means)
        if not math.isfinite(self.loss) or self.loss > 10 * math.log(max(2, len(self.start.about.classes))) + 10:
            raise diverged(self.start.config, self.out, f"the loss is {self.loss:.3g}")

    def measure(self, step: int, network: Network, seconds: float) -> None:
        """Measure the probe and, at an epoch's end, all test pictures, where they are due."""
        place = {"step": step, "epoch": step / self.per_epoch}
        if len(self.probe) and step % max(FEWEST_STEPS, self.per_epoch // PROBES_AN_EPOCH) == 0:
            self.flush()
            loss, accuracy = self._measure(network, self.probe)
            self._write([{"kind": "probe", **place, "loss": loss, "accuracy": accuracy}])
        if step % self.per_epoch == 0 or step == self.steps:
            self.flush()
            began = time.monotonic()
            row = {"kind": "epoch", **place, **self._epoch(network)}
            self._write([row])
            self.sums = [0.0, 0.0, 0.0]
            self._timing({"step": step, "train_seconds": seconds, "test_seconds": time.monotonic() - began})
            eta = seconds / step * (self.steps - step)
            self.listener.epoch({**row, "epochs": self.steps / self.per_epoch, "seconds": seconds, "eta": eta})

    def _epoch(self, network: Network) -> dict[str, float]:
        losses, hits, seen = self.sums
        row = {"train_loss": losses / max(seen, 1.0), "train_accuracy": hits / max(seen, 1.0)}
        if len(self.start.test):
            row["test_loss"], row["test_accuracy"] = self._measure(network, self.start.test)
        return row

    def _measure(self, network: Network, split: Split) -> tuple[float, float]:
        """Return loss and accuracy over a split, shared out over the ranks."""
        distributed.share_buffers(network)
        mode, mine = network.training, slice(distributed.rank(), None, distributed.world())
        said = predict(network.eval(), split.images[mine], size=self.start.config.size, amp=self.amp)
        network.train(mode)
        classes = self.start.about.classes
        judged = judge(said.reshape(len(said), len(classes)), split.labels[mine], classes)  # a rank may have none
        hits = (judged.predicted == judged.labels).sum()
        sums = torch.stack([judged.losses.double().sum(), hits.double(), torch.tensor(len(said)).double()])
        device = next(network.parameters()).device
        loss, right, n = distributed.add_up(
            sums.float().to(device) if device.type == "mps" else sums.to(device)
        ).tolist()
        return loss / max(1.0, n), right / max(1.0, n)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if self.writes:
            metrics.append(self.out, rows)

    def _timing(self, row: dict[str, float]) -> None:
        if self.writes:
            metrics.append_timing(self.out, row)
