"""`torchloupe layers`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import DATA_HELP, device, foreign, json_, loading, open_named, quiet, stack, study
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torchloupe.inspection.layer_table import LayerRow


@click.command()
@click.argument("model")
@click.option("--data", default=None, help=f"{DATA_HELP} (default: the data of the run).")
@click.option(
    "--pictures",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="Test pictures for dead channels, at least.",
)
@click.option("--no-data", is_flag=True, help="Leave out the share of dead channels.")
@stack(foreign, device, loading, quiet, json_)
def layers(model: str, **options: Any) -> None:
    """List the layers of MODEL in the order in which they run.

    Receptive fields in pixels: theoretical (what a position can see) and effective (where its gradient is at least
    4.55 % of its maximum; side of a square of equal area; not measured for layers that work on each position alone).
    Dead: share of channels that are non-zero on less than 1 % of the pictures.
    """
    from torchloupe.inspection.layer_table import counted, layer_table, reason_of_last
    from torchloupe.runtime.device import pick_device

    console = Console(options["quiet"] or options["as_json"])
    network = open_named(model, options).network.to(pick_device(options["device"]))
    studied = study(network, options, console, read=not options["no_data"])
    with console.progress("layers") as tick:
        rows = layer_table(studied, 0 if options["no_data"] else options["pictures"], progress=tick)
        last = reason_of_last(studied)
    total = sum(p.numel() for p in network.parameters())
    if options["as_json"]:
        least = min((row.images for row in rows if row.images), default=0)
        found = None if last is None else {"layer": last[0], "why": last[1]}
        table = {"parameters": total, "layers": [asdict(row) for row in rows], "pictures": least, "last": found}
        print_result(json.dumps(table))
        return
    _print(rows, f"{studied.title}: {total:,} parameters")
    where = (
        f"on {counted(rows)} test pictures (n/a: not behind a rectifier)"
        if counted(rows)
        else "unknown without pictures: give --data"
    )
    if last is not None:
        console.say(f"\nlast is {last[0]}: {last[1]}.")
    console.say(
        "parameters: of a layer and of all in it. "
        f"field: theoretical, effective (pixels; * cut by the picture's edge). dead: {where}."
    )


def _print(rows: "list[LayerRow]", heading: str) -> None:
    head = ("layer", "kind", "output", "parameters", "kernel", "field", "dead")
    cells = [[_cell(row, name) for name in head] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *cells]) for i in range(len(head))]
    print_result(f"{heading}\n")
    for line in [list(head), *cells]:
        left = [f"{text:<{widths[i]}}" for i, text in enumerate(line[:3])]
        right = [f"{text:>{widths[i + 3]}}" for i, text in enumerate(line[3:])]
        print_result("  ".join([*left, *right]).rstrip())


def _cell(row: "LayerRow", name: str) -> str:
    if name == "layer":
        return row.name + (f"  (runs {row.times} times)" if row.times > 1 else "")
    if name == "output":
        return " x ".join(map(str, row.output))
    if name == "parameters":
        return f"{row.parameters:,}" if row.parameters else ""
    if name == "field":
        if row.field is None:
            return ""
        effective = "" if row.effective_field is None else f", {row.effective_field:.0f}"
        return f"{max(row.field)}{'*' if row.clipped else ''}{effective}"
    if name == "dead":
        return f"{row.dead:.0%}" if row.dead is not None else "n/a" if row.images else "–"
    return str(getattr(row, name))
