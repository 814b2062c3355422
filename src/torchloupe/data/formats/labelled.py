"""Pictures whose classes a file of labels tells, wherever they lie: the plan of their splits, from names alone."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from torchloupe.data.formats.labels import BETWEEN, Row, label_rows
from torchloupe.data.formats.layout import TEST, TEST_SHARE, TRAIN, VAL, Plan, draw, lead_outside, parts_of
from torchloupe.data.formats.parts import LabelsFile, listed, plural
from torchloupe.data.formats.source import Source
from torchloupe.data.formats.tree import inside
from torchloupe.errors import DataError, short

FOUND = ("labels.csv", "labels.json")
"""Taken without being asked for, in or above the one folder that holds all pictures."""
SEVERAL = -1
"""Stands for the picture where a name is that of several."""


def labels_in(source: Source) -> LabelsFile | None:
    """Return the file of labels that lies beside pictures which all lie in one folder; None where there is none.

    Raises:
        DataError: there are two, or it cannot be read.
    """
    folders = {parts[:-1] for name in source.names if (parts := parts_of(name)) is not None}
    if len(folders) != 1:
        return None
    folder = folders.pop()
    paths = {i: path for i, name in enumerate(source.names) if name.lower().endswith(FOUND) and (path := inside(name))}
    here = {i: p for i, p in paths.items() if p[-1].lower() in FOUND and p[:-1] == folder[: len(p) - 1]}
    if len(here) > 1:
        both = listed([f"'{source.names[i]}'" for i in here])
        raise DataError(f"there are labels in {both}: name the file that counts with --labels.")
    for i, read in source.read(tuple(here)):
        try:
            return LabelsFile(source.names[i], read(), "/".join(here[i][:-1]))
        except Exception as error:  # of a damaged archive nearly anything
            cause = str(error).partition("\n")[0][:100] or type(error).__name__
            raise DataError(f"cannot read the labels in '{source.names[i]}': {cause}. Repair or remove it.") from error
    return None


@dataclass
class Names:
    """The pictures of a data set by the names that people write for them."""

    whole: dict[str, int] = field(default_factory=dict)
    stems: dict[str, int] = field(default_factory=dict)
    """The same without `.png` and the like."""
    bases: tuple[str, ...] = ("",)
    """Folders that a name may be relative to."""

    @classmethod
    def of(cls, paths: dict[int, tuple[str, ...]], folder: str) -> "Names":
        """Index pictures by their paths; `folder` is where the file of labels lies.

        >>> names = Names.of({0: ("images", "1.png"), 1: ("images", "2.png")}, "")
        >>> names.find("images/2.png"), names.find("./2.png"), names.find("2"), names.find("3.png")
        (1, 1, 1, None)
        """
        found = cls()
        for i, path in paths.items():
            name = unicodedata.normalize("NFC", "/".join(path))
            for index, key in ((found.whole, name), (found.stems, name.rpartition(".")[0])):
                index[key] = SEVERAL if key in index else i
        tops = {path[:-1] for path in paths.values()}
        common = "/".join(tops.pop()) if len(tops) == 1 else ""
        found.bases = tuple(dict.fromkeys(("", folder, common)))
        return found

    def find(self, word: str) -> int | None:
        """Return which picture a word names; None for none, `SEVERAL` where that is not clear."""
        for written in dict.fromkeys((word, word.replace("\\", "/"))):
            path = inside(unicodedata.normalize("NFC", written))
            if path is None:
                continue
            for index in (self.whole, self.stems):
                for base in self.bases:
                    name = "/".join((base, *path) if base else path)
                    if name in index:
                        return index[name]
        return None


def plan(names: Sequence[str], labels: LabelsFile, seed: int, where: str, *, skip_bad: bool = False) -> Plan:
    """Sort pictures into splits and classes as a file of labels says; the order of `names` doesn't matter.

    Without a column of splits, a fifth (of each class, or of all where pictures may have several) is drawn by `seed` as
    the test split. Pictures of one class each get the order that they would have in folders named after the classes.

    Raises:
        DataError: pictures without a row, rows without a picture or a class (unless `skip_bad`), fewer than two
            classes, a class in test only, no train split.

    >>> told = LabelsFile("labels.csv", b"\\n".join(b"%d.png,%s" % (i, b"dog" if i % 2 else b"cat") for i in range(10)))
    >>> made = plan([f"{i}.png" for i in range(10)], told, 0, "pets")
    >>> made.classes, len(made.train), len(made.test), made.labels[3]
    (('cat', 'dog'), 8, 2, 1)
    """
    paths = {i: parts for i, name in enumerate(names) if (parts := parts_of(name)) is not None}
    outside = lead_outside(names)
    index = Names.of(paths, labels.folder)
    rows = label_rows(labels, lambda word: index.find(word) is not None)
    if not paths:
        raise DataError(f"no pictures in '{where}'{''.join(f': {note}' for note in outside) or '.'}")
    taken, bad, named = _bound(rows, index)
    if not taken:
        raise DataError(
            f"no row of '{labels.where}' fits the pictures in '{where}'; the first is {bad[0]}. "
            "Write a name relative to that folder, and a class."
        )
    without = [names[i] for i in paths if i not in named]
    notes = outside + _told(labels.where, where, len(rows), bad, without, len(paths), skip_bad)
    skipped = bool(bad or without)
    splits = {word: {i: row for i, row in taken.items() if _word(row) == word} for word in ("train", "test", "val")}
    if not splits["test"]:
        splits["test"], splits["val"] = splits["val"], {}
    if not splits["train"]:
        raise DataError(f"'{labels.where}' has no row of the split 'train': nothing to train on. Add some.")
    if any(row.classes is None or len(row.classes) != 1 for row in taken.values()):
        return _several(splits, paths, seed, labels.where, notes, skipped)
    return _one_each(splits, paths, seed, labels.where, notes, skipped)


def _bound(rows: list[Row], index: Names) -> tuple[dict[int, Row], list[str], set[int]]:
    """Find the picture of each row: (picture -> row, what is wrong with the others, all that are named)."""
    taken: dict[int, Row] = {}
    bad: list[str] = []
    named: set[int] = set()
    torn: set[int] = set()
    for row in rows:
        found = index.find(row.file) if row.file else None
        known = None if found is None else taken.get(found)
        named |= set() if found is None else {found}
        if found is None or found == SEVERAL:
            why = _why_not(row.file, several=found == SEVERAL)
        elif row.classes is None:
            why = "no class"
        elif row.split is not None and _word(row) == "":
            why = f"the split {short(row.split, 20)} is not train, val or test" if row.split else "no split"
        elif known is not None and (known.classes, _word(known)) != (row.classes, _word(row)):
            torn.add(found)
            why = f"named at {known.place} too, as another class or split; several are written '{_both(known, row)}'"
        else:
            taken[found] = row
            continue
        bad.append(f"{short(row.file, 60)} ({row.place}: {why})")
    return {i: row for i, row in taken.items() if i not in torn}, bad, named


def _both(one: Row, other: Row) -> str:
    words = dict.fromkeys((*(one.classes or ()), *(other.classes or ())))
    return BETWEEN.join(short(word, 20)[1:-1] for word in words)


def _why_not(file: str, *, several: bool) -> str:
    if several:
        return "several pictures have that name"
    written = file.replace("\\", "/")
    if not file:
        return "no file"
    return "it leads out of the folder" if written.startswith("/") or ".." in written.split("/") else "no such picture"


def _word(row: Row) -> str:
    """Return the split of a row: train, test, val; "" for a word that is none of them."""
    if row.split is None:
        return "train"
    words = {"train": TRAIN, "test": TEST, "val": VAL}
    return next((word for word, all_of_it in words.items() if row.split.lower() in all_of_it), "")


def _told(
    labels: str, where: str, rows: int, bad: list[str], without: list[str], pictures: int, skip_bad: bool
) -> list[str]:
    """Return notes of what was left out, or refuse because of it."""
    found = [f"{plural(len(bad), 'row')} of {rows:,} in '{labels}' can't be used: {listed(bad, 5)}."] if bad else []
    if without:
        has = "has" if len(without) == 1 else "have"
        shown = listed([short(name, 60) for name in sorted(without)], 5)
        found.append(f"{plural(len(without), 'picture')} of {pictures:,} in '{where}' {has} no label: {shown}.")
    if found and not skip_bad:
        raise DataError(f"{' '.join(found)} Correct them, or leave them out with `--skip-bad`.")
    return [f"{what} Left out." for what in found]


def _one_each(
    splits: dict[str, dict[int, Row]],
    paths: dict[int, tuple[str, ...]],
    seed: int,
    where: str,
    notes: list[str],
    skipped: bool,
) -> Plan:
    kinds = {i: row.classes[0] for split in splits.values() for i, row in split.items() if row.classes}
    classes = tuple(sorted({kinds[i] for i in splits["train"]}))
    for word in ("test", "val"):
        if strange := sorted({kinds[i] for i in splits[word]} - set(classes)):
            raise DataError(
                f"{listed([short(name) for name in strange], 5)} in '{where}' has {word} pictures but no train "
                "pictures. Add some, or correct the name."
            )
    if len(classes) < 2:
        raise DataError(f"'{where}' has only one class, {short(classes[0])}: a classifier needs two.")
    numbers = {name: label for label, name in enumerate(classes)}
    labels = {i: numbers[kind] for i, kind in kinds.items()}
    train, test, val = (
        tuple(sorted(splits[word], key=lambda i: (kinds[i], paths[i]))) for word in ("train", "test", "val")
    )
    if test:
        return Plan(train, test, labels, classes, False, tuple(notes), val, skipped=skipped)
    train, test = draw(list(train), labels, classes, seed, where)
    notes = [*notes, f"no test rows: {TEST_SHARE:.0%} of each class was drawn as the test split (seed {seed})."]
    return Plan(train, test, labels, classes, True, tuple(notes), skipped=skipped)


def _several(
    splits: dict[str, dict[int, Row]],
    paths: dict[int, tuple[str, ...]],
    seed: int,
    where: str,
    notes: list[str],
    skipped: bool,
) -> Plan:
    rows = {i: row for split in splits.values() for i, row in split.items()}
    classes = tuple(sorted({name for row in rows.values() for name in row.classes or ()}))
    if not classes:
        raise DataError(f"'{where}' has no class at all: name one for some pictures.")
    numbers = {name: label for label, name in enumerate(classes)}
    several = {i: tuple(numbers[name] for name in row.classes or ()) for i, row in rows.items()}
    train, test, val = (tuple(sorted(splits[word], key=lambda i: paths[i])) for word in ("train", "test", "val"))
    drawn = not test
    if drawn:
        if len(train) < 2:
            raise DataError(f"'{where}' has one picture: train and test need one each. Add one.")
        order = np.random.default_rng([seed % 2**63]).permutation(len(train))
        held = {train[k] for k in order[: max(1, round(TEST_SHARE * len(train)))].tolist()}
        train, test = tuple(i for i in train if i not in held), tuple(i for i in train if i in held)
        notes = [*notes, f"no test rows: {TEST_SHARE:.0%} of all was drawn as the test split (seed {seed})."]
    return Plan(train, test, {}, classes, drawn, tuple(notes), val, several, skipped)
