"""Training: the run folder, determinism, stopping and resuming, divergence, fine-tuning."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from torchloupe.checkpoints.file import not_finite, read_tensors, save_tensors
from torchloupe.checkpoints.open import load, open_model
from torchloupe.data.dataset import Dataset
from torchloupe.data.drawn.shapes import shapes
from torchloupe.data.subsets import take
from torchloupe.errors import DataError, DivergedError, ModelError, UsageError
from torchloupe.runs.metrics import measured_on, read_metrics
from torchloupe.runs.summary import finish
from torchloupe.runtime.files import read_json, write_json
from torchloupe.training.config import TrainConfig
from torchloupe.training.journal import Listener
from torchloupe.training.loop import Run, Stopped, snapshot_steps, train
from torchloupe.training.prepare import prepare
from torchloupe.training.resume import begun, states

SMALL = TrainConfig(epochs=3, batch=20, ema=0.9, seed=4)


@pytest.fixture(autouse=True)
def save_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchloupe.training.loop.SAVE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return shapes(train=100, test=30, size=16)


def weights(run: Path) -> dict[str, Tensor]:
    return read_tensors(run / "model.safetensors")[0]


def outcome(run: Path) -> tuple[bytes, bytes, bytes]:
    """Everything that must not depend on interruptions, byte for byte."""
    return (
        (run / "model.safetensors").read_bytes(),
        (run / "metrics.jsonl").read_bytes(),
        b"".join(_without_seconds(path) for path in states(run / "state")[-1:]),
    )


def _without_seconds(path: Path) -> bytes:
    tensors, about = read_tensors(path)
    about.pop("seconds")
    return b"".join(tensor.numpy().tobytes() for tensor in tensors.values()) + json.dumps(about).encode()


def test_run_folder_is_as_documented(data: Dataset, tmp_path: Path) -> None:
    train(data, SMALL, tmp_path / "r", device="cpu")
    made = {path.relative_to(tmp_path / "r").as_posix() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert made >= {"config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "model.safetensors"}
    assert "snapshots/epoch-0.safetensors" in made and "snapshots/epoch-1.safetensors" in made
    assert len([name for name in made if name.startswith("state/")]) == 2
    steps = read_metrics(tmp_path / "r", "step")
    assert [row["step"] for row in steps] == list(range(1, 16))
    assert all(0 <= row["accuracy"] <= 1 and row["loss"] > 0 for row in steps)
    epochs = read_metrics(tmp_path / "r", "epoch")
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    for number, row in enumerate(epochs):  # the epoch's running figures are the means of its steps
        mine = steps[number * 5 : number * 5 + 5]
        assert row["train_loss"] == pytest.approx(sum(step["loss"] for step in mine) / 5, rel=1e-4)
    assert read_metrics(tmp_path / "r", "probe")


class NoWaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what makes the host wait for a device: values read back or sent there, shapes that depend on values."""

    waits: ClassVar = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique",
        "equal.default",
        "is_nonzero",
        "lift_fresh",
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not any(name in str(func) for name in self.waits), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


def test_a_step_never_waits_for_the_device(data: Dataset, tmp_path: Path) -> None:
    config = replace(SMALL, low_size=12, low_until=0.5, cutout=4, translate=2, size=16)
    start = prepare(data, config, torch.device("cpu"))
    run = Run(start, tmp_path, torch.device("cpu"), "auto", Listener())
    run.journal.open(None)
    with NoWaiting():  # type: ignore[no-untyped-call]
        for step in range(15):
            assert run.step == step
            run._learn(run.network, torch.arange(step, step + 20))
    with pytest.raises(AssertionError, match="waits"), NoWaiting():  # type: ignore[no-untyped-call]
        run.journal.flush()  # the losses are read every 20 steps, and only then


def test_reported_test_accuracy_is_that_of_the_saved_network(data: Dataset, tmp_path: Path) -> None:
    train(data, SMALL, tmp_path / "r", device="cpu")
    network = load(tmp_path / "r")
    with torch.no_grad():
        right = network(data.test.images.float() / 255).argmax(1) == data.test.labels
    assert read_metrics(tmp_path / "r", "epoch")[-1]["test_accuracy"] == pytest.approx(
        right.float().mean().item(), rel=1e-5
    )


def test_same_seed_same_bytes_and_another_seed_other_weights(data: Dataset, tmp_path: Path) -> None:
    for name, config in (("a", SMALL), ("b", SMALL), ("c", replace(SMALL, seed=5))):
        train(data, config, tmp_path / name, device="cpu")
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    assert not torch.equal(weights(tmp_path / "a")["conv1.weight"], weights(tmp_path / "c")["conv1.weight"])


@pytest.mark.parametrize("seed", ["seed_init", "seed_order", "seed_augment"])
def test_each_seed_changes_what_is_learned(data: Dataset, tmp_path: Path, seed: str) -> None:
    train(data, replace(SMALL, epochs=1), tmp_path / "a", device="cpu")
    train(data, replace(SMALL, epochs=1, **{seed: 77}), tmp_path / "b", device="cpu")  # type: ignore[arg-type]
    start = [read_tensors(tmp_path / run / "snapshots/epoch-0.safetensors")[0]["conv1.weight"] for run in "ab"]
    assert torch.equal(*start) == (seed != "seed_init")
    assert not torch.equal(weights(tmp_path / "a")["conv1.weight"], weights(tmp_path / "b")["conv1.weight"])


def test_training_leaves_the_callers_chance_alone(data: Dataset, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(data, replace(SMALL, epochs=1), tmp_path / "r", device="cpu")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("stop_at", [1, 5, 8, 14])
@pytest.mark.parametrize("optimizer", ["muon", "sgd", "adam", "adamw"])
def test_stopped_and_resumed_is_as_never_stopped(data: Dataset, tmp_path: Path, stop_at: int, optimizer: str) -> None:
    config = replace(SMALL, optimizer=optimizer, lr=0.01)  # type: ignore[arg-type]
    train(data, config, tmp_path / "whole", device="cpu")
    seen: list[int] = []
    listener = Listener(step=lambda step, *_: seen.append(step), wants_stop=lambda: len(seen) == stop_at)
    with pytest.raises(Stopped):
        train(data, config, tmp_path / "cut", device="cpu", listener=listener)
    train(data, config, tmp_path / "cut", device="cpu", resume=True)
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "cut")


KILLED = """
import os, random, signal, sys, threading, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import torchloupe.training.loop
from torchloupe.training.config import TrainConfig
from torchloupe.data.drawn.shapes import shapes
from torchloupe.training.journal import Listener

torchloupe.training.loop.SAVE_SECONDS = 0.05
data, config = shapes(train=100, test=30, size=16), TrainConfig(epochs=12, batch=20, ema=0.9, seed=4)

def attempt(out, step, delay):
    \"\"\"Train in a process that is killed a moment after it has done so many steps.\"\"\"
    def strike():
        while done[0] < step:
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        done = [0]
        threading.Thread(target=strike, daemon=True).start()
        listener = Listener(step=lambda step, *_: done.__setitem__(0, step))
        torchloupe.training.loop.train(data, config, out, device="cpu", resume="auto", listener=listener)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

folder = Path(sys.argv[1])
torchloupe.training.loop.train(data, config, folder / "whole", device="cpu")
random.seed(7)
steps = sorted(random.sample(range(1, 50), 10))
kills = sum(attempt(folder / "cut", step, random.uniform(0, 0.03)) for step in steps)
torchloupe.training.loop.train(data, config, folder / "cut", device="cpu", resume=True)
print(kills)
"""


def test_killed_at_ten_random_moments_and_resumed_is_as_never_killed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) == 10
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "cut")


def test_a_damaged_newest_state_falls_back_to_the_one_before(data: Dataset, tmp_path: Path) -> None:
    train(data, SMALL, tmp_path / "r", device="cpu")
    before = outcome(tmp_path / "r")
    (tmp_path / "r" / "model.safetensors").unlink()
    newest = states(tmp_path / "r" / "state")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    train(data, SMALL, tmp_path / "r", device="cpu", resume=True)
    assert outcome(tmp_path / "r") == before


def test_resuming_on_other_pictures_is_refused(data: Dataset, tmp_path: Path) -> None:
    train(data, replace(SMALL, epochs=1), tmp_path / "r", device="cpu")
    with pytest.raises(DataError, match="other pictures"):
        train(shapes(train=100, test=30, size=16, seed=9), replace(SMALL, epochs=1), tmp_path / "r", resume=True)


def test_divergence_stops_and_keeps_the_last_good_state(data: Dataset, tmp_path: Path) -> None:
    config = replace(SMALL, optimizer="sgd", lr=1e9, warmup=0.9, epochs=30, label_smoothing=0.0)
    with pytest.raises(DivergedError, match=r"--lr 0.05"):
        train(data, config, tmp_path / "r", device="cpu")
    assert_all_finite(tmp_path / "r")
    assert states(tmp_path / "r" / "state") and not (tmp_path / "r" / "model.safetensors").exists()


def assert_all_finite(run: Path) -> None:
    files = list(run.rglob("*.safetensors"))
    assert files
    for file in files:
        assert not not_finite(read_tensors(file)[0]), file


@pytest.mark.parametrize("save_seconds", [0.0, 1e6])
@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("rate", [1e20, 1e30])
def test_nothing_that_is_not_finite_gets_a_final_name(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, epochs: int, save_seconds: float
) -> None:
    """However few steps it takes, and before anything was saved."""
    monkeypatch.setattr("torchloupe.training.loop.SAVE_SECONDS", save_seconds)
    config = replace(SMALL, optimizer="sgd", lr=rate, warmup=0.0, epochs=epochs, ema=0.5)
    with pytest.raises(DivergedError, match=r"last good state is kept in '.*r'.* --lr 0.05"):
        train(data, config, tmp_path / "r", device="cpu")
    assert_all_finite(tmp_path / "r")
    assert states(tmp_path / "r" / "state"), "what is kept is there, be it the first"


def test_weights_that_become_nan_while_the_loss_is_fine_are_kept_from_the_disk(data: Dataset, tmp_path: Path) -> None:
    def strike(run: Run, step: int) -> None:
        if step == 4:
            with torch.no_grad():
                run.network.bare.get_parameter("fc.weight")[0, 0] = torch.nan

    start = prepare(data, replace(SMALL, ema=0.0), torch.device("cpu"))
    run = Run(start, tmp_path / "r", torch.device("cpu"), "auto", Listener(step=lambda step, *_: strike(run, step)))
    with pytest.raises(DivergedError, match="after step 4 its numbers are no longer finite"):
        run.go(False, False)
    assert_all_finite(tmp_path / "r")


def test_weights_that_are_nan_are_no_start(data: Dataset, tmp_path: Path) -> None:
    train(data, replace(SMALL, epochs=1), tmp_path / "old", device="cpu")
    tensors, about = read_tensors(tmp_path / "old" / "model.safetensors")
    tensors["fc.weight"][0, 0] = torch.nan
    save_tensors(tmp_path / "old" / "model.safetensors", tensors, about)
    with pytest.raises(ModelError, match=r"NaN or infinity \(fc.weight\)"):
        train(data, replace(SMALL, weights=str(tmp_path / "old")), tmp_path / "new", device="cpu")


@pytest.mark.parametrize(("batch", "world"), [(1, 1), (3, 2)])
def test_one_picture_of_8_pixels_at_a_time_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, world: int
) -> None:
    monkeypatch.setattr("torchloupe.runtime.distributed.world", lambda: world)
    small, config = shapes(train=20, test=10, size=8), replace(SMALL, batch=batch)
    with pytest.raises(UsageError, match=r"one picture of 8 x 8 at a time: .*BatchNorm.* --batch") as refused:
        prepare(small, config, torch.device("cpu"))
    assert "\n" not in str(refused.value)
    prepare(small, replace(SMALL, batch=2 * world), torch.device("cpu"))
    prepare(shapes(train=20, test=10, size=32), config, torch.device("cpu"))
    with pytest.raises(UsageError, match="one picture of 8 x 8"):
        prepare(shapes(train=20, test=10, size=32), replace(config, low_size=8, low_until=0.5), torch.device("cpu"))
    net = tmp_path / "net.py"
    net.write_text(DROPOUT)
    prepare(small, replace(config, model=f"{net}:make"), torch.device("cpu"))


def test_holdout_is_taken_from_train_and_the_test_split_stays_unread(data: Dataset, tmp_path: Path) -> None:
    spoiled = replace(data, test=replace(data.test, labels=data.test.labels * 0 + 99))
    train(spoiled, replace(SMALL, epochs=1, holdout=0.2), tmp_path / "r", device="cpu")
    assert len(read_metrics(tmp_path / "r", "step")) == 4  # 80 of 100 pictures, 20 a step


def test_val_is_measured_while_training_and_the_test_split_stays_unread(data: Dataset, tmp_path: Path) -> None:
    def accuracy(run: Path) -> list[float]:
        return [row["test_accuracy"] for row in read_metrics(run, "epoch")]

    spoiled = replace(data, test=replace(data.test, labels=data.test.labels * 0 + 99), val=data.test)
    train(spoiled, SMALL, tmp_path / "val", device="cpu")
    train(data, SMALL, tmp_path / "test", device="cpu")
    assert weights(tmp_path / "val").keys() and accuracy(tmp_path / "val") == accuracy(tmp_path / "test")
    about = read_json(tmp_path / "val" / "config.json")
    assert about["data"]["val"] == 30 and measured_on(about["training"], about["data"]) == "val"
    assert finish(tmp_path / "val") and "| val, no test-time" in (tmp_path / "val" / "README.md").read_text()


def test_a_share_to_hold_out_is_taken_from_train_beside_val_too(data: Dataset, tmp_path: Path) -> None:
    train(replace(data, val=data.test), replace(SMALL, epochs=1, holdout=0.2), tmp_path / "r", device="cpu")
    about = read_json(tmp_path / "r" / "config.json")
    assert (
        len(read_metrics(tmp_path / "r", "step")) == 4 and measured_on(about["training"], about["data"]) == "held-out"
    )


def test_a_run_of_before_val_splits_goes_on_with_its_test_split(data: Dataset, tmp_path: Path) -> None:
    train(data, SMALL, tmp_path / "whole", device="cpu")
    stop = Listener(wants_stop=iter([False] * 4 + [True] * 99).__next__)
    with pytest.raises(Stopped):
        train(data, SMALL, tmp_path / "r", device="cpu", listener=stop)
    spoiled = replace(data.test, labels=data.test.labels * 0 + 99)
    train(replace(data, val=spoiled), SMALL, tmp_path / "r", device="cpu", resume=True)
    assert outcome(tmp_path / "r") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("share", [0.001, 0.05])
def test_a_holdout_that_rounds_to_nothing_is_refused(data: Dataset, tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match=rf"--holdout {share} of 100 .* more than 0.05") as refused:
        train(data, replace(SMALL, epochs=2, holdout=share), tmp_path / "r", device="cpu")
    assert "\n" not in str(refused.value) and not (tmp_path / "r").exists()


def test_data_without_a_test_split_are_learned_from(data: Dataset, tmp_path: Path) -> None:
    train(replace(data, test=take(data.test, torch.arange(0))), replace(SMALL, epochs=2), tmp_path / "r", device="cpu")
    assert {row["kind"] for row in read_metrics(tmp_path / "r")} == {"step", "epoch"}
    assert "test_loss" not in read_metrics(tmp_path / "r", "epoch")[-1]


def test_fine_tuning_keeps_the_body_and_renews_the_head(data: Dataset, tmp_path: Path) -> None:
    train(data, SMALL, tmp_path / "old", device="cpu")
    parts = [take(split, (split.labels < 3).nonzero().flatten()) for split in (data.train, data.test)]
    three = replace(data, train=parts[0], test=parts[1], classes=data.classes[:3])
    config = TrainConfig(weights=str(tmp_path / "old"), epochs=2, batch=10)
    train(three, config, tmp_path / "new", device="cpu")
    old, new = weights(tmp_path / "old"), read_tensors(tmp_path / "new/snapshots/epoch-0.safetensors")[0]
    assert all(torch.equal(old[name], new[name]) for name in old if not name.startswith("fc."))
    assert new["fc.weight"].shape == (3, 128)
    assert open_model(tmp_path / "new").config.mean == open_model(tmp_path / "old").config.mean


def test_fine_tuning_another_network_is_refused(data: Dataset, tmp_path: Path) -> None:
    train(data, replace(SMALL, epochs=1), tmp_path / "old", device="cpu")
    with pytest.raises(ModelError, match="does not fit"):
        config = replace(SMALL, model="resnet20", weights=str(tmp_path / "old"))
        train(data, config, tmp_path / "new", device="cpu")


def test_snapshots_lie_log_spaced_in_epochs() -> None:
    assert sorted(snapshot_steps(100, 1000)) == [25, 50, 100, 200, 400, 800]
    assert sorted(snapshot_steps(1, 3)) == [1, 2]


def test_a_snapshot_is_the_network_of_that_step(data: Dataset, tmp_path: Path) -> None:
    config = replace(SMALL, schedule="constant", ema=0.0)
    train(data, config, tmp_path / "long", device="cpu")
    train(data, replace(config, epochs=1), tmp_path / "short", device="cpu")
    snapshot = open_model(f"{tmp_path / 'long'}@1").network.state_dict()
    assert all(torch.equal(snapshot[name], tensor) for name, tensor in weights(tmp_path / "short").items())


def test_a_run_of_before_there_was_a_stream_a_purpose_goes_on_as_it_began(data: Dataset, tmp_path: Path) -> None:
    train(data, replace(SMALL, streams=1), tmp_path / "whole", device="cpu")
    seen: list[int] = []
    listener = Listener(step=lambda step, *_: seen.append(step), wants_stop=lambda: len(seen) == 7)
    with pytest.raises(Stopped):
        train(data, replace(SMALL, streams=1), tmp_path / "cut", device="cpu", listener=listener)
    about = read_json(tmp_path / "cut" / "config.json")
    del about["training"]["streams"]  # as it was written then
    write_json(tmp_path / "cut" / "config.json", about)
    config = begun(tmp_path / "cut", SMALL)
    assert config is not None and config.streams == 1
    train(data, SMALL, tmp_path / "cut", device="cpu", resume=True)
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "cut")
    train(data, SMALL, tmp_path / "new", device="cpu")
    assert read_json(tmp_path / "new" / "config.json")["training"]["streams"] == 2
    assert not torch.equal(weights(tmp_path / "new")["conv1.weight"], weights(tmp_path / "cut")["conv1.weight"])


DROPOUT = """
from torch import nn

def make(classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(32, classes))
"""


def test_a_network_with_chance_of_its_own_resumes_as_never_stopped(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(DROPOUT)
    config = replace(SMALL, model=f"{tmp_path / 'net.py'}:make")
    train(data, config, tmp_path / "whole", device="cpu")
    seen: list[int] = []
    listener = Listener(step=lambda step, *_: seen.append(step), wants_stop=lambda: len(seen) == 7)
    with pytest.raises(Stopped):
        train(data, config, tmp_path / "cut", device="cpu", listener=listener)
    train(data, config, tmp_path / "cut", device="cpu", resume=True)
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "cut")


def test_what_was_logged_after_the_state_is_forgotten(data: Dataset, tmp_path: Path) -> None:
    train(data, SMALL, tmp_path / "r", device="cpu")
    before = outcome(tmp_path / "r")
    with (tmp_path / "r" / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "step", "step": 99}\n{"kind"')
    train(data, SMALL, tmp_path / "r", device="cpu", resume=True)
    assert outcome(tmp_path / "r") == before


def test_a_wider_loupe_says_so_and_opens_again(data: Dataset, tmp_path: Path) -> None:
    train(data, replace(SMALL, epochs=1, net_width=6), tmp_path / "r", device="cpu")
    network = load(tmp_path / "r")
    shapes_of = [tuple(network.get_parameter(f"{name}.weight").shape[:2]) for name in ("conv1", "layer2.0.conv", "fc")]
    assert shapes_of == [(6, 3), (12, 6), (10, 24)]
    assert open_model(str(tmp_path / "r")).config.arguments == {"widths": [6, 12, 24]}
    with pytest.raises(ModelError, match="only loupe can be widened, not 'resnet20'"):
        train(data, replace(SMALL, net_width=6, model="resnet20"), tmp_path / "s", device="cpu")
    with pytest.raises(UsageError, match="--net-width cannot be 1"):
        TrainConfig(net_width=1)
