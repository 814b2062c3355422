"""Maximally activating dataset examples of each channel, and the receptive field of the strongest position."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, UsageError
from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.receptive import receptive_fields
from torchloupe.features.trace import at_once, channel_list, placed, resolve
from torchloupe.models.network import Network
from torchloupe.runtime.progress import Progress


@dataclass(frozen=True, eq=False)
class TopExamples:
    """For each channel the k images with the highest activation, the strongest first."""

    layer: str
    channel: Int64[Tensor, "c"]
    index: Int64[Tensor, "c k"]
    """Number of the picture in the data set."""
    activation: Float[Tensor, "c k"]
    """What they are ranked by: the strongest position of the map, or its mean."""
    position: Int64[Tensor, "c k 2"]
    """(y, x) of the strongest position in the map."""
    box: Int64[Tensor, "c k 4"]
    """Receptive field of that position: top, left, bottom, right in pixels of the stored image, half open."""
    images: UInt8[Tensor, "c k channels h w"]
    names: tuple[tuple[str, ...], ...]

    @property
    def pictures(self) -> UInt8[Tensor, "c k channels h w"]:
        """`images`, by its name until version 0.2."""
        return self.images


def top_examples(
    model: nn.Module,
    layer: str,
    dataset: Any,
    *,
    channels: list[int] | None = None,
    count: int = 9,
    rank: str = "max",
    progress: Progress | None = None,
) -> TopExamples:
    """Find for each channel the pictures of a data set that drive it most, with the part that it sees.

    `dataset` has `.images`, uint8 `[n, c, h, w]`, and may have `.names`; or is such a tensor. One pass; memory does not
    grow with the data set. Pictures are ranked by the strongest position of the map (Zeiler & Fergus 2014), or with
    rank="mean" by its mean; of equal ones the earlier counts.

    Raises:
        DataError: the data set holds no pictures.
        UsageError: a channel, count or rank that there is not.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> top_examples(net, "0", torch.randint(0, 256, (20, 3, 9, 9), dtype=torch.uint8), count=2).box.shape
    torch.Size([4, 2, 4])
    """
    images: Tensor = dataset if isinstance(dataset, Tensor) else dataset.images
    if images.ndim != 4 or not len(images) or images.dtype != torch.uint8:
        raise DataError("top examples come from uint8 pictures [n, c, h, w]; this data set has none.")
    if count < 1 or rank not in ("max", "mean"):
        raise UsageError(f"count is at least 1 and rank is max or mean, not {count} and {rank!r}.")
    size = model.size if isinstance(model, Network) else None
    image = placed(model, to_float(images[:1], size))
    name = resolve(model, layer, image)
    scores, index, cells, width, asked = _ranked(
        model, name, images, size, channels, min(count, len(images)), rank, progress
    )
    position = torch.stack([cells // width, cells % width], 2)
    field = receptive_fields(model, tuple(image.shape[2:]), [name]).get(name)  # type: ignore[arg-type]
    stored = tuple(images.shape[2:])
    if field is None:
        box = torch.tensor([0, 0, *stored]).expand(*index.shape, 4)
    else:
        rows, columns = field.rows[position[..., 0]], field.columns[position[..., 1]]
        height, width = image.shape[2:]  # whole numbers: low ends rounded down, high ends up
        low = rows[..., 0] * stored[0] // height, columns[..., 0] * stored[1] // width
        high = -(-rows[..., 1] * stored[0] // height), -(-columns[..., 1] * stored[1] // width)
        box = torch.stack([*low, *high], 2)
    called = getattr(dataset, "names", None) or tuple(str(i) for i in range(len(images)))
    names = tuple(tuple(called[i] for i in row) for row in index.tolist())
    return TopExamples(name, torch.tensor(asked), index, scores, position, box, images[index], names)


def _ranked(
    model: nn.Module,
    layer: str,
    images: Tensor,
    size: int | None,
    channels: list[int] | None,
    count: int,
    rank: str,
    progress: Progress | None,
) -> tuple[Tensor, Tensor, Tensor, int, list[int]]:
    """Keep the best of each channel over batches: scores, pictures' numbers, cells, the maps' width, channels."""
    step = at_once(model, layer, placed(model, to_float(images[:1], size)))
    best: Tensor | None = None
    with frozen_eval(model), torch.no_grad():
        for start in range(0, len(images), step):
            batch = placed(model, to_float(images[start : start + step], size))
            features = activations(model, layer, batch)
            if best is None:
                asked = channel_list(channels, features.shape[1], layer)
                width = features.shape[3]
                best, numbers, cells = (
                    torch.empty(len(asked), 0, dtype=t) for t in (features.dtype, torch.int64, torch.int64)
                )
            flat = features[:, asked].flatten(2).transpose(0, 1)
            strongest, cell = (part.cpu() for part in flat.max(2))
            score = strongest if rank == "max" else flat.mean(2).cpu()
            here = torch.arange(start, start + len(batch)).expand_as(score)
            best, numbers, cells = (torch.cat(pair, 1) for pair in ((best, score), (numbers, here), (cells, cell)))
            order = best.sort(dim=1, descending=True, stable=True).indices[:, :count]  # earlier pictures stand first
            best, numbers, cells = (kept.gather(1, order) for kept in (best, numbers, cells))
            if progress is not None:
                progress(min(start + step, len(images)), len(images))
    assert best is not None
    return best, numbers, cells, width, asked
