"""Decoded pictures kept on disk: one safetensors file for each data set, trusted only when its checksums hold.

A file is named NAME-PATH-CONTENT-HOW: hashes of where the data set lies and of what is in it, and
the options that mattered. So looking for one takes no index, and stale ones are known by name.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchloupe.data.formats.parts import Options, Pictures, Window
from torchloupe.data.memory import fits
from torchloupe.errors import ResourceError
from torchloupe.runtime.files import atomic_write

VERSION = 2
"""Raise it when a reader or this format changes, so that older files are no longer found."""
KEEP = 3
"""Files kept for one data set (other sizes or seeds); older ones are removed."""
ABANDONED = 3600
"""Seconds after which a half-written file is taken for what a killed process left."""
SLICE = 16 << 20
KEY = "torchloupe"

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def cache_folder() -> Path:
    """Return the cache folder: `TORCHLOUPE_CACHE`, else the system's place for the user's caches.

    >>> cache_folder().is_absolute()
    True
    """
    chosen = os.environ.get("TORCHLOUPE_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("torchloupe")


@dataclass(frozen=True)
class Place:
    """Where the decoded pictures of one data set, as it is now, are kept."""

    path: Path
    """The data set."""
    fingerprint: str
    """What is in it."""
    labels: str = ""
    """What changes when the file of its labels does, where one was named."""

    @property
    def prefix(self) -> str:
        """Starts the name of every file for this path, whatever was in it."""
        where = hashlib.sha256(str(self.path.resolve()).encode("utf-8", "backslashreplace")).hexdigest()[:12]
        name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in self.path.name[:40])
        return f"{name}-{where}"

    def file(self, resized: int | None, seed: int | None, skipped: bool, asked: Window | None = None) -> Path:
        how = f"{resized or 'own'}-{'given' if seed is None else f's{seed}'}{'-some' if skipped else ''}"
        how += "" if asked is None else f"-{asked[0]!r}-to-{asked[1]!r}"
        how += f"-by-{self.labels}" if self.labels else ""
        return cache_folder() / "decoded" / f"{self.prefix}-{self.fingerprint}v{VERSION}-{how}.safetensors"

    def files(self, options: Options) -> Iterable[Path]:
        """Yield each file that would serve these options; which of them mattered only the reader knew."""
        for skipped in (False, True) if options.skip_bad else (False,):
            for resized in (None, options.side):
                for seed in (None, options.seed):
                    yield self.file(resized, seed, skipped, options.window)


def lookup(place: Place, options: Options, say: Callable[[str], None]) -> tuple[Pictures, Statistics] | None:
    """Return what was kept for these options; None when there is nothing, or nothing sound."""
    for file in place.files(options):
        try:
            if file.is_file():
                found = _load(file)
                with suppress(OSError):
                    file.touch()  # the most recently used are kept
                return found
        except Exception as error:  # whatever is wrong with it, decoding again is right
            say(f"the cache of '{place.path}' is damaged ({error}): decoding again.")
            _remove(file)
    return None


def keep(place: Place, images: Pictures, statistics: Statistics, say: Callable[[str], None]) -> None:
    """Write decoded pictures to the cache; where that can't be done, say so and go on."""
    if not fits(2 * images.images.numel()):  # safetensors' copy, and the bytes of the file
        say(f"'{place.path}' is too large to be cached: it will be decoded each time.")
        return
    file = place.file(images.resized, images.seed, images.skipped, images.asked)
    try:
        atomic_write(file, _pack(images, statistics))
        _prune(place, file)
    except (OSError, ResourceError) as error:
        say(f"going on without a cache: {error}")


def _pack(images: Pictures, statistics: Statistics) -> bytes:
    from safetensors.torch import save

    facts = {
        "name": images.name,
        "names": images.names,
        "train": images.train,
        "val": images.val,
        "classes": images.classes,
        "notes": images.notes,
        "statistics": statistics,
        "window": images.window,
        "asked": images.asked,
        "how": [images.resized, images.seed, images.skipped],
    }
    # The facts are a tensor too: the checksums cover them, and no limit on headers counts.
    info = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
    tensors = {"images": images.images.contiguous(), "labels": images.labels.contiguous(), "info": info}
    checksums = {name: _checksums(value) for name, value in tensors.items()}
    return save(tensors, {KEY: json.dumps(checksums, sort_keys=True)})


def _load(file: Path) -> tuple[Pictures, Statistics]:
    """Map a file into memory and verify it.

    Raises:
        Exception: of any kind, when it is not what was written.
    """
    from safetensors import safe_open

    with safe_open(file, "pt") as stored:
        checksums = json.loads(stored.metadata()[KEY])
        tensors: dict[str, Tensor] = {name: stored.get_tensor(name) for name in ("images", "labels", "info")}
    if any(checksums[name] != _checksums(value) for name, value in tensors.items()):
        raise ValueError("its checksum is wrong")
    facts: dict[str, Any] = json.loads(tensors["info"].numpy().tobytes())
    resized, seed, skipped = facts["how"]
    images = Pictures(
        name=facts["name"],
        images=tensors["images"],
        labels=tensors["labels"],
        names=tuple(facts["names"]),
        train=facts["train"],
        val=facts["val"],
        classes=tuple(facts["classes"]),
        notes=tuple(facts["notes"]),
        resized=resized,
        seed=seed,
        skipped=skipped,
        window=_window(facts["window"]),
        asked=_window(facts["asked"]),
    )
    mean, std = facts["statistics"]
    return images, (tuple(mean), tuple(std))


def _window(found: list[float] | None) -> Window | None:
    return None if found is None else (found[0], found[1])


def _checksums(tensor: Tensor) -> list[object]:
    """Return type, shape, and the CRC of each slice, so that several threads can share the work."""
    data = tensor.reshape(-1).view(torch.uint8).numpy()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        crcs = list(pool.map(zlib.crc32, (data[i : i + SLICE] for i in range(0, len(data), SLICE))))
    return [str(tensor.dtype), list(tensor.shape), *crcs]


def _prune(place: Place, newest: Path) -> None:
    """Remove what was kept of an earlier state of this data set, and all but the last few of this one."""
    now = f"{place.prefix}-{place.fingerprint}v{VERSION}-"
    files = [file for file in newest.parent.glob(f"*{place.prefix[-13:]}-*.safetensors") if file != newest]
    fresh = sorted((file for file in files if file.name.startswith(now)), key=_mtime, reverse=True)
    for file in files:
        if file not in fresh[: KEEP - 1]:
            _remove(file)
    for part in newest.parent.glob(f".*{place.prefix[-13:]}-*.part"):
        if time.time() - _mtime(part) > ABANDONED:
            _remove(part)


def _remove(file: Path) -> None:
    with suppress(OSError):  # on Windows, one that is in use
        file.unlink()


def _mtime(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
