"""`torchloupe data show | get`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import how_to_load, load_data, loading, quiet
from torchloupe.errors import printable
from torchloupe.runtime.console import Console, print_result

if TYPE_CHECKING:
    from torchloupe.data.dataset import Dataset


@click.group()
def data() -> None:
    """Look at a data set; get CIFAR-10."""


@data.command()
@click.argument("source", metavar="D", default="auto")
@click.option("--out", type=click.Path(path_type=Path), default=Path("sheet.png"), show_default=True, help="Picture.")
@click.option("--per-class", type=click.IntRange(1, 50), default=8, show_default=True, help="Pictures of each class.")
@click.option("--size", type=int, help="Side at which pictures of mixed sizes are kept.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which pictures.")
@loading
@quiet
def show(source: str, **options: Any) -> None:
    """Count the pictures of each class and draw a sheet of samples.

    D is cifar10, cifar100, shapes, auto, or a folder, zip, tar or official archive of pictures.
    """
    console = Console(options["quiet"])
    dataset = load_data(source, console, size=options["size"], **how_to_load(options))
    _sheet(dataset, options["out"], options["per_class"], options["seed"])
    _count(dataset)
    following = "test MODEL --multilabel" if dataset.is_multilabel else "train"
    told = {"--labels": options["labels"], "--class-names": options["class_names"]}
    more = "".join(f" {option} {path}" for option, path in told.items() if path is not None)
    console.say(f"\nSheet: {options['out']}\nNext: torchloupe {following} --data {source}{more}")


def _sheet(dataset: "Dataset", out: Path, per_class: int, seed: int) -> None:
    from torchloupe.data import subsets
    from torchloupe.figures.plots import save_figure, sheet, shorten

    split = dataset.train
    table = split.labels if dataset.is_multilabel else None
    labels = split.labels if table is None else table.int().argmax(1)  # a picture of several stands with its first
    index = subsets.per_class(labels, min(len(dataset.classes), 25), per_class, seed)
    captions = [f"{shorten(_classes_of(dataset, int(i)), 16)}\n{shorten(split.names[i], 20)}" for i in index.tolist()]
    title = f"{dataset.name}: {per_class} train pictures a class, drawn by seed {seed}"
    save_figure(sheet(split.images[index], captions, columns=per_class, title=title), out)


def _classes_of(dataset: "Dataset", picture: int) -> str:
    label = dataset.train.labels[picture]
    if not dataset.is_multilabel:
        return dataset.classes[int(label)]
    return ", ".join(dataset.classes[k] for k in label.nonzero().flatten().tolist()) or "no class"


def _count(dataset: "Dataset") -> None:
    import torch

    n = len(dataset.classes)
    splits = {word: split for word in ("train", "val", "test") if (split := dataset.split(word)) is not None}
    labels = [split.labels for split in splits.values()]
    counts = [(each.sum(0) if each.ndim > 1 else torch.bincount(each, minlength=n)).tolist() for each in labels]
    wide = min(30, max(map(len, dataset.classes)))
    print_result(f"{'class':<{wide}}" + "".join(f"  {word:>7}" for word in splits))
    for name, *each in zip(dataset.classes, *counts, strict=True):
        print_result(f"{printable(name):<{wide}.{wide}}" + "".join(f"  {count:>7,}" for count in each))
    print_result(f"{'all':<{wide}}" + "".join(f"  {len(split):>7,}" for split in splits.values()))
    h, w = dataset.train.images.shape[2:]
    print_result(f"{w} x {h} pixels; mean {_few(dataset.mean)}, std {_few(dataset.std)} of train, in [0, 1]")


def _few(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.4f}" for value in values)


@data.command()
@click.argument("name", type=click.Choice(["cifar10", "cifar100"]), default="cifar10")
@quiet
def get(name: str, quiet: bool) -> None:
    """Download CIFAR-10 (or CIFAR-100) once; a broken download goes on where it stopped."""
    from torchloupe.data.auto import find

    console = Console(quiet)
    with console.progress(f"downloading {name}") as tick:
        path = find(name, say=console.say, progress=tick)
    print_result(str(path))
    console.say(f"Next: torchloupe train --data {name}")
