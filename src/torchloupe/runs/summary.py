"""What a run folder gets when its training has ended: curves and a page that says what it is."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError
from torchloupe.figures.plots import curves, save_figure
from torchloupe.runs.config import read_config
from torchloupe.runs.folder import CONFIG, RUNS
from torchloupe.runs.metrics import how_measured, measured_on, read_metrics
from torchloupe.runtime.files import atomic_write


def finish(run: Path) -> dict[str, Any]:
    """Write `curves.svg`, `curves.png` and `README.md`; returns the last epoch's figures.

    Accuracies are in [0, 1]; `train_accuracy` is running, `test_accuracy` without test-time augmentation.

    Raises:
        ModelError: what the run says of itself is damaged, or not whole.
    """
    config = asdict(read_config(run))
    about = {"holdout", "optimizer", "batch", "seed"} - (config["training"] or {}).keys()
    missing = sorted(about | {"name", "train", "test"} - (config["data"] or {}).keys())
    if missing:
        raise ModelError(f"'{run / CONFIG}' is not whole: {', '.join(missing)} missing. Was it made by torchloupe?")
    rows = read_metrics(run)
    epochs = [row for row in rows if row["kind"] == "epoch"]
    if not epochs:
        raise ModelError(f"the log of '{run}' holds no epoch. Its weights are whole: `torchloupe test {run}`.")
    last = epochs[-1]
    draw_curves(run, f"{config['model']} on {config['data']['name']}")
    atomic_write(run / "README.md", page(run.name if run.parent == RUNS else str(run), config, last).encode())
    figures = {name: last[name] for name in last if name not in ("kind",)}
    return {"run": str(run), "model": config["model"], "data": config["data"]["name"], **figures}


def draw_curves(run: Path, title: str) -> None:
    """Write `curves.svg` and `curves.png` of a run.

    Raises:
        ModelError: what the run says of itself, or its log, is damaged.
    """
    about = read_config(run)
    other, note = measured_on(about.training, about.data), how_measured(about.training)
    figure = curves(read_metrics(run), title=title, other=other, note=note)
    for kind in ("svg", "png"):
        save_figure(figure, run / f"curves.{kind}")


def page(name: str, config: dict[str, Any], last: dict[str, Any]) -> str:
    """Return the README of a run.

    >>> config = {"model": "loupe", "size": 32, "classes": ["a"], "data": {"name": "x", "train": 9, "test": 3},
    ...           "training": {"holdout": 0.0, "optimizer": "muon", "batch": 3, "seed": 0}}
    >>> last = {"epoch": 2.0, "step": 6, "train_loss": 1.0, "train_accuracy": 0.5}
    >>> print(page("r", config, last).splitlines()[0])
    # r
    """
    training, data = config["training"], config["data"]
    other = {"held-out": "held-out part of train"}.get(word := measured_on(training, data), word)
    val = f", {data['val']:,} val" if data.get("val") else ""
    measured = [f"| train, running (augmented pictures) | {last['train_loss']:.4f} | {last['train_accuracy']:.2%} |"]
    if "test_loss" in last:
        measured.append(
            f"| {other}, no test-time augmentation | {last['test_loss']:.4f} | {last['test_accuracy']:.2%} |"
        )
    return "\n".join(
        [
            f"# {name}",
            "",
            f"`{config['model']}` trained on `{data['name']}` ({data['train']:,} train{val} and {data['test']:,} test "
            f"pictures, {len(config['classes'])} classes), {last['epoch']:.4g} epochs, {last['step']:,} steps of "
            f"{training['batch']} with {training['optimizer']}, seed {training['seed']} (n = 1).",
            "",
            "| split | loss | accuracy |",
            "|---|---|---|",
            *measured,
            "",
            "![curves](curves.png)",
            "",
            f"Test it again: `torchloupe test {name}`. All settings: `config.json`; every step: `metrics.jsonl`.",
            "",
        ]
    )
