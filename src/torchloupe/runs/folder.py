"""The run folder: where runs live, what a new one is called, what it says of its surroundings."""

import os
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError, UsageError, short
from torchloupe.runtime.checks import Schema, first_unfit, is_object, is_text, none_or, within
from torchloupe.runtime.files import LONGEST_PATH, read_json

RUNS = Path("runs")
MOST_THREADS = 4096


def _are_packages(value: Any) -> bool:
    return is_object(value) and all(map(none_or(is_text), value.values()))


ENVIRONMENT: Schema = {
    "packages": (_are_packages, "versions by name"),
    "threads": (none_or(within(1, MOST_THREADS)), f"a number from 1 to {MOST_THREADS}"),
    **{name: (none_or(is_text), "a text or null") for name in ("processor", "device", "device_name", "precision")},
}
"""What of environment.json is read again."""


def run_name(model: str, data: str) -> str:
    """Return the name of a run of a network on some data, fit for a folder.

    >>> run_name("file.py:Net", "my cats")
    'Net-my-cats'
    """
    words = f"{model.rpartition(':')[2]}-{data}"
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in words)[:80]


def is_writable(folder: Path) -> bool:
    """Tell whether files may be made in a folder.

    >>> is_writable(Path("nowhere"))
    False
    """
    return folder.is_dir() and os.access(folder, os.W_OK)


def new_run(model: str, data: str, root: Path = RUNS) -> Path:
    """Return the first free folder name for a run, for example `runs/loupe-shapes-2`.

    >>> new_run("file.py:Net", "my cats", Path("nowhere")).as_posix()
    'nowhere/Net-my-cats-1'
    """
    name, number = run_name(model, data), 1
    while (root / f"{name}-{number}").exists():
        number += 1
    return root / f"{name}-{number}"


def newest_run(root: Path = RUNS) -> Path:
    """Return the run that was started or finished last.

    Raises:
        ModelError: there is none.
    """
    made = [path.parent for path in root.glob("*/config.json")]
    if not made:
        raise ModelError(f"there is no run under '{root}' yet. Make one with `torchloupe train`.")
    return max(made, key=lambda folder: max(_when(folder / "model.safetensors"), _when(folder / "config.json")))


def _when(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def check_free(folder: Path) -> None:
    """Refuse to write a new run over an old one.

    Raises:
        UsageError: the folder holds a run already, or something else.
    """
    if (folder / "config.json").exists():
        raise UsageError(
            f"'{folder}' already holds a run. Go on with it by --resume, or choose another folder with --out."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' is not an empty folder. Choose another one with --out.")


def read_environment(run: Path) -> dict[str, Any]:
    """Read what a run was made on.

    Raises:
        ModelError: it is not known, or damaged.

    >>> read_environment(Path("nowhere"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: cannot read 'nowhere/environment.json': No such file...
    """
    path = run / "environment.json"
    found = read_json(path)
    if not is_object(found):
        raise ModelError(f"{short(path, LONGEST_PATH)} is damaged: it is no object. Delete it.")
    if unfit := first_unfit(found, ENVIRONMENT):
        name, wanted = unfit
        raise ModelError(
            f"{short(path, LONGEST_PATH)} is damaged: its {name!r} is {short(found[name])}, not {wanted}. Delete it."
        )
    return found
