"""The separate process: a foreign checkpoint in, a plain safetensors file of its tensors out.

Run as `main(source, folder)`; writes `tensors.safetensors` into the folder and prints one line of
JSON. Neither torch nor safetensors is imported: whatever the file does, it meets plain Python.
"""

import contextlib
import io
import json
import math
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from torchloupe.checkpoints.foreign.inert import InertUnpickler, Storage, Strided, UnreadableError
from torchloupe.checkpoints.foreign.kinds import WIDTHS
from torchloupe.checkpoints.foreign.pick import pick

MAGIC = 0x1950A86A20F9469CFC6C
ROOM = 2**30
EXPANDED = 2**26
"""Bytes of tensors that a file may grow to, however small it is: views that repeat their numbers."""


class Foreign(NamedTuple):
    """What the file held: its root object, names that were not known, and the bytes of a storage."""

    root: Any
    unknown: set[str]
    data: Callable[[Storage], bytes]


def main(source: str, folder: str) -> None:
    """Convert one file and print what was found, or why not; for a process of its own, whose memory it limits."""
    try:
        _limit_memory(4 * ROOM + 8 * Path(source).stat().st_size)
        said = convert(Path(source), Path(folder))
    except UnreadableError as error:
        said = {"error": str(error)}
    except RecursionError:
        said = {"error": "is nested too deeply"}
    except MemoryError:
        said = {"error": "asks for more memory than there is"}
    except OSError as error:
        said = {"error": f"cannot be read, or its copy not written ({error.strerror or error})"}
    except Exception as error:  # a broken pickle can fail in any way
        what = " ".join(f"{type(error).__name__}: {error}".split())
        said = {"error": f"is broken, or not made by torch.save ({what[:200]})"}
    sys.stdout.write(json.dumps(said))


def convert(source: Path, folder: Path) -> dict[str, Any]:
    """Write the tensors of `source` to the folder; return where they were and what else there was.

    Raises:
        UnreadableError: it is no checkpoint, or holds no state dict.
    """
    with source.open("rb") as stream:
        foreign = _read(stream, source.stat().st_size)
        tensors, trail, ignored = pick(foreign.root)
        if not tensors:
            raise UnreadableError("holds no tensors by name. Save the network's state_dict()")
        total = sum(math.prod(t.size) * WIDTHS[t.dtype] for t in tensors.values())
        if total > max(EXPANDED, 4 * source.stat().st_size):
            raise UnreadableError(f"would grow to {total / 2**20:,.0f} MiB of tensors")
        _write(folder / "tensors.safetensors", tensors, foreign.data)
    return {"entry": trail, "ignored": ignored, "unknown": sorted(foreign.unknown)}


def _limit_memory(most: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit, macOS may refuse it
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _read(stream: BinaryIO, total: int) -> Foreign:
    head = stream.read(8)
    stream.seek(0)
    if head.startswith(b"PK"):
        return _read_zip(stream, total)
    if not head.startswith(b"\x80"):
        raise UnreadableError("is not a PyTorch checkpoint (neither a zip nor a pickle)")
    return _read_legacy(stream, total)


def _read_zip(stream: BinaryIO, total: int) -> Foreign:
    archive = zipfile.ZipFile(stream)
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise UnreadableError("is a zip, but not one that torch.save made")
    if f"{roots[0]}constants.pkl" in names:
        raise UnreadableError("is a TorchScript archive. Save the network's state_dict() instead")

    def entry(name: str) -> bytes:
        info = archive.getinfo(f"{roots[0]}{name}")
        if info.file_size > total:
            raise UnreadableError("is compressed, which torch.save does not do")
        return archive.read(info)

    def data(storage: Storage) -> bytes:
        return _whole(entry(f"data/{storage.key}"), storage)

    if f"{roots[0]}byteorder" in names and entry("byteorder") != b"little":
        raise UnreadableError("was written on a big-endian machine. Save it again on another")
    unpickler = InertUnpickler(io.BytesIO(entry("data.pkl")))
    return Foreign(unpickler.load(), unpickler.unknown, data)


def _read_legacy(stream: BinaryIO, total: int) -> Foreign:
    """Read the format of torch before 1.6: five pickles in a row, then the storages."""
    if InertUnpickler(stream).load() != MAGIC:
        raise UnreadableError("is a plain pickle. Save the network's state_dict() with torch.save")
    for _ in ("version", "system"):
        InertUnpickler(stream).load()
    unpickler = InertUnpickler(stream)
    root = unpickler.load()
    held: dict[str, bytes] = {}
    for key in InertUnpickler(stream).load():
        storage = unpickler.storages[key]
        length = int.from_bytes(stream.read(8), "little")
        if length != storage.length or length * WIDTHS[storage.dtype] > total:
            raise pickle.UnpicklingError("a storage of another length")
        held[key] = _whole(stream.read(length * WIDTHS[storage.dtype]), storage)
    return Foreign(root, unpickler.unknown, lambda storage: held[storage.key])


def _whole(data: bytes, storage: Storage) -> bytes:
    if len(data) < (storage.shift + storage.length) * WIDTHS[storage.dtype]:
        raise UnreadableError("is cut off")
    return data


def _write(path: Path, tensors: dict[str, Strided], data: Callable[[Storage], bytes]) -> None:
    """Write safetensors by hand: length of the header, header, data; wide elements first, which aligns them all."""
    order = sorted(tensors, key=lambda name: (-WIDTHS[tensors[name].dtype], tensors[name].storage.key))
    header, end = {}, 0
    for name in order:
        begin, end = end, end + math.prod(tensors[name].size) * WIDTHS[tensors[name].dtype]
        header[name] = {"dtype": tensors[name].dtype, "shape": tensors[name].size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        key, held = None, b""
        for name in order:
            if tensors[name].storage.key != key:  # one storage in memory at a time
                key, held = tensors[name].storage.key, data(tensors[name].storage)
            out.write(_elements(tensors[name], held))
        out.flush()
        os.fsync(out.fileno())


def _elements(tensor: Strided, data: bytes) -> bytes:
    if 0 in tensor.size:
        return b""
    width = WIDTHS[tensor.dtype]
    skip = tensor.storage.shift * WIDTHS[tensor.storage.dtype] + tensor.offset * width
    flat = np.frombuffer(data, f"V{width}", offset=skip, count=(len(data) - skip) // width)
    return as_strided(flat, tensor.size, [step * width for step in tensor.stride], writeable=False).tobytes()
