"""A disk that refuses: each operation in turn fails with ENOSPC, EIO or EACCES, and once a whole disk is full."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torture.child import Ended, counted, forked
from torture.crash import cached, faults_of, trained
from torture.disk import ERRORS, Disk, fail
from torture.tally import Tally
from torture.work import broken, digests, leftovers, pictures, reported, resumed, shown, training

SIZES = (128, 16, 64, 256, 512)
"""Of disks that are full, in KiB."""


def faults(home: Path, count: int, seed: int = 0) -> Iterator[Tally]:
    """Let each operation of a training, a report and a picture fail; `count`: of each at most so many, by seed."""
    data = pictures(home / "data")
    yield _each(home, "training", cached(training(data), home), None, count, seed, again=cached(resumed(), home))
    run = trained(home, data)
    for name, work in (("report", reported()), ("picture", shown())):
        yield _each(home, name, cached(work, home), run, count, seed)
    yield from _full(home, data, run, count)


def _each(
    home: Path,
    name: str,
    work: Callable[[], Any],
    run: Path | None,
    count: int,
    seed: int,
    again: Callable[[], Any] | None = None,
) -> Tally:
    tally = Tally(f"{name}: an open, write, fsync, rename or mkdir fails (ENOSPC, EIO, EACCES)")
    forked(work, _place(home / f"{name}-warm", run))  # whoever comes first decodes the pictures
    clean = _place(home / f"{name}-clean", run)
    operations = counted(work, clean)
    expected = digests(clean)
    trials = [(at, error) for at in range(len(operations)) for error in ERRORS]
    drawn = sorted(random.Random(seed).sample(trials, min(count, len(trials))))
    for at, error in drawn:
        place = _place(home / f"{name}-{at}-{error}", run)
        ended = forked(work, place, disk=Disk(place, at, fail(ERRORS[error])))
        wrong = [
            *_unsaid(ended),
            *(f"not whole: {path}" for path in broken(place)),
            *(f"left over: {path}" for path in leftovers(place)),
        ]
        next_ = again if again is not None and (place / "run" / "config.json").exists() else work
        if ended.code:
            wrong += faults_of(forked(next_, place), place, expected)
        tally.add(f"{error} at operation {at}, {operations[at]}", wrong)
        shutil.rmtree(place)
    return tally


def _place(place: Path, run: Path | None) -> Path:
    if run is None:
        place.mkdir()
        return place
    shutil.copytree(run, place)
    return place


def _unsaid(ended: Ended) -> list[str]:
    """Return what is wrong with how it ended: exit 5 and one sentence, or done where it could do without."""
    if ended.code == 0 and "Traceback" not in ended.err:
        return []
    return [] if ended.code == 5 and ended.sentence else [f"exit {ended.code}: {ended.last}"]


def _full(home: Path, data: Path, run: Path, count: int) -> Iterator[Tally]:
    """Do the work on disks of a few sizes that are too small, where this machine lets one be mounted."""
    tally = Tally("a full disk (tmpfs of 16 to 512 KiB)")
    for name, work, given in (
        ("training", cached(training(data), home), None),
        ("report", cached(reported(), home), run),
        ("picture", cached(shown(), home), run),
    ):
        used = 0 if given is None else sum(path.stat().st_size + 4096 for path in given.rglob("*"))
        for free in SIZES[: -(-count // 3)]:
            with _mounted(home / f"full-{name}-{free}", used + free * 1024) as place:
                if place is None:
                    return
                if given is not None:
                    shutil.copytree(given / "run", place / "run")
                ended = forked(work, place)
                wrong = [*_unsaid(ended), *(f"not whole: {path}" for path in broken(place))]
                wrong += [f"left over: {path}" for path in leftovers(place)]
                tally.add(f"{name} with {free} KiB", wrong)
    yield tally


@contextmanager
def _mounted(place: Path, size: int) -> Iterator[Path | None]:
    """Yield a small disk in memory; None where that needs rights that this process has not."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", os.fspath(place)]
    try:
        done = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    try:
        yield place if done else None
    finally:
        if done:
            subprocess.run(["umount", os.fspath(place)], check=True)
