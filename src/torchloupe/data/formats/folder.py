"""The reader of pictures by class, in a folder, a zip or a tar."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from torchloupe.data.formats import archive
from torchloupe.data.formats.depth import notes_of, window_of
from torchloupe.data.formats.fill import Filled, MixedSizesError, fill, first_shape
from torchloupe.data.formats.labelled import labels_in
from torchloupe.data.formats.labelled import plan as plan_by_labels
from torchloupe.data.formats.layout import Plan, is_image_file, parts_of, plan
from torchloupe.data.formats.parts import Options, Pictures, Window, listed, plural
from torchloupe.data.formats.source import Source, folder_source, walk
from torchloupe.data.memory import check_fits, fits
from torchloupe.errors import DataError, ResourceError

OWN_LIMIT = 256
"""Pictures that share one size up to this are stored as they are."""


def is_folder(path: Path) -> bool:
    """Say whether a path is a folder with at least one picture somewhere in it.

    >>> is_folder(Path("no such folder"))
    False
    """
    return path.is_dir() and any(parts_of(name) is not None for name, _ in walk(str(path)))


Opener = Callable[[Path], AbstractContextManager[Source]]


def read(opener: Opener, path: Path, options: Options) -> Pictures:
    """Read all pictures of a folder, a zip or a tar.

    Raises:
        DataError: no pictures, fewer than two classes, a class in test only, pictures that can't be read.
        ResourceError: they would not fit into memory.
    """
    with opener(path) as source:
        lost = _lost(source)
        try:
            made = _plan(source, path, options)
        except DataError as error:
            raise DataError(" ".join([str(error), *lost])) from error
        images, side, filled = _decode(source, made.wanted, path, options)
        window = _one_window(source, made.wanted, images, side, filled, options)
    bad = filled.bad
    notes = (*lost, *made.notes, *notes_of(filled.deep.values(), window, options.window is not None))
    if bad:
        wanted = made.wanted
        unread = sorted(f"{source.names[wanted[row]]} ({why})" for row, why in bad.items())
        notes = (*notes, _refuse_or_note(path, unread, len(wanted), options.skip_bad))
    found = _assemble(path, source.names, made, images, bad)
    seed = options.seed if made.seeded else None
    return replace(found, notes=notes, resized=side, seed=seed, window=window, asked=options.window)


def _plan(source: Source, path: Path, options: Options) -> Plan:
    """Go by the labels that were named or lie beside the pictures, else by the names of folders."""
    labels = options.labels or labels_in(source)
    if labels is None:
        return plan(source.names, options.seed, str(path))
    return plan_by_labels(source.names, labels, options.seed, str(path), skip_bad=options.skip_bad)


def _lost(source: Source) -> tuple[str, ...]:
    """Name what cannot be followed and is no picture by its name: it may be a folder of them."""
    found = [f"{name} ({why})" for name, why in source.lost if _may_be_folder(name)]
    return (f"not followed: {listed(found, 5)}.",) if found else ()


def _may_be_folder(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return not hidden and not is_image_file(name)


read_folder = partial(read, folder_source)
read_zip = partial(read, archive.zip_source)
read_tar = partial(read, archive.tar_source)


def stem(path: Path) -> str:
    """Return the name of a data set at a path: without `.zip`, `.tar.gz` and the like.

    >>> stem(Path("a/cifar10-jpeg.zip")), stem(Path("a/pets.v2.tar.gz")), stem(Path("my.pets"))
    ('cifar10-jpeg', 'pets.v2', 'my.pets')
    """
    name = path.name or path.anchor
    for suffix in sorted(archive.SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _decode(
    source: Source, wanted: tuple[int, ...], path: Path, options: Options
) -> tuple[UInt8[Tensor, "n 3 h w"], int | None, Filled]:
    """Decode at the pictures' own size where they share one, else to squares: (images, side, what was found).

    Whether all share one size is known only once all were read. So it is taken from the first, and
    the first picture that differs starts the squares.
    """
    rows = {index: row for row, index in enumerate(wanted)}
    shape = first_shape(((rows[index], read) for index, read in source.read(wanted)), options.window)
    attempts: list[tuple[tuple[int, int], int | None]] = [((options.side, options.side), options.side)]
    # Pictures too many to stay at their own size may still fit at the size that was asked for.
    bearable = shape is not None and (options.size is None or fits(3 * len(wanted) * shape[0] * shape[1]))
    if shape is not None and bearable and max(shape) <= OWN_LIMIT:
        attempts.insert(0, (shape, None))
    for (height, width), side in attempts:
        check_fits(str(path), len(wanted), height, width)
        images = torch.empty(len(wanted), 3, height, width, dtype=torch.uint8)
        jobs = ((rows[index], read) for index, read in source.read(wanted))
        try:
            return images, side, fill(images.numpy(), jobs, side, options.progress, options.window)
        except MixedSizesError:
            del images  # before the next are made
    raise AssertionError("squares are never of mixed sizes")


def _one_window(
    source: Source,
    wanted: tuple[int, ...],
    images: UInt8[Tensor, "n 3 h w"],
    side: int | None,
    filled: Filled,
    options: Options,
) -> Window | None:
    """Bring pictures of more than 8 bits to one range, decoding them once more; return it, None if there are none."""
    deep = {row: depth for row, depth in filled.deep.items() if not depth.color}
    if not deep or options.window is not None:
        return options.window if deep else None
    window = window_of(deep.values())
    rows = {wanted[row]: row for row, depth in deep.items() if window_of([depth]) != window}
    jobs = ((rows[index], read) for index, read in source.read(tuple(rows)))
    filled.bad |= fill(images.numpy(), jobs, side, window=window).bad
    return window


def _assemble(
    path: Path, names: tuple[str, ...], made: Plan, images: UInt8[Tensor, "n 3 h w"], bad: dict[int, str]
) -> Pictures:
    """Put together what could be read."""
    wanted = made.wanted
    kept = [row for row in range(len(wanted)) if row not in bad]
    train = sum(row < len(made.train) for row in kept)
    val = sum(row >= len(wanted) - len(made.val) for row in kept)
    labels = _labels(made, [wanted[row] for row in kept])
    _check_left(path, made, labels[:train], labels[train : len(kept) - val], val)
    return Pictures(
        name=stem(path),
        images=_moved_up(images, kept) if bad else images,
        labels=labels,
        names=tuple(names[wanted[row]] for row in kept),
        train=train,
        val=val,
        classes=made.classes,
        skipped=bool(bad) or made.skipped,
    )


def _labels(made: Plan, pictures: list[int]) -> Int64[Tensor, "n"] | Bool[Tensor, "n classes"]:
    """Return the class of each picture, or which it has of all where it may have several."""
    if made.several is None:
        return torch.tensor([made.labels[picture] for picture in pictures], dtype=torch.int64)
    if not fits(len(pictures) * len(made.classes)):
        raise ResourceError(
            f"a table of {len(pictures):,} pictures and {len(made.classes):,} classes does not fit into memory: "
            "leave some out."
        )
    table = torch.zeros(len(pictures), len(made.classes), dtype=torch.bool)
    for row, picture in enumerate(pictures):
        table[row, list(made.several[picture])] = True
    return table


def _moved_up(images: UInt8[Tensor, "n 3 h w"], kept: list[int]) -> UInt8[Tensor, "m 3 h w"]:
    """Close the gaps between the rows that are kept, in place: a copy would double the memory."""
    rows = images.numpy()
    for place, row in enumerate(kept):
        if place != row:
            rows[place] = rows[row]
    return images[: len(kept)]


def _refuse_or_note(path: Path, unread: list[str], total: int, skip_bad: bool) -> str:
    """Return the note about pictures that were left out, or refuse the data set because of them."""
    what = f"{plural(len(unread), 'picture')} of {total:,} in '{path}' can't be read: {listed(unread)}."
    if not skip_bad:
        raise DataError(f"{what} Repair or remove them, or leave them out with `--skip-bad`.")
    return f"{what} Left out."


def _check_left(path: Path, made: Plan, train: Tensor, test: Tensor, val: int) -> None:
    """Refuse what is left when unreadable pictures took all of a class, or of the test or the val split."""
    single = made.several is None
    gone = [name for label, name in enumerate(made.classes) if single and not bool((train == label).any())]
    if not single and not len(train):
        raise DataError(f"no train pictures in '{path}' can be read. Repair them.")
    if gone or not len(test) or (made.val and not val):
        split = "test" if not len(test) else "val"
        what = f"train pictures of {listed([repr(name) for name in gone])}" if gone else f"{split} pictures"
        raise DataError(f"no {what} in '{path}' can be read. Repair them, or remove the class.")
