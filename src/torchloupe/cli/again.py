"""`torchloupe again picture.json`."""

from pathlib import Path

import click

from torchloupe.cli.options import quiet, trained_with
from torchloupe.runtime.console import Console, print_result


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the files (default: over the old ones).")
@trained_with
@quiet
def again(file: Path, out: Path | None, quiet: bool, trained_with: str | None) -> None:
    """Make a picture again from the FILE.json beside it: the same bytes on the same machine."""
    from torchloupe.inspection.repeat import repeat
    from torchloupe.runtime.device import process_settings

    console = Console(quiet)
    with console.progress("again") as tick:
        made, told = repeat(file, tick, model=trained_with)
    with process_settings(threads=told.environment.get("threads")):  # as it was made: they are written down
        paths = made.save((out or file.parent) / told.files[0], **told.look)
    for path in paths:
        print_result(str(path))
