"""Small changes under which a picture must stay good: drawn anew at each step, the same for every picture."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from torchloupe.synthesis.optimize import Transform


def shifted(pictures: Float[Tensor, "n c h w"], down: int, right: int) -> Float[Tensor, "n c h w"]:
    """Shift pictures by whole pixels; what comes in repeats the edge.

    >>> shifted(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 0, 1)[0, 0]
    tensor([[1., 1., 2.]])
    """
    height, width = pictures.shape[2:]
    reach = max(abs(down), abs(right))
    if not reach:
        return pictures
    padded = F.pad(pictures, (reach,) * 4, mode="replicate")
    return padded[:, :, reach - down : reach - down + height, reach - right : reach - right + width]


def jitter(reach: int, seed: int = 0) -> Transform:
    """Return a transform that shifts by up to `reach` pixels either way.

    >>> jitter(0)(torch.ones(1, 1, 2, 2), 5).sum().item()
    4.0
    """

    def change(pictures: Tensor, step: int) -> Tensor:
        down, right = torch.randint(-reach, reach + 1, (2,), generator=_generator(seed, step)).tolist()
        return shifted(pictures, down, right)

    return change


def wobble(degrees: float, scale: float, seed: int = 0) -> Transform:
    """Return a transform that turns by up to `degrees` and enlarges or shrinks by up to the share `scale`.

    >>> wobble(0.0, 0.0)(torch.ones(1, 1, 4, 4), 0).sum().item()
    16.0
    """

    def change(pictures: Tensor, step: int) -> Tensor:
        if not degrees and not scale:
            return pictures
        turn, size = (2 * torch.rand(2, generator=_generator(seed + 1, step), dtype=torch.float64) - 1).tolist()
        angle, factor = math.radians(degrees * turn), math.exp(scale * size)
        height, width = pictures.shape[2:]
        cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
        rows = [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]
        matrix = torch.tensor(rows, dtype=pictures.dtype, device=pictures.device)
        grid = F.affine_grid(matrix[None], [1, 1, height, width], align_corners=False)
        grid = grid.expand(len(pictures), -1, -1, -1)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)

    return change


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
