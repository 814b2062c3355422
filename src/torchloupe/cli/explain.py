"""`torchloupe explain MODEL PICTURES`."""

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import DATA_HELP, device, foreign, json_, loading, open_named, quiet, stack, study
from torchloupe.errors import UsageError, printable
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torchloupe.reports.explained.measured import Explained


@click.command()
@click.argument("model")
@click.argument("pictures", nargs=-1)
@click.option("--mistakes", type=click.IntRange(1, 200), help="So many test pictures that it is surest of, and wrong.")
@click.option(
    "--methods",
    help="Explanations, comma between (default: the one that `score` found best, occlusion, grad-cam, "
    "integrated-gradients).",
)
@click.option("--data", default=None, help=f"{DATA_HELP} (default: the data of the run).")
@click.option("--out", type=click.Path(path_type=Path), help="Page to write (default: RUN/explain.html).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn.")
@click.option("--open", "opened", is_flag=True, help="Open it in the browser.")
@stack(foreign, device, loading, quiet, json_)
def explain(model: str, pictures: tuple[str, ...], **options: Any) -> None:
    """Say why MODEL answers as it does to PICTURES, on one offline page with a card for each.

    PICTURES are files, folders, test:0-15 or samples; without them 16 test pictures, drawn by --seed, or with
    --mistakes the worst. A card has the five likeliest classes, maps of what spoke for the answer and for the class
    beside it, the units that made the difference, training pictures that are alike or argue for it, and the answer with
    each part covered.
    """
    from torchloupe.inspection.places import explanation_file
    from torchloupe.reports.explained.explain import explain as make
    from torchloupe.reports.explained.measured import METHODS
    from torchloupe.runtime.device import pick_device

    console = Console(options["quiet"] or options["as_json"])
    if pictures and options["mistakes"]:
        raise UsageError("name pictures, or ask for --mistakes, not both.")
    if options["out"] is not None and options["out"].suffix != ".html":
        raise UsageError(f"the page is HTML: call it {options['out'].with_suffix('.html')}.")
    network = open_named(model, options).network.to(pick_device(options["device"]))
    studied = study(network, options, console)
    if options["mistakes"] and studied.split() is None:
        raise UsageError(f"the data of {model!r} are not at hand, so that no mistake is known: give --data.")
    run, word = (studied.origin.run, studied.origin.word) if studied.origin else (None, "")
    out = options["out"] or explanation_file(run, word, studied.title)
    best, leads = _best(run, word)
    usual = [best, *METHODS] if best else METHODS
    names = [name.strip() for name in options["methods"].split(",")] if options["methods"] else dict.fromkeys(usual)
    found = make(
        studied,
        list(pictures) or None,
        out,
        worst=options["mistakes"],
        methods=list(names),
        leads=leads,
        seed=options["seed"],
        console=console,
    )
    if options["as_json"]:
        print_result(json.dumps({"file": str(out), "pictures": _rows(found)}))
    elif options["quiet"]:
        print_result(str(out))
    else:
        for row in _rows(found):
            true = "" if row["true"] is None else f"  ({row['true']})"
            print_result(printable(f"{row['file']}  {row['class']} {row['probability']:.1%}{true}"))
        console.say("\nOpen it in any browser, offline:")
        print_result(str(out))
    if options["opened"]:
        webbrowser.open(out.resolve().as_uri())


def _best(run: Path | None, word: str) -> tuple[str, str]:
    """Return the explanation that `torchloupe score` found best for a run, and what it said of it; "" for none."""
    from torchloupe.errors import ModelError
    from torchloupe.inspection.catalog import ATTRIBUTIONS
    from torchloupe.inspection.places import scores_file
    from torchloupe.runtime.checks import is_object, is_text
    from torchloupe.runtime.files import read_json

    file = scores_file(run, word)
    try:
        known = read_json(file) if file is not None and file.is_file() else None
    except ModelError:
        return "", ""  # damaged: as if it had not been measured
    if not is_object(known) or not all(is_text(known.get(name)) for name in ("best", "leads")):
        return "", ""
    return (known["best"], known["leads"]) if known["best"] in [row.name for row in ATTRIBUTIONS] else ("", "")


def _rows(found: "Explained") -> list[dict[str, Any]]:
    return [
        {
            "file": name,
            "class": found.class_name(int(said.argmax())),
            "probability": float(said.max()),
            "true": None if true is None else found.class_name(true),
        }
        for name, said, true in zip(found.images.names, found.probabilities, found.true, strict=True)
    ]
