"""Signals at random moments: the process leaves in time, with its code, and what it leaves can be gone on with."""

import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from torture.child import Ended, forked
from torture.crash import cached, faults_of, trained
from torture.tally import Tally
from torture.work import broken, digests, leftovers, pictures, reported, resumed, shown, training

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
PATIENCE = 60.0
"""Seconds within which a process has to leave; generous, for a machine that does much else."""


def signals(home: Path, count: int, seed: int = 0) -> Iterator[Tally]:
    """Send each signal `count` times in all: to a training, a report, a picture."""
    data = pictures(home / "data")
    run = trained(home, data)
    chance = random.Random(seed)
    for number, code in CODES.items():
        tally = Tally(f"{number.name}, then done again")
        for name, work, given in (
            ("training", training(data), None),
            ("report", reported(), run),
            ("picture", shown(), run),
        ):
            disturbed = cached(work, home)
            clean = home / f"{number.name}-{name}"
            _fill(clean, given)
            whole = forked(disturbed, clean)
            expected = digests(clean)
            for trial in range(-(-count // 3)):
                place = home / f"{number.name}-{name}-{trial}"
                _fill(place, given)
                after = chance.uniform(0, 1.1 * whole.seconds)
                ended = forked(disturbed, place, send=(number, after))
                again = (
                    cached(resumed(), home) if (place / "run" / "config.json").exists() and given is None else disturbed
                )
                wrong = [
                    *_wrong(ended, code, after),
                    *(f"not whole: {path}" for path in broken(place)),
                    *(f"left over: {path}" for path in leftovers(place)),
                    *(faults_of(forked(again, place), place, expected) if ended.code else []),
                ]
                tally.add(f"{name} after {after:.2f} s", wrong)
                shutil.rmtree(place)
        yield tally


def _fill(place: Path, run: Path | None) -> None:
    if run is None:
        place.mkdir()
    else:
        shutil.copytree(run, place)


def _wrong(ended: Ended, code: int, after: float) -> list[str]:
    if ended.code not in (0, code):
        return [f"exit {ended.code}: {ended.last}"]
    late = ended.code and ended.seconds - after > PATIENCE
    return ["a traceback"] * ("Traceback" in ended.err) + [f"it left after {ended.seconds:.0f} s"] * bool(late)
