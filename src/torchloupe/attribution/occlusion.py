"""Occlusion (Zeiler & Fergus 2014): what an answer loses when a square of the picture is covered."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.attribution.maps import Attribution, Baseline, Target, class_logits, explained, plain_picture
from torchloupe.errors import UsageError
from torchloupe.runtime.progress import Progress


def occlusion(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    target: Target = None,
    patch: int | None = None,
    stride: int | None = None,
    baseline: Baseline = 0.5,
    progress: Progress | None = None,
) -> Attribution:
    """Cover one square after the other and measure what the logit loses.

    Zeiler & Fergus 2014. The value of a pixel is the mean loss over the squares that cover it. Squares of side
    `patch` (by default an eighth of the shorter side) stand every `stride` pixels (half a square) from the upper left;
    those at the right and lower edge are cut by it. All squares of all pictures go through the network in batches.

    Raises:
        UsageError: no such class, pictures or baseline, a square larger than the picture, or gaps between squares.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    >>> occlusion(net, torch.rand(2, 3, 4, 4), patch=2, stride=1).map.shape
    torch.Size([2, 4, 4])
    """
    height, width = images.shape[2:]
    side = patch or max(1, min(height, width) // 8)
    step = stride or max(1, side // 2)
    if not 1 <= side <= max(height, width) or not 1 <= step <= side:
        raise UsageError(
            f"patch is 1 to {max(height, width)} pixels and stride 1 to the patch, so that no pixel is left out; "
            f"not {side} and {step}."
        )
    sides = min(side, height), min(side, width)
    steps = min(step, height), min(step, width)
    with explained(model, images, target) as (batch, aim, size), torch.no_grad():
        plain = plain_picture(baseline, batch)
        tops, lefts = (_starts(*each) for each in zip((height, width), sides, steps, strict=True))
        places = torch.cartesian_prod(tops, lefts)
        score = torch.cat(
            [aim[i : i + size].of(class_logits(model, batch[i : i + size])) for i in range(0, len(batch), size)]
        )
        lost = torch.zeros(len(batch), len(places), dtype=batch.dtype)
        rows, columns = (torch.arange(length, device=batch.device) for length in (height, width))
        which = torch.arange(len(batch)).repeat_interleave(len(places))
        place = torch.arange(len(places)).repeat(len(batch))
        for begin in range(0, len(which), size):
            one, spot = which[begin : begin + size], place[begin : begin + size]
            top, left = places[spot].to(batch.device).unbind(1)
            inside = _within(rows, top, sides[0])[:, :, None] & _within(columns, left, sides[1])[:, None, :]
            covered = torch.where(inside[:, None], plain[one], batch[one])
            lost[one, spot] = (score[one] - aim[one].of(class_logits(model, covered))).cpu()
            if progress is not None:
                progress(min(begin + size, len(which)), len(which))
        canvas = (int(tops[-1]) + sides[0], int(lefts[-1]) + sides[1])
        each = torch.stack([lost, torch.ones_like(lost)]).flatten(0, 1)[:, None].expand(-1, sides[0] * sides[1], -1)
        total, times = F.fold(each, canvas, sides, stride=steps)[:, 0, :height, :width].chunk(2)
        return Attribution("occlusion", "output", total / times, batch.cpu(), aim.target, aim.against)


def _starts(length: int, side: int, step: int) -> Tensor:
    return step * torch.arange(1 + -(-(length - side) // step))


def _within(line: Tensor, start: Tensor, side: int) -> Tensor:
    return (line >= start[:, None]) & (line < start[:, None] + side)
