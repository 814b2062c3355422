"""The layers of a network with what each does: shapes, parameters, receptive fields, dead channels."""

from typing import Any

from torch import Tensor

from torchloupe.data.subsets import spread_out
from torchloupe.evaluation.channels import health
from torchloupe.features.receptive import effective_side, noise_pictures, receptive_fields
from torchloupe.features.trace import Call, example, trace
from torchloupe.inspection.subject import Subject
from torchloupe.runtime.progress import Progress


def rows_of(
    studied: Subject, pictures: int, progress: Progress | None = None, picture: Tensor | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Return a row a layer, in the order of their first ends, and on how many test pictures dead channels were counted.

    `picture`: of the size and channels that the network takes (default: a grey one).

    >>> from torch import nn
    >>> rows, _ = rows_of(Subject(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), 0)
    >>> rows[0]["kernel"], rows[0]["field"]
    ('3x3', (3, 3))
    """
    model = studied.model
    grey = example(model) if picture is None else picture[:1]
    calls = [call for call in trace(model, grey) if call.channels is not None]
    sides = (int(grey.shape[2]), int(grey.shape[3]))
    fields, noise = receptive_fields(model, sides), noise_pictures(sides, colours=int(grey.shape[1]))
    split = studied.pictures() if pictures else None
    alive = {}
    if split is not None:
        chosen = spread_out(len(split), pictures)
        alive = health(model, split.images[chosen], size=studied.size, progress=progress)
    rows = []
    for call in calls:
        field = fields.get(call.name) if call.sides != (1, 1) or len(call.shape) == 4 else None
        rows.append(
            {
                "name": call.name,
                "kind": type(call.module).__name__,
                "output": [call.channels, *call.sides] if len(call.shape) == 4 else [call.channels],
                "parameters": sum(p.numel() for p in call.module.parameters(recurse=False)),
                "kernel": _kernel(call),
                "times": call.times,
                "field": None if field is None else field.size,
                "clipped": False if field is None else field.clipped,
                "effective_field": None if field is None else effective_side(model, call.name, noise),
                "dead": float(alive[call.name].dead.float().mean()) if call.name in alive else None,
            }
        )
    return rows, 0 if split is None else min(pictures, len(split))


def _kernel(call: Call) -> str:
    size, stride = getattr(call.module, "kernel_size", None), getattr(call.module, "stride", None)
    if size is None:
        return ""
    height, width = (size, size) if isinstance(size, int) else size
    step = stride if isinstance(stride, int) else max(stride) if stride else 1
    return f"{height}x{width}" + (f"/{step}" if step > 1 else "")
