"""Power cuts: a process dies at an operation on the file system; what is there is whole, and the work goes on."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torture.child import Ended, counted, forked
from torture.disk import Disk
from torture.tally import Tally
from torture.work import broken, digests, leftovers, pictures, reported, resumed, shown, training

KILLED = -9


def crashes(home: Path, count: int, seed: int = 0) -> Iterator[Tally]:
    """Kill a training `count` times, half of them inside a save; a report, a picture, a decode less often."""
    data = pictures(home / "data")
    yield _training(home, data, count, seed)
    few = max(2, count // 5)
    run = trained(home, data)
    for name, work in (("report", reported()), ("picture", shown())):
        yield _again(home, name, work, run, few, seed)
    yield _decoding(home, data, few, seed)


def trained(home: Path, data: Path) -> Path:
    place = home / "trained"
    place.mkdir()
    ended = forked(cached(training(data), home), place)
    assert ended.code == 0, ended
    return place


def cached(work: Callable[[], Any], home: Path) -> Callable[[], Any]:
    """Give each trial a cache of its own, in which the pictures are decoded already once a first trial has done so."""

    def call() -> Any:
        import os

        decoded, own = home / "cache", home / f"cache-of-{Path.cwd().name}"
        if not decoded.exists():
            own = decoded
        elif not own.exists():
            shutil.copytree(decoded, own)
        os.environ["TORCHLOUPE_CACHE"] = str(own)
        return work()

    return call


def _places(operations: list[str], count: int, seed: int) -> list[int]:
    """Return numbers of operations, half of them between opening a temporary file and its rename, the others any."""
    inside, open_ = [], False
    for number, what in enumerate(operations):
        open_ = open_ or (what.startswith("open") and what.endswith(".part"))
        if open_:
            inside.append(number)
        open_ = open_ and not what.startswith("rename")
    chance = random.Random(seed)
    drawn = [chance.choice(inside) for _ in range((count + 1) // 2)]
    return drawn + [chance.randrange(len(operations)) for _ in range(count - len(drawn))]


def _training(home: Path, data: Path, count: int, seed: int) -> Tally:
    tally = Tally("killed in training, resumed to the same bytes")
    whole = home / "whole"
    whole.mkdir()
    work = cached(training(data), home)
    (home / "warm").mkdir()
    forked(work, home / "warm")  # whoever comes first decodes the pictures
    operations = counted(work, whole)
    expected = digests(whole)
    for trial, at in enumerate(_places(operations, count, seed)):
        place = home / f"crash-{trial}"
        place.mkdir()
        first = forked(work, place, disk=Disk(place, at))
        torn = broken(place)
        again = cached(resumed(), home) if (place / "run" / "config.json").exists() else work
        second = forked(again, place)
        faults = [
            *([f"it did not die: {first.code}"] if first.code != KILLED else []),
            *(f"not whole: {path}" for path in torn),
            *faults_of(second, place, expected),
        ]
        tally.add(f"operation {at}, {operations[at]}", faults)
        shutil.rmtree(place)
    return tally


def _again(home: Path, name: str, work: Callable[[], Any], run: Path, count: int, seed: int) -> Tally:
    """Kill the making of something of a finished run; made again, it is as if nothing had been."""
    tally = Tally(f"killed while a {name} is made, then made again")
    work = cached(work, home)
    clean = home / f"{name}-clean"
    shutil.copytree(run, clean)
    operations = counted(work, clean)
    expected = digests(clean)
    for trial, at in enumerate(_places(operations, count, seed)):
        place = home / f"{name}-{trial}"
        shutil.copytree(run, place)
        first = forked(work, place, disk=Disk(place, at))
        torn = broken(place)
        faults = [
            *([f"it did not die: {first.code}"] if first.code != KILLED else []),
            *(f"not whole: {path}" for path in torn),
            *faults_of(forked(work, place), place, expected),
        ]
        tally.add(f"operation {at}, {operations[at]}", faults)
        shutil.rmtree(place)
    return tally


def _decoding(home: Path, data: Path, count: int, seed: int) -> Tally:
    """Kill the decoding of pictures into the cache; the next reader has the right ones."""
    tally = Tally("killed while pictures are decoded into the cache, then read again")
    operations: list[str] = []
    for trial in range(-1, count):
        place = home / f"decode-{trial}"
        place.mkdir()
        work = _decode(data, place)
        if trial < 0:
            operations = counted(work, place)
            expected = (place / "sum").read_text()
            continue
        at = _places(operations, count, seed)[trial]
        first = forked(work, place, disk=Disk(place, at))
        second = forked(work, place)
        faults = [
            *([f"it did not die: {first.code}"] if first.code != KILLED else []),
            *([second.last] if second.code else []),
            *([] if second.code or (place / "sum").read_text() == expected else ["other pictures"]),
            *(f"left over: {path}" for path in leftovers(place)),
        ]
        tally.add(f"operation {at}, {operations[at]}", faults)
        shutil.rmtree(place)
    return tally


def _decode(data: Path, place: Path) -> Callable[[], None]:
    def call() -> None:
        import os

        os.environ["TORCHLOUPE_CACHE"] = str(place / "cache")
        from torchloupe.data import load
        from torchloupe.data.dataset import checksum

        (place / "sum").write_text(checksum(load(str(data))))

    return call


def faults_of(ended: Ended, place: Path, expected: dict[str, str]) -> list[str]:
    """Return what is wrong after the work was done again."""
    found = digests(place)
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return [
        *([f"exit {ended.code}: {ended.last}"] if ended.code else []),
        *([f"other bytes: {', '.join(names)}"] if names and not ended.code else []),
        *(f"left over: {path}" for path in leftovers(place)),
        *(f"not whole: {path}" for path in broken(place)),
    ]
