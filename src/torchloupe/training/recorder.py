"""Recording in one's own training: curves and snapshots of a loop that is not torchloupe's, in a folder that is a run.

Once it has begun nothing here stops a training: what cannot be recorded is told in one warning.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from torch import nn

from torchloupe.checkpoints.file import not_finite, save_model
from torchloupe.data.dataset import Dataset
from torchloupe.errors import RecordingWarning, ResourceError, UsageError, in_one_line, short
from torchloupe.models.network import unwrapped
from torchloupe.models.reference import one_line
from torchloupe.runs import metrics
from torchloupe.runs.config import read_config
from torchloupe.runs.folder import CONFIG, check_free
from torchloupe.runs.summary import draw_curves
from torchloupe.runs.writing import writing
from torchloupe.runtime import distributed
from torchloupe.runtime.environment import environment
from torchloupe.runtime.files import refused, write_json
from torchloupe.runtime.launched import launched_rank
from torchloupe.training.recorded import describe_own
from torchloupe.training.recorded_log import Log, Number

Every = Literal["log", "epoch"] | int
"""When weights are kept: after 1/4, 1/2, 1, 2, 4, 8, … epochs, after each, or after every so many."""

SNAPSHOTS = "snapshots"
SHARES = (0.25, 0.5)
"""Of the first epoch, after which weights are kept where its length is known."""


class Recorder:
    """Records a training of your own as a run: its curves, its weights on the way, its end.

    `net` is the network that learns (compiled, data-parallel and averaged ones are unwrapped) and `out` a new folder.
    `classes`, `mean`, `std`, `size`, `output` and `multilabel` say what it takes and gives, as for `torchloupe.wrap`.
    Weights are kept before the first step and then `every`: "log", after 1, 2, 4, 8, … epochs (with `steps_per_epoch`
    also within the first); "epoch", after each; a number, after every so many.

    `torchloupe.report(net, run=out)` then reports of it. Commands such as `torchloupe report OUT` do so as well where
    the network can be made anew: where its class needs no further arguments, or by `model`, its reference
    (`file.py:factory`). `data` is what it is tested on: a data set of torchloupe's, its name, or its path.
    A training that goes on after so many epochs says `resume`; what was recorded later is forgotten.

    The training is left as it is: no random number is drawn, no mode changed, and nothing raised after this call. Of
    several processes the first records. Inside `with` it is closed at the end, after an error too.

    Raises:
        UsageError: settings that do not fit, the folder holds something, or there is nothing to go on with.
        ModelError: the network fails on a picture, gives another number of outputs, or is sharded or quantised.
        ResourceError: the folder cannot be written.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Recorder(net, folder, classes=["cat", "dog"], mean=[0.5] * 3, std=[0.25] * 3, size=8) as recorder:
    ...         for loss in (0.7, 0.6):
    ...             recorder.step(loss=loss, lr=0.1)
    ...         recorder.epoch(test_loss=0.65, test_accuracy=0.5)
    ...     sorted(path.name for path in Path(folder).glob("snapshots/*"))
    ['epoch-0.safetensors', 'epoch-1.safetensors']
    """

    def __init__(
        self,
        net: nn.Module,
        out: str | Path,
        *,
        classes: Sequence[str] | int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        size: int | None,
        every: Every = "log",
        steps_per_epoch: int | None = None,
        model: str | Path | None = None,
        data: Dataset | str | Path | None = None,
        output: str | int | None = None,
        multilabel: bool = False,
        resume: int | None = None,
    ) -> None:
        if every not in ("log", "epoch") and not (isinstance(every, int) and not isinstance(every, bool) and every > 0):
            raise UsageError(f"every is 'log', 'epoch' or a number of epochs from 1 up, not {every!r}.")
        self.out = Path(out)
        """The run."""
        self._net, self._every, self._length = unwrapped(net), every, steps_per_epoch
        self._first = launched_rank() == 0 and distributed.rank() == 0
        self.epochs = resume or 0
        """Epochs that have ended."""
        self._steps, self._began = 0, 0
        self._kept = -1.0  # the place of the snapshot that was kept last
        self._log = Log(self.out, self._warn)
        self._told: set[str] = set()
        self._stack = ExitStack()
        self._over = not self._first
        if not self._first:
            return
        about = describe_own(
            self._net,
            classes=classes,
            mean=mean,
            std=std,
            size=size,
            model=model,
            data=data,
            output=output,
            multilabel=multilabel,
        )
        self._about = about
        try:
            self._stack.enter_context(writing(self.out))
            self._open(resume)
        except OSError as error:
            self._stack.close()
            raise ResourceError(f"cannot write '{self.out}': {refused(error)}") from error
        except BaseException:
            self._stack.close()
            raise

    def step(
        self,
        *,
        loss: Number | None = None,
        accuracy: Number | None = None,
        lr: Number | None = None,
        steps: int = 1,
        **more: Number,
    ) -> None:
        """Note a step: its loss, accuracy in [0, 1], learning rate, and numbers of other names; all may be left out.

        Tensors stay on their device and are read every few steps, so that no step waits for it. `steps`: so many were
        taken since the last call, and these are their means; 0 for more numbers of the same step.
        """
        self._safely(lambda: self._step({"lr": lr, "loss": loss, "accuracy": accuracy, **more}, steps))

    def epoch(
        self,
        *,
        train_loss: Number | None = None,
        train_accuracy: Number | None = None,
        val_loss: Number | None = None,
        val_accuracy: Number | None = None,
        test_loss: Number | None = None,
        test_accuracy: Number | None = None,
        **more: Number,
    ) -> None:
        """Note the end of an epoch, with what was measured at it; keep the weights where that is due.

        Where `train_loss` or `train_accuracy` is left out it is the mean over the epoch's steps.
        """
        values = {
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            **more,
        }
        self._safely(lambda: self._end_epoch(values))

    def snapshot(self, epoch: float | None = None) -> None:
        """Keep the weights as they are now, whatever `every` says: as those after so many epochs (default: so far)."""
        self._safely(lambda: self._save(self._place() if epoch is None else epoch))

    def close(self) -> None:
        """End the recording: keep the weights as they are now as the run's own, and draw its curves. Once is enough."""
        try:
            if not self._over:
                self._safely(self._end)
        finally:
            self._over = True
            self._stack.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, resume: int | None) -> None:
        """Begin a run, or go on with one."""
        there = (self.out / CONFIG).is_file()
        if there and resume is not None:
            self._go_on(resume)
            self._describe()
            if not resume:
                self._save(0.0)
            return
        if resume:
            raise UsageError(f"there is no run in '{self.out}' to go on with after {resume} epochs: leave resume out.")
        check_free(self.out, "resume=EPOCHS, those that were done", "another folder")
        try:
            metrics.cut(self.out, 0)
            self._describe()
            self._save(0.0)
        except BaseException:  # it never began: the folder is free again
            for name in (CONFIG, "environment.json", metrics.FILE):
                (self.out / name).unlink(missing_ok=True)
            with suppress(OSError):
                (self.out / SNAPSHOTS).rmdir()
            raise

    def _describe(self) -> None:
        device = next((tensor.device for tensor in self._net.state_dict().values()), "cpu")
        write_json(self.out / "environment.json", {**environment(str(device)), "precision": None})
        write_json(self.out / CONFIG, asdict(self._about))

    def _go_on(self, epochs: int) -> None:
        """Forget what was recorded after so many epochs, and go on from there."""
        old = read_config(self.out)
        if not (old.training or {}).get("recorded"):
            raise UsageError(f"'{self.out}' was trained by torchloupe, not recorded. Choose another folder.")
        if replace(old, model="", data=None) != replace(self._about, model="", data=None):
            raise UsageError(f"'{self.out}' was recorded with other classes, mean, std or size. Choose another folder.")
        rows = metrics.read_metrics(self.out)
        ends = [i for i, row in enumerate(rows) if row["kind"] == "epoch" and row["epoch"] == epochs]
        if epochs and not ends:
            done = max((row["epoch"] for row in rows if row["kind"] == "epoch"), default=0)
            raise UsageError(f"'{self.out}' holds no end of epoch {epochs}, it holds {done:g}: give resume= those.")
        rows = rows[: ends[-1] + 1] if epochs else []
        for path in [self.out / "model.safetensors", *(self.out / SNAPSHOTS).glob("epoch-*.safetensors")]:
            if path.parent == self.out or _epoch_of(path) > epochs:
                path.unlink(missing_ok=True)
        metrics.rewrite(self.out, rows)
        if rows:
            before = [row["step"] for row in rows if row["kind"] == "epoch"][-2:]
            self._steps = self._began = int(before[-1])
            self._length = self._length or (int(before[-1] - (before[0] if len(before) > 1 else 0)) or None)

    def _step(self, values: Mapping[str, Number | None], steps: int) -> None:
        before, self._steps = self._steps, self._steps + steps
        self._log.step(self._steps, self._place(), values, steps)
        if self._every == "log" and self._length and not self.epochs:
            due = [max(1, round(share * self._length)) for share in SHARES]
            if any(before < step <= self._steps for step in due):
                self._save(self._place())

    def _place(self) -> float:
        """Return where the training stands, in epochs; within the first, whose length may not be known, that is 0."""
        share = (self._steps - self._began) / self._length if self._length else 0.0
        return self.epochs + min(1.0, share)

    def _place_steps(self) -> None:
        """Write the steps that wait; those of a first epoch whose length was not known can be placed only now."""
        self._log.flush()
        if not self._length and self._steps > self._began:
            self._length = self._steps - self._began
            self._log.spread(self.epochs, self._began, self._steps)

    def _end_epoch(self, values: Mapping[str, Number | None]) -> None:
        self._place_steps()
        self.epochs += 1
        self._length, self._began = self._steps - self._began or self._length, self._steps
        self._log.epoch(self._steps, float(self.epochs), values)
        if _is_due(self._every, self.epochs) and self._kept != self.epochs:
            self._save(float(self.epochs))

    def _end(self) -> None:
        self._place_steps()
        if self._steps > self._began:  # stopped within an epoch, or a training that knows none
            self._log.epoch(self._steps, self._place(), {})
        self._save(None)
        if metrics.read_metrics(self.out, "epoch"):
            draw_curves(self.out, self._title())

    def _title(self) -> str:
        data = (self._about.data or {}).get("name")
        name = self._about.model.rpartition(":")[2]
        return f"{name} on {data}" if data else name

    def _save(self, place: float | None) -> None:
        """Keep the weights of a place in epochs; None: those of the end."""
        if broken := not_finite(self._net.state_dict()):
            self._warn("finite", f"the weights hold NaN or infinity ({short(broken[0])}): they are not kept")
            return
        digits = 3 if place is not None and place < 1 else 6
        name = "model" if place is None else f"{SNAPSHOTS}/epoch-{place:.{digits}g}"
        save_model(self.out / f"{name}.safetensors", self._net, self._about)
        self._kept = self._kept if place is None else place

    def _safely(self, do: Callable[[], None]) -> None:
        """Do one thing; whatever goes wrong ends the recording and not the training."""
        if self._over:
            if self._first and "stopped" not in self._told:
                self._warn("over", "it is closed, and what comes after is left out")
            return
        try:
            do()
        except Exception as error:
            self._over = True
            self._stack.close()
            cause = str(error) if isinstance(error, ResourceError) else one_line(error)
            self._warn("stopped", f"it has stopped: {cause.rstrip('.')}. The training goes on")

    def _warn(self, kind: str, text: str) -> None:
        """Say something once."""
        if kind not in self._told:
            self._told.add(kind)
            message = in_one_line(f"Recording '{self.out}': {text}.")
            warnings.warn(message, RecordingWarning, stacklevel=5)


def _is_due(every: Every, epochs: int) -> bool:
    """Tell whether weights are kept after so many epochs."""
    if every == "log":
        return epochs & (epochs - 1) == 0
    return every == "epoch" or epochs % every == 0


def _epoch_of(path: Path) -> float:
    """Return the epoch of a snapshot, by its name."""
    try:
        return float(path.stem.removeprefix("epoch-"))
    except ValueError:
        return -1.0
