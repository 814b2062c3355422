"""Small pictures of cats and dogs (one colour each), as a folder, a zip or a tar: for the tests of `data`."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Files = dict[str, bytes]


def png(value: int = 0, width: int = 4, height: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (value, value // 2, 255 - value)).save(stream, "PNG")
    return stream.getvalue()


def pets(count: int = 5, top: str = "", kinds: tuple[str, ...] = ("cat", "dog")) -> Files:
    return {f"{top}{kind}/{i}.png": png(10 * i + k) for k, kind in enumerate(kinds) for i in range(count)}


def as_folder(path: Path, files: Files) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path.with_name(path.name + ".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path.with_name(path.name + ".zip")


def as_tar(suffix: str) -> Callable[[Path, Files], Path]:
    def make(path: Path, files: Files) -> Path:
        to = path.with_name(f"{path.name}.tar{'.' if suffix else ''}{suffix}")
        with tarfile.open(to, f"w:{suffix}") as archive:  # type: ignore[call-overload]
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return to

    return make


KINDS = [as_folder, as_zip, *(as_tar(suffix) for suffix in ("", "gz", "xz", "bz2"))]
NAMES = ["folder", "zip", "tar", "tar.gz", "tar.xz", "tar.bz2"]
each_kind = pytest.mark.parametrize("make", KINDS, ids=NAMES)
