"""A stranger's text as a cell of a CSV file, which a spreadsheet may open."""

import re
import unicodedata

from torchloupe.errors import printable

FORMULA = "=+-@"
"""What a spreadsheet takes for the beginning of a formula."""
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def cell(text: str) -> str:
    """Return a stranger's text as a cell: printable, and no formula to a spreadsheet.

    What begins as a formula does (`=`, `+`, `-`, `@`) gets a `'` in front, unless it is a plain number.

    >>> cell("=1+1"), cell("-1.5"), cell("cat\x1b[2J"), cell("a-b")
    ("'=1+1", '-1.5', 'cat·[2J', 'a-b')
    """
    plain = printable(text)
    first = unicodedata.normalize("NFKC", plain.lstrip()[:1])
    return f"'{plain}" if first in FORMULA and first and not NUMBER.fullmatch(plain) else plain
