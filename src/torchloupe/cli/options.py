"""Options that several commands share, and what they mean. Imports no torch."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import click

from torchloupe.errors import UsageError
from torchloupe.runtime.console import Console
from torchloupe.runtime.files import read_file
from torchloupe.training.config import NOT_ASKED, TrainConfig, help_of, part_of

if TYPE_CHECKING:
    from torchloupe.checkpoints.open import Loaded
    from torchloupe.data.dataset import Dataset
    from torchloupe.inspection.subject import Subject
    from torchloupe.models.network import Network
    from torchloupe.runs.config import Reading

F = TypeVar("F", bound=Callable[..., Any])


def stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Join decorators; the first is the outermost."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


DATA_HELP = "cifar10, cifar100, shapes, auto, or a folder, zip, tar or official archive of pictures"
quiet = click.option("--quiet", is_flag=True, help="Print results only.")
json_ = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
loading = stack(
    click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be read, and say which."),
    click.option("--offline", is_flag=True, help="Download nothing."),
    click.option(
        "--window",
        nargs=2,
        type=float,
        metavar="LOW HIGH",
        help="Grey pictures of more than 8 bits: LOW and below is black, HIGH and above white (default: of the run, "
        "else as the files say, else the bits that hold their largest value).",
    ),
    click.option(
        "--labels",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="CSV or JSON of which picture is of which class (default: of the run, else a labels.csv or labels.json "
        "beside pictures in one folder).",
    ),
    click.option(
        "--class-names",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="CSV, JSON or text of what class folders are to be called: n01440764 tench.",
    ),
)
trained_with = click.option(
    "--model",
    "trained_with",
    metavar="CODE",
    help="Your own network that a run, file or picture is of: file.py:factory. Code runs only if you name it. "
    "Of a JSON saved from a report: the MODEL that the report is of.",
)
foreign = stack(
    trained_with,
    click.option("--weights", type=click.Path(path_type=Path), help="Weights of your own network (.safetensors)."),
    click.option("--classes", help="Your own network's classes: a number, or a file with one name a line."),
    click.option("--mean", help="Your own network's normalisation, per channel in [0, 1]: 0.49,0.48,0.45."),
    click.option("--std", help="The same for the standard deviation."),
    click.option("--size", type=int, help="Side of the pictures that your own network takes."),
    click.option("--output", help="Part of your own network's output that holds the classes: a key or an index."),
    click.option("--multilabel", is_flag=True, default=None, help="Each class of it is there or not by itself."),
    click.option("--normalize", type=click.Choice(["none"]), help="none: your own network takes pictures in [0, 1]."),
)
untitled = stack(
    click.option("--width", help="Width of the figure: 89mm, 3.5in or 800px."),
    click.option("--font", help="Font family, by name."),
    click.option("--cmap", help="Colour map of matplotlib; the default is perceptually uniform, the study's was jet."),
    click.option("--vmin", type=float, help="Value of feature maps at the lower end of the colours."),
    click.option("--vmax", type=float, help="The same for the upper end."),
    click.option(
        "--scale",
        type=click.Choice(["per_picture", "per_filter", "shared", "symmetric"]),
        help="Range of values that colours span; per_filter is per_picture.",
    ),
    click.option("--columns", type=click.IntRange(1), help="Pictures side by side."),
    click.option("--colorbar/--no-colorbar", default=None, help="Draw the scale of colours."),
    click.option("--theme", type=click.Choice(["light", "dark"]), help="Ground of the sheet."),
)
looks = stack(
    click.option("--title/--no-title", default=None, help="Write a title and a note (default: yes)."),
    untitled,
)


OWN = ("weights", "classes", "mean", "std", "size", "output", "multilabel", "normalize")
"""What only a network of the user's own needs told."""
STAND_IN = (
    "Note: the network's own pictures are not at hand; shown are free ones that come with torchloupe. "
    "Name others with --pictures, or a data set with --data."
)
"""Said where the sample pictures were taken unasked."""


def numbers(text: str | None, name: str) -> tuple[float, ...] | None:
    """Read `0.5,0.5,0.5`.

    >>> numbers("0.5,0.25", "--mean")
    (0.5, 0.25)
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{name} {text!r} is not a list of numbers like 0.49,0.48,0.45.") from None


def class_names(text: str | None) -> list[str] | int | None:
    """Read `--classes`: a number, or a file with one name a line.

    >>> class_names("10")
    10
    """
    if text is None or text.isdigit():
        return None if text is None else int(text)
    try:
        lines = read_file(text).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--classes {text!r} is neither a number nor a readable file ({error}).") from None
    return [line.strip() for line in lines if line.strip()]


def open_named(model: str, options: dict[str, Any]) -> "Loaded":
    """Open MODEL with the options of `foreign`."""
    from torchloupe.checkpoints.open import is_factory, open_model

    mean, std = numbers(options.get("mean"), "--mean"), numbers(options.get("std"), "--std")
    if options.get("normalize") == "none" and (mean or std):
        raise UsageError("--normalize none and --mean or --std exclude each other: leave one out.")
    names = class_names(options.get("classes"))
    if is_factory(model):
        if options.get("trained_with") is not None:
            raise UsageError(f"{model!r} is a network already: leave --model out.")
        if names is not None and not (mean and std) and options.get("normalize") is None:
            raise UsageError(f"say how {model!r} wants its pictures: --mean and --std, or --normalize none.")
    elif given := [f"--{name}" for name in OWN if options.get(name) is not None]:
        raise UsageError(f"{model!r} knows its own {given[0][2:]}: leave {', '.join(given)} out.")
    return open_model(
        model,
        model=options.get("trained_with"),
        weights=options.get("weights"),
        classes=names,
        mean=mean,
        std=std,
        size=options.get("size"),
        output=part_of(options.get("output")),
        multilabel=bool(options.get("multilabel")),
    )


def how_to_load(options: dict[str, Any]) -> dict[str, Any]:
    """Return what was given of the options of `loading`."""
    return {name: options[name] for name in ("skip_bad", "offline")} | reading(options)


def reading(options: dict[str, Any], own: "Reading | None" = None) -> "Reading":
    """Return how pictures are to be read: as was given, else as those of the run were.

    The labels of a run are of its own pictures: for others (`--data`) they say nothing.
    """
    own = {**(own or {}), **({"labels": None} if options.get("data") is not None else {})}
    given: dict[str, Any] = {
        "window": options["window"],
        **{name: None if options[name] is None else str(options[name]) for name in ("labels", "class_names")},
    }
    return {name: own.get(name) if value is None else value for name, value in given.items()}


def remember(options: dict[str, Any], own: "Reading") -> None:
    """Go by what a run was begun with where the user says nothing else of how its pictures are to be read."""
    options.update({name: options[name] if options[name] is not None else value for name, value in own.items()})


def load_data(
    word: str,
    console: Console,
    *,
    size: int | None = None,
    skip_bad: bool = False,
    offline: bool = False,
    window: tuple[float, float] | None = None,
    labels: str | None = None,
    class_names: str | None = None,
) -> "Dataset":
    """Load a data set with a progress bar, and say what the user should know of it."""
    from torchloupe import data

    with console.progress("reading pictures") as tick:
        how: dict[str, Any] = {"size": size, "skip_bad": skip_bad, "offline": offline, "window": window}
        how |= {"labels": labels, "class_names": class_names}
        dataset = data.load(word, **how, say=_teller(console), progress=tick)
    for note in dataset.notes:
        console.say(f"Note: {note}")
    return dataset


def find_data(word: str, console: Console, *, offline: bool = False) -> tuple[str, str]:
    """Return the name of a data set, and the word to load it by; what is missing is downloaded, with a progress bar."""
    from torchloupe import data

    with console.progress("looking for pictures") as tick:
        return data.find(word, offline=offline, say=_teller(console), progress=tick)


def study(network: "Network", options: dict[str, Any], console: Console, *, read: bool = True) -> "Subject":
    """Return the network with its data; those of `--data` are read at once (unless not `read`), or downloaded.

    Looking at a network never downloads the data of its run: what is missing is said.
    """
    from torchloupe.inspection.subject import Subject

    own = network.origin.config.reading if network.origin else None
    how = {"offline": options["offline"], "skip_bad": options["skip_bad"], **reading(options, own)}
    given = options["data"]
    if given is not None and read:
        given = load_data(given, console, size=network.size, **how)
    return Subject(network, given, say=_teller(console), **how)


def _teller(console: Console) -> Callable[[str], None]:
    return lambda text: console.box(text) if "\n" in text else console.say(text)


def of_config() -> Callable[[F], F]:
    """Make an option of every field of TrainConfig; what is not given is None."""
    hints = get_type_hints(TrainConfig)
    return stack(*[_option(f.name, hints[f.name]) for f in fields(TrainConfig) if f.name not in NOT_ASKED])


def _option(name: str, hint: Any) -> Callable[[F], F]:
    choices = [arg for arg in get_args(hint) if isinstance(arg, str)]
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    flag = "--" + name.replace("_", "-")
    if hint is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=help_of(name))
    kind: Any = click.Choice(choices) if choices else kinds[0]
    if get_origin(kinds[0]) is tuple:
        kind = str
    return click.option(flag, type=kind, default=None, help=help_of(name))
