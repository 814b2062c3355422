"""Recording leaves a training as it is, and what it writes is a run like any other."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import own_loop
import torchloupe
from commands import Run
from own_loop import ABOUT, CLASSES, STEPS, Gray, Net, learn
from torchloupe import Recorder
from torchloupe.checkpoints.file import read_tensors
from torchloupe.checkpoints.open import of_run, open_model
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import LoupeError, ModelError, OtherWeightsWarning, RecordingWarning, ResourceError, UsageError
from torchloupe.reports.sections.performance import training_curves
from torchloupe.reports.sections.training_film import snapshots
from torchloupe.runs.config import read_config
from torchloupe.runs.folder import read_environment
from torchloupe.runs.metrics import read_metrics, training_seconds
from torchloupe.runtime import files
from torchloupe.training.config import TrainConfig
from torchloupe.training.loop import train


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def record(out: Path, **settings: Any) -> Any:
    return lambda net: Recorder(net, out, **{**ABOUT, **settings})


@pytest.fixture
def mine(tmp_path: Path) -> tuple[nn.Module, list[float], Path]:
    net, losses = learn(Net, record(tmp_path / "mine", every="epoch"), epochs=3)
    return net, losses, tmp_path / "mine"


# it leaves the training as it is


@pytest.mark.parametrize(("every", "model"), [("log", None), ("epoch", f"{own_loop.__file__}:Net"), (2, None)])
def test_a_recorded_training_ends_with_the_same_bits(tmp_path: Path, every: Any, model: str | None) -> None:
    plain, losses = learn(Net)
    chance = torch.get_rng_state()
    recorded, again = learn(Net, record(tmp_path / "r", every=every, steps_per_epoch=STEPS, model=model))
    assert same(state(plain), state(recorded)) and losses == again
    assert torch.equal(chance, torch.get_rng_state())
    other, _ = learn(Net, seed=1)
    assert not same(state(plain), state(other))


def test_modes_flags_and_hooks_stay(tmp_path: Path) -> None:
    net = Net().train()
    net.norm.eval()
    net.conv.weight.requires_grad_(False)
    before = {name: module.training for name, module in net.named_modules()}
    with Recorder(net, tmp_path / "r", **ABOUT) as recorder:
        recorder.step(loss=1.0)
        recorder.epoch()
    assert before == {name: module.training for name, module in net.named_modules()}
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["conv.weight"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_the_network_of_a_script_is_found_by_its_class_without_drawing(tmp_path: Path) -> None:
    """Finding out whether the class makes the network again draws nothing, and takes no memory."""
    net, before = Net(), torch.get_rng_state()
    Recorder(net, tmp_path / "r", **ABOUT).close()
    assert torch.equal(before, torch.get_rng_state())
    assert read_config(tmp_path / "r").model.endswith("own_loop.py:Net")


# what it writes


def test_the_curves_are_the_numbers_that_were_given(mine: tuple[nn.Module, list[float], Path]) -> None:
    _, losses, out = mine
    steps = read_metrics(out, "step")
    assert [row["step"] for row in steps] == list(range(1, 3 * STEPS + 1))
    assert [row["epoch"] for row in steps] == [i / STEPS for i in range(1, 3 * STEPS + 1)]
    assert [row["loss"] for row in steps] == [float(f"{loss:.6g}") for loss in losses]
    epochs = read_metrics(out, "epoch")
    assert [(row["epoch"], row["step"], row["test_accuracy"]) for row in epochs] == [
        (1.0, STEPS, 0.5),
        (2.0, 2 * STEPS, 0.6),
        (3.0, 3 * STEPS, 0.7),
    ]
    means = [sum(losses[i * STEPS : (i + 1) * STEPS]) / STEPS for i in range(3)]
    assert [row["train_loss"] for row in epochs] == pytest.approx(means, rel=1e-5)
    loss, accuracy = training_curves(out)
    assert "test <b>0.8</b>" in loss and "test <b>70.00 %</b>" in accuracy and "train, each step" in loss


def test_a_run_of_its_own_kind_passes_every_reader(mine: tuple[nn.Module, list[float], Path]) -> None:
    net, _, out = mine
    about = read_config(out)
    assert about.classes == tuple(CLASSES) and about.size == 12 and about.training == {"recorded": True}
    assert read_environment(out)["device"] == "cpu" and (training_seconds(out) or 0) >= 0
    assert [epoch for epoch, _ in snapshots(out)] == [0, 1, 2, 3]
    assert {path.name for path in out.iterdir()} == {
        *("config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "model.safetensors", "snapshots"),
        *("curves.png", "curves.svg"),
    }
    final, described = read_tensors(out / "model.safetensors")
    assert same(state(net), final) and described == json.loads((out / "config.json").read_text())


def test_weights_come_back_to_the_bit(tmp_path: Path) -> None:
    kept: dict[int, dict[str, Tensor]] = {}
    net = Net()
    with Recorder(net, tmp_path / "r", every="epoch", **ABOUT) as recorder:
        kept[0] = state(net)
        for epoch in (1, 2):
            with torch.no_grad():
                for tensor in net.parameters():
                    tensor.add_(torch.randn_like(tensor))
            net(torch.rand(2, 3, 12, 12))  # BatchNorm counts on
            recorder.step(loss=1.0)
            recorder.epoch()
            kept[epoch] = state(net)
    for epoch, tensors in kept.items():
        assert same(read_tensors(tmp_path / "r" / "snapshots" / f"epoch-{epoch}.safetensors")[0], tensors)
    assert not same(kept[0], kept[1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 1, 2, 4, 5]),
        ({"steps_per_epoch": STEPS}, [0, 0.25, 0.5, 1, 2, 4, 5]),
        ({"every": "epoch"}, [0, 1, 2, 3, 4, 5]),
        ({"every": 3}, [0, 3, 5]),
    ],
)
def test_weights_are_kept_when_they_are_due(tmp_path: Path, settings: dict[str, Any], expected: list[float]) -> None:
    learn(Net, record(tmp_path / "r", **settings), epochs=5)
    assert [epoch for epoch, _ in snapshots(tmp_path / "r")] == expected


def test_steps_of_a_first_epoch_are_placed_as_soon_as_its_length_is_known(tmp_path: Path) -> None:
    recorder = Recorder(Net(), tmp_path / "r", **ABOUT)
    for _ in range(60):  # more than are written at once
        recorder.step(loss=1.0)
    assert {row["epoch"] for row in read_metrics(tmp_path / "r", "step")} == {0.0}
    recorder.epoch()
    recorder.step(loss=1.0)
    recorder.close()
    places = [row["epoch"] for row in read_metrics(tmp_path / "r", "step")]
    assert places == pytest.approx([i / 60 for i in range(1, 62)], rel=1e-5)
    assert [row["epoch"] for row in read_metrics(tmp_path / "r", "epoch")] == pytest.approx([1, 61 / 60], rel=1e-5)


def test_means_of_several_steps_count_as_many(tmp_path: Path) -> None:
    with Recorder(Net(), tmp_path / "r", **ABOUT) as recorder:
        recorder.step(loss=1.0, steps=3)
        recorder.step(loss=5.0)
        recorder.epoch(f1=0.5)
    assert [row["step"] for row in read_metrics(tmp_path / "r", "step")] == [3, 4]
    [end] = read_metrics(tmp_path / "r", "epoch")
    assert end["train_loss"] == 2.0 and end["f1"] == 0.5 and math.isnan(end["train_accuracy"])


def test_what_was_not_told_is_not_drawn(tmp_path: Path) -> None:
    with Recorder(Net(), tmp_path / "r", **ABOUT) as recorder:
        for loss in (1.0, math.nan, 3.0, math.inf):
            recorder.step(loss=torch.tensor(loss))
        recorder.epoch(val_loss=2.5)
    rows = read_metrics(tmp_path / "r", "step")
    assert [row["loss"] for row in rows[::2]] == [1.0, 3.0] and math.isnan(rows[1]["loss"])
    drawn, nothing = training_curves(tmp_path / "r")
    assert "val <b>2.5</b>" in drawn and nothing == "" and "nan" not in drawn.lower()


def test_numbers_are_taken_as_they_are_at_the_time(tmp_path: Path) -> None:
    total = torch.zeros(())
    with Recorder(Net(), tmp_path / "r", **ABOUT) as recorder:
        for _ in range(3):
            total += 1
            recorder.step(loss=total, accuracy=torch.ones(1, requires_grad=True))
    assert [row["loss"] for row in read_metrics(tmp_path / "r", "step")] == [1, 2, 3]


# what it wraps


class Averaged(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


@pytest.mark.parametrize(
    "around",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda net: torch.compile(net, backend="eager"),
        lambda net: nn.DataParallel(cast(nn.Module, torch.compile(net, backend="eager"))),
        lambda net: torchloupe.wrap(net, **ABOUT),
    ],
)
def test_what_stands_around_the_network_is_taken_off(tmp_path: Path, around: Any) -> None:
    with Recorder(around(Net()), tmp_path / "r", **ABOUT) as recorder:
        recorder.step(loss=1.0)
    assert read_tensors(tmp_path / "r" / "model.safetensors")[0].keys() == Net().state_dict().keys()


def test_only_the_first_of_several_processes_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with Recorder(Net(), tmp_path / "r", **ABOUT) as recorder:
        recorder.step(loss=1.0)
        recorder.epoch(test_loss=1.0)
        recorder.snapshot()
    assert not (tmp_path / "r").exists()


# what it refuses


@pytest.mark.parametrize(
    ("settings", "say"),
    [
        ({"classes": CLASSES[:2]}, "3 outputs for 2 classes"),
        ({"classes": ["a", "a", "b"]}, "'a' stands twice"),
        ({"classes": [1, 2, 3]}, "different names"),
        ({"mean": [0.5]}, "mean has 1 values and std 3"),
        ({"mean": [120.0] * 3}, "divide by 255"),
        ({"mean": [0.5], "std": [0.5]}, r"fails on pictures of 12 x 12.*It takes pictures of 3 channels, not 1"),
        ({"size": 2}, r"fails on pictures of 2 x 2.*It runs on 224 x 224: give --size 224"),
        ({"every": "day"}, "every is 'log', 'epoch' or a number"),
        ({"every": 0}, "every is 'log', 'epoch' or a number"),
        ({"output": len}, "a run cannot keep it"),
        ({"model": "resnet20"}, "does not fit the network 'resnet20'"),
        ({"model": "nowhere.py:Net"}, "no such file"),
        ({"resume": 2}, "no run in .* to go on with after 2 epochs"),
    ],
)
def test_what_does_not_fit_is_told_before_the_training(tmp_path: Path, settings: dict[str, Any], say: str) -> None:
    with pytest.raises(LoupeError, match=say):
        Recorder(Net(), tmp_path / "r", **{**ABOUT, **settings})
    assert not (tmp_path / "r").exists()


def test_weights_that_no_file_holds_are_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = Net()
    with pytest.raises(ModelError, match="on no device"):
        Recorder(net, tmp_path / "r", **ABOUT)


def test_nothing_is_written_over(tmp_path: Path, mine: tuple[nn.Module, list[float], Path]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for name, say in (("mine", "already holds a run. Go on with it by resume="), ("full", "not an empty folder")):
        with pytest.raises(UsageError, match=say):
            Recorder(Net(), tmp_path / name, **ABOUT)
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["notes.txt"]
    recorder = Recorder(Net(), tmp_path / "new", **ABOUT)
    busy = "import sys; from torchloupe import Recorder; from own_loop import *\nRecorder(Net(), sys.argv[1], **ABOUT)"
    done = subprocess.run(
        [sys.executable, "-c", busy, str(tmp_path / "new")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert f"is being trained by process {os.getpid()}" in done.stderr
    recorder.close()


def test_torchloupe_does_not_go_on_with_it(run: Run, tmp_path: Path, mine: tuple[nn.Module, list[float], Path]) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in mine[2].rglob("*"))
    for words in (["--resume"], ["--resume", "auto"]):
        ended = run("train", "--data", "shapes", *words, "--out", "mine")
        assert ended.code == 2 and "recorded from a training of your own" in ended.err
    for resume in (True, "auto"):
        with pytest.raises(UsageError, match="recorded from a training of your own"):
            train(shapes(train=20, test=10), TrainConfig(epochs=1), mine[2], device="cpu", resume=cast(Any, resume))
    assert before == sorted((path, path.stat().st_mtime_ns) for path in mine[2].rglob("*"))


# what goes wrong on the way


def test_a_full_disk_stops_the_recording_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = learn(Net, epochs=3)
    written: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        written.append(path)
        raise ResourceError(f"cannot write '{path}': the disk is full.")

    def recorder(net: nn.Module) -> Recorder:
        made = Recorder(net, tmp_path / "r", every="epoch", **ABOUT)
        monkeypatch.setattr("torchloupe.checkpoints.file.atomic_write", full)
        return made

    with pytest.warns(
        RecordingWarning, match=r"has stopped: cannot write .*disk is full. The training goes on"
    ) as told:
        net, _ = learn(Net, recorder, epochs=3)
    assert same(state(plain), state(net)) and len(told) == len(written) == 1
    assert len(read_metrics(tmp_path / "r", "epoch")) == 1
    monkeypatch.undo()
    Recorder(Net(), tmp_path / "r", resume=1, **ABOUT).close()  # the lock is free


def test_a_disk_that_is_full_at_once_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise ResourceError(f"cannot write '{path}': the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("torchloupe.checkpoints.file.atomic_write", full)
        with pytest.raises(ResourceError):
            Recorder(Net(), tmp_path / "r", **ABOUT)
    Recorder(Net(), tmp_path / "r", **ABOUT).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(LoupeError):
        Recorder(Net(), tmp_path / "file" / "r", **ABOUT)


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    net = Net()
    with (
        pytest.warns(RecordingWarning, match="hold NaN or infinity") as told,
        Recorder(net, tmp_path / "r", every="epoch", **ABOUT) as recorder,
    ):
        recorder.epoch()
        with torch.no_grad():
            net.fc.weight.fill_(math.nan)
        recorder.epoch()
    assert len(told) == 1
    assert [path.stem for path in sorted((tmp_path / "r" / "snapshots").iterdir())] == ["epoch-0", "epoch-1"]
    assert not (tmp_path / "r" / "model.safetensors").exists()
    with pytest.raises(ModelError, match=r"no final weights.* Name a snapshot"):
        torchloupe.load(tmp_path / "r", model=Net)


@pytest.mark.parametrize("value", ["good", [1.0], torch.ones(3), object()])
def test_what_is_no_number_is_told_once_and_left_out(tmp_path: Path, value: Any) -> None:
    with (
        pytest.warns(RecordingWarning, match="'loss' is no number") as told,
        Recorder(Net(), tmp_path / "r", **ABOUT) as recorder,
    ):
        for _ in range(3):
            recorder.step(loss=value, lr=0.1)
        recorder.epoch(test_loss=1.0)
    assert len(told) == 1
    assert all(math.isnan(row["loss"]) and row["lr"] == 0.1 for row in read_metrics(tmp_path / "r", "step"))


def test_percents_are_told_and_left_out(tmp_path: Path) -> None:
    with (
        pytest.warns(RecordingWarning, match=r"'test_accuracy' is a share in \[0, 1\], not 87.5"),
        Recorder(Net(), tmp_path / "r", **ABOUT) as recorder,
    ):
        recorder.epoch(test_accuracy=87.5)
    assert math.isnan(read_metrics(tmp_path / "r", "epoch")[0]["test_accuracy"])


def test_after_its_end_it_says_so_once(tmp_path: Path) -> None:
    recorder = Recorder(Net(), tmp_path / "r", **ABOUT)
    recorder.close()
    recorder.close()
    with pytest.warns(RecordingWarning, match="it is closed") as told:
        recorder.step(loss=1.0)
        recorder.epoch()
    assert len(told) == 1


def test_an_error_of_the_users_passes_and_the_run_is_whole(tmp_path: Path) -> None:
    for number, error in enumerate((KeyboardInterrupt, ValueError)):
        out = tmp_path / str(number)
        with pytest.raises(error), Recorder(Net(), out, steps_per_epoch=4, **ABOUT) as recorder:
            for _ in range(6):
                recorder.step(loss=1.0)
                if recorder.epochs == 0:
                    recorder.epoch()
            raise error
        assert [row["epoch"] for row in read_metrics(out, "epoch")] == [1.0, 2.0]  # epochs of one step, then of four
        assert (out / "model.safetensors").is_file() and len(read_metrics(out, "step")) == 6


KILLED = """
import os, signal, sys
from own_loop import *
from torchloupe import Recorder
net = Net()
recorder = Recorder(net, sys.argv[1], every="epoch", **ABOUT)
for epoch in range(3):
    for _ in range(70):
        recorder.step(loss=1.0)
    recorder.epoch(test_loss=1.0)
for _ in range(70):
    recorder.step(loss=1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_training_leaves_a_run_that_can_be_read_and_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "r"
    path = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL
    assert [row["epoch"] for row in read_metrics(out, "epoch")] == [1, 2, 3] and len(read_metrics(out, "step")) == 260
    assert [epoch for epoch, _ in snapshots(out)] == [0, 1, 2, 3]
    made = torchloupe.report(Net(), run=out, units=1, budget=None, layers=["conv"], quiet=True)
    assert made.path == out / "report.html" and made.contents.film is not None
    assert [moment.epoch for moment in made.contents.film.moments] == [0, 1, 2, 3]
    with Recorder(Net(), out, every="epoch", resume=2, **ABOUT) as recorder:
        assert [row["epoch"] for row in read_metrics(out, "epoch")] == [1, 2] and len(read_metrics(out, "step")) == 140
        assert [epoch for epoch, _ in snapshots(out)] == [0, 1, 2]
        for _ in range(70):
            recorder.step(loss=2.0)
        recorder.epoch()
    assert [row["step"] for row in read_metrics(out, "epoch")] == [70, 140, 210]
    assert read_metrics(out, "step")[140]["epoch"] == pytest.approx(2 + 1 / 70, rel=1e-5)
    with pytest.raises(UsageError, match="no end of epoch 7, it holds 3"):
        Recorder(Net(), out, resume=7, **ABOUT)
    with pytest.raises(UsageError, match="other classes, mean, std or size"):
        Recorder(Net(), out, resume=3, **{**ABOUT, "classes": ["a", "b", "c"]})


# how it is opened


def test_the_report_of_it_tells_how_it_learned(mine: tuple[nn.Module, list[float], Path]) -> None:
    net, _, out = mine
    net.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = torchloupe.report(net, run=out, units=2, budget=None, layers=["conv"], quiet=True)
    film = made.contents.film
    assert film is not None and [moment.epoch for moment in film.moments] == [0, 1, 2, 3]
    assert made.contents.title.startswith("mine") and net.training
    assert "How it learned" in made.path.read_text() and made.contents.loss_chart
    assert ("Epochs", "3") in made.contents.facts
    assert {"filters", "maximize"} <= film.strips.keys()


def test_the_report_is_of_the_network_as_it_is_and_says_where_that_is_another(
    mine: tuple[nn.Module, list[float], Path],
) -> None:
    _, _, out = mine
    with pytest.warns(OtherWeightsWarning, match=r"not those that .*mine' ended with"):
        network = of_run(Net(), out)
    assert network.origin.word == str(out / "as-given") and network.origin.run == out
    with pytest.raises(ModelError, match="does not fit the network 'Gray'"):
        of_run(Gray(4), out)
    with pytest.raises(ModelError, match="not a run"):
        of_run(Net(), out / "snapshots")
    with pytest.raises(UsageError, match="leave it out"):
        torchloupe.report(out, run=out)


def test_commands_open_it_where_its_class_makes_it_again(
    run: Run, tmp_path: Path, mine: tuple[nn.Module, list[float], Path]
) -> None:
    ended = run("report", "mine", "--layers", "conv", "--units", "1", "--budget", "none", "--json")
    assert ended.code == 0, ended.err
    assert "How it learned" in (tmp_path / "mine" / "report.html").read_text()
    ended = run("test", "mine", "--data", "shapes")
    assert ended.code in (0, 3), ended.err
    assert run("layers", "mine@1", "--no-data").code == 0


def test_a_network_that_only_python_knows_is_opened_by_naming_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> nn.Module:
        return Gray(5)

    settings = {**ABOUT, "mean": [0.5], "std": [0.25], "size": 9}
    net = make()
    with Recorder(net, tmp_path / "gray", every="epoch", **settings) as recorder:
        recorder.epoch()
    assert read_config(tmp_path / "gray").model == "<made in Python>:Gray"
    ended = run("layers", "gray", "--no-data")
    assert ended.code == 4 and "recorded of a network made in Python, 'Gray': give --model FILE.py:NAME" in ended.err
    assert torchloupe.load(tmp_path / "gray", model=make)(torch.rand(1, 1, 9, 9)).shape == (1, 3)
    (tmp_path / "nets.py").write_text("from own_loop import Gray\ndef gray(classes):\n    return Gray(5)\n")
    assert run("layers", "gray", "--no-data", "--model", "nets.py:gray").code == 0
    assert run("layers", "gray", "--no-data").code == 4  # another network of that name may be meant the next time
    made = torchloupe.report(net, run=tmp_path / "gray", units=1, budget=None, layers=["conv"], quiet=True)
    assert made.contents.film is not None and len(made.contents.film.moments) == 2, made.refused


def test_a_network_of_one_channel_has_its_film_beside_data_of_three(run: Run, tmp_path: Path) -> None:
    net, known = Gray(5), shapes(train=20, test=10)
    settings = {**ABOUT, "classes": known.classes[:3], "mean": [0.5], "std": [0.25], "size": 32, "data": known}
    with Recorder(net, tmp_path / "r", every="epoch", **settings) as recorder:
        recorder.epoch(val_accuracy=0.5)
    made = torchloupe.report(net, run=tmp_path / "r", data=known, units=1, budget=None, layers=["conv"], quiet=True)
    assert made.contents.film is not None and [m.accuracy for m in made.contents.film.moments] == [None, None]
    (tmp_path / "nets.py").write_text("from own_loop import Gray\ndef gray(classes):\n    return Gray(5)\n")
    ended = run("test", "r", "--data", "shapes", "--model", "nets.py:gray")
    assert ended.code == 3 and "bug" not in ended.err


def test_a_reference_that_was_given_is_checked_and_remembered(run: Run, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("from own_loop import Gray\ndef gray(classes):\n    return Gray(5)\n")
    settings = {**ABOUT, "mean": [0.5], "std": [0.25], "size": 9, "model": tmp_path / "nets.py"}
    with pytest.raises(ModelError, match="does not say which network"):
        Recorder(Gray(5), tmp_path / "r", **settings)
    settings["model"] = f"{tmp_path / 'nets.py'}:gray"
    with pytest.raises(ModelError, match="does not fit"):
        Recorder(Gray(4), tmp_path / "r", **settings)
    Recorder(Gray(5), tmp_path / "r", **settings).close()
    assert run("layers", "r", "--no-data").code == 0


def test_our_own_networks_are_known_by_name(tmp_path: Path) -> None:
    net = torchloupe.models.build("resnet20", classes=3)
    Recorder(net, tmp_path / "r", **ABOUT).close()
    assert read_config(tmp_path / "r").model == "resnet20"
    assert open_model(tmp_path / "r").network.classes == tuple(CLASSES)


def test_its_data_are_found_again(tmp_path: Path) -> None:
    known = shapes(train=20, test=10)
    about = {**ABOUT, "classes": known.classes, "size": 32}
    net = Net(classes=len(known.classes))
    Recorder(net, tmp_path / "whole", data=known, **about).close()
    Recorder(net, tmp_path / "word", data="shapes", **about).close()
    Recorder(net, tmp_path / "path", data=tmp_path, **about).close()
    whole, word, path = (read_config(tmp_path / name).data for name in ("whole", "word", "path"))
    assert whole and whole["crc32"] and whole["train"] == 20
    assert word == {"name": "shapes", "source": "shapes"}
    assert path == {"name": tmp_path.name, "source": str(tmp_path)}


def test_what_a_killed_recorder_left_half_written_is_swept_by_the_next(tmp_path: Path) -> None:
    recorder = Recorder(Net(), tmp_path / "r", **ABOUT)
    recorder.epoch()
    recorder.close()
    (tmp_path / "r" / "snapshots" / f".epoch-2.safetensors.abc{files.PART}").write_bytes(b"half")
    Recorder(Net(), tmp_path / "r", resume=1, **ABOUT).close()
    assert not [path for path in (tmp_path / "r").rglob(".*") if re.search("part$", path.name)]
