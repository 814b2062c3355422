"""The run folder: where runs live, what a new one is called, which may be written to or gone on with."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError, UsageError, short
from torchloupe.runtime.checks import Schema, first_unfit, is_object, is_text, none_or, within
from torchloupe.runtime.files import LONGEST_PATH, PART, read_json

RUNS = Path("runs")
CONFIG, REQUEST, LOCK, ENVIRONMENT_FILE = "config.json", "request.json", ".lock", "environment.json"
"""What a run is; what it was asked for, until then; held by the one who trains in it."""
NEARBY = 3
"""Runs that are named where there is none, at most."""
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
    made = [path.parent for path in root.glob(f"*/{CONFIG}")]
    if not made:
        raise ModelError(f"there is no run under '{root}' yet. Make one with `torchloupe train`.")
    return max(made, key=_when)


def is_begun(folder: Path) -> bool:
    """Tell whether a folder holds a run to go on with, be it that it has learned nothing yet.

    >>> is_begun(Path("nowhere"))
    False
    """
    return (folder / CONFIG).is_file() or (folder / REQUEST).is_file()


def to_go_on_with(out: Path | None = None, root: Path = RUNS) -> Path:
    """Return the run to go on with: the one in `out`, or the newest.

    Raises:
        UsageError: there is none; those nearby are named.
    """
    if out is None:
        begun = _begun(root)
        if not begun:
            raise UsageError(f"there is no run under '{root}' to go on with. Begin one with `torchloupe train`.")
        return begun[0]
    if is_begun(out):
        return out
    raise UsageError(
        f"there is no run in '{out}' to go on with{_nearby(out, root)} "
        "To begin one leave --resume out; --resume auto begins or goes on."
    )


def _nearby(out: Path, root: Path) -> str:
    """Return how a sentence about a run that is not there ends: with the one that may be meant, or with some."""
    runs = {run.name: run for run in (*_begun(root), *_begun(out.parent))}
    close = get_close_matches(out.name, runs, n=1)
    if close:
        return f"; did you mean '{runs[close[0]]}'?"
    return f"; there is {', '.join(repr(str(run)) for run in list(runs.values())[:NEARBY])}." if runs else "."


def _begun(root: Path) -> list[Path]:
    """Return the runs in a folder that were begun, the newest first."""
    folders = [path for path in root.iterdir() if is_begun(path)] if root.is_dir() else []
    return sorted(folders, key=_when, reverse=True)


def _when(run: Path) -> float:
    """Return when a run was begun or ended, whichever was later."""
    files = [run / name for name in ("model.safetensors", CONFIG, REQUEST)]
    return max(file.stat().st_mtime if file.exists() else 0.0 for file in files)


def check_free(folder: Path, go_on: str = "--resume", other: str = "another folder with --out") -> None:
    """Refuse to write a new run over an old one. One that never got to learning is none.

    `go_on` and `other` are what to do instead.

    Raises:
        UsageError: the folder holds a run already, or something else.
    """
    if (folder / CONFIG).exists():
        raise UsageError(f"'{folder}' already holds a run. Go on with it by {go_on}, or choose {other}.")
    if folder.exists() and (not folder.is_dir() or any(not _is_nothing(path) for path in folder.iterdir())):
        raise UsageError(f"'{folder}' is not an empty folder. Choose {other}.")


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


def _is_nothing(path: Path) -> bool:
    """Tell whether a file is a lock, a request, what it was to be made on, or half written."""
    return path.name in (LOCK, f"{LOCK}.json", REQUEST, ENVIRONMENT_FILE) or (
        path.name.startswith(".") and path.suffix == PART
    )
