"""What classes are to be called: a file from folder names (such as WordNet's n01440764) to names that people read."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchloupe.data.formats.parts import listed, plural
from torchloupe.data.formats.tables import is_json, json_of, read_table, rows_of, text_of
from torchloupe.errors import DataError, short

LONGEST = 200
"""Letters of a name, at most."""


def read_class_names(path: str | Path) -> dict[str, str]:
    """Read what each folder is to be shown as.

    A JSON {folder: name}, or {number: [folder, name]}; a CSV (`.csv`, `.tsv`) of folder and name; else a text with a
    folder in each line, and its name after the first blank: `n01440764 tench, Tinca tinca`.

    Raises:
        DataError: it cannot be read, or names a folder twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "map.txt").write_text("n01440764 tench, Tinca tinca\\nn01443537 goldfish\\n")
    ...     read_class_names(Path(folder) / "map.txt")
    {'n01440764': 'tench, Tinca tinca', 'n01443537': 'goldfish'}
    """
    where = str(path)
    text = text_of(read_table(Path(path), "--class-names"), where)
    if is_json(where):
        pairs = _of_json(json_of(text, where), where)
    elif where.lower().endswith((".csv", ".tsv")):
        pairs = _of_table([cells for _, cells in rows_of(text, where)], where)
    else:
        pairs = [line.split("\t" if "\t" in line else None, 1) for line in text.splitlines() if line.strip()]
    found: dict[str, str] = {}
    for number, pair in enumerate(pairs, 1):
        if len(pair) < 2 or not all(pair):
            raise DataError(f"row {number} of '{where}' has no name: it takes a folder and a name in each.")
        folder, name = (unicodedata.normalize("NFC", word.strip()) for word in pair)
        if found.setdefault(folder, name) != name:
            raise DataError(f"'{where}' has two names for {short(folder, 60)}: leave one.")
        if len(name) > LONGEST:
            raise DataError(
                f"the name of {short(folder, 60)} in '{where}' has more than {LONGEST} letters: shorten it."
            )
    if not found:
        raise DataError(f"'{where}' is empty: it takes a folder and a name in each row.")
    return found


def _of_table(rows: list[list[str]], where: str) -> list[list[str]]:
    if any(len(row) != 2 for row in rows):
        number = next(number for number, row in enumerate(rows, 1) if len(row) != 2)
        raise DataError(
            f"row {number} of '{where}' has {plural(len(rows[number - 1]), 'cell')}: it takes a folder and a name in "
            'each, with "…" around a name that holds a comma.'
        )
    return rows


def _of_json(values: Any, where: str) -> list[list[str]]:
    if isinstance(values, dict):
        pairs = [value if isinstance(value, list) else [key, value] for key, value in values.items()]
        if all(len(pair) == 2 and all(isinstance(word, str) for word in pair) for pair in pairs):
            return pairs
    raise DataError(f"'{where}' takes {{folder: name}}, or {{number: [folder, name]}}. Write it so.")


def shown(classes: Sequence[str], names: Mapping[str, str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what classes are to be shown as, in their order, and notes; those without a name keep their own.

    Where a name is that of several classes, each keeps its own in brackets behind it.

    Raises:
        DataError: no class has a name.

    >>> shown(("n1", "n2", "n3"), {"n1": "crane", "n2": "crane", "n3": "tench"}, "map.txt")
    (('crane (n1)', 'crane (n2)', 'tench'), ())
    """
    known = {name: names[name] for name in classes if name in names}
    if not known:
        raise DataError(f"'{where}' names none of the classes, such as {short(classes[0], 60)}. Check --class-names.")
    counts = Counter(known.get(name, name) for name in classes)
    found = tuple(
        f"{known[name]} ({name})" if name in known and counts[known[name]] > 1 else known.get(name, name)
        for name in classes
    )
    if len(set(found)) < len(found):
        raise DataError(f"'{where}' gives several classes one name. Change it.")
    without = [short(name, 60) for name in classes if name not in known]
    notes = (f"{plural(len(without), 'class')} without a name in '{where}': {listed(without, 5)}.",) if without else ()
    return found, notes
