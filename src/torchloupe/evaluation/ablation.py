"""What a network loses without one of its channels: the drop in accuracy when it is zero, or its mean, everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from torchloupe.data.tensors import to_float
from torchloupe.errors import UsageError
from torchloupe.evaluation.significance import discovered, mcnemar_each, paired_error
from torchloupe.features.hooks import as_maps, frozen_eval, intervene, one_at_a_time
from torchloupe.features.tokens import grid_of
from torchloupe.features.trace import Call, at_once, channel_list, example, placed, resolve, trace
from torchloupe.models.forward import called
from torchloupe.models.layout import laid_out
from torchloupe.models.network import Network, at_the_door
from torchloupe.runtime.device import at_least_float32, autocast
from torchloupe.runtime.progress import Progress

BATCH = 100
"""Pictures that go through the first part of the network together."""
AT_ONCE = 1000
"""Pictures that go through the rest of it together: all of those, once for each of several channels."""
CELLS = 2**24
"""Numbers that these may be in the layer's output, where that allows more pictures."""
NEAR = 0.02
"""How far the logits of an untouched copy may lie from the network's own, as a share of the largest."""
RECTIFIER_MODULES = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Softplus,
)
CHANNELWISE = (
    *RECTIFIER_MODULES,
    nn.modules.batchnorm._BatchNorm,
    nn.InstanceNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
)
"""Layers that keep channels apart: a channel that is zero behind them was never there for what follows."""


Replacement = Literal["zero", "mean"]
"""What stands in a channel's place: zero, or the mean of its map over the pictures, position by position."""


@dataclass(frozen=True, eq=False)
class Ablation:
    """Which pictures change sides without single channels, and whether that could be chance."""

    layer: str
    """Whose output was changed."""
    replacement: Replacement
    channel: Int64[Tensor, "n"]
    accuracy: float
    """With all channels, on the same pictures, in [0, 1]."""
    lost: Int64[Tensor, "n"]
    """Pictures that are right with all channels and wrong without this one."""
    gained: Int64[Tensor, "n"]
    """Pictures that are right without this one only."""
    class_drop: Float[Tensor, "n classes"]
    """As `drop`, over the pictures of each class; NaN for a class without any."""
    images: int
    shared: bool
    """The network's first part ran once for all channels; else once for each."""

    @property
    def drop(self) -> Float[Tensor, "n"]:
        """Accuracy with all channels less that without this one, in [-1, 1]."""
        return (self.lost - self.gained) / self.images

    @property
    def standard_error(self) -> Float[Tensor, "n"]:
        """Of the drop, over pictures: paired, so that those which stay on their side cost nothing."""
        return paired_error(self.lost, self.gained, self.images)

    @property
    def p_value(self) -> Float[Tensor, "n"]:
        """Of McNemar's exact test that as many are gained as are lost."""
        return mcnemar_each(self.lost, self.gained)

    @property
    def measurable(self) -> Bool[Tensor, "n"]:
        """Which channels have an effect at a false discovery rate of 5 % over these (Benjamini & Hochberg 1995)."""
        return discovered(self.p_value)


def rectified(model: nn.Module, layer: str, image: Float[Tensor, "b c h w"] | None = None) -> str:
    """Return the layer behind whose output a channel of `layer` (a resolved name) is whole: the block's last ReLU.

    From a convolution the way goes on through normalisation, pooling and a rectifier, as far as they are modules that
    follow one another and nothing else sees what the layer puts out; a block that ends in its own rectifier is its own
    answer.

    >>> rectified(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)), "0")
    '2'
    """
    calls = trace(model, image)
    place = next((i for i, call in enumerate(calls) if call.name == layer), None)
    if place is None:
        return layer
    sites, channels = [layer], calls[place].channels
    for call in _after(calls, place):
        if not isinstance(call.module, CHANNELWISE) or call.channels != channels:
            break
        sites.append(call.name)
        if isinstance(call.module, RECTIFIER_MODULES):
            break
    shown = example(model) if image is None else placed(model, image[:1])
    return next((site for site in reversed(sites[1:]) if _alone(model, layer, site, shown)), layer)


def _alone(model: nn.Module, layer: str, site: str, image: Float[Tensor, "1 c h w"]) -> bool:
    """Whether all that the rest sees of a layer passes `site`: NaN in the one and zero in the other leave no trace."""
    unknown, nothing = (
        (lambda output, _: torch.full_like(output, torch.nan)),
        (lambda output, _: torch.zeros_like(output)),
    )
    with frozen_eval(model), torch.no_grad(), intervene(model, layer, unknown), intervene(model, site, nothing):
        logits = _logits(model, image.clone())
    return bool(logits.isfinite().all())


def _after(calls: Sequence[Call], place: int) -> list[Call]:
    """Return the leaves that ran after a layer; none where it ends in a rectifier or holds other layers."""
    if isinstance(calls[place].module, RECTIFIER_MODULES) or next(calls[place].module.children(), None) is not None:
        return []
    return [call for call in calls[place + 1 :] if next(call.module.children(), None) is None]


def ablate(
    model: nn.Module,
    layer: str,
    images: UInt8[Tensor, "n c h w"],
    labels: Int64[Tensor, "n"],
    *,
    channels: list[int] | None = None,
    replacement: Replacement = "zero",
    size: int | None = None,
    amp: str = "auto",
    progress: Progress | None = None,
) -> Ablation:
    """Measure which pictures change sides when single channels of a layer's output are replaced, each alone.

    The pictures pass the network's first part once; from the layer on, each batch runs once for every channel and once
    untouched. Where that is not possible (the rest looks back to before the layer) each channel takes a whole pass.
    What is compared always comes out of the same pass, or of two that differ in nothing else: same numbers, same batch.
    The mean is that of the map over these pictures, at each position (as in Morcos et al. 2018, but for the position).

    Raises:
        LayerError: no such layer, or one that puts out neither maps nor a vector.
        UsageError: a channel that there is not, or no pictures.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    >>> ablate(net, "1", images, torch.tensor([0, 1] * 3), channels=[0, 3]).drop.shape
    torch.Size([2])
    """
    if not len(images):
        raise UsageError("ablation needs pictures with their classes: there are none.")
    example = placed(model, to_float(images[:1], size))
    name = resolve(model, layer, example)
    counts = {call.name: call.channels for call in trace(model, example)}
    asked = channel_list(channels, counts.get(name) or 0, name)
    held, shared = None, True
    with frozen_eval(model), torch.no_grad(), autocast(example.device, amp):
        instead = _mean_output(model, name, images, example, size) if replacement == "mean" else None
        if not one_at_a_time(model, example):  # else copies would change one another
            held = _all(_Shared(model, name, example, instead), images, labels, asked, size, progress)
        if held is None:
            shared = False
            held = _all(_Single(model, name, example, instead), images, labels, asked, size, progress)
    assert held is not None
    right, without = held
    kinds = torch.nn.functional.one_hot(labels.cpu()).double()
    class_drop = (right.double() - without.double()) @ kinds / kinds.sum(0)
    return Ablation(
        layer=name,
        replacement=replacement,
        channel=torch.tensor(asked),
        accuracy=right[0].double().mean().item(),
        lost=(right & ~without).sum(1),
        gained=(without & ~right).sum(1),
        class_drop=class_drop.float(),
        images=len(images),
        shared=shared,
    )


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    out: Tensor = called(model, images if isinstance(model, Network) else at_the_door(model, images))
    return at_least_float32(out)


def _by_channel(output: Tensor, module: nn.Module, layer: str, sides: Sequence[int]) -> Tensor:
    """Return a view of a layer's output with channels on axis 1: of tokens all, those of no place as well."""
    grid = grid_of(module, output.shape, sides) if output.ndim == 3 else None
    if grid is None:
        return as_maps(output, module, layer, sides)
    return output.transpose(1, 2) if grid.axis == 1 else output


def _mean_output(
    model: nn.Module, layer: str, images: UInt8[Tensor, "n c h w"], example: Tensor, size: int | None
) -> Tensor:
    """Return the mean of a layer's output over pictures, `[1, …]` as the layer puts it out, in float64."""
    means: list[Tensor] = []

    def note(output: Tensor, module: nn.Module) -> Tensor:
        means.append(at_least_float32(output).mean(0, keepdim=True).cpu().double())
        return output

    step = 1 if one_at_a_time(model, example) else at_once(model, "", example)
    counts = []
    with intervene(model, layer, note):
        for start in range(0, len(images), step):
            batch = placed(model, to_float(images[start : start + step], size))
            _logits(model, laid_out(model, batch))
            counts.append(len(batch))
    shares = torch.tensor(counts, dtype=torch.float64) / len(images)
    return torch.einsum("b,b...->...", shares, torch.stack(means))


class _Single:
    """A whole pass for every channel, and one for none."""

    def __init__(self, model: nn.Module, layer: str, example: Tensor, instead: Tensor | None) -> None:
        self.model, self.layer, self.sides, self.instead = model, layer, example.shape[2:], instead
        self.batch = min(BATCH, at_once(model, "", example))
        self.at_once = 1

    def begin(self, images: Tensor) -> None:
        """Take the next batch."""
        self.images = images

    def __call__(self, channels: list[int]) -> Tensor | None:
        """Return logits with all channels and without each, `[1 + channels, pictures, classes]`; None: it cannot."""
        images = self.images
        return torch.stack([self._without(images, channel) for channel in (None, *channels)])

    def replace(self, output: Tensor, module: nn.Module, rows: Tensor | slice, channels: Tensor | int) -> None:
        """Write what stands in the place of channels into some rows of a layer's output."""
        changed = _by_channel(output, module, self.layer, self.sides)
        if self.instead is None:
            changed[rows, channels] = 0
        else:
            changed[rows, channels] = _by_channel(self.instead.to(output), module, self.layer, self.sides)[0, channels]

    def _without(self, images: Tensor, channel: int | None) -> Tensor:
        def change(output: Tensor, module: nn.Module) -> Tensor:
            changed = output.clone()
            if channel is not None:
                self.replace(changed, module, slice(None), channel)
            return changed

        with intervene(self.model, self.layer, change):
            logits: Tensor = _logits(self.model, images)
        return logits


class _Shared(_Single):
    """The rest of the network runs on all copies of a batch, each without another channel, and one untouched.

    The first part runs on the batch once; what it puts out stands in for the output of later passes, of two pictures
    (and not of one: the rest could join that with anything).
    """

    def __init__(self, model: nn.Module, layer: str, example: Tensor, instead: Tensor | None) -> None:
        super().__init__(model, layer, example, instead)
        self.most = 8 * at_once(model, "", example)

    def begin(self, images: Tensor) -> None:
        """Take the next batch: its output, and the network's own answer."""
        super().begin(images)

        def note(output: Tensor, module: nn.Module) -> Tensor:
            self.output = output.clone()  # what follows may write into it
            return output

        with intervene(self.model, self.layer, note):
            self.own = _logits(self.model, images)
        self.checked, n = False, len(images)
        room = max(2 * n, min(max(AT_ONCE, CELLS * n // self.output.numel()), self.most))
        self.at_once = room // n - 1

    def __call__(self, channels: list[int]) -> Tensor | None:
        """Return the same; None where the untouched copy does not come out as the network's own answer."""
        n, many = len(self.images), len(channels)

        def change(output: Tensor, module: nn.Module) -> Tensor:
            copies = self.output.repeat(many + 1, *[1] * (output.ndim - 1))
            which = torch.tensor(channels, device=output.device).repeat_interleave(n)
            self.replace(copies, module, torch.arange(n, n + len(which), device=output.device), which)
            return copies

        try:
            with intervene(self.model, self.layer, change):
                logits = _logits(self.model, self.images[:2])
        except (RuntimeError, ValueError, IndexError):  # what follows joins it with something of another length
            return None
        if logits.shape[0] != (many + 1) * n:
            return None
        parts = logits.view(many + 1, n, -1)
        self.checked = self.checked or bool((parts[0] - self.own).abs().max() <= NEAR * self.own.abs().max())
        return parts if self.checked else None


def _all(
    way: _Single,
    images: Tensor,
    labels: Tensor,
    channels: list[int],
    size: int | None,
    progress: Progress | None,
) -> tuple[Bool[Tensor, "rows n"], Bool[Tensor, "rows n"]] | None:
    """Return which pictures are right with all channels and without each, row by row; None if this way fails here.

    A row with all channels is of the same passes as the row without one that it is compared with.
    """
    device = next((p.device for p in way.model.parameters()), torch.device("cpu"))
    with_all, without = [], []
    for start in range(0, len(images), way.batch):
        batch = placed(way.model, to_float(images[start : start + way.batch], size))
        batch = laid_out(way.model, batch)
        true = labels[start : start + way.batch].to(device)
        way.begin(batch)
        held: list[Tensor] = []
        changed: list[Tensor] = []
        for first in range(0, len(channels), way.at_once):
            some = channels[first : first + way.at_once]
            logits = way(some)
            if logits is None:
                return None
            right = (logits.argmax(2) == true).cpu()
            held.append(right[:1].expand(len(some), -1))
            changed.append(right[1:])
        with_all.append(torch.cat(held))
        without.append(torch.cat(changed))
        if progress is not None:
            progress(min(start + way.batch, len(images)), len(images))
    return torch.cat(with_all, 1), torch.cat(without, 1)
