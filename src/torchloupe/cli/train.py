"""`torchloupe train`."""

import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import (
    DATA_HELP,
    device,
    find_data,
    how_to_load,
    json_,
    load_data,
    loading,
    numbers,
    of_config,
    quiet,
    reading,
    remember,
)
from torchloupe.cli.options import stack as joined
from torchloupe.errors import UsageError
from torchloupe.runs.folder import check_free, is_begun, to_go_on_with
from torchloupe.runs.request import begun_on, begun_with, requested
from torchloupe.runs.writing import writing, writing_new
from torchloupe.runtime import signals
from torchloupe.runtime.console import Console, duration, print_result
from torchloupe.runtime.launched import launched_rank
from torchloupe.training.config import (
    PRESET_NOTES,
    PRESETS,
    TrainConfig,
    configure,
    decided_by,
    from_toml,
    resolve,
    steps_of,
)

if TYPE_CHECKING:
    from torchloupe.data.dataset import Dataset
    from torchloupe.pipeline import Trained

LINE_EVERY = 3.0
"""Seconds between two lines at least."""
LONG = 3 * 3600.0
"""Seconds of estimated training above which it asks first."""
A_WHILE = 300.0
"""The same for the preset `study`, which is for comparison."""

PRESET_HELP = "\n\n".join(["\b\nPresets:", *(f"\b\n  {name:<6} {note}" for name, note in PRESET_NOTES.items())])


@click.command(epilog=PRESET_HELP)
@click.option("--data", default="auto", show_default=True, help=DATA_HELP)
@click.option("--preset", default=None, help=f"{', '.join(PRESETS)} (default: quick); other options change its values.")
@click.option("--config", "toml", type=click.Path(path_type=Path), help="TOML file with any of these options.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder (default: a new one under runs/).")
@click.option(
    "--resume",
    type=click.Choice(["run", "auto"]),
    is_flag=False,
    flag_value="run",
    help="Go on with the run in --out (default: the newest) where it stopped. `--resume auto` begins it where there is "
    "none, for jobs that are queued again.",
)
@of_config()
@joined(device, loading, quiet, json_)
@click.option(
    "--amp",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="bfloat16 (auto: where the processor multiplies it itself).",
)
@click.option("--compile", "compiled", is_flag=True, help="Use torch.compile.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
@click.option("--yes", is_flag=True, help="Do not ask before a long training.")
def train(**options: Any) -> None:
    """Train a network and write a run folder: weights, metrics, curves, states to go on from."""
    console = Console(options["quiet"] or options["as_json"] or launched_rank() > 0)
    values = given(options)
    values = {**(_of_file(options["toml"], values.get("model")) if options["toml"] else {}), **values}
    named = {name: values.pop(name, None) for name in ("data", "preset", "out")}
    word, out = named["data"] or "auto", options["out"] or (Path(named["out"]) if named["out"] else None)
    preset = options["preset"] or named["preset"]
    config = configure(preset or "quick", values)
    if options["resume"] == "run":
        out = to_go_on_with(out)
    elif options["resume"] and out is None:
        raise UsageError("--resume auto needs --out: a job that is queued again must find the same folder.")
    with ExitStack() as stack:
        if out is None:
            name, word = find_data(word, console, offline=options["offline"])
            out = stack.enter_context(writing_new(config.model, name))
        else:
            stack.enter_context(writing(out))
        old = None
        if options["resume"] and is_begun(out):
            from torchloupe.training.resume import begun

            asked = [*values, *(decided_by(preset) if preset else [])]
            old = begun(out, config, asked, values.get("model"))
            config = old or config
            word = named["data"] or begun_on(out)
            remember(options, begun_with(out))
        elif launched_rank() == 0:
            check_free(out)
        stack.enter_context(
            requested(out, asdict(config), word, reading(options))
        )  # before torch is imported and the data are read
        dataset = load_data(word, console, size=config.size, **how_to_load(options))
        done = learn(
            dataset,
            config,
            out,
            resume=old is not None,
            console=console,
            device=options["device"],
            amp=options["amp"],
            compiled=options["compiled"],
            threads=options["threads"],
            patience=None if options["yes"] else A_WHILE if preset == "study" else LONG,
        )
    if options["as_json"] and done.figures:
        print_result(json.dumps(done.figures))


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given on the command line."""
    values = {name: options[name] for name in TrainConfig.__dataclass_fields__ if options.get(name) is not None}
    for name in ("mean", "std"):
        if name in values:
            values[name] = numbers(values[name], f"--{name}")
    context = click.get_current_context()
    if context.get_parameter_source("data") is not click.core.ParameterSource.DEFAULT:
        values["data"] = options["data"]
    return values


def _of_file(path: Path, model: str | None) -> dict[str, Any]:
    """Return the settings of a TOML file; code that it names runs only where the user vouches for it."""
    from torchloupe.models.trust import permitted

    values = from_toml(path)
    if model is None and isinstance(values.get("model"), str):
        values["model"] = permitted(values["model"], path)
    return values


def learn(
    dataset: "Dataset",
    config: TrainConfig,
    out: Path,
    *,
    resume: bool,
    console: Console,
    device: str = "auto",
    amp: str = "auto",
    compiled: bool = False,
    threads: int | None = None,
    patience: float | None = LONG,
) -> "Trained":
    """Say what will be learned, ask if it takes more than `patience` seconds (None: never), learn, and tell of it."""
    from torchloupe import pipeline
    from torchloupe.data.dataset import check_one_label
    from torchloupe.runs.metrics import measured_on
    from torchloupe.training.journal import Listener
    from torchloupe.training.loop import Stopped

    check_one_label(dataset, "training")
    _introduce(dataset, config, out, console, device, amp, patience)
    with signals.postponed() as stop, console.progress("training") as tick:
        listener = Listener(
            step=lambda step, steps, loss: tick(step, steps),
            epoch=teller(console, measured_on({"holdout": config.holdout}, {"val": dataset.val is not None})),
            wants_stop=lambda: bool(stop),
        )
        try:
            done = pipeline.train(
                dataset,
                config,
                out,
                resume=resume,
                device=device,
                amp=amp,
                compiled=compiled,
                threads=threads,
                listener=listener,
            )
        except Stopped:
            console.say(f"Stopped; its state is saved. Go on with: torchloupe train --resume --out {out}")
            number = stop[0] if stop else signal.SIGTERM  # another rank may have heard of it
            stop.clear()  # it is told already
            raise SystemExit(128 + number) from None
    if done.figures:
        if "note" in done.figures:
            console.say(f"Note: {done.figures['note']}")
        console.say(f"\nCurves: {out / 'curves.png'}\nNext: torchloupe test {out}, torchloupe pictures {out}")
    return done


def _introduce(
    dataset: "Dataset",
    config: TrainConfig,
    out: Path,
    console: Console,
    device: str,
    amp: str,
    patience: float | None,
) -> None:
    """Say what will be learned, with what, where to, and how long it may take; ask if that is long."""
    from torchloupe.models.reference import is_reference
    from torchloupe.training.estimate import training_seconds

    n = round(len(dataset.train) * (1 - config.holdout))
    plan = resolve(config, ours=not is_reference(config.model), images=n)
    h, w = dataset.train.images.shape[2:]
    val = "" if dataset.val is None else f", {len(dataset.val):,} val"
    console.say(
        f"Data   {dataset.name}: {len(dataset.train):,} train{val} and {len(dataset.test):,} test pictures "
        f"of {w} x {h}, {len(dataset.classes)} classes"
    )
    _, steps = steps_of(plan, n)
    size = f", pictures resized to {plan.size}" if plan.size else ""
    console.say(
        f"Plan   {plan.model}, {plan.epochs:.3g} epochs, {steps:,} steps of {plan.batch}, {plan.optimizer}, "
        f"seed {plan.seed}{size}"
    )
    console.say(f"Run    {out}")
    seconds = training_seconds(dataset, plan, device, amp)
    if seconds is None:
        return
    console.say(f"Time   about {duration(seconds)} on this machine (estimated)")
    if patience is None or seconds < patience:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"this will take about {duration(seconds)}: add --yes to train that long, or --epochs.")
    click.confirm("Train that long?", abort=True, err=True)


def teller(console: Console, other: str) -> Callable[[dict[str, Any]], None]:
    """Return a listener that prints a line an epoch; of short epochs, one every few seconds and the last."""
    last = -LINE_EVERY

    def tell(row: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY or row["eta"] <= 0:
            console.say(epoch_line(row, other))
            last = now

    return tell


def epoch_line(row: dict[str, Any], other: str) -> str:
    """Return the line of one epoch.

    >>> row = {"epoch": 1.0, "epochs": 6.0, "train_loss": 1.5, "train_accuracy": 0.5, "test_loss": 1.25,
    ...        "test_accuracy": 0.625, "seconds": 40.0, "eta": 200.0}
    >>> epoch_line(row, "test")
    'epoch 1/6   train 1.500  50.00 %   test 1.250  62.50 %   40 s, 3 min 20 s left'
    """
    parts = [f"epoch {row['epoch']:.4g}/{row['epochs']:.4g}"]
    parts.append(f"train {row['train_loss']:.3f}  {100 * row['train_accuracy']:.2f} %")
    if "test_loss" in row:
        parts.append(f"{other} {row['test_loss']:.3f}  {100 * row['test_accuracy']:.2f} %")
    left = f", {duration(row['eta'])} left" if row["eta"] > 0 else ""
    return "   ".join([*parts, duration(row["seconds"]) + left])
