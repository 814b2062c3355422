"""A run's numbers for TensorBoard: every one of them, at its step and time, as TensorBoard's own reader finds them."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from browsing import needed
from commands import Run
from torchloupe.errors import ModelError, UsageError
from torchloupe.runs.tensorboard import NAME, clock, crc32c, export, numbers

ROWS: list[dict[str, Any]] = [
    {"kind": "step", "step": 1, "epoch": 0.5, "lr": 0.1, "loss": 2.0, "accuracy": 0.25},
    {"kind": "step", "step": 2, "epoch": 1.0, "lr": 0.05, "loss": float("inf"), "accuracy": float("nan")},
    {"kind": "probe", "step": 2, "epoch": 1.0, "loss": 1.5, "accuracy": 0.5},
    {"kind": "epoch", "step": 2, "epoch": 1.0, "train_loss": 1.75, "train_accuracy": 0.375}
    | {"test_loss": 1.25, "test_accuracy": 0.5, "f1 été": 0.625},
    {"kind": "epoch", "step": 300, "epoch": 2.0, "train_loss": 1e300, "train_accuracy": 0.5, "val_loss": 0.5},
]
EXPECTED = {
    ("lr", 1): 0.1,
    ("loss/step", 1): 2.0,
    ("accuracy/step", 1): 0.25,
    ("lr", 2): 0.05,
    ("loss/step", 2): float("inf"),
    ("loss/probe", 2): 1.5,
    ("accuracy/probe", 2): 0.5,
    ("loss/train", 2): 1.75,
    ("accuracy/train", 2): 0.375,
    ("loss/test", 2): 1.25,
    ("accuracy/test", 2): 0.5,
    ("f1 été/epoch", 2): 0.625,
    ("loss/train", 300): float("inf"),
    ("accuracy/train", 300): 0.5,
    ("loss/val", 300): 0.5,
}
TIMES = [
    {"step": 2, "train_seconds": 10.0, "time": 1_700_000_010.0},
    {"step": 300, "train_seconds": 30.0, "time": 1_700_000_030.0},
]


def written(run: Path, times: list[dict[str, float]] = TIMES) -> Path:
    run.mkdir(exist_ok=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (run / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in times))
    return run


def test_every_number_is_told() -> None:
    found = {(tag, step): value for step, tag, value in numbers(ROWS)}
    assert found == {**EXPECTED, ("loss/train", 300): 1e300}  # more than 32 bits hold, as which it is written


def test_tensorboard_reads_it(tmp_path: Path) -> None:
    """TensorBoard is among what is needed to develop, so that CI has it."""
    reader = needed("tensorboard.backend.event_processing.event_accumulator")
    accumulator = reader.EventAccumulator(str(export(written(tmp_path / "r"))), size_guidance={reader.SCALARS: 0})
    accumulator.Reload()
    found = {(tag, each.step): each for tag in accumulator.Tags()["scalars"] for each in accumulator.Scalars(tag)}
    assert found.keys() == EXPECTED.keys()
    for key, each in found.items():
        assert each.value == pytest.approx(EXPECTED[key], rel=1e-6), key
    assert found["loss/step", 1].wall_time == pytest.approx(1_700_000_005)
    assert found["loss/train", 2].wall_time == pytest.approx(1_700_000_010)
    assert found["loss/train", 300].wall_time == pytest.approx(1_700_000_030)
    assert accumulator.FirstEventTimestamp() == pytest.approx(1_700_000_000)


def test_records_are_whole_and_checked(tmp_path: Path) -> None:
    """Taken apart by the format's description alone."""
    data, records = (export(written(tmp_path / "r")) / NAME).read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, place in ((data[:8], 8), (data[12 : 12 + length], 12 + length)):
            (masked,) = struct.unpack("<I", data[place : place + 4])
            rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
            assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == crc32c(part)
        records.append(data[12 : 12 + length])
        data = data[16 + length :]
    assert len(records) == 1 + len(EXPECTED) and records[0].endswith(b"brain.Event:2")


@pytest.mark.parametrize(
    ("data", "crc"),
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"", 0)],
)
def test_the_checksum_is_that_of_rfc_3720(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


def test_times_of_earlier_versions_count_back_from_the_last(tmp_path: Path) -> None:
    run = written(tmp_path / "r", [{name: row[name] for name in ("step", "train_seconds")} for row in TIMES])
    os.utime(run / "timing.jsonl", (5000.0, 5000.0))
    when = clock(run)
    assert [when(step) for step in (0, 1, 2, 151, 300, 400)] == pytest.approx([4970, 4975, 4980, 4990, 5000, 5000])
    (run / "timing.jsonl").write_text("{\n[]\n")
    os.utime(run / "metrics.jsonl", (7000.0, 7000.0))
    assert clock(run)(3) == 7000.0


def test_the_command_writes_into_the_run_or_elsewhere_and_the_same_twice(run: Run, tmp_path: Path) -> None:
    written(tmp_path / "runs").rename(tmp_path / "mine")
    ended = run("tensorboard", "mine")
    assert ended.code == 0 and ended.out == f"{Path('mine') / 'tensorboard'}\n" and "--logdir" in ended.err
    first = (tmp_path / "mine" / "tensorboard" / NAME).read_bytes()
    assert run("tensorboard", "mine", "--out", "other", "--quiet").err == ""
    assert (tmp_path / "other" / NAME).read_bytes() == first
    assert run("tensorboard", "mine").code == 0
    assert [path.name for path in (tmp_path / "mine" / "tensorboard").iterdir()] == [NAME]


def test_what_holds_no_numbers_is_told(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no metrics"):
        export(tmp_path)
    assert run("tensorboard", "nowhere").code == 4
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="name a folder"):
        export(written(tmp_path / "r"), tmp_path / "file")
    (tmp_path / "r" / "metrics.jsonl").write_text("{\n")
    with pytest.raises(ModelError, match="damaged in line 1"):
        export(tmp_path / "r")
