"""A small file takes little: however much it promises, in a process that has little memory left."""

import io
import json
import pickle
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from torchloupe.checkpoints.file import save_tensors
from torchloupe.checkpoints.foreign.inert import UnreadableError
from torchloupe.checkpoints.foreign.worker import convert
from torchloupe.runs.config import Config
from torture.mutants import zipped

ROOM = 600 << 20
"""Bytes that the process may map beyond what the imports took."""
OPEN = """
import resource, sys
from torchloupe import cli
from torchloupe.checkpoints.open import load
import torchloupe.inspection.layer_table, torchloupe.checkpoints.convert, torchloupe.inspection.repeat
load("resnet20", classes=2)
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + {room}, resource.RLIM_INFINITY))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
cli.main(sys.argv[1:])
"""


def header(path: Path, tensors: dict[str, object]) -> None:
    """Write a safetensors file with this header and hardly any bytes behind it."""
    about = json.dumps(asdict(Config("loupe", ("a", "b"), None, None, 32)))
    text = json.dumps({"__metadata__": {"torchloupe": about}, **tensors}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))


def described(path: Path, model: str, arguments: dict[str, object]) -> None:
    about = asdict(Config(model, ("a", "b"), None, None, 32, arguments))
    save_tensors(path, {"fc.weight": torch.zeros(2, 2)}, about)


class Repeated:
    """A tensor of 2^28 numbers that are all the same one, as a pickle of torch.save says it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (Stored(), 0, (2**14, 2**14), (0, 0), False, {})


class Stored:
    pass


def repeated() -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", 1) if isinstance(thing, Stored) else None

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump({"fc.weight": Repeated()})
    return zipped({"a/data.pkl": stream.getvalue(), "a/data/0": bytes(4)})


F32 = {"dtype": "F32"}
FILES = {
    "a tensor of terabytes": lambda path: header(path, {"x": {**F32, "shape": [2**40], "data_offsets": [0, 2**42]}}),
    "a shape of terabytes": lambda path: header(path, {"x": {**F32, "shape": [2**40], "data_offsets": [0, 16]}}),
    "a header of exabytes": lambda path: path.write_bytes(struct.pack("<Q", 2**62) + b"{}" * 100),
    "nothing, 2^62 wide": lambda path: header(path, {"x": {**F32, "shape": [0, 2**62], "data_offsets": [0, 0]}}),
    "the widest network": lambda path: described(path, "loupe", {"widths": [8192, 8192, 8192], "kernel": 8192}),
    "wide layers": lambda path: described(path, "loupe", {"widths": [8192, 8192, 8192]}),
    "a network of a number too long": lambda path: described(path, "loupe", {"widths": [10**30] * 3}),
}


def opened(folder: Path, *words: str) -> tuple[int, str]:
    code = OPEN.format(room=ROOM)
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=folder)
    return done.returncode, done.stderr.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory as Linux has it")
@pytest.mark.parametrize("kind", FILES)
def test_a_small_file_that_asks_for_much_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.safetensors"
    FILES[kind](path)  # type: ignore[no-untyped-call]
    assert path.stat().st_size < 2048
    code, said = opened(tmp_path, "layers", "m.safetensors", "--no-data")
    assert code == 4 and said.startswith("Error: ") and "\n" not in said, said


def test_a_foreign_tensor_that_repeats_one_number_is_refused(tmp_path: Path) -> None:
    """Before it is written out: the process that reads foreign files counts what they would grow to."""
    (tmp_path / "m.pth").write_bytes(repeated())
    assert (tmp_path / "m.pth").stat().st_size < 2048
    with pytest.raises(UnreadableError, match="would grow to 1,024 MiB"):
        convert(tmp_path / "m.pth", tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory as Linux has it")
def test_the_limit_would_be_felt(tmp_path: Path) -> None:
    """The same process cannot take that memory: the tests above could fail."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({ROOM}, {ROOM})); bytes({2 * ROOM})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 1
