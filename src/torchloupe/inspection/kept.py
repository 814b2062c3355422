"""What a report measures slowly, kept beside the network: found again the next time, and where the data are not."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import Tensor

from torchloupe.checkpoints.file import read_tensors, save_tensors
from torchloupe.errors import ModelError, ResourceError
from torchloupe.inspection.subject import Subject

Tensors = dict[str, Tensor]


def kept(
    studied: Subject, name: str, about: dict[str, Any], make: Callable[[], Tensors | None]
) -> tuple[Tensors, dict[str, Any]] | None:
    """Return tensors and what they are of: those that were kept, if they still hold, else made and kept now.

    They hold if weights and `about` are the same; without data, if the weights are. None where there is nothing.

    >>> import torch
    >>> from torchloupe.inspection.subject import subject
    >>> kept(subject(torch.nn.Conv2d(3, 8, 3)), "nothing", {}, lambda: None) is None
    True
    """
    path = studied.place() / f"{name}-{studied.weights}.safetensors"
    at_hand = studied.dataset() is not None
    full = {**about, "weights": studied.weights, "crc32": studied.crc}
    with suppress(ModelError):
        tensors, found = read_tensors(path)
        if found == full or (not at_hand and found.get("weights") == studied.weights):
            return tensors, found
    made = make()
    if made is None:
        return None
    with suppress(OSError, ResourceError):  # a read-only run: it is computed again the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, made, full)
    return made, full
