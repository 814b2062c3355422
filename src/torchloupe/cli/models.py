"""`torchloupe models`."""

import json
from dataclasses import asdict

import click

from torchloupe.cli.options import json_
from torchloupe.runtime.console import print_result
from torchloupe.training.config import PRESET_NOTES, PRESETS

CIFAR = 50_000


@click.command()
@json_
def models(as_json: bool) -> None:
    """List the networks, their parameters, and the minutes each preset takes on this machine for CIFAR-10.

    Minutes are estimates: multiplications, counted, over the rate of a convolution, measured now.
    """
    from torchloupe.models import MODELS, build
    from torchloupe.training.estimate import seconds_for
    from torchloupe.training.prepare import arguments_of

    table = []
    for row in MODELS:
        net = build(row.name)
        minutes = {}
        for name, preset in PRESETS.items():
            side = preset.size or row.size
            sized = build(row.name, **arguments_of(preset)) if row.name == preset.model else net
            minutes[name] = seconds_for(sized, (side, side), preset, CIFAR) / 60
        parameters = sum(parameter.numel() for parameter in net.parameters())
        table.append((row, parameters, minutes))
    if as_json:
        print_result(json.dumps([{**asdict(row), "parameters": n, "minutes": minutes} for row, n, minutes in table]))
        return
    print_result(
        f"{'model':<10}{'parameters':>12}{'side':>6}" + "".join(f"{name:>8}" for name in PRESETS) + "   (minutes)"
    )
    for row, n, minutes in table:
        cells = "".join(f"{value:>8,.0f}" for value in minutes.values())
        print_result(f"{row.name:<10}{n:>12,}{row.size:>6}{cells}   {row.summary}")
    print_result(
        "\nMinutes on this machine's CPU for 50,000 pictures of that side, estimated; the study preset's side is 224."
    )
    print_result("\nPresets, as measured with the network they are for:")
    for name, note in PRESET_NOTES.items():
        print_result(f"  {name:<6} {note}")
    print_result("\nYour own network: --model file.py:factory\nNext: torchloupe train --model loupe --preset quick")
