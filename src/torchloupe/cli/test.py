"""`torchloupe test`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import (
    DATA_HELP,
    device,
    foreign,
    how_to_load,
    json_,
    load_data,
    loading,
    open_named,
    quiet,
    reading,
    stack,
)
from torchloupe.errors import DataError, UsageError, printable
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torchloupe.checkpoints.open import Loaded
    from torchloupe.data.dataset import Dataset
    from torchloupe.evaluation.accuracy import Evaluation
    from torchloupe.runs.results import Figures


AVERAGE_PRECISION = "average-precision.json"
"""What the test of a multi-label network writes."""
OUT_HELP = (
    "Folder for the results (default: RUN; on other data than the run's own RUN/test-DATA; of RUN@EPOCH "
    "RUN/snapshots/test-EPOCH; --split train or val: train-split or val-split in there)."
)


@click.command()
@click.argument("model")
@click.option("--data", default=None, help=f"{DATA_HELP} (default: the data of the run).")
@click.option(
    "--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True, help="Which pictures."
)
@click.option("--tta", is_flag=True, help="Also measure with the mirrored picture averaged in.")
@click.option("--batch", type=click.IntRange(1), default=500, show_default=True, help="Pictures at a time.")
@click.option("--out", type=click.Path(path_type=Path), help=OUT_HELP)
@stack(foreign, device, loading, quiet, json_)
def test(model: str, **options: Any) -> None:
    """Test MODEL: loss, accuracy, per class, confusion, calibration, the most confident mistakes."""
    from torchloupe.inspection.places import results_folder
    from torchloupe.runs.results import write_results

    console = Console(options["quiet"] or options["as_json"])
    loaded = open_named(model, options)
    word = options["data"] or (loaded.config.data or {}).get("source")
    if word is None:
        raise UsageError(f"{model!r} does not say what data it was trained on: give --data.")
    dataset = load_data(
        word,
        console,
        size=loaded.config.size,
        **{**how_to_load(options), **reading(options, loaded.config.reading)},
    )
    split = dataset.split(options["split"])
    if split is None or not len(split):
        raise DataError(f"'{dataset.name}' has no {options['split']} pictures. Check --data.")
    if loaded.network.multilabel:
        _of_labels(loaded, dataset, options, console)
        return
    evaluation, found = _measure(model, loaded, dataset, options, console)
    figures = found.to_json()
    other, origin = _other(loaded, dataset, figures, options["data"]), loaded.network.origin
    word = origin.word if origin else ""
    folder = options["out"] or results_folder(loaded.run, word, loaded.title, split=options["split"], other=other)
    write_results(folder, evaluation, split, f"{loaded.title} on {dataset.name} ({options['split']})", figures)
    if options["as_json"]:
        print_result(json.dumps(figures))
    elif options["quiet"]:
        print_result(f"{figures['accuracy']:.4f}")
    else:
        tell(evaluation, figures, folder, console)
        if other and not options["out"]:
            console.say(f"These are of other data than the network's own, '{printable(other)}': in a folder apart.")


def _of_labels(loaded: "Loaded", dataset: "Dataset", options: dict[str, Any], console: Console) -> None:
    """Test a multi-label network: print the average precision of each class and their mean, and write them."""
    from torchloupe.evaluation.multilabel import precisions
    from torchloupe.inspection.places import results_folder
    from torchloupe.runtime.device import pick_device
    from torchloupe.runtime.files import write_json

    split, word = dataset.split(options["split"]), loaded.network.origin.word if loaded.network.origin else ""
    assert split is not None
    if options["tta"]:
        raise UsageError("--tta is of accuracies, and a multi-label network has none: leave it out.")
    network = loaded.network.to(pick_device(options["device"]))
    with console.progress("testing") as tick:
        found = precisions(network, split.images, split.labels, dataset.classes, batch=options["batch"], progress=tick)
    figures = {
        "model": word,
        "data": dataset.name,
        "split": options["split"],
        "n": len(split),
        "mean_average_precision": found.mean,
        "average_precision": found.per_class,
    }
    folder = options["out"] or results_folder(loaded.run, word, loaded.title, split=options["split"], other="")
    write_json(folder / AVERAGE_PRECISION, figures)
    if options["as_json"]:
        print_result(json.dumps(figures))
    elif options["quiet"]:
        print_result(f"{found.mean:.4f}")
    else:
        print_result(f"mean average precision  {found.mean:.2%} (n = {len(split):,}; a sigmoid each class)")
        for name, share in found.per_class.items():
            print_result(f"  {printable(name):<30.30}  {'no pictures' if share is None else f'{share:7.2%}'}")
        console.say(f"\nWritten to {folder}{os.sep}: {AVERAGE_PRECISION}")


def _measure(
    model: str, loaded: "Loaded", dataset: "Dataset", options: dict[str, Any], console: Console
) -> tuple["Evaluation", "Figures"]:
    from torchloupe.pipeline import measure
    from torchloupe.runtime.device import pick_device

    network = loaded.network.to(pick_device(options["device"]))
    with console.progress("testing") as tick:
        return measure(
            network,
            dataset,
            split=options["split"],
            name=model,
            tta=options["tta"],
            batch=options["batch"],
            progress=tick,
        )


def _other(loaded: "Loaded", dataset: "Dataset", figures: dict[str, Any], given: str | None) -> str:
    """Return the name of data that are not those the network was trained on; "" for its own."""
    own = loaded.config.data
    if given is None or own is None:
        return ""
    same = own["crc32"] == figures["crc32"] if own.get("crc32") else own.get("source") == dataset.source
    return "" if same else dataset.name


def tell(evaluation: "Evaluation", figures: dict[str, Any], folder: Path, console: Console) -> None:
    """Print what a test found, and where it is written."""
    from torchloupe.evaluation.intervals import words
    from torchloupe.runs.results import FILES, interval_of, near_chance, said_of_calibration

    between = f"95 %: {words(interval_of(figures))}, n = {figures['n']:,}"
    print_result(f"accuracy  {figures['accuracy']:.2%} ({between}), no test-time augmentation")
    if "accuracy_flip_tta" in figures:
        between = words(interval_of(figures, "accuracy_flip_tta"))
        print_result(f"          {figures['accuracy_flip_tta']:.2%} (95 %: {between}) with flip test-time augmentation")
    print_result(f"loss      {figures['loss']:.4f} nats")
    wide = max(len(name) for name in figures["per_class"])
    for name, share in figures["per_class"].items():
        ends = figures["per_class_interval"][name]
        told = "no pictures" if share is None else f"{share:7.2%}  (95 %: {words(ends, 1)})"
        print_result(f"  {printable(name):<{min(wide, 30)}.30}  {told}")
    for sentence in said_of_calibration(figures):
        print_result(sentence)
    if near_chance(evaluation):
        console.say(
            "\nThat is no better than guessing. Check that mean and std are those of training, "
            "that pictures are RGB and not normalised twice, and that the classes are in the order of training."
        )
    names = [name for name in FILES if (folder / name).exists()]
    console.say(f"\nWritten to {folder}{os.sep}: {', '.join(names)}")
    if figures["split"] == "test":
        console.say(f"Next: torchloupe test {figures['model']} --split train   (how much of it is learned by heart)")
