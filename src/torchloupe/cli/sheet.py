"""`torchloupe sheet`."""

from pathlib import Path
from typing import Any

import click

from torchloupe.cli.options import quiet, stack, untitled
from torchloupe.runtime.console import Console, print_result


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("sheet.png"), show_default=True, help="Picture file."
)
@click.option("--title", default="", help="Title of the sheet.")
@click.option("--captions/--no-captions", default=True, show_default=True, help="Write file names below the pictures.")
@click.option("--size", type=click.IntRange(1), help="Bring every picture to squares of so many pixels.")
@stack(untitled, quiet)
def sheet(files: tuple[Path, ...], **options: Any) -> None:
    """Join any pictures (FILES or folders) in one sheet, or pages of 64."""
    from torchloupe.figures.colors import rgb
    from torchloupe.figures.plots import save_figure
    from torchloupe.figures.sheet import Sheet, check, draw, pages
    from torchloupe.figures.style import FigureStyle
    from torchloupe.inspection.inputs import from_file, image_files

    look = FigureStyle(
        **{
            name: options[name]
            for name in FigureStyle.__dataclass_fields__
            if name != "title" and options.get(name) is not None
        }
    )
    check(look)
    taken = [from_file(path, options["size"]) for given in files for path in image_files(given)]
    cells = [rgb(each.images)[0] for each in taken]
    captions = [each.names[0] for each in taken] if options["captions"] else []
    made = pages(Sheet(cells, captions, options["title"], columns=look.columns or (4 if len(cells) <= 16 else 8)))
    out: Path = options["out"]
    console = Console(options["quiet"])
    with console.progress("sheet") as tick:
        for number, page in enumerate(made):
            figure = draw(page, look)
            path = out if number == 0 else out.with_stem(f"{out.stem}-{number + 1}")
            save_figure(figure, path, dpi=figure.dpi)
            print_result(str(path))
            tick(number + 1, len(made))
