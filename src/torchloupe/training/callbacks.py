"""Recorders for trainers of other packages: Lightning and the Trainer of transformers, imported when one is made."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from torchloupe.errors import UsageError
from torchloupe.training.recorder import Recorder

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "eval": "val", "test": "test"}
WHATS = {"loss": "loss", "acc": "accuracy", "accuracy": "accuracy"}
NAME = re.compile(rf"({'|'.join(SPLITS)})[_/. -]?({'|'.join(WHATS)})(?:_epoch)?")


def known_as(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers whose names say a split and a loss or an accuracy, under torchloupe's names.

    >>> known_as({"val/acc": 0.5, "eval_loss": 2.0, "train_loss_epoch": 1.0, "train_loss_step": 3.0, "lr": 0.1})
    {'val_accuracy': 0.5, 'val_loss': 2.0, 'train_loss': 1.0}
    """
    found = {}
    for name, value in values.items():
        if match := NAME.fullmatch(name.lower()):
            found[f"{SPLITS[match[1]]}_{WHATS[match[2]]}"] = value
    return found


class _Callback:
    """Becomes a callback of the other package when it is made: only then is that package imported."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        base = cls._base()
        return object.__new__(cls if issubclass(cls, base) else type(cls.__name__, (cls, base), {}))

    def __init__(self, out: str | Path, **settings: Any) -> None:
        super().__init__()
        self.out, self.settings = Path(out), settings
        self.recorder: Recorder | None = None
        """What records, once the training has begun."""

    @classmethod
    def _base(cls) -> type:
        raise NotImplementedError

    def _begin(self, net: nn.Module, steps: Any, done: int) -> None:
        known = isinstance(steps, int) and 0 < steps < sys.maxsize
        given = {"steps_per_epoch": steps if known else None, **self.settings}
        self.recorder = Recorder(net, self.out, resume=done or None, **given)

    def _close(self) -> None:
        if self.recorder is not None:
            self.recorder.close()


class LightningRecorder(_Callback):
    """A callback of Lightning that records the training as a run: `callbacks=[LightningRecorder(out, …)]`.

    The settings are those of `torchloupe.Recorder`. Recorded is the network that holds all parameters of the
    LightningModule (`self.net`, say), or the module itself where they lie in several; `network` names another.
    Losses and accuracies are taken from what the module logs under names such as `train_loss`, `val_acc`, `test/loss`;
    `metrics` names others, as in `metrics={"val_accuracy": "top1"}`.

    Raises:
        UsageError: neither `lightning` nor `pytorch_lightning` is installed.
    """

    def __init__(
        self, out: str | Path, *, network: str | None = None, metrics: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        super().__init__(out, **settings)
        self.network, self.metrics = network, dict(metrics or {})
        self._validated = False

    @classmethod
    def _base(cls) -> type:
        try:
            if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
                from pytorch_lightning import Callback
            else:
                from lightning.pytorch import Callback
        except ImportError:
            try:
                from pytorch_lightning import Callback
            except ImportError:
                raise UsageError("LightningRecorder needs Lightning: pip install lightning.") from None
        return Callback  # type: ignore[no-any-return]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the recording; the weights are those before the first step."""
        net = pl_module.get_submodule(self.network) if self.network is not None else holder(pl_module)
        self._begin(net, trainer.num_training_batches, trainer.current_epoch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the loss of a batch, and what is logged at each step."""
        if self.recorder is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            loss = loss * trainer.accumulate_grad_batches  # it comes divided by that
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        logged = trainer.logged_metrics
        name = self.metrics.get("train_accuracy", "")
        accuracy = logged.get(f"{name}_step", logged.get(name)) if name else None
        if accuracy is None:
            steps = {key.removesuffix("_step"): value for key, value in logged.items() if key.endswith("_step")}
            accuracy = known_as(steps).get("train_accuracy")
        self.recorder.step(loss=loss, accuracy=accuracy, lr=groups[0]["lr"] if groups else None)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note that there are fresh numbers of a validation."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the end of an epoch, with what was logged; numbers of a validation only where there was one."""
        if self.recorder is None:
            return
        logged = dict(trainer.callback_metrics)
        named = {ours: logged[theirs] for ours, theirs in self.metrics.items() if theirs in logged}
        found = {**known_as(logged), **named}
        fresh = {name: v for name, v in found.items() if self._validated or not name.startswith(("val_", "test_"))}
        self._validated = False
        self.recorder.epoch(**fresh)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the recording."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End it after an error or Ctrl-C too."""
        self._close()


class TrainerRecorder(_Callback):
    """A callback of transformers' Trainer that records the training as a run: `callbacks=[TrainerRecorder(out, …)]`.

    The settings are those of `torchloupe.Recorder`. Losses are those that the Trainer logs, each the mean of
    `logging_steps` steps; `eval_loss` and `eval_accuracy` (of its `compute_metrics`) are those of the val split. With
    `load_best_model_at_end` the run ends with those weights, and others are kept after each epoch.

    Raises:
        UsageError: `transformers` is not installed.
    """

    def __init__(self, out: str | Path, **settings: Any) -> None:
        super().__init__(out, **settings)
        self._evaluated: dict[str, Any] = {}
        self._ended = False

    @classmethod
    def _base(cls) -> type:
        try:
            from transformers import TrainerCallback
        except ImportError:
            raise UsageError("TrainerRecorder needs transformers: pip install transformers.") from None
        return TrainerCallback  # type: ignore[no-any-return]

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        """Begin the recording; the weights are those before the first step."""
        epochs = state.num_train_epochs
        steps = round(state.max_steps / epochs) if epochs and state.max_steps else None
        self._begin(model, steps, int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count a step; what its loss was is logged now and then."""
        if self.recorder is not None:
            self.recorder.step()

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Note the mean loss of the steps since the last one that was logged."""
        if self.recorder is not None and logs and "loss" in logs:
            self.recorder.step(loss=logs["loss"], lr=logs.get("learning_rate"), steps=0)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Keep what was measured until the epoch's row is written."""
        self._evaluated |= known_as(metrics or {})

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remember that an epoch has ended: what is measured of it comes after this."""
        self._ended = True
        if self.recorder is not None and args.load_best_model_at_end:  # which of them is the last is not known yet
            self.recorder.snapshot(self.recorder.epochs + 1)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the row of the epoch before."""
        self._note()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the recording."""
        self._note()
        self._close()

    def _note(self) -> None:
        if self._ended and self.recorder is not None:
            self.recorder.epoch(**self._evaluated)
            self._evaluated, self._ended = {}, False


def holder(module: nn.Module) -> nn.Module:
    """Return the one child that holds all parameters of a module; the module itself where there is none.

    >>> holder(nn.ModuleDict({"net": nn.Linear(2, 2), "loss": nn.CrossEntropyLoss()}))
    Linear(in_features=2, out_features=2, bias=True)
    """
    children = [child for child in module.children() if list(child.parameters())]
    whole = len(children) == 1 and len(list(children[0].parameters())) == len(list(module.parameters()))
    return children[0] if whole else module
