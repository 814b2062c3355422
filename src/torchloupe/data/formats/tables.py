"""What people write in an editor or a spreadsheet: bytes -> text -> rows of cells, or the values of a JSON."""

import csv
import io
from itertools import islice
from pathlib import Path
from typing import Any

from torchloupe.errors import DataError
from torchloupe.runtime.files import open_regular, parse_json

LARGEST = 128 << 20
"""Bytes of a table, at most: a million pictures take half of it."""
MOST_ROWS = 5_000_000
LOOKED_AT = 20
"""Lines that show what stands between the cells."""
DELIMITERS = ",;\t"

Rows = list[tuple[int, list[str]]]
"""(line, cells) of each row that is not empty; the cells without blanks around them."""


def read_table(path: Path, option: str) -> bytes:
    """Read a file that the user named with an option.

    Raises:
        DataError: it is not there, no file, or larger than `LARGEST`.

    >>> read_table(Path("nothing.csv"), "--labels")
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: cannot read 'nothing.csv': no such file or directory. Check --labels.
    """
    try:
        with open_regular(path.expanduser()) as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {str(error.strerror or error).lower()}. Check {option}.") from None
    if len(data) > LARGEST:
        raise DataError(f"'{path}' is larger than {LARGEST >> 20} MB: that is no table of names. Check {option}.")
    return data


def text_of(data: bytes, where: str) -> str:
    """Decode UTF-8, or UTF-16 that says so, as spreadsheets write it.

    Raises:
        DataError: it is no such text.

    >>> text_of("caf\\u00e9".encode("utf-8-sig"), "a.csv") == text_of("caf\\u00e9".encode("utf-16"), "a.csv")
    True
    """
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        kind = "UTF-16, as it begins" if wide else "UTF-8"
        raise DataError(f"'{where}' is not text in {kind} (byte {error.start + 1:,}): save it as UTF-8.") from None
    if "\0" in text:
        raise DataError(f"'{where}' is no text: it holds zero bytes. Save it as UTF-8.")
    return text


def rows_of(text: str, where: str) -> Rows:
    """Read a CSV with `,`, `;` or tab between its cells: see `delimiter_of`.

    Raises:
        DataError: no CSV, or more than `MOST_ROWS` rows.

    >>> rows_of("file;class\\n'a, b.png';cat\\n", "a.csv")
    [(1, ['file', 'class']), (2, ["'a, b.png'", 'cat'])]
    """
    found: Rows = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                found.append((reader.line_num, stripped))
            if len(found) > MOST_ROWS:
                raise DataError(f"'{where}' has more than {MOST_ROWS:,} rows: that is no table of these pictures.")
    except csv.Error as error:
        raise DataError(f"'{where}' is no CSV: {error}. Check its quotes, or save it anew.") from None
    return found


def delimiter_of(text: str) -> str:
    """Return which of `,`, `;` and tab makes rows of equal length, then longer ones, then comes first.

    Not by `csv.Sniffer`, which also takes a letter of names for a quote, and time without end over some texts.

    >>> delimiter_of("n1\\t'tench, Tinca'\\nn2\\tcrane"), delimiter_of("a;b\\n1,5;2"), delimiter_of("1.png")
    ('\\t', ';', ',')
    """
    lines = [line for line in islice(io.StringIO(text), LOOKED_AT) if line.strip()]

    def fits(one: str) -> tuple[bool, int, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=one) if row]
        at = lines[0].find(one)
        return widths[0] > 1 and len(set(widths)) == 1, widths[0], -at

    return max(DELIMITERS, key=fits) if lines else DELIMITERS[0]


def json_of(text: str, where: str) -> Any:
    """Read a JSON; no name may stand in an object twice.

    Raises:
        DataError: it is none.

    >>> json_of('{"a.png": "cat", "a.png": "dog"}', "a.json")
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: 'a.json' is no JSON that can be read: 'a.png' stands in it twice. Correct it.
    """
    try:
        return parse_json(text, unique=True)
    except ValueError as error:
        raise DataError(f"'{where}' is no JSON that can be read: {error}. Correct it.") from None


def is_json(where: str) -> bool:
    """Tell by its name whether a file is a JSON.

    >>> is_json("a/labels.JSON"), is_json("labels.csv")
    (True, False)
    """
    return where.lower().endswith(".json")
