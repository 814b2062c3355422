"""`torchloupe score`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import (
    DATA_HELP,
    device,
    foreign,
    how_to_load,
    json_,
    load_data,
    loading,
    open_named,
    quiet,
    reading,
    stack,
)
from torchloupe.errors import UsageError
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torchloupe.checkpoints.open import Loaded

SUFFIXES = (".json", ".csv", ".txt")


@click.command()
@click.argument("model")
@click.option("--data", default=None, help=f"{DATA_HELP} (default: the data of the run).")
@click.option("--n", type=click.IntRange(2), default=500, show_default=True, help="Test pictures, drawn by --seed.")
@click.option("--methods", help="Attribution methods, comma between (default: those of `show`, gradient and guided).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the pictures, of chance and random weights.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write it to a file: .json, .csv or .txt.")
@stack(foreign, device, loading, quiet, json_)
def score(model: str, **options: Any) -> None:
    """Say which explanation of MODEL to trust: attribution methods by measures, beside controls.

    Insertion and deletion (what the class's probability does as pixels come or go), ROAD (the same, with removed pixels
    imputed), relevance in the figure's mask where the data know it, likeness to the map through random weights,
    stability under shifts, and completeness. Controls: a constant map, a blob in the middle, edges, and each method
    through random weights.
    """
    from torchloupe.inspection.scoring import leads, text, written
    from torchloupe.inspection.scoring import score as measure
    from torchloupe.inspection.subject import Subject
    from torchloupe.runtime.device import pick_device
    from torchloupe.runtime.files import atomic_write

    console = Console(options["quiet"] or options["as_json"])
    out: Path | None = options["out"]
    if out is not None and out.suffix not in SUFFIXES:
        raise UsageError(f"--out is a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, not '{out}'.")
    loaded = open_named(model, options)
    word = options["data"] or (loaded.config.data or {}).get("source")
    if word is None:
        raise UsageError(f"{model!r} does not say what data it was trained on: give --data.")
    how = {**how_to_load(options), **reading(options, loaded.config.reading)}
    dataset = load_data(word, console, size=loaded.config.size, **how)
    studied = Subject(loaded.network.to(pick_device(options["device"])), dataset, title=loaded.title)
    names = options["methods"].split(",") if options["methods"] else None
    with console.progress("scoring") as tick:
        found = measure(studied, dataset, n=options["n"], methods=names, seed=options["seed"], progress=tick)
    kept = _kept(loaded, options)
    for file in (out, kept):
        if file is not None:
            atomic_write(file, written(found, file.suffix))
    if options["as_json"]:
        print_result(json.dumps(found.to_json(), allow_nan=False))
    elif options["quiet"]:
        print_result(found.table.best or "")
    else:
        print_result(f"{text(found)}\n\n{leads(found.table)}")
        for name, why in found.table.left_out.items():
            console.say(f"Note: left out: {name} ({why})")
        for name, settings in found.to_json()["settings"].items():
            told = ", ".join(f"{key} = {value}" for key, value in settings.items())
            console.say(f"Note: {name} with {told}, not its own defaults: they take longer.")
        console.say(
            "\n↑ higher is better, ↓ lower. * better than the best control (that of the same images that does best; "
            "the 95 % interval of the paired difference). (n) where it is another than the column's. What each measure "
            "means, and when it misleads: docs/explanations.md."
        )
        for file in (out, kept):
            if file is not None:
                console.say(f"Written to {file}{'; `torchloupe explain` leads with it' if file == kept else ''}")


def _kept(loaded: "Loaded", options: dict[str, Any]) -> Path | None:
    """Return where all methods' scores on a run's own data are kept, for `explain` to lead with the best."""
    from torchloupe.inspection.places import scores_file

    origin = loaded.network.origin
    if options["methods"] or options["data"] or origin is None:
        return None
    return scores_file(origin.run, origin.word)
