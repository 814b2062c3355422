"""Where the pictures come from: `cifar10`, `cifar100` and `auto` to a path, with or without a network."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torchloupe.data.cache import cache_folder
from torchloupe.data.downloads.fetch import download
from torchloupe.data.downloads.mirrors import Archive, known
from torchloupe.data.downloads.partfile import Say, quiet
from torchloupe.data.downloads.web import Patience, probe
from torchloupe.data.formats.archive import SUFFIXES, is_tar, is_zip
from torchloupe.data.formats.layout import is_image_file
from torchloupe.errors import DataError
from torchloupe.runtime.progress import Progress

LOOK_AT = 5_000  # entries of ./data at most: it may be anyone's, and large

BOX = """\
Using `shapes`: ten classes of drawn figures that come with torchloupe.
Why: {why}.
To get CIFAR-10: torchloupe data get cifar10
Own pictures, a folder for each class: torchloupe train --data FOLDER"""


def find(
    word: str,
    *,
    offline: bool = False,
    say: Say = quiet,
    progress: Progress = quiet,
    cwd: Path = Path(),
    find_seconds: float = 15.0,
    patience: Patience | None = None,
) -> Path | Literal["shapes"]:
    """Find the data set that `cifar10`, `cifar100` or `auto` stands for, downloading it if need be.

    A name is looked for in the cache, in `./data`, at the mirrors. `auto` is `TORCHLOUPE_DATA`, then `./data`
    (CIFAR-10 or a folder or archive of own pictures), CIFAR-10 in the cache, the mirrors if one answers within
    `find_seconds`, and else "shapes", which `say` gets told as a few lines that fit a box.

    Raises:
        DataError: not here and not to be had; or `TORCHLOUPE_DATA` names what does not exist.
        ResourceError: the disk is full, or the cache cannot be written.
        UsageError: another word.

    >>> find("shapes")
    'shapes'
    """
    if word == "shapes":
        return "shapes"
    offline = offline or os.environ.get("TORCHLOUPE_OFFLINE", "").lower() not in ("", "0", "no", "false")
    patience = patience or Patience()
    if word == "auto":
        return _auto(offline, cwd, find_seconds, patience, say=say, progress=progress)
    archive = known(word)
    here = _cifar_in(cache_folder(), archive) or _cifar_in(cwd / "data", archive)
    if here:
        return here
    path = cache_folder() / archive.file
    if offline:
        raise DataError(
            f"{word} is neither in the cache ('{path}') nor in '{cwd / 'data'}', and this run is offline. "
            f"Run `torchloupe data get {word}` with a network once, or put {archive.file} there by hand."
        )
    return _get(word, archive, archive.urls, patience, say=say, progress=progress)


def _auto(
    offline: bool, cwd: Path, find_seconds: float, patience: Patience, *, say: Say, progress: Progress
) -> Path | Literal["shapes"]:
    own = os.environ.get("TORCHLOUPE_DATA")
    if own:
        path = cwd / Path(own).expanduser()
        if not path.exists():
            raise DataError(f"TORCHLOUPE_DATA names '{own}', which does not exist. Correct the variable, or unset it.")
        return path
    archive = known("cifar10")
    here = _cifar_in(cwd / "data", archive) or _images_in(cwd / "data") or _cifar_in(cache_folder(), archive)
    if here:
        return here
    began = time.monotonic()
    if offline:
        why = "CIFAR-10 is neither in the cache nor in ./data, and this run is offline"
    elif not (urls := probe(archive.urls, bytes_expected=archive.size, seconds=find_seconds, patience=patience)):
        why = f"no pictures in ./data, and none of the {len(archive.urls)} mirrors of CIFAR-10 has it now"
        why += f" (asked for {time.monotonic() - began:.1f} s)"
    else:
        try:
            return _get("cifar10", archive, urls, patience, say=say, progress=progress)
        except DataError as error:
            say(str(error))
            why = "no mirror gave the whole of CIFAR-10"
    say(BOX.format(why=why))
    return "shapes"


def _get(word: str, archive: Archive, urls: Sequence[str], patience: Patience, *, say: Say, progress: Progress) -> Path:
    path = cache_folder() / archive.file
    say(f"downloading {word} ({archive.size / 1e6:.0f} MB) to '{path}'")
    return download(
        urls,
        path,
        bytes_expected=archive.size,
        sha256=archive.sha256,
        progress=progress,
        say=say,
        patience=patience,
    )


def _cifar_in(folder: Path, archive: Archive) -> Path | None:
    """Return the archive, its unpacked folder, or `folder` itself if that is what was unpacked."""
    if (folder / archive.file).is_file():
        return folder / archive.file
    for unpacked in (folder / archive.folder, folder):
        if all((unpacked / name).is_file() for name in archive.inside):
            return unpacked
    return None


def _images_in(data: Path) -> Path | None:
    """Return `data` if it looks like own pictures: an archive, a folder with one archive, or folders with pictures."""
    if data.is_file():
        return data if is_zip(data) or is_tar(data) else None
    looked = 0
    for folder, folders, files in os.walk(data):  # of what is no folder, or may not be read, it yields nothing
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(folder) != data and any(is_image_file(name) for name in files):
            return data
        if Path(folder) == data and sum(name.lower().endswith(SUFFIXES) for name in files) == 1:
            return data
        looked += len(files) + len(folders)
        if looked > LOOK_AT:
            break
    return None
