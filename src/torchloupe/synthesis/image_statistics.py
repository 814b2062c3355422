"""What natural pictures have in common: mean colour, correlation of colours, and strength by spatial frequency."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from torchloupe.errors import UsageError

ENOUGH = 2000
"""Pictures that are measured, evenly taken from a data set."""


@dataclass(frozen=True, eq=False)
class ImageStatistics:
    """A picture is `mean + color @ z`: the channels of z are uncorrelated, with unit variance and this spectrum."""

    spectrum: Float[Tensor, "c h w2"]
    """Root mean square magnitude of z's Fourier coefficients (`rfft2`, norm "ortho")."""
    color: Float[Tensor, "c c"]
    """Symmetric square root of the colours' covariance over all pixels of all pictures, pictures in [0, 1]."""
    mean: Float[Tensor, "c"]
    width: int
    """Of the pictures: the spectrum's last axis does not tell odd from even."""

    def to_tensors(self) -> dict[str, Tensor]:
        """Return them by name, for a file."""
        return {"spectrum": self.spectrum, "color": self.color, "mean": self.mean, "width": torch.tensor(self.width)}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> "ImageStatistics":
        """Undo `to_tensors`.

        Raises:
            KeyError: one is missing.
            ValueError: they are not those of images.
        """
        spectrum, color, mean, width = (tensors[name] for name in ("spectrum", "color", "mean", "width"))
        channels = len(mean) if mean.ndim == 1 else 0
        shapes = spectrum.ndim == 3 and len(spectrum) == channels > 0 and color.shape == (channels, channels)
        numbers = all(each.is_floating_point() and bool(each.isfinite().all()) for each in (spectrum, color, mean))
        known = width.numel() == 1 and not width.is_complex() and not width.is_floating_point()
        if not (shapes and numbers and known and spectrum.shape[2] == int(width) // 2 + 1 and spectrum.numel()):
            raise ValueError("no statistics of images")
        return ImageStatistics(tensors["spectrum"], tensors["color"], tensors["mean"], int(tensors["width"]))

    def resized(self, height: int, width: int) -> "ImageStatistics":
        """Return them for another canvas: the same strength at the same cycles a pixel, the same variance in all.

        >>> generic(8, 8).resized(9, 7).spectrum.shape
        torch.Size([3, 9, 4])
        """
        old_height = self.spectrum.shape[1]
        if (old_height, self.width) == (height, width):
            return self
        y = torch.fft.fftfreq(height)[:, None].expand(-1, width // 2 + 1)
        x = torch.fft.rfftfreq(width)[None].expand(height, -1)
        rows = torch.fft.fftshift(self.spectrum, dim=1)  # from the most negative frequency to the most positive
        if old_height % 2 == 0:
            rows = torch.cat([rows, rows[:, :1]], 1)  # ±1/2 is one frequency
        tops = (old_height // 2 / old_height, (rows.shape[2] - 1) / self.width)
        grid = torch.stack([2 * x / max(tops[1], 1e-9) - 1, y / max(tops[0], 1e-9)], 2).to(rows.dtype)
        scaled = F.grid_sample(rows[None], grid[None], align_corners=True, padding_mode="border")[0]
        return ImageStatistics(unit_variance(scaled, width), self.color, self.mean, width)


def unit_variance(spectrum: Float[Tensor, "c h w2"], width: int) -> Float[Tensor, "c h w2"]:
    """Scale a spectrum so that z has unit variance at every pixel, its mean (the zero frequency) included.

    >>> bool(torch.isclose(unit_variance(torch.rand(1, 4, 3), 4).square().sum(), torch.tensor(16.0), atol=16))
    True
    """
    weight = torch.full((spectrum.shape[2],), 2.0, dtype=spectrum.dtype)  # columns that stand for two frequencies
    weight[0] = 1
    if width % 2 == 0:
        weight[-1] = 1
    power = (spectrum.square() * weight).sum((1, 2), keepdim=True)
    return spectrum * (spectrum.shape[1] * width / power.clamp(min=1e-30)).sqrt()


def measure(images: UInt8[Tensor, "n c h w"], most: int = ENOUGH) -> ImageStatistics:
    """Measure spectrum and colours of pictures, evenly taken.

    Raises:
        UsageError: there are no pictures.

    >>> measure(torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)).color.shape
    torch.Size([3, 3])
    """
    if not len(images):
        raise UsageError("there are no pictures whose spectrum could be measured.")
    count = min(most, len(images))
    batch = images[torch.arange(count) * len(images) // count].double() / 255
    channels, width = batch.shape[1], batch.shape[3]
    mean = batch.mean((0, 2, 3))
    centered = batch - mean[:, None, None]
    rows = centered.transpose(0, 1).flatten(1)
    covariance = rows @ rows.T / rows.shape[1] + 1e-8 * torch.eye(channels, dtype=rows.dtype)
    values, vectors = torch.linalg.eigh(covariance)
    color = vectors * values.sqrt() @ vectors.T
    z = torch.einsum("ij,njhw->nihw", torch.linalg.inv(color), centered)
    power = torch.fft.rfft2(z, norm="ortho").abs().square().mean(0)
    return ImageStatistics(power.sqrt().float(), color.float(), mean.float(), width)


def generic(height: int, width: int, channels: int = 3) -> ImageStatistics:
    """Return what is common to photographs where no data are at hand: amplitude 1/f (Field 1987), colours alike.

    Three channels share nine tenths of their variance, standard deviation 0.25 around mid grey.

    >>> generic(32, 32).spectrum.shape
    torch.Size([3, 32, 17])
    """
    y, x = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    frequency = (y.square() + x.square()).sqrt().clamp(min=1 / max(height, width))
    covariance = 0.25**2 * (0.9 * torch.ones(channels, channels) + 0.1 * torch.eye(channels))
    values, vectors = torch.linalg.eigh(covariance)
    color = vectors * values.clamp(min=0).sqrt() @ vectors.T
    spectrum = unit_variance((1 / frequency).expand(channels, -1, -1).contiguous(), width)
    return ImageStatistics(spectrum, color, torch.full((channels,), 0.5), width)
