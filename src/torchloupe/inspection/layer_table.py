"""The layers of a network with what each does: shapes, parameters, receptive fields, dead channels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from torchloupe.errors import LayerError
from torchloupe.evaluation.channels import ChannelHealth
from torchloupe.features.hooks import OUTPUT
from torchloupe.features.receptive import Field, effective_sides, noise_images, receptive_fields
from torchloupe.features.trace import Call, example, is_leaf, last_layer, trace
from torchloupe.inspection.subject import Subject
from torchloupe.runtime.progress import Progress

T = TypeVar("T")


class Attempt(Protocol):
    """Makes one part of a table: what, of which layer (or `all`), and the function that makes it."""

    def __call__(self, what: str, layer: str, make: Callable[[], T], /) -> T | None:
        """Return the part, or None where it may be left out."""


def required(what: str, layer: str, make: Callable[[], T]) -> T:
    """Make a part; an error in it is the caller's.

    >>> required("shape", "all", lambda: 3)
    3
    """
    return make()


@dataclass(frozen=True)
class LayerRow:
    """What one layer is and does."""

    name: str
    kind: str
    """Class of the module; `logits` for the network's output."""
    output: tuple[int, ...] = ()
    """Channels, and height and width where there are any; empty for the network's output."""
    parameters: int = 0
    """Of the layer and of all layers in it."""
    kernel: str = ""
    times: int = 1
    """How often it runs in one pass."""
    field: tuple[int, int] | None = None
    """Height and width of what a position can see, in pixels."""
    clipped: bool = False
    """The field is cut by the image's edge."""
    effective_field: float | None = None
    """Side in pixels of a square of the area where a position's gradient is at least 4.55 % of its maximum."""
    dead: float | None = None
    """Share of channels that are dead (see `ChannelHealth.dead`); None where it was not measured, or not applicable."""
    images: int = 0
    """On how many test images it was measured; with `dead` None the layer is not rectified: none is dead or alive."""


def layer_table(
    studied: Subject,
    images: int,
    *,
    layers: Sequence[str] | None = None,
    image: Tensor | None = None,
    attempt: Attempt = required,
    progress: Progress | None = None,
) -> list[LayerRow]:
    """Return a row a layer: of `layers` in their order, else of all in the order of their first ends.

    `images`: test images that dead channels are counted on, at least (0: they are not counted). `picture`: of the size
    and channels that the network takes (default: a grey one). `attempt` makes each part that may be refused.

    >>> from torch import nn
    >>> rows = layer_table(Subject(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), 0)
    >>> rows[0].kernel, rows[0].field, rows[0].parameters
    ('3x3', (3, 3), 112)
    """
    model = studied.model
    gray = example(model) if image is None else image[:1]
    calls = {call.name: call for call in trace(model, gray) if call.channels is not None}
    names = list(calls if layers is None else layers)
    sides = (int(gray.shape[2]), int(gray.shape[3]))
    wanted = None if layers is None else names
    known = attempt("health", "all", lambda: _health(studied, names, images, progress)) if images else None
    fields = attempt("receptive fields", "all", lambda: receptive_fields(model, sides, wanted)) or {}
    noise = noise_images(sides, colors=int(gray.shape[1]))
    growing = _growing([calls[name] for name in names if name in calls and name in fields], layers is None)
    effective = attempt("effective fields", "all", lambda: effective_sides(model, list(growing.values()), noise)) or {}

    def side(name: str) -> float | None:
        return effective.get(growing.get(name, ""))

    return [_row(name, calls.get(name), fields.get(name), (known or {}).get(name), side) for name in names]


def _is_wide(kernel: object) -> bool:
    return kernel not in (1, (1, 1))


def _growing(calls: Sequence[Call], leave_out: bool) -> dict[str, str]:
    """Return layer -> the one with the same output that its effective field is measured at.

    Left out of a whole table are layers that work on each position alone: they see what the layer before them does.
    """
    first: dict[tuple[object, ...], str] = {}
    found = {}
    for call in calls:
        if leave_out and is_leaf(call) and not _is_wide(getattr(call.module, "kernel_size", 1)) and len(calls) > 1:
            continue
        found[call.name] = first.setdefault((call.storage, call.shape), call.name)
    return found


def reason_of_last(studied: Subject) -> tuple[str, str] | None:
    """Return the name of the layer `last` and why it is that one; None where no layer is.

    >>> from torch import nn
    >>> reason_of_last(Subject(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())))
    ('1', "the last maps behind the last convolution ('0')")
    """
    try:
        return last_layer(studied.model)
    except LayerError:
        return None


def counted(rows: Sequence[LayerRow]) -> str:
    """Say on how many test images dead channels were counted; "" where they were not.

    >>> counted([LayerRow("a", "ReLU", images=n) for n in (200, 2000)]), counted([LayerRow("a", "ReLU")])
    ('200 to 2,000', '')
    """
    found = sorted({row.images for row in rows if row.images})
    return " to ".join(f"{n:,}" for n in dict.fromkeys([found[0], found[-1]])) if found else ""


def _health(
    studied: Subject, names: list[str], images: int, progress: Progress | None
) -> dict[str, ChannelHealth] | None:
    """Return the health of these layers; without data of those of which it is stored."""
    found = studied.health(names, progress, most=images)
    if found is None:
        return {name: one[name] for name in names if (one := studied.health([name], most=images)) is not None}
    return found


def _row(
    name: str,
    call: Call | None,
    field: Field | None,
    health: ChannelHealth | None,
    effective: Callable[[str], float | None],
) -> LayerRow:
    dead = None if health is None or not health.rectified else float(health.dead.float().mean())
    images = 0 if health is None else health.images
    if call is None or name == OUTPUT:
        return LayerRow(name, "logits", dead=dead, images=images)
    maps = call.is_map
    sees = field if maps or call.sides != (1, 1) else None
    return LayerRow(
        name=name,
        kind=type(call.module).__name__,
        output=(call.channels or 0, *call.sides) if maps else (call.channels or 0,),
        parameters=sum(p.numel() for p in call.module.parameters()),
        kernel=_kernel(call),
        times=call.times,
        field=None if sees is None else (int(sees.size[0]), int(sees.size[1])),
        clipped=sees is not None and sees.clipped,
        effective_field=None if sees is None else effective(name),
        dead=dead,
        images=images,
    )


def _kernel(call: Call) -> str:
    size, stride = getattr(call.module, "kernel_size", None), getattr(call.module, "stride", None)
    if size is None:
        return ""
    height, width = (size, size) if isinstance(size, int) else size
    step = stride if isinstance(stride, int) else max(stride) if stride else 1
    return f"{height}x{width}" + (f"/{step}" if step > 1 else "")
