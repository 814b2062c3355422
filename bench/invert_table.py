"""How well each block of a network gives its picture back: `python bench/invert_table.py MODEL… --data DATA`.

Beside `invert` as it is by default stand 200 steps of Adam on the pixels (rate 0.05, from noise), whole and cut off at
the time that `invert` took, and the same inversion through a network with random weights.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

import torchloupe
from common import table, write
from torchloupe import data
from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.trace import trace
from torchloupe.models.network import Network
from torchloupe.synthesis.invert import Inversion, invert
from torchloupe.synthesis.similarity import psnr, ssim

PICTURES, FILTERS, STEPS, RATE = 16, 4, 200, 0.05
HEAD = (
    "block | from | n | s | error | PSNR | SSIM | Adam, equal time: steps | error | PSNR | SSIM "
    "| Adam, 200 steps: s | error | PSNR | random twin: error | PSNR | SSIM"
)


def blocks(net: Network) -> list[str]:
    """Name the first convolution and every innermost layer with parts of its own that puts out maps."""
    calls = [call for call in trace(net) if len(call.shape) == 4]
    first = next(call.name for call in calls if isinstance(call.module, torch.nn.Conv2d))
    whole = [call.name for call in calls if any(True for _ in call.module.children())]
    return [first, *(name for name in whole if not any(other.startswith(f"{name}.") for other in whole))]


def adam(net: Network, layer: str, images: Tensor, picks: Tensor, limit: float) -> tuple[list[float], int, float]:
    """Return error, PSNR and SSIM of pixels moved by Adam for so many seconds at most, its steps, its seconds."""
    rows = torch.arange(len(images))[:, None]
    pixels = torch.rand(images[:1].shape, generator=torch.Generator().manual_seed(0)).repeat(len(images), 1, 1, 1)
    pixels.requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=RATE)
    with frozen_eval(net):
        sought = activations(net, layer, images)[rows, picks].flatten(1)
        size = sought.square().sum(1)

        def error(pictures: Tensor) -> Tensor:
            return (activations(net, layer, pictures)[rows, picks].flatten(1) - sought).square().sum(1) / size

        began, steps = time.perf_counter(), 0
        while steps < STEPS and time.perf_counter() - began < limit:
            (pixels.grad,) = torch.autograd.grad(error(pixels)[size > 0].sum(), pixels)
            optimizer.step()
            steps += 1
        seconds = time.perf_counter() - began
        with torch.no_grad():
            shown = pixels.clamp(0, 1)
            scores = [error(shown), psnr(shown, images), ssim(shown, images)]
    return [float(score.nanmean()) for score in scores], steps, seconds


def means(found: Inversion) -> list[float]:
    """Return error, PSNR and SSIM, averaged."""
    return [float(score.nanmean()) for score in (found.error, found.psnr, found.ssim)]


def shown(scores: list[float]) -> list[str]:
    """Write error, PSNR and SSIM."""
    error, signal, similar = scores
    return [f"{error:.2g}", f"{signal:.1f}", f"{similar:.2f}"]


def row(net: Network, layer: str, images: Tensor, channels: Tensor | None) -> list[object]:
    """Measure one block, all filters together (None) or some singly."""
    each = channels is not None
    began = time.perf_counter()
    found = invert(
        net, layer, images, channels=None if channels is None else channels.tolist(), each=each, randomized=False
    )
    seconds = time.perf_counter() - began
    count = len(found.error)
    twin = invert(net, layer, images, channels=None if channels is None else channels.tolist(), each=each).randomized
    assert twin is not None
    with frozen_eval(net):
        width = activations(net, layer, images[:1]).shape[1]
    picks = found.channel[:, None] if each else torch.arange(width).expand(count, -1)
    originals = images[found.image]
    equal, steps, _ = adam(net, layer, originals, picks, seconds)
    full, _, long = adam(net, layer, originals, picks, float("inf"))
    which = "one filter" if each else "all filters"
    ours = [layer, which, count, f"{seconds:.1f}", *shown(means(found))]
    return [*ours, steps, *shown(equal), f"{long:.1f}", *shown(full)[:2], *shown(means(twin))]


def of_model(model: str, test: Tensor) -> str:
    """Return the section of one model."""
    net = torchloupe.load(model)
    draw = torch.Generator().manual_seed(0)
    images = test[torch.randperm(len(test), generator=draw)[:PICTURES]].float() / 255
    invert(net, "first", images, steps=2)  # warm
    rows = []
    for layer in blocks(net):
        with frozen_eval(net), torch.no_grad():
            live = activations(net, layer, images).abs().amax((0, 2, 3)).nonzero()[:, 0]
        one = live[torch.randperm(len(live), generator=draw)[:FILTERS]].sort().values
        rows += [row(net, layer, images, channels) for channels in (None, one)]
    lower = sum(float(str(each[4])) < float(str(each[8])) for each in rows)
    said = f"Lower error than Adam at equal time in {lower} of {len(rows)} rows."
    return f"## {Path(model).name}\n\n{table(HEAD.split(' | '), rows)}\n\n{said}"


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", default="auto")
    given = parser.parse_args()
    dataset = data.load(given.data)
    note = (
        f"{PICTURES} test pictures of {dataset.name}, drawn by seed 0; one filter: {FILTERS} live ones each. Means "
        "over pictures (and filters). s: seconds of `invert` with its default settings, without twin. error: "
        "‖Φ(x) − Φ₀‖² / ‖Φ₀‖² of the finished picture; PSNR in dB. Adam: on pixels, rate 0.05, from noise, no prior."
    )
    parts = [note, *(of_model(model, dataset.test.images) for model in given.models)]
    write("inversion", "Inversion: how well each block gives its picture back", parts, "python bench/invert_table.py")


if __name__ == "__main__":
    main()
