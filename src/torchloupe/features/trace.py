"""One forward pass, traced: which layers run, in which order, and the shapes of their outputs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.errors import LayerError, UsageError
from torchloupe.features.hooks import OUTPUT, channels_last, frozen_eval, is_output, observe, one_at_a_time
from torchloupe.features.names import layer_name
from torchloupe.features.tokens import Grid, grid_of
from torchloupe.models.layout import laid_out
from torchloupe.models.network import Network, run
from torchloupe.runtime.memory import smaller

BINARY = 2
"""Classes of a network with one logit."""
SIDE = 224
"""Side of the example image for a network of unknown input size."""


@dataclass(frozen=True, eq=False)
class Call:
    """One layer's entry in a trace: its name, output shape and number of calls."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    """Of its output, with the batch axis, in its own order of axes."""
    times: int
    """How often it ran; all else is of the first time."""
    storage: tuple[int, int]
    """Address and version of the output: the same for a container and its last part."""
    image: tuple[int, int]
    """Height and width of the network's input."""
    images: int = 1
    """Pictures of that pass."""

    @property
    def whole(self) -> bool:
        """Its output is of whole pictures, not of pieces such as windows."""
        return self.shape[:1] == (self.images,)

    @property
    def tokens(self) -> Grid | None:
        """Where its output's tokens `[b, n, c]` stand in the picture; None if it has none."""
        return grid_of(self.module, self.shape, self.image) if self.whole and len(self.shape) == 3 else None

    @property
    def is_map(self) -> bool:
        """Its output has a value a channel for each of several places: a map, or tokens of patches."""
        return (self.whole and len(self.shape) == 4) or self.tokens is not None

    @property
    def last_axis(self) -> bool:
        """Its output is a map with channels on the last axis."""
        return len(self.shape) == 4 and channels_last(self.module, torch.Size(self.shape), self.image)

    @property
    def channels(self) -> int | None:
        """Channels of its output, if that is a map or a vector."""
        if (grid := self.tokens) is not None:
            return self.shape[3 - grid.axis]
        if not self.whole or len(self.shape) not in (2, 4):
            return None
        return self.shape[-1] if self.last_axis else self.shape[1]

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of its maps; 1 x 1 where it puts out no map."""
        if (grid := self.tokens) is not None:
            return grid.height, grid.width
        if len(self.shape) != 4:
            return 1, 1
        return (self.shape[1], self.shape[2]) if self.last_axis else (self.shape[2], self.shape[3])


def placed(model: nn.Module, images: Tensor) -> Tensor:
    """Return images on the device and in the dtype of the network's parameters, detached, usable for autograd.

    For a network in half precision they are float32: the cast is at its door.

    >>> placed(nn.Linear(1, 1).double(), torch.zeros(1, 3, 2, 2)).dtype
    torch.float64
    """
    weights = next((p for p in model.parameters() if p.is_floating_point()), None)
    with torch.inference_mode(False):
        plain = images.detach().clone() if images.is_inference() else images.detach()
        return plain if weights is None else plain.to(weights.device, torch.promote_types(weights.dtype, torch.float32))


def example(model: nn.Module, size: int | tuple[int, int] | None = None) -> Float[Tensor, "1 c h w"]:
    """Return one grey image `[1, c, h, w]` of the size and channels that a network takes.

    >>> example(nn.Conv2d(1, 2, 3), size=8).shape
    torch.Size([1, 1, 8, 8])
    """
    side = size or (model.size if isinstance(model, Network) else None) or SIDE
    height, width = (side, side) if isinstance(side, int) else side
    mean = model.mean if isinstance(model, Network) else None
    known = [m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    usual = next((n for n in (3, 1) if n in known), known[0] if known else 3)
    channels = len(mean) if mean else usual
    return placed(model, torch.full((1, channels, height, width), 0.5))


def trace(model: nn.Module, image: Float[Tensor, "b c h w"] | None = None, until: str = "") -> list[Call]:
    """Run one image (grey by default) through a network and list the layers that ran, in the order they finish.

    The forward pass stops after layer `until`.

    >>> [call.name for call in trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.zeros(1, 3, 5, 5))]
    ['0', '1']
    """
    calls: dict[str, Call] = {}

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        outputs.append(output)  # alive until the end, so that no address comes twice
        if name in calls:
            calls[name] = replace(calls[name], times=calls[name].times + 1)
        else:
            place, sides = (output.data_ptr(), output._version), (int(height), int(width))
            calls[name] = Call(name, module, tuple(output.shape), 1, place, sides, len(shown))
        return name == until

    outputs: list[Tensor] = []
    shown = example(model) if image is None else placed(model, image)
    height, width = shown.shape[2:]
    with frozen_eval(model), torch.no_grad(), observe(model, see):
        run(model, laid_out(model, shown.clone()))  # a network may work in place
    return list(calls.values())


def resolve(model: nn.Module, layer: str, image: Float[Tensor, "b c h w"] | None = None) -> str:
    """Return the dotted name of a layer; `first` and `last` are found by one pass of `picture` (grey).

    `first` is the first executed convolution that depends on the image, `last` what `last_layer` says.

    Raises:
        LayerError: no such layer.

    >>> from torchloupe.models import build
    >>> resolve(build("loupe"), "last"), resolve(build("loupe"), "layer3[-1]")
    ('layer3.1', 'layer3.1')
    """
    if layer in ("first", "last") and layer not in dict(model.named_children()):
        shown = example(model) if image is None else placed(model, image[:1])
        return _first(model, shown) if layer == "first" else last_layer(model, shown)[0]
    if is_output(model, layer):
        return OUTPUT
    asked = model.get_submodule(layer_name(model, layer))
    names: list[str] = [name for name, module in model.named_modules() if module is asked]
    return names[0]  # of several, the one that hooks know


def _first(model: nn.Module, image: Tensor) -> str:
    """Find the first convolution to run whose output a picture that is not a number spoils."""
    found: list[str] = []
    ran = False

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        nonlocal ran
        ran = ran or isinstance(module, nn.Conv2d)
        if isinstance(module, nn.Conv2d) and bool(output.isnan().any()):
            found.append(name)
        return bool(found)

    with frozen_eval(model), torch.no_grad(), observe(model, see):
        run(model, torch.full_like(image, torch.nan))
    if not found:
        none = "no convolution of the network depends on the picture" if ran else "the network runs no convolution"
        raise LayerError(f"{none}, so that there is no layer 'first'. Name a layer.")
    return found[0]


PASSING = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)
WORK = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
"""Layers that mix channels: what stages are made of."""
LEAVES = (*WORK, nn.modules.batchnorm._NormBase)
"""Layers that are one whole, whatever parts they have beside: padding, an activation."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def last_layer(model: nn.Module, image: Float[Tensor, "b c h w"] | None = None) -> tuple[str, str]:
    """Return the name of the layer `last`, and why it is that one.

    It is the outermost block that holds the last convolution, linear layer or attention with maps, but not the first;
    where those stand in no block, the last map before the pooling. Its output depends on the picture. Maps of classes,
    which some networks end in, are none of features.

    Raises:
        LayerError: no layer puts out maps that depend on the picture.

    >>> from torchloupe.models import build
    >>> last_layer(build("loupe"))
    ('layer3.1', "the outermost block with the last convolution ('layer3.1.conv')")
    """
    shown = example(model) if image is None else placed(model, image[:1])
    found = _of_the_picture(model, shown)
    maps = [c for c in found if c.is_map and not isinstance(c.module, PASSING)]
    maps = [c for c in maps if "Pool" not in type(c.module).__name__] or maps
    maps = [c for c in maps if c.sides != (1, 1)] or maps
    if not maps:
        raise LayerError(
            "no layer of the network puts out maps that depend on the picture, so that there is no layer 'last'. "
            "Name a layer."
        )
    work = [c for c in maps if isinstance(c.module, WORK)]
    if len(work) > 1 and _gives_classes(model, work[-1], found):
        head = work.pop().name
        before = [c.name for c in maps].index(head)
        maps = [c for c in maps[:before] if not head.startswith(f"{c.name}.")]
    if not work:
        return _outermost(maps, maps[-1]).name, "the last that puts out maps"
    kind = "convolution" if isinstance(work[-1].module, nn.modules.conv._ConvNd) else "linear layer or attention"
    around = [c for c in maps if _is_block(c) and work[-1].name.startswith(f"{c.name}.")]
    around = [c for c in around if work[0] is work[-1] or not work[0].name.startswith(f"{c.name}.")]
    items = [c for c in around if _is_item(model, c.name)]
    if block := (items or around)[-1:]:
        return block[0].name, f"the outermost block with the last {kind} ({work[-1].name!r})"
    rest = [c for c in maps[maps.index(work[-1]) :] if not work[0].name.startswith(f"{c.name}.")] or [work[-1]]
    return _outermost(rest, rest[-1]).name, f"the last maps behind the last {kind} ({work[-1].name!r})"


def _of_the_picture(model: nn.Module, image: Tensor) -> list[Call]:
    """Return the layers whose output is another for another picture."""
    one: dict[str, Tensor] = {}
    other: dict[str, Tensor] = {}
    for kept, shown in ((one, image), (other, 1 - image if bool((image != 0.5).any()) else image + 0.25)):

        def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor, into: Any = kept) -> None:
            into.setdefault(name, output)

        with frozen_eval(model), torch.no_grad(), observe(model, see):
            run(model, laid_out(model, shown.clone()))
    same = {name for name, output in one.items() if name in other and torch.equal(output, other[name])}
    calls = trace(model, image)
    return [call for call in calls if call.name not in same] or calls


def is_leaf(call: Call) -> bool:
    """Tell whether a layer has no parts of its own; a convolution with its padding beside it has none.

    >>> is_leaf(trace(nn.Sequential(nn.Conv2d(3, 8, 3)), torch.zeros(1, 3, 5, 5))[0])
    True
    """
    return next(call.module.children(), None) is None or isinstance(call.module, WORK)


def blocks_of(model: nn.Module, calls: Sequence[Call]) -> list[Call]:
    """Return those of these calls that are a network's blocks, in the order of the calls.

    A block has parts and puts out maps; what holds blocks in a row and puts out what the last of them does is a
    stage, not a block. So a residual block, a transformer's block and an inception module are blocks as a whole,
    whatever they hold.

    >>> net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Conv2d(4, 4, 3))
    >>> [call.name for call in blocks_of(net, trace(net, torch.zeros(1, 3, 9, 9)))]
    []
    """
    known = {call.name: call for call in calls}

    def under(prefix: str, module: nn.Module) -> list[Call]:
        found: list[Call] = []
        for own, child in module.named_children():
            name = f"{prefix}.{own}" if prefix else own
            if isinstance(child, LEAVES) or next(child.children(), None) is None:
                continue
            inner, call = under(name, child), known.get(name)
            rows = [part for part in (child, *child.children()) if isinstance(part, CONTAINERS) and len(part)]
            stage = (
                call is not None
                and bool(inner)
                and inner[-1].shape == call.shape
                and any(inner[-1].module in list(row.children())[-1].modules() for row in rows)
            )
            found += inner if call is None or stage or type(child) in CONTAINERS else [call]
        return found

    blocks = under("", model.bare if isinstance(model, Network) else model)
    while len(blocks) == 1 and (inner := under(blocks[0].name, blocks[0].module)):  # a network in another
        blocks = inner
    names = {call.name for call in blocks}
    return [call for call in calls if call.name in names]


def _is_block(call: Call) -> bool:
    return not is_leaf(call) and type(call.module) not in CONTAINERS


def _is_item(model: nn.Module, name: str) -> bool:
    """Tell whether a module is one of a row of them."""
    parent, _, own = name.rpartition(".")
    return own.isdigit() or isinstance(model.get_submodule(parent), CONTAINERS)


def _gives_classes(model: nn.Module, call: Call, calls: list[Call]) -> bool:
    """Tell whether a layer's maps are those of the classes: as many, and no other such layer runs behind it."""
    behind = calls[[c.name for c in calls].index(call.name) + 1 :]
    classes = len(model.classes) if isinstance(model, Network) else None
    as_many = call.channels == classes or (classes == BINARY and call.channels == 1)
    return as_many and not any(isinstance(c.module, WORK) for c in behind)


def _outermost(calls: list[Call], last: Call) -> Call:
    """Return the outermost block with the same output as a layer; without any, the first layer with it."""
    same = [call for call in calls if call.storage == last.storage and call.shape == last.shape]
    return ([c for c in same if _is_block(c)][-1:] or same)[0]


def channel_list(channels: "list[int] | tuple[int, ...] | int | None", count: int, layer: str) -> list[int]:
    """Return the asked channels of a layer with `count` of them; None means all.

    Raises:
        UsageError: one is out of range.

    >>> channel_list(None, 3, "conv1"), channel_list(2, 3, "conv1")
    ([0, 1, 2], [2])
    """
    if channels is None:
        return list(range(count))
    asked = [channels] if isinstance(channels, int) else list(channels)
    wrong = [c for c in asked if not 0 <= c < count]
    if wrong or not asked:
        raise UsageError(f"layer {layer!r} has the channels 0 to {count - 1}, not {wrong[0] if wrong else 'none'}.")
    return asked


BYTES = 512 * 2**20
"""Room for one batch's features and their gradients."""

AT_MOST = 128
"""More at once is no faster on a CPU: caches overflow."""


def at_once(model: nn.Module, layer: str, image: Float[Tensor, "b c h w"], room: int = BYTES) -> int:
    """Return how many pictures of that size may go forwards and backwards to a layer (a resolved name) at once.

    Fewer once memory ran out: see `runtime.memory`. One where the answer to one picture depends on the others.

    >>> from torchloupe.models import build
    >>> at_once(build("loupe"), "conv1", torch.zeros(1, 3, 32, 32))
    128
    """
    if one_at_a_time(model, placed(model, image[:1]), layer):
        return 1
    numbers = 3 * image[0].numel()
    for call in trace(model, placed(model, image[:1]), until=layer):
        if next(call.module.children(), None) is None:
            numbers += call.times * torch.Size(call.shape).numel()
    each = 3 * numbers * image.element_size()  # features, their gradients, and what kernels need on the side
    return smaller(max(1, min(AT_MOST, room // each)))
