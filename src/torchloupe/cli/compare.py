"""`torchloupe compare A B`."""

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import DATA_HELP, OWN, device, foreign, json_, loading, open_named, quiet, stack, study
from torchloupe.errors import printable
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torchloupe.evaluation.agreement import Agreement
    from torchloupe.inspection.subject import Subject
    from torchloupe.models.network import Network
    from torchloupe.reports.comparison.measured import Comparison


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--data", default=None, help=f"{DATA_HELP} (default: the data of A's run, else of B's).")
@click.option("--layers", help="Layers of A, comma between (default: the first convolution, every block, the output).")
@click.option("--layers-b", help="Layers of B, where it has others (default: as for A).")
@click.option(
    "--pictures",
    type=click.IntRange(4),
    default=1000,
    show_default=True,
    help="Test pictures that layers and units are compared on, at most; accuracies are of all.",
)
@click.option("--randomized/--no-randomized", default=True, show_default=True, help="Also against B of random weights.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random weights.")
@click.option(
    "--batch", type=click.IntRange(1), default=500, show_default=True, help="Pictures at a time, of the test."
)
@click.option("--out", type=click.Path(path_type=Path), help="Page to write (default: RUN/compare-B.html, RUN of A).")
@click.option("--open", "opened", is_flag=True, help="Open it in the browser.")
@click.option("--weights-b", type=click.Path(path_type=Path), help="Weights of B, if it is your own network.")
@stack(foreign, device, loading, quiet, json_)
def compare(a: str, b: str, **options: Any) -> None:
    """Put two networks, A and B (each a MODEL), side by side on the same pictures, and write one offline page.

    Accuracies with McNemar's test and the pictures that changed sides; layers by debiased linear CKA; units paired one
    to one by the correlation of their maps. --weights is of A; the other options of your own network are of both.
    """
    from torchloupe.reports.comparison.compare import compare as put_side_by_side

    console = Console(options["quiet"] or options["as_json"])
    first, second = _open(a, b, options, options["weights"]), _open(b, a, options, options["weights_b"])
    one = study(first, options, console)
    other = study(second, {**options, "data": None}, console)
    found = put_side_by_side(
        one,
        other,
        options["out"] or _place(one, other),
        layers=_names(options["layers"]),
        layers_b=_names(options["layers_b"]),
        images=options["pictures"],
        control=options["randomized"],
        batch=options["batch"],
        seed=options["seed"],
        quiet=console.quiet,
    )
    if options["as_json"]:
        print_result(json.dumps(found.to_json()))
    elif options["quiet"]:
        print_result(str(found.path))
    else:
        tell(found)
        for note in found.notes:
            console.say(f"Note: {note}")
        console.say("\nOpen it in any browser, offline:")
        print_result(str(found.path))
    if options["opened"] and found.path is not None:
        webbrowser.open(found.path.resolve().as_uri())


def _open(word: str, other: str, options: dict[str, Any], weights: Path | None) -> "Network":
    """Open one of the two with those options that are of it."""
    from torchloupe.checkpoints.open import is_factory
    from torchloupe.runtime.device import pick_device

    own = {**options, "weights": weights}
    if is_factory(word):
        own["trained_with"] = None
    elif is_factory(
        click.get_current_context().params["b" if word == click.get_current_context().params["a"] else "a"]
    ):
        own |= {name: None for name in OWN if name != "weights"}
    return open_named(word, own).network.to(pick_device(options["device"]))


def _place(a: "Subject", b: "Subject") -> Path:
    from torchloupe.inspection.places import comparison_file

    origin = a.origin
    return comparison_file(origin.run if origin else None, origin.word if origin else "", a.title, b.title)


def _names(text: str | None) -> list[str] | None:
    """Read layers with a comma between.

    >>> _names("conv1, layer1"), _names(None)
    (['conv1', 'layer1'], None)
    """
    return [name.strip() for name in text.split(",")] if text else None


def tell(found: "Comparison") -> None:
    """Print what a comparison found."""
    titles = [printable(each.title) for each in (found.a, found.b)]
    wide = min(40, max(map(len, titles)))
    if found.agreement is None:
        for letter, title in zip("AB", titles, strict=True):
            print_result(f"{letter}  {title}")
    else:
        _tell_answers(found.agreement, titles, wide)
    print_result("")
    _tell_layers(found)


def _tell_answers(both: "Agreement", titles: list[str], wide: int) -> None:
    from torchloupe.evaluation.intervals import wilson
    from torchloupe.reports.comparison.page import chance, points

    for letter, title, only in zip("AB", titles, (both.only_a, both.only_b), strict=True):
        hits = both.both + len(only)
        low, high = wilson(hits, both.n)
        print_result(f"{letter}  {title:<{wide}.{wide}}  {hits / both.n:.2%}  (95 %: {low:.2%} to {high:.2%})")
    low, high = both.interval
    print_result(
        f"difference {points(both.difference)} ± {100 * both.standard_error:.2f} points (standard error; 95 %: "
        f"{points(low)} to {points(high)}), McNemar's exact test {chance(both.p_value)}, n = {both.n:,}"
    )
    print_result(
        f"both right {both.both:,}, only A {len(both.only_a):,}, only B {len(both.only_b):,}, neither {both.neither:,};"
        f" same answer {both.same:.1%}"
    )


def _tell_layers(found: "Comparison") -> None:
    """Print a line a layer: CKA and the medians of its units."""
    from torchloupe.reports.comparison.page import number

    head = ["layer of A", "layer of B", "CKA", "random", "units", "r", "held out", "random", "steady"]
    lines = [head]
    for pair in found.pairs:
        shares, matching = pair.shares, pair.matching
        units = "–" if matching is None else str(int(matching.paired.sum()))
        steady = "–" if shares["steady"] is None else f"{shares['steady']:.0%}"
        values = [number(pair.cka), number(pair.cka_random), units]
        values += [number(shares[name]) for name in ("r", "held_out", "random")]
        lines.append([pair.a, pair.b, *values, steady])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        left = [f"{text:<{widths[i]}}" for i, text in enumerate(line[:2])]
        right = [f"{text:>{widths[i + 2]}}" for i, text in enumerate(line[2:])]
        print_result("  ".join([*left, *right]).rstrip())
    print_result(
        f"CKA: debiased, linear, of {len(found.chosen):,} images. r: median of units with their twins; held out: "
        "paired on half of the images, measured on the other. random: B's weights drawn anew."
    )
