"""`torchloupe pictures MODEL`."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import (
    DATA_HELP,
    STAND_IN,
    device,
    foreign,
    json_,
    loading,
    looks,
    open_named,
    quiet,
    stack,
    study,
)
from torchloupe.runtime.console import Console, duration, print_result

if TYPE_CHECKING:
    from torchloupe.inspection.picture_set import SetItem


@click.command()
@click.argument("model")
@click.option("--pictures", multiple=True, help="Files or folders, test:0-15, train:0-15 or samples; may be repeated.")
@click.option("--data", default=None, help=f"{DATA_HELP} (default: the data of the run).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder (default: RUN/pictures; of RUN@EPOCH: RUN/snapshots/pictures-EPOCH).",
)
@click.option(
    "--format", "suffix", type=click.Choice(["png", "svg", "pdf", "jpg", "webp"]), default="png", show_default=True
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn.")
@stack(looks, foreign, device, loading, quiet, json_)
def pictures(model: str, **options: Any) -> None:
    """Make the whole set of pictures from inside MODEL.

    Sample pictures, filters, all maps of the first and the last layer, pictures reconstructed by one filter and by all
    (inversion and maximisation, from noise and from the photograph), deconvnet, curves.
    """
    from torchloupe.figures.style import FigureStyle
    from torchloupe.inspection.picture_set import make
    from torchloupe.inspection.places import images_folder
    from torchloupe.inspection.run import images_to_inspect
    from torchloupe.runtime.device import pick_device

    console = Console(options["quiet"] or options["as_json"])
    look = {name: options[name] for name in FigureStyle.__dataclass_fields__ if options.get(name) is not None}
    began = time.monotonic()
    network = open_named(model, options).network.to(pick_device(options["device"]))
    studied = study(network, options, console)
    images = images_to_inspect(studied, options["pictures"] or None, options["seed"])
    if not options["pictures"] and studied.dataset() is None:
        console.say(STAND_IN)
    origin = studied.origin
    run, word = (origin.run, origin.word) if origin else (None, "")
    folder = options["out"] or images_folder(run, word, studied.title)
    with console.progress("pictures") as tick:
        made = make(
            studied,
            images,
            folder,
            seed=options["seed"],
            suffix=options["suffix"],
            look=look,
            tick=tick,
            say=lambda row: console.say(line(row)),
        )
    if options["as_json"]:
        rows = [
            {"name": r.name, "files": [str(f) for f in r.files], "numbers": r.numbers, "refused": r.refused}
            for r in made
        ]
        print_result(json.dumps(rows))
        return
    count = sum(len(row.files) for row in made)
    console.say(f"\n{count} sheets in {duration(time.monotonic() - began)}, with raw tensors and JSON beside them, in")
    print_result(str(folder))


def line(row: "SetItem") -> str:
    """Return the line of one item.

    >>> from torchloupe.inspection.picture_set import SetItem
    >>> line(SetItem("first-maps", (Path("a.png"),), 1.25, {"psnr": (31.0, 2.0)}))
    'first-maps                                         1.2 s   psnr 31 ± 2'
    """
    if row.refused:
        return f"{row.name:<50} –        {row.refused}"
    numbers = "   ".join(f"{name} {mean:.3g} ± {std:.2g}" for name, (mean, std) in row.numbers.items())
    return f"{row.name:<46}{row.seconds:8.1f} s   {numbers}".rstrip()
