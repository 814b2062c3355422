"""lucent's `render_vis` on one of our networks, in a Python of its own: seconds a unit and the activation reached.

Prints JSON. lucent imports `torchvision.transforms.Normalize`, which it does not use here: a stub stands in for it.
"""

import argparse
import json
import sys
import time
import types

import torch

stub = types.ModuleType("torchvision.transforms")
stub.Normalize = object  # type: ignore[attr-defined]
sys.modules["torchvision"] = types.ModuleType("torchvision")
sys.modules["torchvision.transforms"] = stub

from lucent.optvis import objectives, param, render  # noqa: E402

from torchloupe import load  # noqa: E402
from torchloupe.features.hooks import activations, frozen_eval  # noqa: E402


def main() -> None:
    """Render a few channels."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("layer")
    parser.add_argument("channels", type=lambda text: [int(part) for part in text.split(",")])
    asked = parser.parse_args()
    net = load(asked.model)
    net.check = False  # lucent's pictures are in [0, 1] but for rounding
    side = net.size or 32
    seconds, reached = [], []
    for channel in asked.channels:
        torch.manual_seed(channel)
        began = time.perf_counter()
        images = render.render_vis(
            net,
            objectives.channel(asked.layer.replace(".", "_"), channel),
            lambda: param.image(side),
            preprocess=False,
            progress=False,
            show_image=False,
            fixed_image_size=side,
        )
        seconds.append(time.perf_counter() - began)
        image = torch.tensor(images[-1]).permute(0, 3, 1, 2).float().clamp(0, 1)
        with frozen_eval(net), torch.no_grad():
            reached.append(activations(net, asked.layer, image)[0, channel].mean().item())
    print(json.dumps({"seconds": seconds, "activation": reached}))


main()
