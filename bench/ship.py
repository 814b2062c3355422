"""Make the folder of a network that comes with the package out of finished runs on JPEG CIFAR-10.

    python bench/ship.py runs/best-0 [runs/best-1 …] --options "--preset best"
    python bench/ship.py --again cifar10 --data DATA [--layers layer3.1,…]

The first run is shipped, with what was measured on its data; the others, other seeds of the same settings, give mean
and standard deviation. No picture of the data goes along: figures, filters and pictures made from noise only.

`--again` measures a network that is shipped already anew, on its own data: its test, what its channels do, and the
ablation of `--layers` (all where none are named, which takes hours). The rest stays.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from torchloupe import data as data_sets
from torchloupe.checkpoints.file import read_tensors, save_tensors
from torchloupe.checkpoints.open import open_model
from torchloupe.evaluation.intervals import words
from torchloupe.features.hooks import OUTPUT
from torchloupe.inspection.subject import Subject, subject
from torchloupe.reports.contents import Layer, Unit
from torchloupe.reports.making import Making
from torchloupe.reports.report import prepare
from torchloupe.reports.sections.performance import performance
from torchloupe.reports.sections.training_film import snapshots, training_film
from torchloupe.reports.sections.units import ablated
from torchloupe.runs.results import interval_of
from torchloupe.runtime.console import duration
from torchloupe.runtime.files import atomic_write, read_json, write_json

HOME = Path(__file__).parent.parent / "src" / "torchloupe" / "checkpoints" / "shipped"
AS_IT_IS = ("test.json", "confusion.csv", "statistics.safetensors")
MEASURED = ("health", "ablation", "learned")
TRAINING_STEPS = 400
"""Rows of single steps that are kept for the curves."""


def main() -> None:
    """Measure what a report needs, then copy."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", type=Path, nargs="*")
    options.add_argument("--name", default="cifar10")
    options.add_argument("--options", help="what `torchloupe train` was called with")
    options.add_argument("--again", metavar="NAME", help="a network that is shipped already")
    options.add_argument("--data", default="auto")
    options.add_argument("--layers", help="of --again: layers whose units are ablated, by commas; none: '-'")
    given = options.parse_args()
    if given.again:
        again(given.again, given.data, given.layers)
        return
    if not given.runs or given.options is None:
        options.error("name runs and --options, or --again")
    run, home = given.runs[0], HOME / given.name
    for each in given.runs:
        if "accuracy_flip_tta" not in read_json(each / "test.json"):
            options.error(f"'{each}' was not tested with --tta")
    studied = subject(run)
    measured(studied)
    home.mkdir(parents=True, exist_ok=True)
    for old in home.iterdir():
        old.unlink()
    tensors, about = read_tensors(run / "model.safetensors")
    about["data"] = _data(about["data"])
    save_tensors(home / "model.safetensors", tensors, about)
    write_json(home / "config.json", about)
    for name in AS_IT_IS:
        shutil.copyfile(run / name, home / name)
    write_json(home / "test.json", {**read_json(home / "test.json"), "model": given.name})
    for kind in MEASURED:
        for path in run.glob(f"{kind}-*{studied.weights}.safetensors"):
            shutil.copyfile(path, home / path.name)
    _metrics(run, home)
    environment = read_json(run / "environment.json")
    kept = ("packages", "python", "processor", "cores", "threads", "device", "device_name", "precision")
    write_json(home / "environment.json", {name: environment.get(name) for name in kept})
    shutil.copyfile(run / "timing.jsonl", home / "timing.jsonl")
    atomic_write(home / "README.md", card(given.name, given.runs, about, home, given.options).encode())
    size = sum(path.stat().st_size for path in home.iterdir())
    print(f"{home}: {size / 1e6:.2f} MB; snapshots seen: {len(snapshots(run))}")


def measured(studied: Subject) -> None:
    """Measure of every unit what takes the data, and leave it in the run: health, ablation, how it learned."""
    planned, samples = prepare(studied, budget=None, units="all")
    making = Making(studied, planned, samples, 0, None)
    _measure_units(making, [layer for layer in planned.layers if layer != OUTPUT])
    assert training_film(making) is not None and not making.refused, making.refused


def _measure_units(making: Making, wanted: list[str]) -> None:
    """Measure what channels do, and the ablation of every unit of some layers."""
    studied, layers = making.studied, making.plan.layers
    blocks = [layer for layer in layers if layer != OUTPUT]
    known = studied.health(list(layers), ranked=True)
    assert known is not None
    for layer in wanted:
        found = Layer(layer, "", units=[Unit(channel) for channel in range(len(known[layer].best))])
        ablated(making, found, last=layer == blocks[-1])
        told = found.ablated
        assert told is not None, making.refused
        print(f"{layer}: {told.found} of {told.units} units with an effect, n = {told.images}", flush=True)


def again(name: str, data: str, layers: str | None) -> None:
    """Measure a shipped network anew and write what is new beside it."""
    home = HOME / name
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TORCHLOUPE_CACHE"] = scratch
        dataset = data_sets.load(data, offline=True)
        studied = Subject(open_model(str(home / "model.safetensors")).network, dataset)
        own = read_json(home / "config.json")["data"]["crc32"]
        assert studied.crc == own, f"other data than its own: {studied.crc}, not {own}"
        planned, samples = prepare(studied, budget=None, units="all")
        making = Making(studied, planned, samples, 0, None)
        blocks = [layer for layer in planned.layers if layer != OUTPUT]
        _measure_units(making, blocks if layers is None else [each for each in layers.split(",") if each in blocks])
        assert not making.refused, making.refused
        tested = performance(studied, len(dataset.test))
        assert tested is not None and tested.measured
        for path in Path(scratch).rglob(f"*-{studied.weights}.safetensors"):
            shutil.copyfile(path, home / path.name)
        (results,) = {path.parent for path in Path(scratch).rglob("confusion.csv")}
        shutil.copyfile(results / "confusion.csv", home / "confusion.csv")
    before = read_json(home / "test.json")
    figures = {**tested.figures, "model": name, "data": before["data"]}
    write_json(home / "test.json", figures)
    lines = (home / "README.md").read_text(encoding="utf-8").splitlines(keepends=True)
    rows = dict(zip(ROWS, of_test(figures), strict=True))
    begun = [next((row + "\n" for start, row in rows.items() if line.startswith(start)), line) for line in lines]
    atomic_write(home / "README.md", "".join(begun).encode())


ROWS = ("| accuracy, test split", "| the same with", "| calibration error")
"""How the rows of a card begin that a test gives."""


def of_test(figures: dict[str, Any]) -> list[str]:
    """Return the rows of a card that a test gives."""
    more = figures["calibration"]
    return [
        f"| accuracy, test split of JPEG CIFAR-10, n = {figures['n']:,}, no test-time augmentation | "
        f"**{100 * figures['accuracy']:.2f} %** (95 %: {words(interval_of(figures))}) |",
        f"| the same with the mirrored picture averaged in | {100 * figures['accuracy_flip_tta']:.2f} % |",
        f"| calibration error, {len(figures['reliability'])} bins of as many pictures each | "
        f"{100 * figures['calibration_error']:.2f} points ({more['verdict']}; "
        f"by chance {100 * more['by_chance']:.2f}); after one "
        f"temperature, T = {more['temperature']:.2f}: {100 * more['error_after']:.2f} |",
    ]


def _data(about: dict[str, Any]) -> dict[str, Any]:
    """Say what the data were, without the place where they lay."""
    return {**about, "source": None, "name": "JPEG CIFAR-10"}


def _metrics(run: Path, home: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row for row in rows if row["kind"] == "step"]
    every = max(1, len(steps) // TRAINING_STEPS)
    kept = {id(row) for row in steps[::every]}
    lines = [json.dumps(row) for row in rows if row["kind"] == "epoch" or id(row) in kept]
    atomic_write(home / "metrics.jsonl", ("\n".join(lines) + "\n").encode())


def card(name: str, runs: list[Path], about: dict[str, Any], home: Path, options: str) -> str:
    """Return the model card."""
    tests = [read_json(run / "test.json") for run in runs]
    plain = [100 * test["accuracy"] for test in tests]
    spread = f"{statistics.mean(plain):.2f} ± {statistics.stdev(plain):.2f} %" if len(plain) > 1 else ""
    training, data = about["training"], about["data"]
    seconds = json.loads((home / "timing.jsonl").read_text(encoding="utf-8").splitlines()[-1])["train_seconds"]
    environment = read_json(home / "environment.json")
    widths = "/".join(map(str, about["arguments"].get("widths", (32, 64, 128))))
    size = (home / "model.safetensors").stat().st_size
    return "\n".join(
        [
            f"# {name}",
            "",
            f"A `loupe` network ({widths} channels, 5×5 colour filters at its first layer; {size / 1e6:.1f} MB) that",
            "names the ten classes of CIFAR-10. It comes with torchloupe so that there is something to look into",
            "without data, download or training: `torchloupe report cifar10`.",
            "",
            "| | |",
            "|---|---|",
            *of_test(tests[0]),
            *([f"| mean ± std of {len(plain)} seeds | {spread} |"] if spread else ["| seeds trained | 1 (n = 1) |"]),
            f"| training | {training['epochs']:.4g} epochs, {duration(seconds)} on {environment['processor']}, "
            f"{environment['threads']} threads, {environment.get('precision', 'float32')} |",
            "",
            "**What it saw.** The 50,000 train pictures of CIFAR-10 (Krizhevsky 2009) in a public re-encoding as JPEG "
            f"(quality 75), checksum {data['crc32']}; nothing else. Its settings were chosen on a held-out part of "
            "train; none by the test pictures (the test accuracy of every epoch was written down, and not used).",
            "",
            "**What it is for.** To be looked into, and to start from on small pictures. Not for decisions about "
            "anybody or anything: it knows ten kinds of things at 32×32 pixels, and names one of them whatever it "
            "is shown.",
            "",
            "**What lies beside it.** Spectrum and colours of its train pictures, what every channel did over the test "
            "pictures (strongest activation, mean by class), the accuracy without each channel, filters and maximising "
            "pictures on its way. No picture of the data set, and nothing from which one could be had back.",
            "",
            "**To train it again** (another seed gives another network):",
            "",
            "```sh",
            f"torchloupe train --data DATA {options} --seed {training['seed']}",
            "```",
            "",
            "Weights and figures: MIT licence, as the package.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
