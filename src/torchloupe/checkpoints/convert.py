"""Foreign checkpoints into ours: unpickled by a separate process, matched by name and shape, saved as safetensors."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

import torchloupe
from torchloupe.checkpoints.file import build_bare, save_tensors
from torchloupe.checkpoints.foreign.match import COUNTER, Form, Match, match
from torchloupe.errors import ModelError, UsageError, printable
from torchloupe.models.network import wrap
from torchloupe.models.reference import absolute
from torchloupe.runs.config import Config

BOOTSTRAP = (
    "import json, sys; sys.path += json.loads(sys.argv[1]); "
    "from torchloupe.checkpoints.foreign.worker import main; main(sys.argv[2], sys.argv[3])"
)


@dataclass(frozen=True)
class Report:
    """What of a foreign checkpoint was taken; `str` of it is a few lines for the user."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """In the network only; they keep the network's fresh values."""
    unexpected: tuple[str, ...]
    """In the file only; left out."""
    mismatched: tuple[str, ...]
    """In both, with the two shapes; they keep the network's fresh values."""
    prefix: str
    """Taken off the file's names."""
    added: str
    """Put on them."""
    entry: str
    """Where in the file the state dict was, for example `state_dict`."""
    ignored: int
    """Entries beside the tensors that are no tensors."""
    unknown: tuple[str, ...]
    """Classes and functions that the file names; none was imported."""

    def __str__(self) -> str:
        counts = [f"{len(getattr(self, kind))} {kind}" for kind in ("matched", "missing", "unexpected", "mismatched")]
        lines = [", ".join(counts) + (f", {self.ignored} not tensors" if self.ignored else "")]
        if self.prefix or self.added:
            lines.append(f"prefix: {self.prefix or 'nothing'} -> {self.added or 'nothing'}")
        lines += [f"{kind}: {few(getattr(self, kind), 8)}" for kind in ("missing", "unexpected", "mismatched")]
        lines.append(f"read as inert, not imported: {few(self.unknown, 4)}")
        return "\n".join(line for line in lines if not line.endswith(": "))


def convert(
    source: Path,
    model: str,
    out: Path,
    *,
    classes: Sequence[str],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    size: int | None,
    strict: bool = True,
    arguments: Mapping[str, Any] | None = None,
    output: str | int | None = None,
    timeout: float = 600.0,
) -> Report:
    """Bring in a foreign checkpoint (.pth, .pt, .ckpt, .bin, .safetensors) as one of ours, at `out`.

    `model` is a name of ours or a reference to the user's factory; `mean` and `std` are of pictures in [0, 1],
    None for a network that takes [0, 1]; `output` is the part of its output that holds the classes. Types are kept.
    What is missing or of another shape is refused, or with `strict=False` keeps the network's fresh values; a missing
    `num_batches_tracked` is let pass.

    Raises:
        ModelError: unreadable, or for another network; notes of the error hold the report.
        UsageError: settings that do not fit.

    >>> import tempfile, torch
    >>> from torchloupe.models import build
    >>> about = {"classes": ["cat", "dog"], "mean": None, "std": None, "size": 32}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     old, new = Path(folder) / "old.pth", Path(folder) / "new.safetensors"
    ...     torch.save({"state_dict": build("resnet20", classes=2).state_dict()}, old)
    ...     print(convert(old, "resnet20", new, **about))
    116 matched, 0 missing, 0 unexpected, 0 mismatched
    """
    source, out = Path(source), Path(out)
    if out.suffix != ".safetensors" or (out.exists() and source.exists() and out.samefile(source)):
        raise UsageError(f"'{out}' cannot be the result: name another file, ending in .safetensors.")
    net = build_bare(Config(model, tuple(classes), None, None, size, dict(arguments or {})), understood=False)
    network = wrap(net, mean=mean, std=std, size=size, classes=classes)
    found, notes = read_foreign(source, timeout)
    own: dict[str, Tensor] = {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    best = match(_forms(found), _forms(own))
    report = _report(best, found, own, notes)
    _judge(report, source, model, strict)
    tensors = own | {name: found[there] for name, there in best.matched.items()}
    config = Config(
        absolute(model), network.classes, network.mean, network.std, size, dict(arguments or {}), output=output
    )
    save_tensors(out, tensors, asdict(config))
    return report


def read_foreign(source: Path, timeout: float = 600.0) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a foreign checkpoint by name, and what the reading process said of it.

    Raises:
        ModelError: no such file, or it cannot be read in `timeout` seconds.

    >>> read_foreign(Path("nothing.pth"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: no such file: 'nothing.pth'. Check the path of the checkpoint.
    """
    if not source.is_file():
        raise ModelError(f"no such file: '{source}'. Check the path of the checkpoint.")
    with tempfile.TemporaryDirectory(prefix="torchloupe-") as folder:
        plain, notes = source, {"entry": "", "ignored": 0, "unknown": []}
        if not _is_safetensors(source):
            notes, plain = _unpickle(source, Path(folder), timeout), Path(folder) / "tensors.safetensors"
        try:
            return safetensors.torch.load(plain.read_bytes()), notes
        except SafetensorError as error:
            raise ModelError(f"'{source}' is not a whole safetensors file ({error}). Get it again.") from None


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first few names, and how many more there are.

    >>> few(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return printable(", ".join(names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _unpickle(source: Path, folder: Path, timeout: float) -> dict[str, Any]:
    homes = [str(Path(module.__path__[0]).resolve().parent) for module in (torchloupe, np)]
    command = [sys.executable, "-I", "-c", BOOTSTRAP, json.dumps(homes), str(source.resolve()), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
        said: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise ModelError(f"'{source}' was not read after {timeout:g} s. Save its state_dict alone.") from None
    except ValueError:
        cause = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ModelError(f"'{source}' cannot be read: the process that reads it died ({cause[0][:200]}).") from None
    if "error" in said:
        raise ModelError(f"'{source}' {printable(said['error'])}.")
    return said


def _is_safetensors(source: Path) -> bool:
    with source.open("rb") as stream:
        head = stream.read(9)
    return head[8:] == b"{" or source.suffix == ".safetensors"


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, Form]:
    return {name: (tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in tensors.items()}


def _report(best: Match, found: Mapping[str, Tensor], own: Mapping[str, Tensor], notes: dict[str, Any]) -> Report:
    def told(name: str, there: str) -> str:
        sides = [f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (found[there], own[name])]
        return f"{name} ({sides[0]} there, {sides[1]} here)"

    mismatched = tuple(told(name, there) for name, there in best.mismatched.items())
    missing = tuple(name for name in best.missing if not name.endswith(COUNTER))
    spared = best.prefix, best.added, notes["entry"], notes["ignored"], tuple(notes["unknown"])
    return Report(tuple(best.matched), missing, best.unexpected, mismatched, *spared)


def _judge(report: Report, source: Path, model: str, strict: bool) -> None:
    cause = ""
    if not report.matched:
        cause = f"no tensor of '{source}' has a name and shape of {model!r}: it is for another network"
    elif strict and report.mismatched:
        cause = f"'{source}' does not fit {model!r}: other shapes of {few(report.mismatched)}"
    elif strict and report.missing:
        cause = f"'{source}' lacks {len(report.missing)} of the tensors of {model!r}: {few(report.missing)}"
    if cause:
        error = ModelError(f"{cause}. Check --model and --classes.")
        error.add_note(str(report))
        raise error
