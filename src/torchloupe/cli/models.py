"""`torchloupe models`."""

import json

import click

from torchloupe.cli.options import json_
from torchloupe.config import PRESETS

CIFAR = 50_000


@click.command()
@json_
def models(as_json: bool) -> None:
    """List the networks, their parameters, and the minutes each preset takes on this machine for CIFAR-10.

    Minutes are estimates: multiplications, counted, over the rate of a convolution, measured now.
    """
    from torchloupe.estimate import seconds_for
    from torchloupe.models import MODELS, build

    table = []
    for row in MODELS:
        net = build(row.name)
        parameters = sum(p.numel() for p in net.parameters())
        one = seconds_for(net, (row.size, row.size), CIFAR) / 60
        minutes = {name: one * preset.epochs for name, preset in PRESETS.items() if name != "study"}
        minutes["study"] = seconds_for(net, (224, 224), CIFAR) / 60 * PRESETS["study"].epochs
        table.append(
            {"name": row.name, "parameters": parameters, "size": row.size, "minutes": minutes, "is": row.summary}
        )
    if as_json:
        click.echo(json.dumps(table))
        return
    names = list(PRESETS)
    click.echo(f"{'model':<10}{'parameters':>12}{'side':>6}" + "".join(f"{name:>9}" for name in names) + "   (minutes)")
    for entry in table:
        cells = "".join(f"{entry['minutes'][name]:>9,.0f}" for name in names)
        click.echo(f"{entry['name']:<10}{entry['parameters']:>12,}{entry['size']:>6}{cells}   {entry['is']}")
    click.echo("\nMinutes on this machine's CPU for 50,000 pictures, estimated. Your own: --model file.py:factory")
    click.echo("Next: torchloupe train --model loupe --preset quick")
