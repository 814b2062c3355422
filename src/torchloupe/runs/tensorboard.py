"""A run's curves as a file that TensorBoard reads, from metrics.jsonl; nothing of TensorBoard is needed to write it.

An event file is a row of records: length (8 bytes), its checksum, an `Event` in protocol buffers, its checksum. The
checksums are CRC-32C, rotated and shifted (`tensorflow/core/lib/hash/crc32c.h`); an `Event` has the fields
1 wall_time (double), 2 step (varint), 3 file_version (text) or 5 summary; that has values of 1 tag and 2 simple_value.
"""

import math
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError, UsageError
from torchloupe.runs.metrics import FILE, SPLITS, TIMING, read_metrics
from torchloupe.runtime.checks import is_figure, is_number, is_object
from torchloupe.runtime.files import atomic_write, parse_json

FOLDER = "tensorboard"
NAME = "events.out.tfevents.torchloupe"
"""One name, so that a later export takes the place of an earlier one."""
VERSION = b"brain.Event:2"
PLACES = ("kind", "step", "epoch")
LAST_STEP = 2**62


def export(run: Path, out: Path | None = None) -> Path:
    """Write a run's losses, accuracies, learning rates and other numbers for TensorBoard; returns the folder.

    That is `out`, or `tensorboard/` in the run. Each number has its step, and the time of day at which it was taken:
    between the ends of epochs, which timing.jsonl tells, steps count as equally long.

    Raises:
        ModelError: the run has no numbers, or they are damaged.

    >>> export(Path("nowhere"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: 'nowhere' holds no metrics.jsonl with numbers. Is it a run of torchloupe?
    """
    rows = read_metrics(run)
    if not rows:
        raise ModelError(f"'{run}' holds no {FILE} with numbers. Is it a run of torchloupe?")
    folder = run / FOLDER if out is None else out
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"'{folder}' is a file: name a folder with --out.")
    when = clock(run)
    records = [record(event(when(0), 0, version=VERSION))]
    for step, tag, value in numbers(rows):
        records.append(record(event(when(step), step, tag=tag, value=value)))
    atomic_write(folder / NAME, b"".join(records))
    return folder


def numbers(rows: list[dict[str, Any]]) -> Iterator[tuple[int, str, float]]:
    """Yield step, tag and value of all that rows hold; what a recorded training did not say is left out.

    >>> list(numbers([{"kind": "epoch", "step": 3, "epoch": 1.0, "train_loss": 2.0, "f1": 0.5}]))
    [(3, 'loss/train', 2.0), (3, 'f1/epoch', 0.5)]
    """
    for row in rows:
        step: Any = row.get("step")
        if not is_number(step) or not 0 <= step <= LAST_STEP:
            continue
        for name, value in row.items():
            if name not in PLACES and is_figure(value) and not math.isnan(value):
                yield int(step), _tag(row["kind"], name), float(value)


def _tag(kind: str, name: str) -> str:
    split, _, what = name.partition("_")
    if name == "lr" or (split in SPLITS and what):
        return f"{what}/{split}" if what else name
    return f"{name}/{kind}"


def clock(run: Path) -> Callable[[int], float]:
    """Return what tells the time of day, in seconds since 1970, of each step of a run.

    >>> clock(Path("nowhere"))(3)
    0.0
    """
    known = [(0, 0.0), *_ends(run)]
    steps = [step for step, _ in known]

    def when(step: int) -> float:
        place = min(bisect_left(steps, step), len(known) - 1)
        (before, begin), (after, end) = known[max(0, place - 1)], known[place]
        return begin + (end - begin) * min(1.0, (step - before) / (after - before)) if after > before else end

    if len(known) == 1:
        file = run / FILE
        base = file.stat().st_mtime if file.is_file() else 0.0
        return lambda step: base
    file = run / TIMING
    base = file.stat().st_mtime - known[-1][1]  # what earlier versions wrote does not say the time of day
    if (told := _last_time(run)) is not None:
        base = told - known[-1][1]
    return lambda step: base + when(step)


def _ends(run: Path) -> list[tuple[int, float]]:
    """Return step and seconds of training of each epoch's end; those of a training that went on count on."""
    found: list[tuple[int, float]] = []
    for row in _timing(run):
        step: Any = row.get("step")
        seconds: Any = row.get("train_seconds")
        if is_number(step) and is_number(seconds) and (not found or (step > found[-1][0] and seconds >= found[-1][1])):
            found.append((int(step), float(seconds)))
    return [(step, seconds) for step, seconds in found if step > 0]


def _last_time(run: Path) -> float | None:
    told = [float(row["time"]) for row in _timing(run) if is_number(row.get("time"))]
    return told[-1] if told else None


def _timing(run: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of timing.jsonl that are whole."""
    path = run / TIMING
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if is_object(row):
            yield row


def event(when: float, step: int, *, version: bytes = b"", tag: str = "", value: float = 0.0) -> bytes:
    """Return an `Event`: the version of the file, or one number."""
    head = b"\x09" + struct.pack("<d", when) + b"\x10" + varint(step)
    if version:
        return head + field(3, version)
    return head + field(5, field(1, field(1, tag.encode()) + b"\x15" + struct.pack("<f", single(value))))


def single(value: float) -> float:
    """Return a number as far as 32 bits go: what is larger is infinite.

    >>> single(1e300), single(0.5)
    (inf, 0.5)
    """
    return value if not math.isfinite(value) or abs(value) <= 3.4028234e38 else math.copysign(math.inf, value)


def field(number: int, data: bytes) -> bytes:
    """Return bytes as a field of a message.

    >>> field(1, b"ab")
    b'\\n\\x02ab'
    """
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Return a whole number from 0 up in groups of seven bits, the lowest first.

    >>> varint(1), varint(300)
    (b'\\x01', b'\\xac\\x02')
    """
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127)
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def record(data: bytes) -> bytes:
    """Return a record of an event file."""
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def masked(data: bytes) -> bytes:
    """Return the checksum of bytes as an event file has it."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _table() -> list[int]:
    found = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        found.append(crc)
    return found


TABLE = _table()
