"""Mutated checkpoints, run folders, pictures' JSON and foreign files, through the doors that a user opens them by.

    cd tests && python -m torture.fuzz_checkpoints --count 10000 --seed 0

Each mutant is a small change of a whole, valid thing. The table says of each kind how many were tried and how many
survived; what fell lies in `--out` with its traceback. The suite runs a short one (`test_torture.py`).
"""

import argparse
import contextlib
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from torchloupe import pipeline
from torchloupe.checkpoints.convert import read_foreign
from torchloupe.checkpoints.open import load, read_weights
from torchloupe.inspection.run import run as look
from torchloupe.inspection.subject import subject
from torchloupe.reports.report import prepare
from torchloupe.reports.sections.performance import performance, training_curves, training_facts
from torchloupe.reports.sections.training_film import snapshots
from torchloupe.training.config import configure, resolve
from torchloupe.training.optimizers import build_optimizers
from torchloupe.training.resume import begun, load_state
from torture import mutants
from torture.ground import Fallen, Tally, command, guarded

BATCH = 100
"""Mutants of one process of a long run: what it leaks, or dies of, is its own."""
CODE = """
from pathlib import Path
Path({canary!r}).touch()
from torch import nn
class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))
"""


@dataclass
class Ground:
    """A whole run with all its files, what is beside it, and the file that exists once a stranger's code has run."""

    home: Path
    foreign: list[bytes] = field(default_factory=list)

    @property
    def canary(self) -> Path:
        return self.home / "canary"

    @property
    def whole(self) -> Path:
        return self.home / "whole"

    def make(self) -> None:
        for place in ("stranger.py", "net.py"):
            (self.home / place).write_text(CODE.format(canary=str(self.canary)))
        _pictures(self.home / "pets")
        config = configure("quick", {"net_width": 4, "epochs": 2.0, "batch": 4, "low_size": 0})
        done = pipeline.train(str(self.home / "pets"), config, self.whole, device="cpu")
        pipeline.test(done.run, device="cpu", tta=False)
        made = self.whole / "pictures"
        look("filters", subject(self.whole), "conv1").save(made / "filters.png")
        look("feature-maps", subject(self.whole), "conv1", torch.rand(2, 3, 16, 16)).save(made / "maps.png")
        words = [str(self.home / "pets" / "test" / "cat" / "0.png")]
        look("gradient", subject(self.whole), "layer1.0", words, channels=[0], randomized=False).save(made / "back.png")
        _health(self.whole)
        net = done.network.bare
        (self.home / "module.pt").touch()
        for new in (True, False):
            for thing in (
                net.state_dict(),
                {"state_dict": net.state_dict(), "epoch": 3},
                {"model": {"w": torch.ones(3)}},
            ):
                torch.save(thing, self.home / "module.pt", _use_new_zipfile_serialization=new)
                self.foreign.append((self.home / "module.pt").read_bytes())
        self.foreign.append(pickle.dumps({"w": [1.0]}))
        self.foreign.append((self.whole / "model.safetensors").read_bytes())


def _pictures(folder: Path) -> None:
    chance = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = chance.integers(0, 150 + 50 * number, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


def _health(run: Path) -> None:
    subject(run).health(["conv1", "layer1.0"])


@dataclass(frozen=True)
class Kind:
    """A kind of mutant: the file of the run that is changed, how, and the doors that it is sent through."""

    name: str
    file: str
    change: Callable[[bytes, random.Random], bytes]
    doors: tuple[Callable[[Ground, Path], object], ...]


def of_json(data: bytes, chance: random.Random) -> bytes:
    """Change a JSON file."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # changed twice
        return data
    value = mutants.mutated(value, chance)
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        value = mutants.mutated(value, chance) if isinstance(value, dict) else value
    return mutants.text_of(value, chance)


def of_lines(data: bytes, chance: random.Random) -> bytes:
    """Change a file of one JSON a line."""
    lines = data.splitlines()
    for _ in range(chance.choice((1, 1, 4))):
        place = chance.choice((0, len(lines) - 1, chance.randrange(len(lines))))
        lines[place] = of_json(lines[place], chance) if lines[place].startswith(b"{") else lines[place][:-1]
    if chance.random() < 0.15:
        lines = chance.choice((lines[:1], [], lines * 3, lines[::-1], [b"", *lines]))
    return b"\n".join(lines) + (b"\n" if chance.random() < 0.9 else b"")


def of_table(data: bytes, chance: random.Random) -> bytes:
    """Change a CSV."""
    cells = [line.split(b",") for line in data.split(b"\n")]
    row = chance.choice(cells)
    row[chance.randrange(len(row))] = chance.choice(
        (b"", b"-1", b"nan", b"=1+1", b"\x1b[2J", b'"', b"9" * 5000, b"\xff")
    )
    if chance.random() < 0.3:
        cells = chance.choice((cells[:1], cells[1:], cells * 2, [cell[:1] for cell in cells], []))
    joined = b"\n".join(b",".join(line) for line in cells)
    return mutants.flipped(joined, chance) if chance.random() < 0.2 else joined


def layers(ground: Ground, run: Path) -> object:
    return command("layers", str(run), "--no-data")


def with_data(ground: Ground, run: Path) -> object:
    return command("layers", str(run), "--offline", "--quiet")


def opened(ground: Ground, run: Path) -> None:
    load(run)


def tested(ground: Ground, run: Path) -> object:
    return command("test", str(run), "--offline", "--data", str(ground.home / "pets"), "--out", str(run / "new"))


def tested_on_its_own(ground: Ground, run: Path) -> object:
    return command("test", str(run), "--offline", "--out", str(run / "new"))


def shown(ground: Ground, run: Path) -> object:
    return command("show", "filters", str(run), "--layer", "conv1", "--out", str(run / "new.png"))


def maximized(ground: Ground, run: Path) -> object:
    return command("show", "maximize", str(run), "--layer", "conv1", "--channels", "0", "--steps", "1", "--copies", "1",
            "--offline", "--out", str(run / "new.png"))  # fmt: skip


def made_again(name: str) -> Callable[[Ground, Path], object]:
    """Return the door of a picture's JSON."""

    def door(ground: Ground, run: Path) -> object:
        return command("again", str(run / "pictures" / f"{name}.json"), "--quiet")

    door.__name__ = f"again_{name}"
    return door


def planned(ground: Ground, run: Path) -> None:
    """Plan a report, and read all that it reads of the run."""
    studied = subject(run)
    prepare(studied, budget=5.0)
    performance(studied, 4)
    training_curves(run)
    training_facts(studied)
    snapshots(run)


def snapshot(ground: Ground, run: Path) -> object:
    name = _snapshot(ground.whole).rpartition("epoch-")[2].removesuffix(".safetensors")
    return command("layers", f"{run}@{name}", "--no-data")


def kept(ground: Ground, run: Path) -> None:
    """Ask what a run that was interrupted asks: what of it is done already."""
    pipeline.is_trained(run)
    pipeline.trained_with(run)
    pipeline.is_tested(run)
    pipeline.report_path(run)


def resumed(ground: Ground, run: Path) -> None:
    """Go on with a training, short of learning anything."""
    config = begun(run, configure("quick", {}))
    assert config is not None
    bare = load(ground.whole).bare
    optimizers = build_optimizers(bare, resolve(config, ours=True, images=12))
    load_state(run / "state", bare, optimizers, None)


def trained_on(ground: Ground, run: Path) -> object:
    (run / "model.safetensors").unlink(missing_ok=True)
    data = str(ground.home / "pets")
    return command("train", "--resume", "--out", str(run), "--data", data, "--device", "cpu", "--quiet", "--yes")


def brought_in(ground: Ground, run: Path) -> None:
    read_foreign(run / "foreign.pth", timeout=60)


def weights(ground: Ground, run: Path) -> None:
    read_weights(run / "model.safetensors")


def kinds(ground: Ground) -> list[Kind]:
    """Return every kind, those that matter most several times."""
    tensors, found = mutants.safetensors, []
    found += 6 * [
        Kind("model.safetensors", "model.safetensors", tensors, (layers, opened, tested, shown, planned, weights))
    ]
    found += [Kind("snapshot", _snapshot(ground.whole), tensors, (snapshot,))]
    found += 2 * [Kind("training state", _last_state(ground.whole), tensors, (resumed, trained_on))]
    found += [Kind("statistics", "statistics.safetensors", tensors, (maximized,))]
    found += [Kind("health of channels", _health_file(ground.whole), tensors, (with_data, planned))]
    found += 3 * [
        Kind("config.json", "config.json", of_json, (kept, resumed, trained_on, planned, layers, tested_on_its_own))
    ]
    found += [Kind("metrics.jsonl", "metrics.jsonl", of_lines, (planned, trained_on))]
    found += [Kind("timing.jsonl", "timing.jsonl", of_lines, (planned,))]
    found += [Kind("test.json", "test.json", of_json, (planned, kept))]
    found += [Kind("environment.json", "environment.json", of_json, (planned, trained_on))]
    found += [Kind("report.json", "report.json", of_json, (kept,))]
    found += [Kind(f"{name}.csv", f"{name}.csv", of_table, (planned,)) for name in ("confusion", "predictions")]
    found += 3 * [Kind("JSON of filters", "pictures/filters.json", of_json, (made_again("filters"),))]
    found += [Kind(f"JSON of {n}", f"pictures/{n}.json", of_json, (made_again(n),)) for n in ("maps", "back")]
    found += [Kind("inputs of maps", "pictures/maps.safetensors", tensors, (made_again("maps"),))]
    hostile = partial(_foreign, ground)
    return found + 2 * [Kind("foreign checkpoint", "foreign.pth", hostile, (brought_in,))]


def _foreign(ground: Ground, data: bytes, chance: random.Random) -> bytes:
    return mutants.foreign(ground.foreign, str(ground.canary), chance)


def _last_state(run: Path) -> str:
    return max((run / "state").iterdir()).relative_to(run).as_posix()


def _snapshot(run: Path) -> str:
    return max((run / "snapshots").iterdir()).relative_to(run).as_posix()


def _health_file(run: Path) -> str:
    return next(run.glob("health-*.safetensors")).name


def mutant(ground: Ground, number: int, seed: int) -> tuple[Kind, bytes, Callable[[Ground, Path], object]]:
    """Return mutant `number` of a seed: its kind, its bytes, its door."""
    chance = random.Random(f"{seed}/{number}")
    kind = chance.choice(kinds(ground))
    path = ground.whole / kind.file
    data = kind.change(
        path.read_bytes() if path.is_file() else b'{"of": {}, "path": "report.html", "crc32": "0"}', chance
    )
    return kind, data, chance.choice(kind.doors)


def attempt(ground: Ground, number: int, seed: int) -> tuple[str, bytes, Fallen | None]:
    """Send one mutant through its door; returns kind and door, its bytes, and how it fell."""
    kind, data, door = mutant(ground, number, seed)
    run = _fresh(ground)
    (run / kind.file).write_bytes(data)
    fallen = guarded(partial(door, ground, run), ground.canary)
    return f"{kind.name} > {door.__name__}", data, fallen


def unsound(ground: Ground) -> list[str]:
    """Return the doors that the unchanged run does not pass: a mutant would prove nothing there."""
    found = []
    for door in {door for kind in kinds(ground) for door in kind.doors} - {brought_in}:
        run = _fresh(ground)
        if door(ground, run):
            found.append(door.__name__)
    return found


def _fresh(ground: Ground) -> Path:
    run = ground.home / "mutant"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(ground.whole, run)
    return run


@contextlib.contextmanager
def prepared(home: Path) -> Iterator[Ground]:
    """Give the ground, the working folder in it, with no state or cache of the user's."""
    names = {"TORCHLOUPE_STATE": "state", "TORCHLOUPE_CACHE": "cache", "TORCHLOUPE_DATA": "none"}
    before, folder = {name: os.environ.get(name) for name in names}, Path.cwd()
    os.environ |= {name: str(home / place) for name, place in names.items()}
    ground = Ground(home)
    try:
        os.chdir(home)
        ground.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield ground
    finally:
        os.chdir(folder)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def fuzz(ground: Ground, numbers: range, seed: int, out: Path | None = None) -> tuple[Tally, list[str]]:
    """Try mutants in this process; returns the tally, and a line for each that fell."""
    tally, lines = Tally({}, {}), []
    for number in numbers:
        name, data, fallen = attempt(ground, number, seed)
        tally.add(name, fallen is not None)
        if fallen is not None:
            lines.append(f"{seed}/{number} {name}: {fallen.why}")
            if out is not None:
                (out / f"{seed}-{number}.bin").write_bytes(data)
                (out / f"{seed}-{number}.txt").write_text(f"{lines[-1]}\n\n{fallen.detail}", errors="backslashreplace")
    return tally, lines


def _in_a_child(ground: Ground, numbers: range, seed: int, out: Path) -> None:
    """Try a batch in a process of its own, which writes down as it goes; what kills it has fallen too."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if status:
            done = (out / "log.txt").read_text().count("\n") if (out / "log.txt").exists() else 0
            (out / f"died-{numbers.start}.txt").write_text(f"status {status} after {done} in all, in {numbers}")
        return
    code = 1
    try:
        for number in numbers:
            tally, lines = fuzz(ground, range(number, number + 1), seed, out)
            name = next(iter(tally.tried))
            with (out / "log.txt").open("a") as stream:
                stream.write(json.dumps([name, bool(lines)]) + "\n")
            for line in lines:
                print(line, flush=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main(words: list[str] | None = None) -> int:
    """Run a long one; the exit code says whether any fell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for what falls (default: a new temporary one)")
    options: Any = parser.parse_args(words)
    torch.set_num_threads(1)
    out = (options.out or Path(tempfile.mkdtemp(prefix="fallen-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as home, prepared(Path(home).resolve()) as ground:
        if broken := unsound(ground):
            print("these do not work on what is whole:", *broken)
            return 1
        end = options.start + options.count
        for begin in range(options.start, end, BATCH):
            _in_a_child(ground, range(begin, min(begin + BATCH, end)), options.seed, out)
    tally = Tally({}, {})
    for line in (out / "log.txt").read_text().splitlines():
        name, fell = json.loads(line)
        tally.add(name.partition(" > ")[0], fell)
    died = sorted(out.glob("died-*.txt"))
    print(tally.table(), *(path.read_text() for path in died), f"what fell: {out}", sep="\n")
    return int(bool(sum(tally.fell.values()) or died or sum(tally.tried.values()) < options.count))


if __name__ == "__main__":
    sys.exit(main())
