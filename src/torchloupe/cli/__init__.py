"""The command line: one row a command, loaded when it is called, so that `--help` imports neither torch nor rich."""

import gc
import importlib
import os
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import click

from torchloupe.errors import (
    BrokenWeightsWarning,
    ChangedCodeWarning,
    LoupeError,
    SmallerBatchWarning,
    did_you_mean,
    in_one_line,
)
from torchloupe.runtime import signals


@dataclass(frozen=True)
class Row:
    """One command: its name, where it is, its line in `--help`."""

    name: str
    command: str
    summary: str


COMMANDS: tuple[Row, ...] = (
    Row("run", "torchloupe.cli.run:run", "Everything: train, test, look inside, and write a report to open."),
    Row("train", "torchloupe.cli.train:train", "Train a network on CIFAR-10, on shapes or on your own pictures."),
    Row("test", "torchloupe.cli.test:test", "Test a network: accuracy, per class, confusion, calibration, mistakes."),
    Row("predict", "torchloupe.cli.predict:predict", "Say of which class pictures are, however many."),
    Row("show", "torchloupe.cli.show:show", "Look inside: filters, maps, inversion, maximisation, deconvnet, …"),
    Row("pictures", "torchloupe.cli.pictures:pictures", "Make the whole set of pictures from inside a network."),
    Row("report", "torchloupe.cli.report:report", "Write one offline page about a network, from outside to inside."),
    Row("explain", "torchloupe.cli.explain:explain", "Say why a network answers as it does, a card a picture."),
    Row("score", "torchloupe.cli.score:score", "Say which explanation of a network to trust."),
    Row("compare", "torchloupe.cli.compare:compare", "Put two networks side by side: answers, layers, units."),
    Row("layers", "torchloupe.cli.layers:layers", "List a network's layers: shapes, receptive fields, dead channels."),
    Row("sheet", "torchloupe.cli.sheet:sheet", "Join any pictures in one sheet."),
    Row("again", "torchloupe.cli.again:again", "Make a picture again from its JSON, to the byte."),
    Row("data", "torchloupe.cli.data:data", "Look at a data set; get CIFAR-10."),
    Row("models", "torchloupe.cli.models:models", "List the networks, their size and how long they train."),
    Row("tensorboard", "torchloupe.cli.tensorboard:tensorboard", "Write a run's curves as a file for TensorBoard."),
    Row("convert", "torchloupe.cli.convert:convert", "Bring a foreign checkpoint (.pth, .ckpt, …) in."),
)

EPILOG = """\b
MODEL is cifar10 (comes with the package), a run folder, 'last', RUN@EPOCH,
a .safetensors file, or file.py:factory.
Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint or model, 5 disk or memory,
6 training diverged, 130 Ctrl-C, 143 terminated (SIGTERM), 129 (SIGHUP). --debug shows the traceback."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of use."""
        return [row.name for row in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        for row in COMMANDS:
            if row.name == cmd_name:
                module, _, name = row.command.partition(":")
                command: click.Command = getattr(importlib.import_module(module), name)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; an unknown one is told with the nearest."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}{did_you_mean(args[0], names) or '.'}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(row.name, row.summary) for row in COMMANDS])


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="torchloupe", prog_name="torchloupe")
def group() -> None:
    """Train an image classifier, test it, and look inside it."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a documented code."""
    gc.set_threshold(50_000, 20, 20)  # looking for cycles among torch's own objects costs a tenth of each start
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if debug:
        words.remove("--debug")
    with signals.handled():
        try:
            with warnings.catch_warnings():
                _tell_notes()
                code = group.main(args=words, prog_name="torchloupe", standalone_mode=False)
        except BaseException as error:
            if debug and not isinstance(error, SystemExit | click.exceptions.Exit):
                raise
            sys.exit(_explain(error))
        sys.exit(code if isinstance(code, int) else 0)


NOTES = (ChangedCodeWarning, BrokenWeightsWarning, SmallerBatchWarning)
"""What is told in one line."""


def _tell_notes() -> None:
    """Say in one line what a user of the command should know; all other warnings stay as they are."""
    other = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, NOTES):
            click.echo(f"Note: {in_one_line(str(message))}", err=True)
        else:
            other(message, category, *rest, **named)

    for note in NOTES:
        warnings.simplefilter("always", note)
    warnings.showwarning = tell


def _explain(error: BaseException) -> int:
    """Tell an error in one sentence; returns the exit code."""
    if isinstance(error, signals.Stop):
        click.echo("Stopped.", err=True)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.ClickException):
        _tell_usage(error)
        return 2
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo("Stopped.", err=True)
        return 130
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    text, code = _sentence(error)
    click.echo(f"Error: {in_one_line(text)}", err=True)
    return code


def _tell_usage(error: click.ClickException) -> None:
    """Tell click's own errors in one line as well; a group called without a command shows its help."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return
    text = " ".join(error.format_message().split())
    text += "" if text.endswith((".", "?")) else "."
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" See `{context.command_path} --help`." if context else ""
    click.echo(f"Error: {in_one_line(text + hint)}", err=True)


def _sentence(error: BaseException) -> tuple[str, int]:
    if isinstance(error, LoupeError):
        return str(error), error.exit_code
    from torchloupe.runtime.files import refused
    from torchloupe.runtime.memory import is_out_of_memory

    if isinstance(error, OSError) and error.errno is not None:
        return (f"'{error.filename}': " if error.filename is not None else "") + refused(error), 5
    if is_out_of_memory(error):
        return "there is too little memory. Try a smaller --batch or --size.", 5
    cause = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {cause}. This is a bug in torchloupe; --debug shows where.", 1
