"""Callbacks for other packages' trainers: by stand-ins that call as those do, and by the packages where installed."""

import math
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchloupe
from own_loop import ABOUT, Net
from torchloupe import LightningRecorder, TrainerRecorder
from torchloupe.errors import UsageError
from torchloupe.reports.sections.training_film import snapshots
from torchloupe.runs.metrics import read_metrics


def stand_in(monkeypatch: pytest.MonkeyPatch, package: str, **names: type) -> None:
    """A package with some classes and nothing else."""
    parts = package.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    for name, kind in names.items():
        setattr(sys.modules[package], name, kind)


def absent(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


class Callback:
    """As Lightning's: every hook is there."""

    def __init__(self) -> None:
        self.made = True

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None: ...


class Lit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss = Net(), nn.CrossEntropyLoss()


def fit(
    callback: Any, module: nn.Module, *, epochs: int = 2, batches: int = 3, validate: int = 1, share: int = 1
) -> None:
    """Call as Lightning's loops do, in their order."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.25)
    trainer = SimpleNamespace(
        num_training_batches=batches,
        current_epoch=0,
        optimizers=[optimizer],
        accumulate_grad_batches=share,
        logged_metrics={},
        callback_metrics={},
        sanity_checking=True,
    )
    callback.on_validation_end(trainer, module)
    trainer.callback_metrics["val_loss"] = torch.tensor(99.0)
    trainer.sanity_checking = False
    callback.on_train_start(trainer, module)
    for epoch in range(epochs):
        for i in range(batches):
            trainer.logged_metrics["train_acc_step"] = torch.tensor(0.1 * i)
            callback.on_train_batch_end(trainer, module, {"loss": torch.tensor(1.0 * i) / share}, None, i)
        if (epoch + 1) % validate == 0:
            trainer.callback_metrics |= {"val_loss": torch.tensor(2.0 - epoch), "val/acc": torch.tensor(0.5)}
            callback.on_validation_end(trainer, module)
        trainer.callback_metrics["top1"] = torch.tensor(0.75)
        callback.on_train_epoch_end(trainer, module)
        trainer.current_epoch += 1
    callback.on_train_end(trainer, module)


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    absent(monkeypatch, "pytorch_lightning")
    stand_in(monkeypatch, "lightning.pytorch", Callback=Callback)


def test_lightning_is_recorded_as_it_calls(lightning: None, tmp_path: Path) -> None:
    callback, module = LightningRecorder(tmp_path / "r", every="epoch", **ABOUT), Lit()
    assert isinstance(callback, Callback) and isinstance(callback, LightningRecorder) and callback.made
    fit(callback, module, share=2)
    steps, epochs = read_metrics(tmp_path / "r", "step"), read_metrics(tmp_path / "r", "epoch")
    assert [row["loss"] for row in steps] == [0, 1, 2] * 2 and {row["lr"] for row in steps} == {0.25}
    assert [row["accuracy"] for row in steps] == pytest.approx([0, 0.1, 0.2] * 2)
    assert [row["epoch"] for row in steps] == pytest.approx([i / 3 for i in range(1, 7)], rel=1e-5)
    assert [row["val_loss"] for row in epochs] == [2.0, 1.0] and [row["val_accuracy"] for row in epochs] == [0.5, 0.5]
    assert [epoch for epoch, _ in snapshots(tmp_path / "r")] == [0, 1, 2]
    assert torchloupe.load(tmp_path / "r").bare.state_dict().keys() == module.net.state_dict().keys()


def test_a_validation_counts_once(lightning: None, tmp_path: Path) -> None:
    metrics = {"train_accuracy": "top1", "val_accuracy": "val/acc"}
    fit(LightningRecorder(tmp_path / "r", metrics=metrics, **ABOUT), Lit(), epochs=4, validate=2)
    rows = read_metrics(tmp_path / "r", "epoch")
    assert ["val_loss" in row for row in rows] == [False, True, False, True]
    assert {row["train_accuracy"] for row in rows} == {0.75}


def test_the_network_is_the_child_that_holds_all_or_the_one_that_is_named(lightning: None, tmp_path: Path) -> None:
    class Two(Lit):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> Any:
            return self.net(x)

    fit(LightningRecorder(tmp_path / "both", **ABOUT), Two())
    fit(LightningRecorder(tmp_path / "one", network="net", **ABOUT), Two())
    from torchloupe.checkpoints.file import read_tensors

    keys = [read_tensors(tmp_path / name / "model.safetensors")[0].keys() for name in ("both", "one")]
    assert keys[0] == Two().state_dict().keys() and keys[1] == Net().state_dict().keys()


def test_an_error_ends_the_recording(lightning: None, tmp_path: Path) -> None:
    callback, module = LightningRecorder(tmp_path / "r", **ABOUT), Lit()
    callback.on_exception(None, module, ValueError())  # before it began
    fit_until = SimpleNamespace(num_training_batches=math.inf, current_epoch=0)
    callback.on_train_start(fit_until, module)
    callback.on_exception(fit_until, module, KeyboardInterrupt())
    assert (tmp_path / "r" / "model.safetensors").is_file()


class TrainerCallback:
    """As transformers'."""


@pytest.fixture
def hugging(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "transformers", TrainerCallback=TrainerCallback)


def drive(
    callback: Any, net: nn.Module, *, epochs: int = 2, steps: int = 4, every: int = 2, best: bool = False
) -> None:
    """Call as the Trainer does: the end of an epoch, then what was logged and measured at it."""
    args = SimpleNamespace(load_best_model_at_end=best)
    state = SimpleNamespace(global_step=0, max_steps=epochs * steps, num_train_epochs=epochs, epoch=0)
    control = SimpleNamespace(should_training_stop=False)
    callback.on_train_begin(args, state, control, model=net, train_dataloader=None)
    for epoch in range(epochs):
        callback.on_epoch_begin(args, state, control, model=net)
        for _ in range(steps):
            with torch.no_grad():
                net.fc.bias.add_(1.0)  # type: ignore[operator, union-attr]
            state.global_step += 1
            state.epoch = state.global_step / steps
            callback.on_step_end(args, state, control, model=net)
            if state.global_step % every == 0 and state.global_step % steps:  # not the last of an epoch
                callback.on_log(args, state, control, logs={"loss": 1.0 * state.global_step, "learning_rate": 0.5})
        callback.on_epoch_end(args, state, control, model=net)
        callback.on_log(args, state, control, logs={"loss": 1.0 * state.global_step, "learning_rate": 0.5})
        measured = {"eval_loss": 2.0 - epoch, "eval_accuracy": 0.5, "eval_runtime": 3.0, "epoch": state.epoch}
        callback.on_log(args, state, control, logs=measured)
        callback.on_evaluate(args, state, control, metrics=measured)
    if best:
        with torch.no_grad():
            net.fc.bias.fill_(-1.0)  # type: ignore[operator, union-attr]
    callback.on_train_end(args, state, control, model=net)


@pytest.mark.parametrize("best", [False, True])
def test_the_trainer_is_recorded_as_it_calls(hugging: None, tmp_path: Path, best: bool) -> None:
    callback, net = TrainerRecorder(tmp_path / "r", every="epoch", **ABOUT), Net()
    assert isinstance(callback, TrainerCallback)
    start = torch.zeros(3)
    with torch.no_grad():
        net.fc.bias.zero_()
    drive(callback, net, best=best)
    steps, epochs = read_metrics(tmp_path / "r", "step"), read_metrics(tmp_path / "r", "epoch")
    assert [(row["step"], row["loss"], row["lr"]) for row in steps] == [(i, float(i), 0.5) for i in (2, 4, 6, 8)]
    assert [row["epoch"] for row in steps] == [0.5, 1.0, 1.5, 2.0]
    assert [row["train_loss"] for row in epochs] == [3.0, 7.0] and [row["val_loss"] for row in epochs] == [2.0, 1.0]
    assert [row["step"] for row in epochs] == [4, 8] and "eval_runtime" not in epochs[0]
    from torchloupe.checkpoints.file import read_tensors

    states = snapshots(tmp_path / "r")
    assert [epoch for epoch, _ in states] == [0, 1, 2]
    for epoch, path in states:  # the last moment is that of the last epoch, whatever was loaded afterwards
        assert torch.equal(read_tensors(path)[0]["fc.bias"], start + 4 * epoch)
    final = read_tensors(tmp_path / "r" / "model.safetensors")[0]["fc.bias"]
    assert torch.equal(final, torch.full_like(start, -1.0) if best else start + 8)


def test_neither_package_is_imported_until_one_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import torchloupe, sys; torchloupe.LightningRecorder, torchloupe.TrainerRecorder, torchloupe.Recorder\n"
    code += "print([n for n in ('lightning', 'pytorch_lightning', 'transformers', 'tensorboard') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    absent(monkeypatch, "lightning", "lightning.pytorch", "pytorch_lightning", "transformers")
    with pytest.raises(UsageError, match="pip install lightning"):
        LightningRecorder(tmp_path / "r", **ABOUT)
    with pytest.raises(UsageError, match="pip install transformers"):
        TrainerRecorder(tmp_path / "r", **ABOUT)


def test_the_older_name_of_lightning_does_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    absent(monkeypatch, "lightning", "lightning.pytorch")
    stand_in(monkeypatch, "pytorch_lightning", Callback=Callback)
    assert isinstance(LightningRecorder(tmp_path / "r", **ABOUT), Callback)


# the packages themselves


def test_lightning_itself(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed", exc_type=ImportError)

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: torch.Tensor) -> Any:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Any:
            x, y = batch
            logits = self.net(x)
            self.log("train_acc", (logits.argmax(1) == y).float().mean(), on_step=True, on_epoch=True)
            return F.cross_entropy(logits, y)

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.TensorDataset(torch.randn(24, 3, 12, 12), torch.randint(0, 3, (24,)))
    plain: list[Any] = []
    for callbacks in ([], [LightningRecorder(tmp_path / "r", every="epoch", **ABOUT)]):
        pl.seed_everything(0)
        module = Module()
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=callbacks, enable_model_summary=False, **quiet)
        trainer.fit(module, *(torch.utils.data.DataLoader(data, 8, shuffle=shuffle) for shuffle in (True, False)))
        plain.append({name: tensor.clone() for name, tensor in module.net.state_dict().items()})
    assert all(torch.equal(tensor, plain[1][name]) for name, tensor in plain[0].items())
    rows = read_metrics(tmp_path / "r", "epoch")
    assert len(read_metrics(tmp_path / "r", "step")) == 6 and all(math.isfinite(row["val_loss"]) for row in rows)
    assert all(math.isfinite(row["train_accuracy"]) for row in rows) and "val_accuracy" not in rows[0]
    made = torchloupe.report(module.net, run=tmp_path / "r", units=1, budget=None, layers=["conv"], quiet=True)
    assert made.contents.film is not None and len(made.contents.film.moments) == 3, made.refused


def test_transformers_itself(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed", exc_type=ImportError)
    pytest.importorskip("accelerate", reason="accelerate, which the Trainer needs, is not installed")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic", num_labels=3
    )
    chance = torch.Generator().manual_seed(0)
    data = [
        {"pixel_values": torch.randn(3, 12, 12, generator=chance), "labels": torch.tensor(i % 3)} for i in range(16)
    ]
    recorder = TrainerRecorder(tmp_path / "r", every="epoch", **ABOUT)
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path / "hf"),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        logging_steps=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    net = transformers.ResNetForImageClassification(config)
    found = {"accuracy": lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())}}["accuracy"]
    transformers.Trainer(
        model=net, args=args, train_dataset=data, eval_dataset=data, compute_metrics=found, callbacks=[recorder]
    ).train()
    rows = read_metrics(tmp_path / "r", "epoch")
    assert [row["step"] for row in read_metrics(tmp_path / "r", "step")] == [2, 4, 6, 8]
    assert [row["epoch"] for row in rows] == [1, 2] and all(0 <= row["val_accuracy"] <= 1 for row in rows)
    made = torchloupe.report(net, run=tmp_path / "r", units=1, budget=None, layers=["first"], quiet=True)
    assert made.contents.film is not None and len(made.contents.film.moments) == 3, made.refused
