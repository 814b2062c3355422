"""`torchloupe show METHOD MODEL`: one command a row of the catalog."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import (
    DATA_HELP,
    STAND_IN,
    device,
    foreign,
    json_,
    loading,
    looks,
    open_named,
    quiet,
    stack,
    study,
)
from torchloupe.errors import did_you_mean
from torchloupe.inspection.catalog import ALL, Method, Setting
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torchloupe.inspection.result import Result


class Methods(click.Group):
    """The catalog as a group of commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the methods in the catalog's order."""
        return [row.name for row in ALL]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make the command of a row."""
        row = next((row for row in ALL if row.name == cmd_name), None)
        return None if row is None else command(row)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a method; an unknown one is told with the nearest."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            ctx.fail(f"no method {args[0]!r}{did_you_mean(args[0], names) or '.'} There are: {', '.join(names)}.")
        return super().resolve_command(ctx, args)


@click.group(cls=Methods)
def show() -> None:
    """Look inside MODEL by one METHOD; the picture, its raw tensors and a JSON that repeats it are written."""


def command(row: Method) -> click.Command:
    """Make the command of one method.

    >>> command(ALL[0]).name == ALL[0].name
    True
    """

    @stack(*_options(row), looks, foreign, device, loading, quiet, json_)
    @click.argument("model")
    def call(model: str, **options: Any) -> None:
        _show(row, model, options)

    text = row.summary + _takes(row)
    return click.Command(row.name, callback=call, params=call.__click_params__[::-1], help=text)


def _takes(row: Method) -> str:
    return {
        "nothing": "",
        "pictures": " Looks at 16 test pictures, drawn by --seed, unless --pictures names others.",
        "start": " Starts from noise, or from the photographs that --pictures names.",
        "dataset": " Looks through the test split of the model's data, or of --data.",
    }[row.takes]


def _options(row: Method) -> list[Any]:
    options = [
        click.option(
            "--layer",
            default=row.layer,
            show_default=row.layered,
            hidden=not row.layered,
            help="Dotted name, layer4[-1], first, last or output.",
        ),
        click.option("--out", type=click.Path(path_type=Path), help="File (its suffix says the format) or folder."),
        click.option("--data", default=None, help=f"{DATA_HELP} (default: the data of the run)."),
    ]
    if row.channels:
        options.append(click.option("--channels", default="all", show_default=True, help="0,3-9 or all."))
    if row.takes in ("pictures", "start"):
        text = "Files or folders, test:0-15, train:0-15 or samples; may be repeated."
        if row.from_a_position:
            text += " top:9: the nine of the data that drive each channel most, cropped to what it sees."
        options.append(click.option("--pictures", multiple=True, help=text))
    if row.name == "feature-maps":
        options.append(click.option("--overlay", is_flag=True, help="Lay each map over the picture."))
    if row.seeded or row.takes == "pictures":
        options.append(click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn."))
    for setting in row.settings:
        flag, shown = "--" + setting.name.replace("_", "-"), setting.default is not None
        if setting.kind is bool:
            options.append(
                click.option(
                    *switches(setting), setting.name, default=setting.default, show_default=True, help=setting.help
                )
            )
            continue
        kind: Any = click.Choice(setting.kind) if isinstance(setting.kind, tuple) else setting.kind
        options.append(click.option(flag, type=kind, default=setting.default, show_default=shown, help=setting.help))
    return options


def switches(setting: Setting) -> list[str]:
    """Return the switches of a yes or no, by its name and by what earlier versions called it.

    >>> switches(Setting("randomized", bool, True, "", "twin"))
    ['--randomized/--no-randomized', '--twin/--no-twin']
    """
    names = [name.replace("_", "-") for name in (setting.name, setting.formerly) if name]
    return [f"--{name}/--no-{name}" for name in names]


def _show(row: Method, model: str, options: dict[str, Any]) -> None:
    from torchloupe.figures.sheet import check
    from torchloupe.figures.style import FigureStyle
    from torchloupe.inspection.inputs import indices
    from torchloupe.inspection.places import image_file
    from torchloupe.inspection.result import check_target
    from torchloupe.inspection.run import run
    from torchloupe.runtime.device import pick_device

    console = Console(options["quiet"] or options["as_json"])
    look = {name: options[name] for name in FigureStyle.__dataclass_fields__ if options.get(name) is not None}
    check(FigureStyle(**look))  # told before anything is computed
    check_target(options["out"])
    network = open_named(model, options).network.to(pick_device(options["device"]))
    studied = study(network, options, console, read=row.takes != "nothing")
    every = options.get("channels", "all") == "all"
    with console.progress(row.name) as tick:
        made = run(
            row.name,
            studied,
            options["layer"],
            list(options["pictures"]) or None if "pictures" in options else None,
            channels=None if every else indices(options["channels"]),
            seed=options.get("seed", 0),
            progress=tick,
            **{setting.name: options[setting.name] for setting in row.settings},
        )
    if made.images_taken is not None and not options.get("pictures") and studied.dataset() is None:
        console.say(STAND_IN)
    origin = studied.origin
    run_folder, word = (origin.run, origin.word) if origin else (None, "")
    file = image_file(options["out"], row.name, made.result.layer, run=run_folder, word=word, title=studied.title)
    files = made.save(file, **look)
    tell(made, files, console, as_json=options["as_json"])


def tell(made: "Result", files: list[Path], console: Console, *, as_json: bool) -> None:
    """Say what was written and the numbers beside it."""
    if as_json:
        numbers = {name: {"mean": mean, "std": std} for name, mean, std in made.numbers()}
        print_result(json.dumps({"files": [str(f) for f in files], "layer": made.result.layer, "numbers": numbers}))
        return
    for name, mean, std in made.numbers():
        console.say(f"{name:<12}{mean:10.4g} ± {std:.2g}")
    for file in files:
        print_result(str(file))
