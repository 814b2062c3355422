"""The run folder: where runs live, what a new one is called, what it says of its surroundings."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError, UsageError
from torchloupe.files import atomic_write

RUNS = Path("runs")


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON, atomically.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "a.json", {"b": 1})
    ...     read_json(Path(folder) / "a.json")
    {'b': 1}
    """
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    atomic_write(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        ModelError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read '{path}': {error}. Is '{path.parent}' a run of torchloupe?") from None


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


def environment(device: str) -> dict[str, Any]:
    """Describe what a run was made on: versions, machine, threads, git commit.

    >>> environment("cpu")["python"] == platform.python_version()
    True
    """
    import torch

    return {
        "packages": packages(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if device.startswith("cuda") else None,
        "git": _git_commit(),
        "command": sys.argv[1:],
    }


def packages() -> dict[str, str | None]:
    """Return the versions of what results depend on.

    >>> packages()["torch"] is not None
    True
    """
    names = ("torchloupe", "torch", "numpy", "pillow", "matplotlib", "safetensors")
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_commit() -> str | None:
    """Return the commit of the folder that the command runs in, if it is a checkout."""
    try:
        call = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return call.stdout.strip() or None
