"""One row a picture of what a network says of it: as text to read, CSV or JSON, each written as it comes."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torchloupe.data.formats.source import clean
from torchloupe.errors import printable
from torchloupe.runs.cells import cell

Kind = Literal["text", "csv", "json"]
FEW = 8
"""Pictures up to which each has a table of its own in the text; of more, each has a line."""
LEAST, WIDEST = 12, 40
"""Letters of the column of classes at least, and of that of files at most, in the text."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture."""

    file: str
    """Its path, or what else names it (`test:3`)."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest classes with their probabilities, the likeliest first."""
    error: str = ""
    """Why it could not be read."""


@contextmanager
def writing_rows(
    write: Callable[[str], object], kind: Kind, files: list[str], top: int, *, errors: bool = False
) -> Iterator[Callable[[Prediction], None]]:
    """Yield a function that writes one prediction, by `write`, which gets lines without their end.

    `files` are those that come, `top` how many classes each has, `errors`: some may be unreadable (a column of the
    CSV). What was begun is ended whatever happens, so that a JSON that was interrupted is one; where nothing was
    written before an error, nothing is.

    >>> with writing_rows(print, "json", ["a.png"], 1) as put:
    ...     put(Prediction("a.png", (("cat", 0.75),)))
    [{"file": "a.png", "top": [{"class": "cat", "probability": 0.75}]}
    ]
    """
    row = _row_of(kind, files)
    written = 0

    def put(prediction: Prediction) -> None:
        nonlocal written
        if kind == "csv" and not written:
            write(csv_line(csv_head(top, errors=errors)))
        text = row(prediction) if kind != "csv" else csv_line(csv_cells(prediction, top, errors=errors))
        write(("," if written else "[") + text if kind == "json" else text)
        written += 1

    try:
        yield put
    finally:
        if kind == "json" and written:
            write("]")


def _row_of(kind: Kind, files: list[str]) -> Callable[[Prediction], str]:
    if kind == "json":
        return lambda prediction: json.dumps(to_json(prediction))
    if len(files) <= FEW:
        return as_table
    wide = min(WIDEST, max((len(_shown(name)) for name in files), default=0))
    return lambda prediction: as_line(prediction, wide)


def _shown(name: str) -> str:
    return printable(clean(name))


def as_table(prediction: Prediction) -> str:
    """Return a picture's classes one below another, as text for a terminal.

    >>> print(as_table(Prediction("a.png", (("cat", 0.75), ("dog", 0.25)))))
    a.png
      cat            75.00%
      dog            25.00%
    """
    if prediction.error:
        return f"{_shown(prediction.file)}\n  cannot be read: {printable(prediction.error)}"
    names = [f"{printable(name):.{WIDEST}}" for name, _ in prediction.top]
    wide = max(LEAST, *map(len, names))
    rows = [f"  {name:<{wide}}  {p:7.2%}" for name, (_, p) in zip(names, prediction.top, strict=True)]
    return "\n".join([_shown(prediction.file), *rows])


def as_line(prediction: Prediction, wide: int = 0) -> str:
    """Return a picture's classes side by side, as text for a terminal; `wide`: letters of the column of files.

    >>> as_line(Prediction("a.png", (("cat", 0.75), ("dog", 0.25))), 8)
    'a.png     cat 75.00%, dog 25.00%'
    """
    classes = ", ".join(f"{printable(name):.{WIDEST}} {p:.2%}" for name, p in prediction.top)
    told = f"cannot be read: {printable(prediction.error)}" if prediction.error else classes
    return f"{_shown(prediction.file):<{wide}}  {told}"


def to_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as it stands in the JSON; probabilities have six digits.

    >>> to_json(Prediction("a.png", error="the file is empty"))
    {'file': 'a.png', 'error': 'the file is empty'}
    """
    if prediction.error:
        return {"file": prediction.file, "error": prediction.error}
    top = [{"class": name, "probability": float(f"{p:.6g}")} for name, p in prediction.top]
    return {"file": prediction.file, "top": top}


def csv_head(top: int, *, errors: bool = False) -> list[str]:
    """Return the names of the columns of the CSV.

    >>> csv_head(1, errors=True)
    ['file', 'class_1', 'probability_1', 'error']
    """
    return [
        "file",
        *(f"{what}_{rank}" for rank in range(1, top + 1) for what in ("class", "probability")),
        *(["error"] if errors else []),
    ]


def csv_cells(prediction: Prediction, top: int, *, errors: bool = False) -> list[str]:
    """Return a prediction as a row of the CSV; texts as `cell`s.

    >>> csv_cells(Prediction("=a.png", (("cat", 0.75),)), 1)
    ["'=a.png", 'cat', '0.75']
    """
    values = [text for name, p in prediction.top for text in (cell(clean(name)), f"{p:.6g}")]
    empty = [""] * (2 * top - len(values))
    return [cell(clean(prediction.file)), *values, *empty, *([cell(prediction.error)] if errors else [])]


def csv_line(cells: list[str]) -> str:
    """Return cells as a line of CSV, without its end.

    >>> csv_line(["a, b", "c"])
    '"a, b",c'
    """
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="").writerow(cells)
    return stream.getvalue()
