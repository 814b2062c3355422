"""A network as one program that needs no torchloupe: pictures in [0, 1] in, logits out, traced by `torch.export`."""

import copy
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.errors import ModelError
from torchloupe.models.network import Network, per_channel, wrap
from torchloupe.models.outputs import Ending, class_logits, scores

ABOUT = "about.json"
"""The extra file of a `.pt2` that says what the network is."""
TRACED = 2
"""Pictures that it is traced with; the program takes any number."""
ASIDES = re.compile(r"\s+\((?:unhinted|Size-like)")
"""Begins what torch adds for those who work on torch."""
COLORS = re.compile(r"\x1b\[[0-9;]*m")


class Program(nn.Module):
    """A network with its normalisation inside and nothing else of ours: what is traced."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.bare, self.part, self.classes = network.bare, network.output, len(network.classes)
        self.ending = network.ending
        self.normalized = network.mean is not None
        like = torch.zeros(())
        if network.mean is not None and network.std is not None:
            self.register_buffer("mean", per_channel(network.mean, like).clone())
            self.register_buffer("std", per_channel(network.std, like).clone())

    def forward(self, pictures: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Return the logits, as `Network` does, without a look at the pictures."""
        if self.normalized:
            pictures = (pictures - self.mean) / self.std
        with Ending() as end:
            found = scores(self.bare(pictures), self.classes, self.part)
        if self.ending and end.last is not None:  # `Network` has seen that it is the network's last
            found = end.last[1].reshape(found.shape)
        return class_logits(found, self.classes)


def in_float32(network: Network) -> Network:
    """Return a network that computes in float32: itself, or a copy of the same weights where it does not.

    What runs an exported program often knows no bfloat16, and pictures come in float32.

    >>> half = wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).bfloat16(), mean=None, std=None, classes=2)
    >>> {p.dtype for p in in_float32(half).parameters()}, {p.dtype for p in half.parameters()}
    ({torch.float32}, {torch.bfloat16})
    """
    tensors = [*network.parameters(), *network.buffers()]
    if all(tensor.dtype == torch.float32 for tensor in tensors if tensor.is_floating_point()):
        return network
    return wrap(
        copy.deepcopy(network.bare).float(),
        mean=network.mean,
        std=network.std,
        size=network.size,
        classes=network.classes,
        output=network.output,
        multilabel=network.multilabel,
    )


def traced(network: Network, shape: tuple[int, ...], title: str) -> torch.export.ExportedProgram:
    """Trace a network for pictures `[c, h, w]` of a shape, any number at once.

    Nothing of the machine goes into the program: neither the paths of its code nor pictures of the data.

    Raises:
        ModelError: it cannot be traced, with the cause that torch gives.

    >>> net = wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), mean=[0.5] * 3, std=[0.5] * 3, classes=2)
    >>> traced(net, (3, 2, 2), "mine").module()(torch.rand(7, 3, 2, 2)).shape
    torch.Size([7, 2])
    """
    pictures = torch.rand((TRACED, *shape), generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1)
    try:
        with quietly(), torch.no_grad():
            program = torch.export.export(
                Program(network).eval(), (pictures,), dynamic_shapes=({0: batch},), strict=False
            )
    except Exception as error:  # of whatever the network does
        raise ModelError(
            f"{title} cannot be exported: {cause_of(error)}. Its forward must not decide by the values of pictures; "
            "keep it as .safetensors."
        ) from error
    for graph in (
        module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)
    ):
        for node in graph.nodes:
            node.meta.pop("stack_trace", None)
    return program


def exported_bytes(program: torch.export.ExportedProgram, about: Mapping[str, Any]) -> bytes:
    """Return the `.pt2` of a program, with what the network is in its extra file `about.json`."""
    stream = io.BytesIO()
    with quietly():
        torch.export.save(program, stream, extra_files={ABOUT: json.dumps(about, sort_keys=True, ensure_ascii=False)})
    return stream.getvalue()


def cause_of(error: BaseException) -> str:
    """Return the first line of what torch says, of the innermost error that says something, without its colours.

    >>> cause_of(ValueError("\\x1b[96mno.\\x1b[0m\\nmore"))
    'no'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in COLORS.sub("", str(error)).splitlines() if line.strip()]
    return (ASIDES.split(lines[0])[0] if lines else type(error).__name__)[:250].rstrip(".")


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what torch's exporters log, print and warn of among themselves from the user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        nowhere = io.StringIO()  # a graph that cannot be traced is printed as code
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
