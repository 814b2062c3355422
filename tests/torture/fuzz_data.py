"""Data that are broken or mean harm, by the thousand: each must give a right answer or one sentence.

    PYTHONPATH=src python tests/torture/fuzz_data.py --count 10000

Each batch is read in a process of its own, with a limit on time and memory: a traceback, a hang, a signal, pictures
from outside or a file that was not there before count as not survived. Prints tried and survived per kind.
"""

import argparse
import io
import multiprocessing
import os
import pickle
import random
import resource
import stat
import struct
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from torchloupe.data import load
from torchloupe.data.formats.unpickle import unpickle
from torchloupe.errors import DataError, ResourceError

SECONDS = 120
"""For a batch, which takes one: generous, as the machine may be busy."""
MEMORY = 4 << 30
"""Bytes of address space that a batch may take beyond what the process has."""
GROWTH = 1 << 30
"""Bytes that its resident memory may grow."""
BATCH = 100
"""Pictures in one archive; archives and pickles are tried one by one, so many in a process."""
SECRET = (1, 254, 77)
"""Colour of the picture outside, which must never be read."""


@dataclass
class Tally:
    """What was tried of one kind, and what did not survive."""

    tried: int = 0
    survived: int = 0
    failures: list[str] = field(default_factory=list)


def packed(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(color: tuple[int, int, int] = (9, 9, 9), side: int = 4) -> bytes:
    return packed(Image.new("RGB", (side, side), color), "PNG")


GOOD = {f"{kind}/{i}.png": png((40 * i, 7, 7)) for kind in ("cat", "dog") for i in range(4)}


def seeds() -> list[tuple[str, bytes]]:
    """Whole pictures of every format, mode and depth, to be broken."""
    noise = np.random.default_rng(0).integers(0, 256, (13, 11, 3), np.uint8)
    rgb, gray = Image.fromarray(noise), Image.fromarray(noise[..., 0])
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = [(kind.lower(), packed(rgb, kind)) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")]
    made += [(kind.lower(), packed(image, kind)) for image in (gray, deep) for kind in ("PNG", "TIFF", "PPM")]
    made += [("png", packed(rgb.convert(mode), "PNG")) for mode in ("P", "RGBA", "LA", "1")]
    made += [("tiff", packed(rgb, "TIFF", compression=how)) for how in ("tiff_lzw", "tiff_deflate", "packbits")]
    made += [("jpeg", packed(rgb.convert("CMYK"), "JPEG")), ("jpeg", packed(rgb, "JPEG", exif=exif, progressive=True))]
    made += [("gif", packed(rgb, "GIF", save_all=True, append_images=[gray.convert("RGB")] * 3))]
    return made


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Flip, cut, repeat, overwrite; now and then with checksums of PNG made right again."""
    broken = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        if not broken:
            break
        place = dice.randrange(len(broken))
        match dice.randrange(6):
            case 0:
                broken[place] ^= 1 << dice.randrange(8)
            case 1:
                broken[place : place + 4] = dice.choice(
                    [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", dice.randbytes(4)]
                )
            case 2:
                del broken[place : place + dice.randint(1, 40)]
            case 3:
                broken[place:place] = broken[: dice.randint(1, 60)]
            case 4:
                broken = broken[:place] if dice.random() < 0.3 else broken
            case _:
                broken[min(place, 40)] = dice.randrange(256)  # headers decide most
    return right_crcs(bytes(broken)) if dice.random() < 0.5 else bytes(broken)


def right_crcs(data: bytes) -> bytes:
    """Make the checksums of a PNG's chunks right, so that what is behind them is reached."""
    if not data.startswith(b"\x89PNG"):
        return data
    fixed, place = bytearray(data), 8
    while place + 12 <= len(fixed):
        length = int.from_bytes(fixed[place : place + 4])
        if place + 12 + length > len(fixed):
            break
        fixed[place + 8 + length : place + 12 + length] = struct.pack(
            ">I", zlib.crc32(fixed[place + 4 : place + 8 + length])
        )
        place += 12 + length
    return bytes(fixed)


def judged(attempt: Callable[[], object]) -> str:
    """Return "" for a right answer or one sentence, else what was wrong."""
    try:
        attempt()
    except (DataError, ResourceError) as error:
        text = str(error)
        return "" if text and "\n" not in text and len(text) < 6000 else f"no sentence: {text[:200]!r}"
    except BaseException as error:  # everything else is what is looked for
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


def read(path: Path) -> None:
    """Load a data set, and make sure that nothing from outside is in it."""
    for skip in (False, True):
        try:
            data = load(path, cache=False, skip_bad=skip)
        except (DataError, ResourceError):
            if skip:
                raise
            continue
        secret = np.array(SECRET, np.uint8)[None, :, None, None]
        for split in (data.train, data.test):
            assert len(split.images) == len(split.labels) == len(split.names)
            assert not (split.images.numpy() == secret).all((1, 2, 3)).any(), "a picture from outside was read"
        return


def pictures(folder: Path, count: int, dice: random.Random) -> Iterator[str]:
    """Mutate pictures and read them in one zip."""
    whole = seeds()
    with zipfile.ZipFile(folder / "mine.zip", "w") as archive:
        for name, data in GOOD.items():
            archive.writestr(name, data)
        for i in range(count):
            suffix, data = dice.choice(whole)
            archive.writestr(f"{dice.choice(['cat', 'dog'])}/broken{i}.{suffix}", mutated(data, dice))
    wrong = judged(partial(read, folder / "mine.zip"))
    yield from [wrong] * count


def tars(folder: Path, count: int, dice: random.Random) -> Iterator[str]:
    """Write hostile and broken tars, and read each."""
    for _ in range(count):
        path = folder / "mine.tar"
        with tarfile.open(path, dice.choice(["w", "w:gz", "w:xz", "w:bz2"])) as archive:  # type: ignore[call-overload]
            for name, data in GOOD.items():
                _add(archive, name, data)
            for _ in range(dice.randint(1, 5)):
                _harm_tar(archive, folder, dice)
        if dice.random() < 0.5:
            path.write_bytes(mutated(path.read_bytes(), dice))
        yield judged(partial(read, path))


def _add(
    archive: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(data)
    archive.addfile(info, io.BytesIO(data))


def _targets(folder: Path) -> list[str]:
    secret = str(folder / "secret.png")
    return [
        secret,
        "../secret.png",
        "../../secret.png",
        "cat/../../secret.png",
        "/etc/passwd",
        "x.png",
        ".",
        "..",
        "a" * 5000,
    ]


def _harm_tar(archive: tarfile.TarFile, folder: Path, dice: random.Random) -> None:
    name = dice.choice(
        ["cat/x.png", "../x.png", "/x.png", "owl", "cat", "cat/0.png", "d/" * dice.choice([3, 300]) + "x.png"]
    )
    match dice.randrange(6):
        case 0:
            kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE]
            _add(archive, name, kind=dice.choice(kinds), target=dice.choice([*_targets(folder), "cat/0.png", "cat"]))
        case 1:
            _add(archive, name, kind=dice.choice([tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Q"]))
        case 2:
            _add(archive, name, png())
        case 3:
            _add(archive, name, bytes(dice.choice([10, 5_000_000])))
        case 4:
            _add(archive, "cat/0.png", dice.choice([png(), b"", b"x"]))  # a second member of one name
        case _:
            for i in range(12):
                for word in "ab":
                    _add(archive, f"m{i}/{word}", kind=tarfile.SYMTYPE, target=f"../m{i + 1}")


def zips(folder: Path, count: int, dice: random.Random) -> Iterator[str]:
    """Write hostile and broken zips, and read each."""
    for _ in range(count):
        path = folder / "mine.zip"
        with zipfile.ZipFile(path, "w", dice.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for name, data in GOOD.items():
                archive.writestr(name, data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of two members with one name
                for _ in range(dice.randint(1, 5)):
                    _harm_zip(archive, folder, dice)
        whole = bytearray(path.read_bytes())
        match dice.randrange(6):
            case 0:  # encrypted, or another flag
                _everywhere(whole, dice, 6, 8)
            case 1:  # a wrong CRC
                _everywhere(whole, dice, 14, 16)
            case 2:  # a wrong size
                _everywhere(whole, dice, 22, 24)
            case 3:
                whole = bytearray(mutated(bytes(whole), dice))
            case 4:
                del whole[dice.randrange(len(whole)) :]
            case _:
                pass
        path.write_bytes(whole)
        yield judged(partial(read, path))


def _everywhere(data: bytearray, dice: random.Random, local: int, central: int) -> None:
    """Change a field in some headers of a zip's members."""
    for mark, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        start = -1
        while (start := data.find(mark, start + 1)) >= 0:
            if dice.random() < 0.5 and start + place < len(data):
                data[start + place] ^= dice.choice([1, 255])


def _harm_zip(archive: zipfile.ZipFile, folder: Path, dice: random.Random) -> None:
    name = dice.choice(
        ["cat/x.png", "../x.png", "/x.png", "C:\\x.png", "..\\x.png", "owl", "cat", "d/" * 300 + "x.png"]
    )
    match dice.randrange(4):
        case 0:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, dice.choice([*_targets(folder), "cat/0.png", "cat", "\xe9"]))
        case 1:
            archive.writestr(zipfile.ZipInfo(name), png())
        case 2:
            info = zipfile.ZipInfo("cat/bomb.png")
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, bytes(20_000_000))
        case _:
            archive.writestr("cat/0.png", dice.choice([png(), b"x"]))


GLOBALS = [
    ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"), ("builtins", "getattr"),
    ("subprocess", "Popen"), ("importlib", "import_module"), ("numpy", "load"), ("numpy", "fromfile"),
    ("torch", "load"), ("pickle", "loads"), ("codecs", "encode"), ("_codecs", "decode"), ("operator", "attrgetter"),
    ("numpy.core.multiarray", "scalar"), ("numpy", "ndarray"), ("numpy", "dtype"), ("copyreg", "_reconstructor"),
]  # fmt: skip


def pickles(folder: Path, count: int, dice: random.Random) -> Iterator[str]:
    """Unpickle batches with forbidden names, with broken bytes, with lengths that lie."""
    mark = folder / "executed"
    rows = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
    whole = [pickle.dumps({"data": rows, "labels": [0, 1, 2], "filenames": ["a", "b", "c"]}, i) for i in range(5)]
    for _ in range(count):
        match dice.randrange(4):
            case 0:
                module, name = dice.choice(GLOBALS)
                text = f"touch {mark}".encode()
                data = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"U" + bytes([len(text)]) + text + b"\x85R."
            case 1:
                size = struct.pack("<Q", dice.choice([1 << 33, 1 << 62, 5]))
                data = b"\x80\x04" + dice.choice([b"\x8e", b"\x8d", b"\x96"]) + size + b"x" * dice.randrange(9) + b"."
            case 2:
                data = b"\x80\x02" + dice.choice([b"]", b"(", b"}", b")"]) * dice.choice([10, 100_000]) + b"."
            case _:
                data = mutated(dice.choice(whole), dice)
        wrong = judged(partial(unpickle, data, "data_batch_1"))
        yield "it was executed" if mark.exists() else wrong


KINDS: dict[str, Callable[[Path, int, random.Random], Iterator[str]]] = {
    "pictures": pictures,
    "tars": tars,
    "zips": zips,
    "pickles": pickles,
}
SHARES = {"pictures": 1.0, "tars": 0.02, "zips": 0.02, "pickles": 0.2}
"""Of `count`: 10,000 pictures, 200 tars, 200 zips and 2,000 pickles."""


def _batch(kind: str, count: int, seed: int, found: "multiprocessing.SimpleQueue[list[str]]") -> None:
    """Try a batch in this process, which may do no more than it should."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "in" / "side"
        folder.mkdir(parents=True)
        for place in (folder, folder.parent, folder.parent.parent):
            (place / "secret.png").write_bytes(png(SECRET))
        wrong = list(KINDS[kind](folder, count, random.Random(f"{kind} {seed}")))
        strays = {path.name for path in Path(top).rglob("*")} - {"in", "side", "secret.png", "mine.zip", "mine.tar"}
    if strays:
        wrong = [f"left behind: {strays}"] * count
    if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 > GROWTH:
        wrong = ["took too much memory"] * count
    found.put(wrong)


def tried(kind: str, count: int, seed: int = 0) -> Tally:
    """Try so many of a kind, and count which survived.

    >>> tried("pickles", 20).survived
    20
    """
    forked, tally = multiprocessing.get_context("fork"), Tally()
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        found: multiprocessing.SimpleQueue[list[str]] = forked.SimpleQueue()
        child = forked.Process(target=_batch, args=(kind, size, seed + start, found))
        child.start()
        child.join(SECONDS)
        if child.is_alive():
            child.kill()
            child.join()
        wrong = found.get() if child.exitcode == 0 else [f"ended with {child.exitcode} (a hang, or a signal)"] * size
        tally.tried += size
        tally.survived += wrong.count("")
        tally.failures += [f"seed {seed + start}: {each}" for each in wrong if each]
    return tally


def main() -> int:
    """Try all kinds; the exit code is 1 if one did not survive."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="pictures; of the other kinds a share of it")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    failures = []
    print(f"{'kind':<10}{'tried':>9}{'survived':>10}")
    for kind, share in SHARES.items():
        tally = tried(kind, max(1, round(share * given.count)), given.seed)
        failures += [f"{kind}, {each}" for each in tally.failures]
        print(f"{kind:<10}{tally.tried:>9,}{tally.survived:>10,}", flush=True)
    print("\n".join(failures[:20]))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
