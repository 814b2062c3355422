"""RISE (Petsiuk et al. 2018, "RISE: randomized input sampling for explanation of black-box models")."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.attribution.maps import Attribution, Baseline, Target, class_logits, explained, plain_picture
from torchloupe.errors import UsageError
from torchloupe.models.network import Network
from torchloupe.runtime.progress import Progress

SHOWN = 0.5
"""Share of the cells that a mask leaves."""


def rise(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    *,
    target: Target = None,
    masks: int = 1000,
    cells: int = 7,
    baseline: Baseline = 0.5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution:
    """Average random masks, weighed by the probability that the masked picture keeps.

    A mask is a grid of `cells` x `cells`, each shown or not by chance, enlarged bilinearly and shifted. The value of a
    pixel is the covariance of its being shown with the class's probability, over that of the mask: what the probability
    gains when the pixel is shown, 0 where it does not matter. (Petsiuk et al. leave the probability's mean in, which
    adds the same to every pixel, and some noise.) What is not shown is `baseline`.

    Raises:
        UsageError: no such class, pictures or baseline, or fewer than two masks or cells.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    >>> rise(net, torch.rand(2, 3, 8, 8), masks=8, cells=2).map.shape
    torch.Size([2, 8, 8])
    """
    if masks < 2 or cells < 2:
        raise UsageError(f"RISE takes two masks and two cells or more, not {masks} and {cells}.")
    with explained(model, images, target) as (batch, aim, size), torch.no_grad():
        plain = plain_picture(baseline, batch)
        drawn = random_masks(masks, cells, (batch.shape[2], batch.shape[3]), seed).to(batch)
        said = torch.zeros(len(batch), masks, dtype=batch.dtype, device=batch.device)
        which = torch.arange(len(batch)).repeat_interleave(masks)
        mask = torch.arange(masks).repeat(len(batch))
        sigmoid = isinstance(model, Network) and model.multilabel
        for begin in range(0, len(which), size):
            one, each = which[begin : begin + size], mask[begin : begin + size]
            through = torch.lerp(plain[one], batch[one], drawn[each][:, None])
            logits = class_logits(model, through)
            said[one, each] = aim[one].of(logits.sigmoid() if sigmoid else logits.softmax(1))
            if progress is not None:
                progress(min(begin + size, len(which)), len(which))
        centred = drawn - drawn.mean(0)
        together = ((said - said.mean(1, keepdim=True)) @ centred.flatten(1)).view(len(batch), *drawn.shape[1:])
        spread = centred.square().sum(0)
        found = together / spread.clamp(min=torch.finfo(batch.dtype).tiny)
        return Attribution("rise", "output", found.cpu(), batch.cpu(), aim.target, aim.against)


def random_masks(count: int, cells: int, sides: tuple[int, int], seed: int) -> Float[Tensor, "n h w"]:
    """Return smooth random masks in [0, 1], 1 where the picture is shown, drawn by a seed.

    >>> random_masks(4, 3, (9, 7), 0).shape
    torch.Size([4, 9, 7])
    """
    generator = torch.Generator().manual_seed(seed)
    grid = (torch.rand(count, 1, cells + 1, cells + 1, generator=generator, dtype=torch.float64) < SHOWN).double()
    height, width = (-(-side // cells) for side in sides)
    large = F.interpolate(grid, ((cells + 1) * height, (cells + 1) * width), mode="bilinear", align_corners=False)[:, 0]
    down = torch.randint(0, height, (count,), generator=generator)
    along = torch.randint(0, width, (count,), generator=generator)
    rows = down[:, None] + torch.arange(sides[0])
    columns = along[:, None] + torch.arange(sides[1])
    return large[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
