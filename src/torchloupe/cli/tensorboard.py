"""`torchloupe tensorboard`."""

from pathlib import Path

import click

from torchloupe.cli.options import quiet
from torchloupe.runtime.console import Console, print_result


@click.command()
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to (default: RUN/tensorboard).")
@quiet
def tensorboard(run: str, out: Path | None, quiet: bool) -> None:
    """Write the curves of RUN (a run folder, or 'last') for TensorBoard: each number with its step and time."""
    from torchloupe.runs.folder import RUNS, newest_run
    from torchloupe.runs.tensorboard import export

    console = Console(quiet)
    folder = newest_run() if run == "last" else Path(run)
    if not folder.is_dir() and (RUNS / run).is_dir():
        folder = RUNS / run
    made = export(folder, out)
    print_result(str(made))
    console.say(f"Look at it with: tensorboard --logdir {made}   (pip install 'torchloupe[tensorboard]')")
