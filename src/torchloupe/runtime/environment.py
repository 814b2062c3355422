"""What results are made on: versions, machine, threads, git commit."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


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
