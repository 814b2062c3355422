"""`torchloupe run`: everything, one stage after the other; what is there and unchanged is not made again."""

import time
import webbrowser
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import DATA_HELP, device, loading, quiet, stack
from torchloupe.config import PRESETS
from torchloupe.console import Console, duration
from torchloupe.errors import UsageError

if TYPE_CHECKING:
    from torchloupe.subject import Subject


@click.command()
@click.option("--data", default="auto", show_default=True, help=DATA_HELP)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="quick", show_default=True)
@click.option("--model", default=None, help="Network to train (default: loupe).")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder (default: runs/MODEL-DATA).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything.")
@click.option(
    "--budget", default="10m", show_default=True, help="Time that the report may take: 90s, 10m, 2h, or none."
)
@click.option("--open", "opened", is_flag=True, help="Open the report in the browser.")
@click.option("--yes", is_flag=True, help="Do not ask before a long training.")
@stack(device, loading, quiet)
def run(**options: Any) -> None:
    """Train, test, look inside, and write a report: one command from nothing to a page to open.

    Called again, it goes on where it was stopped, and makes nothing again that is there and unchanged.
    """
    from torchloupe.cli.options import load_data
    from torchloupe.prepare import fingerprint

    console = Console(options["quiet"])
    began = time.monotonic()
    dataset = load_data(options["data"], console, skip_bad=options["skip_bad"], offline=options["offline"])
    out = options["out"] or _folder(options, dataset.name)
    source, crc = dataset.source, fingerprint(dataset)
    stages: list[tuple[str, Callable[[], str | None]]] = [
        ("train", lambda: _train(out, source, crc, options)),
        ("test", lambda: _test(out, options)),
        ("report", lambda: _report(out, options, console)),
    ]
    del dataset
    for name, stage in stages:
        start = time.monotonic()
        console.say(f"\n── {name} " + "─" * (60 - len(name)))
        said = stage()
        console.say(said or f"{name}: {duration(time.monotonic() - start)}")
    path = out / _known(out)["path"]
    console.say(f"\nAll in {duration(time.monotonic() - began)}. Open it in any browser, offline:")
    click.echo(str(path))
    if options["opened"]:
        webbrowser.open(path.resolve().as_uri())


def _folder(options: dict[str, Any], data: str) -> Path:
    """Return the run that these options mean: the same for the same, so that it goes on."""
    from torchloupe.runs import RUNS, run_name

    words = [run_name(options["model"] or "loupe", data)]
    words += [options["preset"]] if options["preset"] != "quick" else []
    words += [f"seed-{options['seed']}"] if options["seed"] else []
    return RUNS / "-".join(words)


def _train(out: Path, source: str, crc: str, options: dict[str, Any]) -> str | None:
    from torchloupe.cli.train import train
    from torchloupe.runs import read_json

    if (out / "config.json").is_file() and read_json(out / "config.json")["data"]["crc32"] != crc:
        raise UsageError(f"'{out}' was trained on other pictures than these of '{source}'. Name another --out.")
    if (out / "model.safetensors").is_file():
        return f"train: '{out}' is trained already ({_trained(out)}); another --out begins anew."
    words = ["--out", str(out), "--device", options["device"]]
    if (out / "config.json").is_file():
        words += ["--resume"]
    else:
        words += ["--data", source, "--preset", options["preset"], "--seed", str(options["seed"])]
        words += ["--model", options["model"]] if options["model"] else []
    words += [f"--{name.replace('_', '-')}" for name in ("skip_bad", "offline", "quiet", "yes") if options[name]]
    train.main(words, standalone_mode=False)
    return None


def _trained(out: Path) -> str:
    """Say what a run was trained with."""
    from torchloupe.runs import read_json

    about = read_json(out / "config.json")
    training = about.get("training") or {}
    return f"{about['model']}, {training.get('epochs', 0):.4g} epochs, seed {training.get('seed', 0)}"


def _test(out: Path, options: dict[str, Any]) -> str | None:
    from torchloupe.cli.test import test

    if _tested(out):
        return "test: done already, with these weights."
    words = [str(out), "--tta", "--device", options["device"]]
    words += [f"--{name.replace('_', '-')}" for name in ("skip_bad", "offline") if options[name]]
    test.main([*words, *(["--quiet"] if options["quiet"] else [])], standalone_mode=False)
    return None


def _tested(out: Path) -> bool:
    from torchloupe.runs import read_json

    if not (out / "test.json").is_file():
        return False
    return bool(read_json(out / "test.json").get("weights") == _subject(out).weights)


def _subject(out: Path) -> "Subject":
    from torchloupe.loading import open_model
    from torchloupe.subject import Subject

    return Subject(open_model(out).network)


def _report(out: Path, options: dict[str, Any], console: Console) -> str | None:
    from torchloupe import __version__
    from torchloupe.cli.report import make
    from torchloupe.device import pick_device
    from torchloupe.loading import open_model
    from torchloupe.runs import write_json
    from torchloupe.subject import Subject

    network = open_model(out).network.to(pick_device(options["device"]))
    studied = Subject(network, offline=options["offline"], skip_bad=options["skip_bad"])
    of = {"weights": studied.weights, "torchloupe": __version__, "budget": options["budget"], "seed": options["seed"]}
    known = _known(out)
    if known.get("of") == of and known["crc32"] == _crc(out / known["path"]):
        return "report: done already, of these weights."
    made = make(studied, out / "report.html", {**options, "layers": None, "units": None, "pictures": ()}, console)
    about = {"of": of, "path": made.path.relative_to(out).as_posix(), "crc32": _crc(made.path)}
    write_json(out / "report.json", about)
    return None


def _known(out: Path) -> dict[str, Any]:
    """Return what is noted of the report that was made last; nothing if there is none."""
    from torchloupe.errors import ModelError
    from torchloupe.runs import read_json

    with suppress(ModelError):
        found: dict[str, Any] = read_json(out / "report.json")
        return found
    return {}


def _crc(path: Path) -> str:
    return f"{zlib.crc32(path.read_bytes()):08x}" if path.is_file() else ""
