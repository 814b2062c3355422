"""Mutants by structure: JSON, safetensors and pickles, each with one or a few things in it that should not be."""

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "C64", "X9", "", 3)
CONTROL = "\x1b]0;mine\x07\x1b[2J\r\nError: all is well\u202e\x00"
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2.5,
    -0.0,
    1e308,
    2**31,
    2**63,
    2**70,
    float("nan"),
    float("inf"),
    "",
    "x",
    "x" * 10_000,
    CONTROL,
    "\ud800",
    "=1+1",
    "../../../../etc/passwd",
    "/dev/zero",
    "/",
    ".",
    "last",
    "cifar10",
    "shapes",
    "os:system",
    "stranger:Net",
    "net.py:Net",
    [],
    {},
    [[]],
    [None],
    [1, "x"],
    [-1, -1, -1],
    [8192, 8192, 8192],
    [2**40] * 3,
    [0.5] * 5,
    ["cat", "cat"],
    ["=cmd", CONTROL],
    {"a": {"b": [1]}},
    {CONTROL: CONTROL},
    {"command": "true", "self": 1},
    list(range(3000)),
)

Path = tuple[str | int, ...]


def nodes(value: Any, path: Path = ()) -> list[Path]:
    """Return where each value in a JSON is, itself first."""
    found = [path]
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += nodes(inner, (*path, key))
    return found


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def mutated(value: Any, chance: random.Random) -> Any:
    """Return a copy of a JSON with one value changed."""
    copy = json.loads(json.dumps(value))
    places = nodes(copy)[1:]
    if not places or chance.random() < 0.02:
        return chance.choice(ODD)
    path = chance.choice(sorted(places, key=len)[: max(1, len(places) // chance.choice((1, 1, 3, 8)))])
    parent, key = at(copy, path[:-1]), path[-1]
    old = parent[key]
    what = chance.choice(("odd", "odd", "odd", "drop", "nudge", "rename", "swap", "grow", "wrap"))
    if what == "drop":
        del parent[key]
    elif what == "rename" and isinstance(parent, dict):
        parent[chance.choice((f"{key}x", CONTROL, "", str(key).upper()))] = parent.pop(key)
    elif what == "swap":
        other = chance.choice(places)
        if other[: len(path)] != path and path[: len(other)] != other:
            inside = at(copy, other[:-1])
            parent[key], inside[other[-1]] = inside[other[-1]], old
    elif what == "grow" and isinstance(old, list | str):
        parent[key] = old * chance.choice((0, 2, 50)) if old else [old]
    elif what == "wrap":
        parent[key] = [old] if chance.random() < 0.5 else {"x": old}
    elif what == "nudge":
        parent[key] = nudged(old, chance)
    else:
        parent[key] = chance.choice(ODD)
    return copy


def nudged(old: Any, chance: random.Random) -> Any:
    """Return something near a value: of the same kind, and wrong."""
    if isinstance(old, bool) or old is None:
        return not old
    if isinstance(old, int):
        return chance.choice((-old, old + 1, old - 1, old * 1000, old * 10**12, float(old), str(old), old + 0.5))
    if isinstance(old, float):
        return chance.choice((-old, old * 1e9, old * 1e-9, 0.0, float("nan"), float("-inf"), str(old), old // 1))
    if isinstance(old, str):
        place = chance.randint(0, len(old))
        return old[:place] + chance.choice(("\x1b[31m", "\u202e", "\n", "\x00", "é", "' OR 1", "..", "/")) + old[place:]
    return [old, old]


def text_of(value: Any, chance: random.Random) -> bytes:
    """Write a JSON as a file, now and then not as JSON is written."""
    words = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    try:
        data = words.encode()
    except UnicodeEncodeError:
        data = json.dumps(value).encode()
    what = chance.random()
    if what < 0.85:
        return data
    depth = chance.choice((30, 70, 500, 990, 5_000, 200_000))
    deep = b"[" * depth + b"]" * (depth if chance.random() < 0.7 else 0)
    return chance.choice(
        (
            data[: chance.randint(0, len(data))],
            data + data,
            b"\xef\xbb\xbf" + data,
            words.encode("utf-16", "replace"),
            deep,
            data.replace(b'": ', b'": ' + deep + b', "x": ', 1),
            data[:1] + b'"model": 3, "schema": [], ' + data[1:],
            data.replace(b": ", b": NaN, " + b'"y": ', 1),
            data.replace(b"1", b"1" * 5000, 1),
            flipped(data, chance),
            b"",
            b"\x00" * 100,
        )
    )


def flipped(data: bytes, chance: random.Random, most: int = 8) -> bytes:
    """Return bytes with a few of them changed."""
    found = bytearray(data)
    for _ in range(chance.randint(1, most)):
        if found:
            found[chance.randrange(len(found))] = chance.randrange(256)
    return bytes(found)


def safetensors(data: bytes, chance: random.Random) -> bytes:
    """Return a safetensors file with something wrong in its header, its description, or its bytes."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name = chance.choice(names)
    what = chance.choice(("said", "said", "said", "header", "dtype", "shape", "offsets", "names", "bytes", "body"))
    if what == "said":
        about = mutated(json.loads(header["__metadata__"]["torchloupe"]), chance)
        if chance.random() < 0.3:
            about = mutated(about, chance) if isinstance(about, dict) else about
        header["__metadata__"]["torchloupe"] = text_of(about, chance).decode("utf-8", "replace")
    elif what == "header":
        header = mutated(header, chance)
    elif what == "dtype":
        many = names if chance.random() < 0.3 else [name]
        kind = chance.choice(DTYPES)
        for each in many:
            header[each]["dtype"] = kind
    elif what == "shape":
        shape = header[name]["shape"]
        header[name]["shape"] = chance.choice(
            (shape[::-1], [*shape, 1], [2**40, 2**40], [0, 2**62], [-1], shape + [1] * 70, [], [2**63], [True], "4")
        )
        if chance.random() < 0.5:
            end = header[name]["data_offsets"][0]
            header[name]["data_offsets"] = [end, end]
    elif what == "offsets":
        header[name]["data_offsets"] = chance.choice(([0, 2**60], [2**60, 0], [-1, 3], [0, 0], [1], [0.5, 1], None))
    elif what == "names":
        header[chance.choice((CONTROL, "x" * 5000, "fc.weight", "", "../a"))] = (
            header.pop(name) if chance.random() < 0.6 else header[name]
        )
    elif what == "bytes":
        cut = chance.choice((0, 7, 8, 9, 100, len(data) // 2, len(data) - 1))
        huge = struct.pack("<Q", chance.choice((0, 2**63, 2**31, length + 1, length - 1))) + data[8:]
        return chance.choice(
            (data[:cut], data + b"x", data + data, huge, flipped(data, chance), flipped(data[:200], chance))
        )
    else:
        words = bytearray(body)
        for _ in range(chance.randint(1, 40)):
            place = 4 * chance.randrange(len(words) // 4)
            words[place : place + 4] = struct.pack(
                "<f", chance.choice((float("nan"), float("inf"), 3e38, -3e38, 1e-45))
            )
        body = bytes(words)
    text = text_of(header, chance) if what == "header" else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.called = (function, arguments)

    def __reduce__(self) -> Any:
        return self.called


def hostile_pickles(canary: str) -> list[bytes]:
    """Return pickles that would make a file, each in another way."""
    import os
    import subprocess

    touch = f"touch {canary}"
    things: list[Any] = [
        Calls(os.system, touch),
        {"state_dict": {"w": Calls(os.system, touch)}},
        Calls(subprocess.call, ["touch", canary]),
        Calls(exec, f"open({canary!r}, 'w')"),
        Calls(eval, f"open({canary!r}, 'w')"),
        Calls(open, canary, "w"),
        [Calls(os.mkdir, canary)],
    ]
    found = [pickle.dumps(thing, protocol) for thing in things for protocol in (2, 4)]
    found.append(b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR.")
    found.append(b"\x80\x02c__builtin__\nexec\n(X\x05\x00\x00\x00a = 1tR.")
    found.append(b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b".")
    found.append(b"\x80\x04\x8a\xff" + b"\xff" * 255 + b".")
    found.append(b"\x80\x04B\xff\xff\xff\xff.")
    found.append(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.")
    return found


def zipped(parts: dict[str, bytes], squeezed: bool = False) -> bytes:
    """Return a zip as torch.save makes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if squeezed else zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return stream.getvalue()


def foreign(bases: list[bytes], canary: str, chance: random.Random) -> bytes:
    """Return a foreign checkpoint: a broken one, or one that would run code."""
    what = chance.choice(("pickle", "zip", "broken", "broken", "spliced", "bomb"))
    if what == "pickle":
        data = chance.choice(hostile_pickles(canary))
        return data if chance.random() < 0.6 else flipped(data, chance, 2)
    base = chance.choice(bases)
    if not base.startswith(b"PK") or what == "broken":
        return chance.choice((flipped(base, chance, 12), base[: chance.randint(0, len(base))], base + base, base[8:]))
    with zipfile.ZipFile(io.BytesIO(base)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    root = next(name for name in parts if name.endswith("data.pkl"))
    if what == "zip":
        parts[root] = chance.choice(hostile_pickles(canary))
    elif what == "spliced":
        parts[root] = flipped(parts[root], chance, 6)
        if chance.random() < 0.3:
            parts[chance.choice(list(parts))] = b""
    else:
        parts[root.replace("data.pkl", "data/0")] = bytes(20_000_000)
    return zipped(parts, squeezed=what == "bomb")
