"""Which file is a picture, of which class, for train or for test: decided from names alone."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from torchloupe.data.formats.parts import listed, plural
from torchloupe.errors import DataError

READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
NOT_READ = (".heic", ".heif", ".avif", ".jp2", ".psd")
"""Pictures too: they are named as unreadable, not passed over in silence."""
SUFFIXES = frozenset({*READ, ".pbm", ".pnm", *NOT_READ})
TRAIN = ("train", "training")
TEST = ("test", "testing")
VAL = ("val", "valid", "validation")
TEST_SHARE = 0.2

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is in a data set of pictures by class: indices into the names it was made from."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    labels: dict[int, int]
    classes: tuple[str, ...]
    seeded: bool
    notes: tuple[str, ...] = field(default=())
    val: tuple[int, ...] = ()
    several: dict[int, tuple[int, ...]] | None = None
    """The classes of each picture, where one may have any number of them; `labels` is empty then."""
    skipped: bool = False
    """Pictures, or rows of the labels, were left out because they do not fit."""

    @property
    def wanted(self) -> tuple[int, ...]:
        """All pictures that are read: those of train, of test, of val."""
        return (*self.train, *self.test, *self.val)


def parts_of(name: str) -> Parts | None:
    """Split a file name at its folders; None for what is no picture: junk, hidden, or outside the data set.

    >>> parts_of("./train/cat/1.JPG")
    ('train', 'cat', '1.JPG')
    >>> [parts_of(name) for name in ("__MACOSX/cat/._1.png", "cat/.x.png", "../1.png", "/cat/1.png", "cat/1.txt")]
    [None, None, None, None, None]
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    if not parts or hidden or name.startswith("/") or not is_image_file(parts[-1]):
        return None
    return parts


def is_image_file(file: str) -> bool:
    """Say whether a file is a picture, going by its suffix.

    >>> is_image_file("a.jpeg"), is_image_file("Thumbs.db"), is_image_file("README")
    (True, False, False)
    """
    return "." in file and file[file.rindex(".") :].lower() in SUFFIXES


def plan(names: Sequence[str], seed: int, where: str) -> Plan:
    """Sort pictures into train and test, and name their classes; the order of `names` doesn't matter.

    `train/` beside `test/`, each with class folders, with or without `val/` (`valid/`, `validation/`), which is the
    test split where there is no other; or one tree of class folders, of which a fifth of each class (drawn by `seed`)
    is the test split. One folder around everything is looked through. Classes are matched by name.

    Raises:
        DataError: no pictures, fewer than two classes, a class in test only, no train split.

    >>> made = plan([f"pets/{kind}/{i}.png" for kind in ("dog", "cat") for i in range(5)], seed=0, where="pets")
    >>> made.classes, len(made.train), len(made.test)
    (('cat', 'dog'), 8, 2)
    """
    paths = {i: parts for i, name in enumerate(names) if (parts := parts_of(name)) is not None}
    outside = lead_outside(names)
    if not paths:
        why = outside[0] if outside else f"none of its {plural(len(names), 'file')} is one{_kinds(names)}."
        raise DataError(f"no pictures in '{where}': {why} {NEXT}")
    paths = _look_through(paths)
    train_top, test_top, val_top = _split_folders(paths, where)
    train, skip = _class_folders(paths, train_top), 0 if train_top is None else 1
    test, val = ({} if top is None else _class_folders(paths, top) for top in (test_top, val_top))
    classes = _classes(train, {"test": test, "val": val}, paths, skip, where)
    numbers = {name: label for label, name in enumerate(classes)}
    labels = {i: numbers[_class(paths[i][skip])] for i in (*train, *test, *val)}
    notes = outside + _left_out([names[i] for i in paths.keys() - labels.keys()])
    for word, split in (("test", test), ("val", val)):
        missing = sorted(set(classes) - {_class(paths[i][skip]) for i in split}) if split else []
        notes += [f"no {word} pictures of {listed([repr(name) for name in missing])}."] if missing else []
    if test:
        return Plan(tuple(train), tuple(test), labels, classes, False, tuple(notes), tuple(val))
    kept, drawn = draw(list(train), labels, classes, seed, where)
    notes.append(f"no test folder: {TEST_SHARE:.0%} of each class was drawn as the test split (seed {seed}).")
    return Plan(kept, drawn, labels, classes, True, tuple(notes))


def _kinds(names: Sequence[str]) -> str:
    """Name the most frequent suffixes of files that are no pictures."""
    suffixes = [f".{file.rpartition('.')[2]}" for name in names if "." in (file := name.rpartition("/")[2])[1:]]
    common = [suffix[:20] for suffix, _ in Counter(suffixes).most_common(3)]
    return f" ({', '.join(common)}; pictures are {', '.join(READ)})" if common else ""


def lead_outside(names: Sequence[str]) -> list[str]:
    """Name the pictures that an archive would put outside its folder; they are never read.

    >>> lead_outside(["../1.png", "2.png"])
    ['1 picture left out, whose names lead out of the archive: ../1.png.']
    """
    lead_out = [name for name in names if name.startswith("/") or ".." in name.split("/")]
    found = sorted(name for name in lead_out if is_image_file(name.rpartition("/")[2]))
    if not found:
        return []
    return [f"{plural(len(found), 'picture')} left out, whose names lead out of the archive: {listed(found, 3)}."]


def _left_out(names: list[str]) -> list[str]:
    if not names:
        return []
    return [f"{plural(len(names), 'picture')} outside the class folders left out: {listed(sorted(names), 3)}."]


NEXT = (
    "It takes folders named after the classes, with pictures in them, or `train/` and `test/` (and `val/`) with such "
    "folders; or one folder of pictures with a `labels.csv` of file and class."
)


def _look_through(paths: dict[int, Parts]) -> dict[int, Parts]:
    """Drop folders that are wrapped around everything, as zips of a folder have."""
    while True:
        tops = {parts[0] for parts in paths.values() if len(parts) > 1}
        deeper = any(len(parts) > 2 for parts in paths.values())
        if len(tops) != 1 or not deeper or tops & {top for top in tops if top.lower() in (*TRAIN, *TEST, *VAL)}:
            return paths
        paths = {i: parts[1:] if len(parts) > 1 else parts for i, parts in paths.items()}


def _split_folders(paths: dict[int, Parts], where: str) -> tuple[str | None, str | None, str | None]:
    """Name the folders of the train, the test and the val split; all None for one tree of class folders."""
    tops = sorted({parts[0] for parts in paths.values() if len(parts) > 2})
    train, test, val = (
        next((top for word in words for top in tops if top.lower() == word), None) for words in (TRAIN, TEST, VAL)
    )
    if train is not None:
        return (train, test, val) if test is not None else (train, val, None)
    if (there := test or val) and all(top.lower() in (*TEST, *VAL) for top in tops):
        raise DataError(f"'{where}' has '{there}/' but no 'train/': nothing to train on. {NEXT}")
    return None, None, None


def _class_folders(paths: dict[int, Parts], top: str | None) -> dict[int, None]:
    """Return the pictures in class folders below `top`, ordered by name."""
    depth = 2 if top is None else 3
    found = [i for i, parts in paths.items() if len(parts) >= depth and top in (None, parts[0])]
    return dict.fromkeys(sorted(found, key=lambda i: paths[i]))


def _class(folder: str) -> str:
    """Bring a class name to one spelling: macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", folder)


def _classes(
    train: dict[int, None], others: dict[str, dict[int, None]], paths: dict[int, Parts], skip: int, where: str
) -> tuple[str, ...]:
    classes = sorted({_class(paths[i][skip]) for i in train})
    for word, split in others.items():
        strange = sorted({_class(paths[i][skip]) for i in split} - set(classes))
        if strange:
            raise DataError(
                f"{listed([repr(name) for name in strange])} in '{where}' has {word} pictures but no train pictures. "
                "Classes are matched by name: rename that folder, or add train pictures."
            )
    if len(classes) < 2:
        has = f"only one class, {classes[0]!r}" if classes else "no class folders"
        raise DataError(f"'{where}' has {has}: a classifier needs two. {NEXT}")
    return tuple(classes)


def draw(
    ordered: list[int], labels: dict[int, int], classes: tuple[str, ...], seed: int, where: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw the test pictures of each class on its own, so that one class doesn't change another's: (train, test).

    Raises:
        DataError: a class has one picture.

    >>> [len(part) for part in draw(list(range(10)), dict.fromkeys(range(10), 0), ("cat",), 0, "pets")]
    [8, 2]
    """
    drawn: set[int] = set()
    groups: list[list[int]] = [[] for _ in classes]
    for i in ordered:
        groups[labels[i]].append(i)
    for name, members in zip(classes, groups, strict=True):
        if len(members) < 2:
            raise DataError(
                f"class {name!r} in '{where}' has one picture: train and test need one each. Add one, or remove it."
            )
        random = np.random.default_rng([seed % 2**63, *name.encode("utf-8", "surrogatepass")])
        count = max(1, round(TEST_SHARE * len(members)))
        drawn.update(members[i] for i in random.permutation(len(members))[:count])
    return tuple(i for i in ordered if i not in drawn), tuple(i for i in ordered if i in drawn)
