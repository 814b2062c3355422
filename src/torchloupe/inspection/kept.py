"""Measure once: what takes a pass over data is stored, and found again by its weights and its data."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from torchloupe.checkpoints.file import read_tensors, save_tensors
from torchloupe.errors import ModelError, ResourceError
from torchloupe.runtime.checks import is_object

Tensors = dict[str, Tensor]
About = dict[str, Any]


def holds(about: Any, *, weights: str, crc: str | None) -> bool:
    """Tell whether something stored is of these weights and data; `crc` None: of whatever data.

    >>> about = {"weights": "ddfe", "crc32": "d89d"}
    >>> holds(about, weights="ddfe", crc="d89d"), holds(about, weights="ddfe", crc="0000")
    (True, False)
    >>> holds(about, weights="ddfe", crc=None), holds({"weights": "ddfe", "crc32": None}, weights="ddfe", crc="d89d")
    (True, True)
    """
    if not is_object(about) or about.get("weights") != weights:
        return False
    return crc is None or ("crc32" in about and about["crc32"] in (None, crc))


def stored(folders: Sequence[Path], name: str, *, weights: str, crc: str | None) -> Iterator[tuple[Tensors, About]]:
    """Yield what each folder has stored under a name of these weights and data, with its description.

    >>> list(stored([Path("nowhere")], "health", weights="ddfe", crc=None))
    []
    """
    for folder in folders:
        try:
            tensors, about = read_tensors(folder / f"{name}-{weights}.safetensors")
        except ModelError:
            continue
        if holds(about, weights=weights, crc=crc):
            yield tensors, about


def store(path: Path, tensors: Tensors, about: Mapping[str, Any]) -> None:
    """Write a measurement; where that cannot be done it is measured again the next time.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store(Path(folder) / "new" / "a.safetensors", {"a": torch.ones(2)}, {"weights": "ddfe"})
    ...     read_tensors(Path(folder) / "new" / "a.safetensors")[1]
    {'weights': 'ddfe'}
    """
    with suppress(OSError, ResourceError):  # a read-only run, a full disk
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, tensors, dict(about))


def once(
    name: str,
    make: Callable[[], Tensors | None],
    about: Mapping[str, Any],
    *,
    weights: str,
    crc: str | None,
    folders: Sequence[Path],
    own: str | None = None,
    of_data: Collection[str] = (),
) -> tuple[Tensors, About] | None:
    """Return tensors and their description: stored ones that still hold, else made now and stored in the first folder.

    They hold if weights, data and `about` are the same. Where the data are not at hand (`crc` None) they hold if the
    weights are the same and the data were the run's `own` (their checksum; None: not known). What cannot be made any
    more is taken from other data, without the tensors that are `of_data`. None where there is nothing.

    >>> once("nothing", lambda: None, {}, weights="ddfe", crc=None, folders=[]) is None
    True
    """
    full = {**about, "weights": weights, "crc32": crc}
    for tensors, found in stored(folders, name, weights=weights, crc=crc or own):
        if crc is None or found == full:
            return tensors, found
    made = make()
    if made is not None:
        store(folders[0] / f"{name}-{weights}.safetensors", made, full)
        return made, full
    if of_data:
        for tensors, found in stored(folders, name, weights=weights, crc=None):
            left_out = of_data if found.get("crc32") != crc else ()
            return {key: tensor for key, tensor in tensors.items() if key not in left_out}, found
    return None
