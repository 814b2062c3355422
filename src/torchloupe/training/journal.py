"""What is measured and told while a network learns: losses, probes, epochs, timing, and whether it diverged."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchloupe.data.dataset import Split
from torchloupe.data.subsets import probe_of
from torchloupe.errors import DivergedError
from torchloupe.evaluation.accuracy import judge, predict
from torchloupe.models.network import Network
from torchloupe.runs.metrics import Metrics
from torchloupe.runtime import distributed
from torchloupe.training.chance import seed_for
from torchloupe.training.prepare import Start

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
    """Measures a training and writes it down."""

    def __init__(self, start: Start, out: Path, per_epoch: int, steps: int, amp: str, listener: Listener) -> None:
        self.start, self.out, self.per_epoch, self.steps, self.amp = start, out, per_epoch, steps, amp
        self.listener = listener
        self.probe = probe_of(start.test, seed_for(start.config, "probe"))
        self.loss = math.nan

    def open(self, about: dict[str, Any] | None) -> None:
        """Begin, or go on from a saved state, forgetting what was written after it."""
        self.metrics = Metrics(self.out, keep=about["metrics"] if about else 0)
        if about:
            self.metrics.loss_sum, self.metrics.hits, self.metrics.seen = about["running"]

    def position(self) -> dict[str, Any]:
        """Bring everything to the disk; returns what `open` needs to go on from here."""
        self.flush()
        running = [self.metrics.loss_sum, self.metrics.hits, self.metrics.seen]
        return {"metrics": self.metrics.sync(), "running": running}

    def step(self, step: int, lr: float, sums: Tensor) -> None:
        """Note a step; its sums stay on the device until the next `flush`."""
        self.metrics.step({"kind": "step", "step": step, "epoch": step / self.per_epoch, "lr": lr}, sums)
        self.listener.step(step, self.steps, self.loss)

    def flush(self) -> None:
        """Write the steps that wait.

        Raises:
            DivergedError: their mean loss is not finite, or far above that of guessing.
        """
        losses = self.metrics.flush()
        if not losses:
            return
        self.loss = sum(losses) / len(losses)
        if not math.isfinite(self.loss) or self.loss > 10 * math.log(max(2, len(self.start.about.classes))) + 10:
            raise DivergedError(
                f"training diverged: the loss is {self.loss:.3g}. The last good state is kept in '{self.out}'. "
                f"Try a lower rate, --lr {(self.start.config.lr or 0.1) / 4:.2g}, and check --mean and --std."
            )

    def measure(self, step: int, network: Network, seconds: float) -> None:
        """Measure the probe and, at an epoch's end, all test pictures, where they are due."""
        place = {"step": step, "epoch": step / self.per_epoch}
        if len(self.probe) and step % max(FEWEST_STEPS, self.per_epoch // PROBES_AN_EPOCH) == 0:
            self.flush()
            loss, accuracy = self._measure(network, self.probe)
            self.metrics.write({"kind": "probe", **place, "loss": loss, "accuracy": accuracy})
        if step % self.per_epoch == 0 or step == self.steps:
            self.flush()
            began = time.monotonic()
            row = {"kind": "epoch", **place, **self._epoch(network)}
            self.metrics.write(row)
            self.metrics.start_epoch()
            self._timing({"step": step, "train_seconds": seconds, "test_seconds": time.monotonic() - began})
            eta = seconds / step * (self.steps - step)
            self.listener.epoch({**row, "epochs": self.steps / self.per_epoch, "seconds": seconds, "eta": eta})

    def _epoch(self, network: Network) -> dict[str, float]:
        train_loss, train_accuracy = self.metrics.running()
        row = {"train_loss": train_loss, "train_accuracy": train_accuracy}
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

    def _timing(self, row: dict[str, float]) -> None:
        if distributed.rank() == 0:
            with (self.out / "timing.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({name: round(value, 3) for name, value in row.items()}) + "\n")
