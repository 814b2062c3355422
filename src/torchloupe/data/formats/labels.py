"""A file of labels -> rows: which file is of which class, or classes, and in which split."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchloupe.data.formats.layout import is_image_file
from torchloupe.data.formats.parts import LabelsFile, listed, plural
from torchloupe.data.formats.tables import Rows, is_json, json_of, read_table, rows_of, text_of
from torchloupe.errors import DataError, short

FILE = ("file", "filename", "file_name", "image", "image_id", "img", "picture", "path", "filepath", "name", "id")
CLASS = ("class", "classes", "label", "labels", "class_name", "label_name", "category", "target")
SPLIT = ("split", "subset", "set", "partition")
BETWEEN = "|"
"""Stands between the classes of a picture that has several."""
YES, NO = ("1", "1.0"), ("0", "0.0")

Known = Callable[[str], bool]
"""Says whether a word names a picture of the data set."""


@dataclass(frozen=True)
class Row:
    """What the file says of one picture."""

    place: str
    """Where in the file: `line 3`."""
    file: str
    classes: tuple[str, ...] | None
    """None where it says none."""
    split: str | None = None
    """As it was written; None where the file knows no splits."""


def read_labels(path: str | Path) -> LabelsFile:
    """Read the file that `--labels` names.

    Raises:
        DataError: it cannot be read, or is too large.
    """
    return LabelsFile(str(path), read_table(Path(path), "--labels"))


def label_rows(labels: LabelsFile, known: Known) -> list[Row]:
    """Return the rows of a file of labels.

    A CSV has a column of files and one of classes (several with `|` between), or one column of 0 and 1 for each class;
    a first row that names no picture names the columns. A JSON is {file: class} or a list of {"file", "class"}, with
    lists where there are several classes. A column, or a key, `split` is of train, val and test.

    Raises:
        DataError: it is no such file.

    >>> label_rows(LabelsFile("a.csv", b"file,class\\n1.png,cat\\n2.png,cat|dog"), lambda word: word.endswith(".png"))
    [Row(place='line 2', file='1.png', classes=('cat',), split=None),
     Row(place='line 3', file='2.png', classes=('cat', 'dog'), split=None)]
    """
    text = text_of(labels.data, labels.where)
    if is_json(labels.where):
        found = _of_json(json_of(text, labels.where), labels.where)
    else:
        found = _of_table(rows_of(text, labels.where), labels.where, known)
    if not found:
        raise DataError(f"'{labels.where}' is empty: it takes a file and a class in each row.")
    return found


def _of_table(rows: Rows, where: str, known: Known) -> list[Row]:
    if not rows:
        return []
    first = rows[0][1]
    headed = not any(known(cell) or is_image_file(cell) for cell in first)
    names = [cell.lower().replace(" ", "_") for cell in first] if headed else []
    body = rows[1:] if headed else rows
    split = _column(names, SPLIT)
    file, classes = _file_and_class(names, body, split, where, known, len(first))
    if isinstance(classes, int):
        return [
            Row(f"line {line}", _cell(cells, file), _classes(_cell(cells, classes)), _split(cells, split))
            for line, cells in body
        ]
    return [
        Row(f"line {line}", _cell(cells, file), _ticked(cells, classes, first), _split(cells, split))
        for line, cells in body
    ]


def _file_and_class(
    names: list[str], body: Rows, split: int | None, where: str, known: Known, width: int
) -> tuple[int, int | list[int]]:
    """Return the column of the files, and that of the classes, or the columns that are a class each."""
    others = [column for column in range(width) if column != split]
    file, classes = (_column(names, words) for words in (FILE, CLASS))
    if len(others) == 2 and (file is None or classes is None):  # what stands in it, or the other's name, tells
        file = next((column for column in others if any(known(_cell(row, column)) for _, row in body)), file)
        one, other = others
        file = file if file is not None else other if classes == one else one if classes == other else None
        classes = None if file is None else other if file == one else one
    if file is not None and classes is not None:
        return file, classes
    if not names:
        raise DataError(
            f"'{where}' has {plural(width, 'column')} and no row that names them: begin it with a row like "
            "file,class or file,class,split."
        )
    each = [column for column in others if column != file]
    if file is not None and len(each) > 1 and all(_cell(row, at) in YES + NO for _, row in body for at in each):
        return file, each
    missing = " and ".join(word for word, at in (("file", file), ("class", classes)) if at is None)
    shown = listed([short(name, 30) for name in names], 8)
    raise DataError(f"'{where}' has the columns {shown}: which is the {missing}? Name it so in the first row.")


def _column(names: Sequence[str], words: tuple[str, ...]) -> int | None:
    return next((names.index(word) for word in words if word in names), None)


def _cell(cells: list[str], column: int) -> str:
    return cells[column] if column < len(cells) else ""


def _split(cells: list[str], column: int | None) -> str | None:
    return None if column is None else _cell(cells, column)


def _classes(cell: str) -> tuple[str, ...] | None:
    found = [word for part in cell.split(BETWEEN) if (word := _spelled(part))]
    return tuple(dict.fromkeys(found)) or None


def _ticked(cells: list[str], each: list[int], names: list[str]) -> tuple[str, ...]:
    return tuple(_spelled(names[column]) for column in each if _cell(cells, column) in YES)


def _spelled(word: str) -> str:
    return unicodedata.normalize("NFC", word.strip())


def _of_json(values: Any, where: str) -> list[Row]:
    if isinstance(values, dict):
        return [_entry(number, file, value) for number, (file, value) in enumerate(values.items(), 1)]
    if isinstance(values, list) and all(isinstance(value, dict) for value in values):
        return [_entry(number, _named(value, FILE), value) for number, value in enumerate(values, 1)]
    raise DataError(f'\'{where}\' takes {{file: class}}, or a list of {{"file": …, "class": …}}. Write it so.')


def _entry(number: int, file: Any, value: Any) -> Row:
    split = None
    if isinstance(value, dict):
        told = _named(value, SPLIT)
        split = None if told is None else str(told)
        value = _named(value, CLASS)
    return Row(f"entry {number}", file if isinstance(file, str) else "", _of_value(value), split)


def _named(values: dict[str, Any], words: tuple[str, ...]) -> Any:
    return next((values[word] for word in words if word in values), None)


def _of_value(value: Any) -> tuple[str, ...] | None:
    """Return the classes that a JSON says: a text or a number, or a list of them, which may be empty."""
    each = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int) and not isinstance(one, bool) and _spelled(str(one)) for one in each):
        return None
    return tuple(dict.fromkeys(_spelled(str(one)) for one in each))
