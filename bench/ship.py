"""Make the folder of a network that comes with the package out of finished runs on JPEG CIFAR-10.

    python bench/ship.py runs/best-0 [runs/best-1 …] --options "--preset best"

The first run is shipped, with what was measured on its data; the others, other seeds of the same settings, give mean
and standard deviation. No picture of the data goes along: figures, filters and pictures made from noise only.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from torchloupe.checkpoints.file import read_tensors, save_tensors
from torchloupe.features.hooks import OUTPUT
from torchloupe.inspection.subject import Subject, subject
from torchloupe.reports.contents import Layer, Unit
from torchloupe.reports.making import Making
from torchloupe.reports.report import prepare
from torchloupe.reports.sections.training_film import snapshots, training_film
from torchloupe.reports.sections.units import ablated
from torchloupe.runtime.console import duration
from torchloupe.runtime.files import atomic_write, read_json, write_json

HOME = Path(__file__).parent.parent / "src" / "torchloupe" / "shipped"
AS_IT_IS = ("test.json", "confusion.csv", "statistics.safetensors")
MEASURED = ("health", "ablation", "learned")
TRAINING_STEPS = 400
"""Rows of single steps that are kept for the curves."""


def main() -> None:
    """Measure what a report needs, then copy."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("runs", type=Path, nargs="+")
    words.add_argument("--name", default="cifar10")
    words.add_argument("--options", required=True, help="what `torchloupe train` was called with")
    given = words.parse_args()
    run, home = given.runs[0], HOME / given.name
    for each in given.runs:
        if "accuracy_flip_tta" not in read_json(each / "test.json"):
            words.error(f"'{each}' was not tested with --tta")
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
    blocks = [layer for layer in planned.layers if layer != OUTPUT]
    known = studied.health(list(planned.layers))
    assert known is not None
    for layer in blocks:
        units = list(range(len(known[layer].best)))
        ablated(making, Layer(layer, "", units=[Unit(channel) for channel in units]), last=layer == blocks[-1])
        print(f"{layer}: {len(units)} units", flush=True)
    assert training_film(making) is not None and not making.refused, making.refused


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
    mirrored = [100 * test["accuracy_flip_tta"] for test in tests]
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
            f"| accuracy, test split of JPEG CIFAR-10, n = {tests[0]['n']:,}, no test-time augmentation | "
            f"**{plain[0]:.2f} %** (standard error {100 * tests[0]['standard_error']:.2f}) |",
            f"| the same with the mirrored picture averaged in | {mirrored[0]:.2f} % |",
            *([f"| mean ± std of {len(plain)} seeds | {spread} |"] if spread else ["| seeds trained | 1 (n = 1) |"]),
            f"| calibration error, 15 bins | {100 * tests[0]['calibration_error']:.2f} points |",
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
