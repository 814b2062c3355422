"""Seconds of explanations beside captum, which makes the same maps in the same run.

    python bench/explanations.py [--model cifar10] [--images 32]

Captum is used at its best: the whole batch at once, its own batches inside where it has them, channels last, weights
without gradients. Before they are timed, both maps are compared.
"""

import argparse
from collections.abc import Callable

import captum.attr
import torch
from torch import Tensor

from common import ratio, table, timed, write
from torchloupe import load
from torchloupe.attribution.cam import grad_cam
from torchloupe.attribution.occlusion import occlusion
from torchloupe.attribution.path import input_x_gradient, integrated_gradients
from torchloupe.features.trace import resolve
from torchloupe.inspection.inputs import from_words
from torchloupe.models.network import Network

STEPS, PATCH, STRIDE = 32, 8, 4
INSIDE = 128
"""Images that captum's own loops put through the network at once."""


def pairs(model: Network, x: Tensor, target: Tensor) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """Return ours and captum's of each explanation: both give maps."""
    layer = resolve(model, "last")
    half = torch.full_like(x, 0.5)
    cam = captum.attr.LayerGradCam(model, model.get_submodule(layer))
    paths = captum.attr.IntegratedGradients(model)
    covers, simple = captum.attr.Occlusion(model), captum.attr.InputXGradient(model)

    def large(cells: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(cells, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]

    def covered() -> Tensor:
        with torch.no_grad():
            found: Tensor = covers.attribute(
                x, (3, PATCH, PATCH), (3, STRIDE, STRIDE), 0.5, target, perturbations_per_eval=max(1, INSIDE // len(x))
            )
        return found[:, 0]

    return {
        "Grad-CAM": (
            lambda: grad_cam(model, x, target=target).map,
            lambda: large(cam.attribute(x.clone().requires_grad_(), target)),
        ),
        "input x gradient": (
            lambda: input_x_gradient(model, x, target=target, baseline=0.0).map,
            lambda: simple.attribute(x.clone().requires_grad_(), target).sum(1),
        ),
        f"integrated gradients, {STEPS} points": (
            lambda: integrated_gradients(model, x, target=target, steps=STEPS, tolerance=0).map,
            lambda: paths.attribute(x, half, target, n_steps=STEPS, internal_batch_size=INSIDE).sum(1),
        ),
        f"occlusion, {PATCH} x {PATCH} every {STRIDE}": (
            lambda: occlusion(model, x, target=target, patch=PATCH, stride=STRIDE).map,
            covered,
        ),
    }


def measure(model: Network, count: int) -> str:
    """Return the table."""
    model.eval().requires_grad_(False)
    model.bare.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    taken = from_words(("samples",), None, model.size).images
    x = taken.repeat(-(-count // len(taken)), 1, 1, 1)[:count].contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        target = model(x).argmax(1)
    rows = []
    for name, (ours, peer) in pairs(model, x, target).items():
        one, other = ours(), peer().detach()
        apart = float((one - other).abs().max() / other.abs().max())
        mine, theirs = timed(ours), timed(peer)
        rows.append((name, str(mine), str(theirs), ratio(theirs, mine), f"{apart:.1e}"))
    return table(["", "torchloupe: s", "captum: s", "times faster", "maps apart, of the largest value"], rows)


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("--model", default="cifar10")
    asked.add_argument("--images", type=int, default=32)
    given = asked.parse_args()
    note = (
        f"`{given.model}`, {given.images} pictures, float32; median of 3 (range) after one that is not counted; captum "
        f"{captum.__version__}, {INSIDE} images at once inside."
    )
    text = measure(load(given.model), given.images)
    write("explanations", "Explanations beside captum", [note, text], "python bench/explanations.py")
