"""`torchloupe run`: everything, one stage after the other; what is there and unchanged is not made again."""

import time
import webbrowser
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import (
    DATA_HELP,
    device,
    find_data,
    how_to_load,
    load_data,
    loading,
    quiet,
    reading,
    remember,
    stack,
)
from torchloupe.cli.report import seconds
from torchloupe.runs.folder import check_free, is_begun
from torchloupe.runs.request import begun_with, requested
from torchloupe.runs.writing import writing
from torchloupe.runtime.console import Console, duration, print_result
from torchloupe.training.config import PRESETS, TrainConfig, configure, decided_by

if TYPE_CHECKING:
    from torchloupe.data.dataset import Dataset


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
    budget = seconds(options["budget"])  # refused now, not after the training
    console = Console(options["quiet"])
    began = time.monotonic()
    out, word = options["out"], options["data"]
    if out is None:
        name, word = find_data(word, console, offline=options["offline"])
        out = _folder(options, name)
    with writing(out):
        config, resume = _begin(out, options)
        if resume:
            remember(options, begun_with(out))
        with requested(out, asdict(config), word, reading(options)):
            from torchloupe.pipeline import check_data, report_path  # torch comes with it, after the run is on the disk

            dataset = load_data(word, console, size=config.size, **how_to_load(options))
            check_data(out, dataset)
            _stage("train", partial(_train, out, config, dataset, resume, options, console), console)
        _stage("test", partial(_test, out, dataset, options, console), console)
        del dataset  # the report reads them again, for all that it measures
        _stage("report", partial(_report, out, budget, options, console), console)
        path = report_path(out)
    console.say(f"\nAll in {duration(time.monotonic() - began)}. Open it in any browser, offline:")
    print_result(str(path))
    if options["opened"] and path is not None:
        webbrowser.open(path.resolve().as_uri())


def _stage(name: str, stage: Callable[[], str | None], console: Console) -> None:
    """Run a stage under its heading; it returns why there was nothing to do."""
    start = time.monotonic()
    console.say(f"\n── {name} " + "─" * (60 - len(name)))
    why_not = stage()
    console.say(why_not or f"{name}: {duration(time.monotonic() - start)}")


def _begin(out: Path, options: dict[str, Any]) -> tuple[TrainConfig, bool]:
    """Return the run's settings, and whether it was begun before: then as it was begun."""
    context, default = click.get_current_context(), click.core.ParameterSource.DEFAULT
    asked = {name: options[name] for name in ("model", "seed") if context.get_parameter_source(name) is not default}
    names = list(asked)
    if context.get_parameter_source("preset") is not default:
        names += [name for name in decided_by(options["preset"]) if name != "model"]
    config = configure(options["preset"], asked)
    if not is_begun(out):
        check_free(out)
        return config, False
    from torchloupe.training.resume import begun

    return begun(out, config, names, options["model"]) or config, True


def _folder(options: dict[str, Any], data: str) -> Path:
    """Return the run that these options mean: the same for the same, so that it goes on."""
    from torchloupe.runs.folder import RUNS, run_name

    words = [run_name(options["model"] or "loupe", data)]
    words += [options["preset"]] if options["preset"] != "quick" else []
    words += [f"seed-{options['seed']}"] if options["seed"] else []
    return RUNS / "-".join(words)


def _train(
    out: Path, config: TrainConfig, dataset: "Dataset", resume: bool, options: dict[str, Any], console: Console
) -> str | None:
    from torchloupe.cli.train import A_WHILE, LONG, learn
    from torchloupe.pipeline import is_trained, trained_with

    if is_trained(out):
        return f"train: '{out}' is trained already ({trained_with(out)}); another --out begins anew."
    patience = None if options["yes"] else A_WHILE if options["preset"] == "study" and not resume else LONG
    learn(dataset, config, out, resume=resume, console=console, device=options["device"], patience=patience)
    return None


def _test(out: Path, dataset: "Dataset", options: dict[str, Any], console: Console) -> str | None:
    from torchloupe import pipeline
    from torchloupe.cli.test import tell

    if pipeline.is_tested(out, model=_code(options)):
        return "test: done already, with these weights."
    with console.progress("testing") as tick:
        done = pipeline.test(out, dataset, model=_code(options), device=options["device"], progress=tick)
    if options["quiet"]:
        print_result(f"{done.figures.accuracy:.4f}")
    else:
        tell(done.evaluation, done.figures.to_json(), done.folder, console)
    return None


def _code(options: dict[str, Any]) -> str | None:
    """Return the network of the user's own that the run is of, where they named one."""
    from torchloupe.models.reference import is_reference

    model: str | None = options["model"]
    return model if model is not None and is_reference(model) else None


def _report(out: Path, budget: float | None, options: dict[str, Any], console: Console) -> str | None:
    from torchloupe import pipeline

    made = pipeline.report(
        out,
        model=_code(options),
        budget=budget,
        seed=options["seed"],
        device=options["device"],
        offline=options["offline"],
        skip_bad=options["skip_bad"],
        quiet=console.quiet,
    )
    return "report: done already, of these weights." if made is None else None
