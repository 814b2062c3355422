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
from torchloupe.cli.report import seconds
from torchloupe.errors import UsageError
from torchloupe.runtime.console import Console, duration
from torchloupe.training.config import PRESETS, configure, decided_by

if TYPE_CHECKING:
    from torchloupe.inspection.subject import Subject


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
    from torchloupe.data.dataset import checksum

    seconds(options["budget"])  # refused now, not after the training
    console = Console(options["quiet"])
    began = time.monotonic()
    dataset = load_data(options["data"], console, skip_bad=options["skip_bad"], offline=options["offline"])
    out = options["out"] or _folder(options, dataset.name)
    source, crc = dataset.source, checksum(dataset)
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
    from torchloupe.runs.folder import RUNS, run_name

    words = [run_name(options["model"] or "loupe", data)]
    words += [options["preset"]] if options["preset"] != "quick" else []
    words += [f"seed-{options['seed']}"] if options["seed"] else []
    return RUNS / "-".join(words)


def _train(out: Path, source: str, crc: str, options: dict[str, Any]) -> str | None:
    from torchloupe.cli.train import train
    from torchloupe.runtime.files import read_json

    if (out / "config.json").is_file() and read_json(out / "config.json")["data"]["crc32"] != crc:
        raise UsageError(f"'{out}' was trained on other pictures than these of '{source}'. Name another --out.")
    _same_settings(out, options)
    if (out / "model.safetensors").is_file():
        return f"train: '{out}' is trained already ({_trained(out)}); another --out begins anew."
    words = ["--out", str(out), "--device", options["device"]]
    words += ["--model", options["model"]] if options["model"] else []
    if (out / "config.json").is_file():
        words += ["--resume"]
    else:
        words += ["--data", source, "--preset", options["preset"], "--seed", str(options["seed"])]
    words += [f"--{name.replace('_', '-')}" for name in ("skip_bad", "offline", "quiet", "yes") if options[name]]
    train.main(words, standalone_mode=False)
    return None


def _same_settings(out: Path, options: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun with other settings than those asked for."""
    from torchloupe.training.resume import begun

    context, default = click.get_current_context(), click.core.ParameterSource.DEFAULT
    asked = {name: options[name] for name in ("model", "seed") if context.get_parameter_source(name) is not default}
    names = list(asked)
    if context.get_parameter_source("preset") is not default:
        names += [name for name in decided_by(options["preset"]) if name != "model"]
    begun(out, configure(options["preset"], asked), names, options["model"])


def _trained(out: Path) -> str:
    """Say what a run was trained with."""
    from torchloupe.runtime.files import read_json

    about = read_json(out / "config.json")
    training = about.get("training") or {}
    return f"{about['model']}, {training.get('epochs', 0):.4g} epochs, seed {training.get('seed', 0)}"


def _test(out: Path, options: dict[str, Any]) -> str | None:
    from torchloupe.cli.test import test

    if _tested(out, options):
        return "test: done already, with these weights."
    words = [_word(out), "--tta", "--device", options["device"]]
    words += ["--model", code] if (code := _code(options)) else []
    words += [f"--{name.replace('_', '-')}" for name in ("skip_bad", "offline") if options[name]]
    test.main([*words, *(["--quiet"] if options["quiet"] else [])], standalone_mode=False)
    return None


def _tested(out: Path, options: dict[str, Any]) -> bool:
    from torchloupe.runtime.files import read_json

    if not (out / "test.json").is_file():
        return False
    found = read_json(out / "test.json")
    own = read_json(out / "config.json")["data"]["crc32"]
    return bool(found.get("weights") == _subject(out, options).weights and found.get("crc32") == own)


def _word(out: Path) -> str:
    """Return what names a run and nothing else: `last` or `cifar10` alone would mean other networks."""
    return str(out.resolve() if len(out.parts) == 1 else out)


def _code(options: dict[str, Any]) -> str | None:
    """Return the network of the user's own that the run is of, where they named one."""
    from torchloupe.models.reference import is_reference

    model: str | None = options["model"]
    return model if model is not None and is_reference(model) else None


def _subject(out: Path, options: dict[str, Any]) -> "Subject":
    from torchloupe.checkpoints.open import open_model
    from torchloupe.inspection.subject import Subject

    return Subject(open_model(_word(out), model=_code(options)).network)


def _report(out: Path, options: dict[str, Any], console: Console) -> str | None:
    from torchloupe.checkpoints.open import open_model
    from torchloupe.cli.report import make
    from torchloupe.inspection.subject import Subject
    from torchloupe.runtime.device import pick_device
    from torchloupe.runtime.environment import __version__
    from torchloupe.runtime.files import write_json

    network = open_model(_word(out), model=_code(options)).network.to(pick_device(options["device"]))
    studied = Subject(network, offline=options["offline"], skip_bad=options["skip_bad"])
    of = {"weights": studied.weights, "torchloupe": __version__, "budget": options["budget"], "seed": options["seed"]}
    known = _known(out)
    if known and known["of"] == of and known["crc32"] == _crc(out / known["path"]):
        return "report: done already, of these weights."
    made = make(studied, out / "report.html", {**options, "layers": None, "units": None, "pictures": ()}, console)
    whole = None if made.contents.late else of  # what lacked time is tried again the next time
    about = {"of": whole, "path": made.path.relative_to(out).as_posix(), "crc32": _crc(made.path)}
    write_json(out / "report.json", about)
    return None


def _known(out: Path) -> dict[str, Any]:
    """Return what is noted of the report that was made last; nothing if there is none."""
    from torchloupe.errors import ModelError
    from torchloupe.runtime.files import read_json

    with suppress(ModelError):
        found: dict[str, Any] = read_json(out / "report.json")
        return found
    return {}


def _crc(path: Path) -> str:
    """Return a checksum of a report, of all its pages if it has several."""
    pages = sorted(path.parent.glob("*.html")) if path.name == "index.html" else [path]
    return f"{zlib.crc32(b''.join(page.read_bytes() for page in pages)):08x}" if path.is_file() else ""
