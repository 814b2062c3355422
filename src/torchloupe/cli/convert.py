"""`torchloupe convert`."""

from pathlib import Path
from typing import Any

import click

from torchloupe.cli.options import class_names, numbers, quiet
from torchloupe.errors import UsageError
from torchloupe.runtime.console import Console, print_result
from torchloupe.training.config import part_of


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Its network: package.module:factory, file.py:factory or a name of ours.")
@click.option("--classes", required=True, help="Its classes: a number, or a file with one name a line, in its order.")
@click.option("--mean", help="Its normalisation, per channel of pictures in [0, 1]: 0.49,0.48,0.45.")
@click.option("--std", help="The same for the standard deviation.")
@click.option("--normalize", type=click.Choice(["none"]), help="none: it takes pictures in [0, 1].")
@click.option("--size", type=int, help="Side of the pictures it was trained on.")
@click.option("--output", help="Part of its output that holds the classes: a key or an index.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .safetensors file to write.")
@click.option("--partial", is_flag=True, help="Keep fresh weights where the file has none or others.")
@quiet
def convert(source: Path, **options: Any) -> None:
    """Bring SOURCE, a foreign checkpoint (.pth, .pt, .ckpt, .bin), in as one of ours.

    A foreign checkpoint is a program: it is read in a process of its own that imports nothing it names.
    """
    console = Console(options["quiet"])
    mean, std = numbers(options["mean"], "--mean"), numbers(options["std"], "--std")
    if (mean is None) != (std is None) or (mean is None) == (options["normalize"] is None):
        raise UsageError("say how pictures are normalised: --mean and --std, or --normalize none.")
    names = class_names(options["classes"])
    classes = [str(i) for i in range(names)] if isinstance(names, int) else names or []
    if source.suffix != ".safetensors":
        console.say(f"Warning: '{source}' may hold code. It is read in a process of its own; nothing it names runs.")
    from torchloupe.checkpoints.convert import convert as bring_in

    report = bring_in(
        source,
        options["model"],
        options["out"],
        classes=classes,
        mean=mean,
        std=std,
        size=options["size"],
        output=part_of(options["output"]),
        strict=not options["partial"],
    )
    print_result(str(report))
    console.say(f"Next: torchloupe test {options['out']} --data D")
