"""`torchloupe predict`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import DATA_HELP, device, foreign, json_, loading, open_named, quiet, stack, study
from torchloupe.errors import DataError, UsageError
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torch import Tensor

    from torchloupe.inspection.predictions import Batch
    from torchloupe.runs.predictions import Prediction

SUFFIXES = (".csv", ".json")
SHEET = 64
"""Pictures on the sheet of --save-inputs."""


@click.command()
@click.argument("model")
@click.argument("pictures", nargs=-1)
@click.option("--stdin", "stdin", is_flag=True, help="Read paths from standard input, one a line, as `-` does.")
@click.option("-0", "--null", "null", is_flag=True, help="The same, with NUL between them (find -print0).")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes of each picture.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on standard output.")
@click.option("--out", type=click.Path(path_type=Path), help="FILE.csv or FILE.json to write to, once all is done.")
@click.option(
    "--save-inputs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the first 64 pictures as the network gets them, before its normalisation (png, svg, pdf, …).",
)
@click.option(
    "--batch", type=click.IntRange(1), default=500, show_default=True, help="Pictures at a time, fewer of large ones."
)
@click.option(
    "--amp",
    type=click.Choice(["auto", "on", "off"]),
    default="off",
    show_default=True,
    help="bfloat16: auto where the device has it, quicker by up to half; probabilities are then off by up to 0.03.",
)
@click.option("--data", default=None, help=f"{DATA_HELP}, for test:0-15 (default: the data of the run).")
@stack(foreign, device, loading, quiet, json_)
def predict(model: str, pictures: tuple[str, ...], **options: Any) -> None:
    """Say of which class PICTURES are: the likeliest classes with their probabilities.

    PICTURES are files, folders with all below, `-` (paths on standard input), samples, or test:0-15. Of a multi-label
    network each probability is by itself, of others those of all classes add up to 1.
    """
    from torchloupe.data.formats.stream import silent_pillow
    from torchloupe.inspection.inputs import need_data
    from torchloupe.inspection.predictions import answered, as_path, plan
    from torchloupe.inspection.result import check_suffix
    from torchloupe.runs.predictions import writing_rows
    from torchloupe.runtime.device import pick_device

    console, kind, sheet = Console(options["quiet"]), _kind(options), options["save_inputs"]
    if sheet is not None:
        check_suffix(sheet)
    words = _words(pictures, options)
    network = open_named(model, options).network.to(pick_device(options["device"]))
    of_data = [word for word in map(as_path, words) if isinstance(word, str)]
    studied = study(network, options, console, read=need_data(of_data))
    asked = plan(studied, words)
    names, top = asked.names, min(options["top"], len(network.classes))
    shown: list[tuple[Prediction, Tensor]] = []
    bad = 0
    with (
        _target(options["out"]) as write,
        silent_pillow(),
        writing_rows(write, kind, names, top, errors=options["skip_bad"]) as put,
        console.progress("predicting") as tick,
        closing(answered(studied, asked, batch=options["batch"], amp=options["amp"], progress=tick)) as batches,
    ):
        for batch in batches:
            for prediction in _rows(batch, top, skip_bad=options["skip_bad"]):
                put(prediction)
            bad += len(batch.errors)
            if sheet is not None and len(shown) < SHEET:
                shown += _first(batch, top, SHEET - len(shown))
    if options["out"] is not None:
        print_result(str(options["out"]))
    if bad:
        console.say(f"{bad:,} of {len(names):,} pictures cannot be read.")
    if sheet is not None:
        _draw(shown, sheet, f"{studied.title}: what it gets", len(names))
        console.say(f"Drawn: {sheet}")


def _kind(options: dict[str, Any]) -> Any:
    """Return the form of the rows: text, csv or json."""
    out, asked = options["out"], [name for name in ("csv", "json") if options[f"as_{name}"]]
    if len(asked) > 1:
        raise UsageError("--csv and --json exclude each other: leave one out.")
    if out is None:
        return asked[0] if asked else "text"
    if asked:
        raise UsageError(f"--out says the form by its suffix: leave --{asked[0]} out.")
    if out.suffix.lower() not in SUFFIXES or out.is_dir():
        raise UsageError(f"cannot write '{out}': the suffix is not one of csv, json.")
    return out.suffix.lower().lstrip(".")


def _words(pictures: tuple[str, ...], options: dict[str, Any]) -> list[str | Path]:
    """Return what was named, with the paths on standard input in the place of `-`."""
    marked = options["stdin"] or options["null"]
    given = [*pictures, *(["-"] if marked and "-" not in pictures else [])]
    if not given:
        raise UsageError("name PICTURES: files, folders, samples, or `-` for paths on standard input.")
    if given.count("-") > 1:
        raise UsageError("standard input can be read once: name `-` once.")
    if "-" not in given:
        return list(given)
    place = given.index("-")
    read = list(_paths(sys.stdin.buffer.read(), b"\0" if options["null"] else b"\n"))
    if not read and len(given) == 1:
        raise DataError("standard input names no pictures. Check the command before the pipe.")
    return [*given[:place], *read, *given[place + 1 :]]


def _paths(data: bytes, between: bytes) -> Iterator[Path]:
    for line in data.split(between):
        name = line.removesuffix(b"\r") if between == b"\n" else line
        if name:
            yield Path(os.fsdecode(name))


@contextmanager
def _target(out: Path | None) -> Iterator[Callable[[str], object]]:
    """Yield what writes a line: to standard output at once, or to a file that has its name once all is written."""
    from torchloupe.runtime.files import atomic_stream

    if out is None:
        yield print_result
        return
    with atomic_stream(out) as write:
        yield lambda line: write(f"{line}\n".encode())


def _rows(batch: "Batch", top: int, *, skip_bad: bool) -> "Iterator[Prediction]":
    """Yield a row for each picture of a batch.

    Raises:
        DataError: one that cannot be read, unless `skip_bad`.
    """
    from torchloupe.evaluation.probabilities import likeliest
    from torchloupe.inspection.predictions import unreadable
    from torchloupe.runs.predictions import Prediction

    found = iter(likeliest(batch.probabilities, batch.classes, top))
    for name in batch.files:
        if name not in batch.errors:
            yield Prediction(name, tuple(next(found)))
        elif skip_bad:
            yield Prediction(name, error=batch.errors[name])
        else:
            raise unreadable(name, batch.errors[name])


def _first(batch: "Batch", top: int, most: int) -> "list[tuple[Prediction, Tensor]]":
    """Return the first few pictures of a batch, in bytes, with what the network says of them."""
    from torchloupe.figures.colors import rgb

    rows = [row for row in _rows(batch, top, skip_bad=True) if not row.error][:most]
    return list(zip(rows, rgb(batch.images[: len(rows)]), strict=True))


def _draw(shown: "list[tuple[Prediction, Tensor]]", path: Path, title: str, total: int) -> None:
    """Write the sheet of --save-inputs."""
    from torchloupe.data.formats.source import clean
    from torchloupe.figures.plots import save_figure, shorten
    from torchloupe.figures.sheet import Sheet, draw

    if not shown:
        raise DataError("no picture could be read, so that there is none to draw.")
    captions = [
        f"{shorten(row.top[0][0], 14)} {row.top[0][1]:.0%}\n{shorten(clean(Path(row.file).name), 20)}"
        for row, _ in shown
    ]
    note = f"Brought to the network's size, before its normalisation. {len(shown):,} of {total:,}."
    figure = draw(Sheet([cell for _, cell in shown], captions, title, note, columns=4 if len(shown) <= 16 else 8))
    save_figure(figure, path, dpi=figure.dpi)
