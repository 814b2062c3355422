"""`torchloupe report MODEL`."""

import json
import re
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import DATA_HELP, device, foreign, json_, loading, open_named, quiet, stack, study
from torchloupe.errors import UsageError
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torchloupe.inspection.subject import Subject


@click.command()
@click.argument("model")
@click.option("--data", default=None, help=f"{DATA_HELP} (default: the data of the run).")
@click.option("--pictures", multiple=True, help="Pictures every layer is shown by: files, folders, test:0-7, samples.")
@click.option("--layers", help="Layers, comma between (default: the first convolution, every block, the output).")
@click.option("--units", help="Units of a layer at most, or all (default: 32, fewer where the budget asks for it).")
@click.option("--budget", default="10m", show_default=True, help="Time it may take: 90s, 10m, 2h, or none.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn.")
@click.option("--second", help="Another training of the same network: RUN, or any MODEL. Stands beside the control.")
@click.option("--as", "kind", type=click.Choice(["html", "latex", "markdown"]), default="html", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File to write (default: RUN/report.html).")
@click.option("--open", "opened", is_flag=True, help="Open it in the browser.")
@stack(foreign, device, loading, quiet, json_)
def report(model: str, **options: Any) -> None:
    """Write a report of MODEL: how well it does, its layers, its units, how it learned, in one offline file.

    With --as latex or markdown: figures, tables, captions, methods and references to hand in, in a .zip.
    """
    from torchloupe.runtime.device import pick_device

    console = Console(options["quiet"] or options["as_json"])
    network = open_named(model, options).network.to(pick_device(options["device"]))
    studied = study(network, options, console)
    if options["kind"] != "html":
        _check_kind(options)
        _hand_in(studied, options, console)
        return
    from torchloupe.reports.report import report as write_report

    made = write_report(
        studied,
        options["out"] or place(studied),
        pictures=options["pictures"],
        layers=[name.strip() for name in options["layers"].split(",")] if options["layers"] else None,
        units=whole_number(options["units"]),
        budget=seconds(options["budget"]),
        seed=options["seed"],
        second=options["second"],
        quiet=console.quiet,
    )
    if options["as_json"]:
        print_result(json.dumps({"report": str(made.path), "bytes": made.size, "refused": made.refused}))
    else:
        print_result(str(made.path))
    if options["opened"]:
        webbrowser.open(made.path.resolve().as_uri())


def place(studied: "Subject") -> Path:
    """Return where a report goes by default: into the run, else beside where the command was called."""
    from torchloupe.inspection.places import report_file

    origin = studied.origin
    return report_file(origin.run if origin else None, origin.word if origin else "", studied.title)


def _check_kind(options: dict[str, Any]) -> None:
    """Refuse what only a page has."""
    context = click.get_current_context()
    for name, flag in (
        ("layers", "--layers"),
        ("units", "--units"),
        ("budget", "--budget"),
        ("second", "--second"),
        ("opened", "--open"),
    ):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise UsageError(f"{flag} belongs to a report in HTML, not to --as {options['kind']}: leave it out.")


def _hand_in(studied: "Subject", options: dict[str, Any], console: Console) -> None:
    from torchloupe.reports.paper.handin import hand_in

    out = options["out"] or place(studied).with_suffix(".zip")
    if out.suffix != ".zip":
        raise UsageError(f"--as {options['kind']} writes a .zip, not '{out}'. Name one with --out.")
    with console.progress("figures") as tick:
        names = hand_in(
            studied, out, options["kind"], pictures=options["pictures"], seed=options["seed"], progress=tick
        )
    if options["as_json"]:
        print_result(json.dumps({"report": str(out), "files": names}))
        return
    console.say(f"{len(names)} files, {names[0]} first:")
    print_result(str(out))


def seconds(text: str) -> float | None:
    """Read a length of time; None for `none`.

    >>> seconds("90s"), seconds("10m"), seconds("1.5h"), seconds("none")
    (90.0, 600.0, 5400.0, None)
    """
    if text == "none":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(s|m|min|h)?", text.strip())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"--budget {text!r} is not one like 90s, 10m, 2h or none.")
    return float(match[1]) * {"h": 3600, "s": 1}.get(match[2] or "s", 60)


def whole_number(text: str | None) -> int | str | None:
    """Read `--units`.

    >>> whole_number("12"), whole_number("all"), whole_number(None)
    (12, 'all', None)
    """
    if text is None or text == "all":
        return text
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--units {text!r} is neither a number from 1 up nor all.")
    return int(text)
