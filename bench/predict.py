"""Pictures a second of `torchloupe predict` beside the network's bare forward pass, and its memory as files grow.

    python bench/predict.py FOLDER [--model cifar10] [--files 4000] [--device cpu]

FOLDER holds picture files, at any depth. The bare pass has the same pictures decoded and in memory, in the same
batches; decoding alone is one thread a core. Memory is what a quarter of the files and all of them add, at most, to the
process.
"""

import argparse
import io
import os
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch

from common import Timed, memory_now, memory_peak, ratio, table, timed, write
from torchloupe import Network, load, predict
from torchloupe.cli import main
from torchloupe.data.formats.stream import decoded
from torchloupe.data.tensors import to_float
from torchloupe.evaluation.probabilities import at_a_time
from torchloupe.inspection.inputs import image_files

BATCH = 500


def bare(network: Network, files: list[Path], amp: bool) -> Callable[[], object]:
    """Return the forward pass over pictures that are in memory, as bytes."""
    side = network.size or 224
    pixels = [torch.from_numpy(one.pixels.copy()) for one in decoded(files, side) if one.pixels is not None]
    images = torch.stack(pixels).permute(0, 3, 1, 2)
    there = next(network.parameters()).device

    @torch.no_grad()
    def run() -> None:
        for part in torch.split(images, at_a_time(BATCH, side)):
            with torch.autocast(there.type, torch.bfloat16, enabled=amp):
                network(to_float(part.to(there)).contiguous(memory_format=torch.channels_last)).float().cpu()

    return run


def command(words: list[str]) -> None:
    """Run the command line, with its rows into memory."""
    with redirect_stdout(io.StringIO()):
        try:
            main(words)
        except SystemExit as end:
            assert not end.code, end.code


def decoding(files: list[Path], side: int) -> None:
    """Decode all files, and do nothing with them."""
    for _ in decoded(files, side, ahead=BATCH):
        pass


def measure(model: str, files: list[Path], device: str) -> tuple[str, str]:
    """Return the tables of speed and of memory."""
    network = load(model).to(device)
    list_of = Path(tempfile.gettempdir()) / "predict-files.txt"
    rows: list[tuple[str, Timed, Timed]] = []
    for kind in ("off", "on"):
        pure = timed(bare(network, files, kind == "on"))
        whole = timed(lambda: predict(network, files, amp=kind, progress=lambda *_: None))
        rows.append((f"`torchloupe.predict`, {'bfloat16' if kind == 'on' else 'float32'}", whole, pure))
    alone = timed(lambda: decoding(files, network.size or 224))
    lines = [(name, speed(files, whole), speed(files, pure), ratio(whole, pure)) for name, whole, pure in rows]
    lines.append(("decoding alone", speed(files, alone), "", ""))
    memory = []
    for part in (files[: len(files) // 4], files):
        list_of.write_text("\n".join(map(str, part)))
        before = memory_now()
        with list_of.open("rb") as stream:
            os.dup2(stream.fileno(), 0)
            words = ["predict", model, "--stdin", "--csv", "--quiet", "--device", device]
            seconds = timed(lambda: command(words), runs=1, warm=0)
        memory.append((f"{len(part):,}", f"{memory_peak() - before:.0f}", speed(part, seconds)))
    list_of.unlink()
    fast = table(["", "pictures/s: median", "bare pass: pictures/s", "time of the bare pass"], lines)
    return fast, table(["files, by the command", "MB more than before, at most", "pictures/s"], memory)


def speed(files: list[Path], seconds: Timed) -> str:
    """Return pictures a second."""
    return f"{len(files) / seconds.median:,.0f}"


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("folder", type=Path)
    asked.add_argument("--model", default="cifar10")
    asked.add_argument("--files", type=int, default=4000)
    asked.add_argument("--device", default="cpu")
    given = asked.parse_args()
    chosen = image_files(given.folder)[: given.files]
    tables = measure(given.model, chosen, given.device)
    note = f"`{given.model}`, {len(chosen):,} files, on {given.device}; n = 3 after one that is not counted."
    write("predict", "Predictions", [note, *tables], "python bench/predict.py FOLDER")
