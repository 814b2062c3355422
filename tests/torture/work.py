"""The work that is disturbed: a small data set, a small training, and what is made of it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture.child import command

WORDS = ("--device", "cpu", "--threads", "1", "--quiet")
TIMED = {"environment.json", "timing.jsonl", "report.html", "report.json", "README.md"}
"""Files that say when, how long or where: they differ from one run to the next; so do those in `state`."""


def pictures(folder: Path, train: int = 12, test: int = 6) -> Path:
    """Write three classes of noise pictures with a tint, as PNG."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for k, name in enumerate(("ant", "bee", "cat")):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = chance.integers(0, 200, (16, 16, 3), dtype=np.uint8)
                pixels[..., k] += np.uint8(50)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return folder


def training(data: Path, *more: object) -> Callable[[], None]:
    """Train for a few epochs of a few steps, into `run`."""
    words = ("--data", data, "--out", "run", "--epochs", 4, "--batch", 12, "--min-steps", 0, "--net-width", 4)
    return command("train", *words, "--yes", *more, *WORDS)


def resumed(*more: object) -> Callable[[], None]:
    """Go on with the run."""
    return command("train", "--resume", "--out", "run", "--yes", *more, *WORDS)


def shown(out: str = "run/pictures/a.png") -> Callable[[], None]:
    """Make a picture of the run."""
    words = ("--layer", "layer1.0", "--pictures", "test:0-1", "--steps", 2, "--device", "cpu", "--quiet")
    return command("show", "invert", "run", *words, "--out", out)


def reported() -> Callable[[], None]:
    """Write a report of the run, of little."""
    little = ("--layers", "conv1", "--units", 1, "--budget", "none", "--pictures", "test:0")
    return command("report", "run", *little, "--device", "cpu", "--quiet")


def digests(folder: Path) -> dict[str, str]:
    """Return the digests of all files that have to be the same from one run to the next."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in TIMED and path.parent.name != "state"
    }


def broken(folder: Path) -> list[str]:
    """Return the files under a final name that are not whole."""
    return [str(path) for path in sorted(folder.rglob("*")) if path.is_file() and not _whole(path)]


def leftovers(folder: Path) -> list[str]:
    """Return the temporary files that lie about."""
    return [str(path) for path in sorted(folder.rglob("*.part"))]


def _whole(path: Path) -> bool:
    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda p: json.loads(p.read_text(encoding="utf-8")),
        ".jsonl": lambda p: [json.loads(line) for line in p.read_text(encoding="utf-8").splitlines()[:-1]],
        ".safetensors": _tensors,
        ".png": _image,
        ".html": lambda p: p.read_text(encoding="utf-8").rstrip().endswith("</html>") or 1 / 0,
    }
    try:
        reader = readers.get(path.suffix)
        if reader is not None:
            reader(path)
    except Exception:
        return False
    return True


def _tensors(path: Path) -> None:
    from safetensors import safe_open

    opened: Any = safe_open
    with opened(path, framework="numpy") as file:
        assert file.keys()


def _image(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
