"""Pictures as parameters: pixels, Fourier coefficients with natural colours, and MACO's fixed magnitudes."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.errors import UsageError
from torchloupe.synthesis.image_statistics import ImageStatistics
from torchloupe.synthesis.optimize import Picture

Kind = Literal["fourier", "pixel", "maco"]
KINDS: tuple[Kind, ...] = ("fourier", "pixel", "maco")
EDGE = 0.01
"""A photograph's pixels are brought this far into [0, 1] before they become parameters."""


def squash(y: Tensor) -> Tensor:
    """Bring numbers into (0, 1), as they are around one half.

    >>> squash(torch.tensor([0.5])).item()
    0.5
    """
    return torch.sigmoid(4 * (y - 0.5))


def unsquash(x: Tensor) -> Tensor:
    """Undo `squash`, for pictures not nearer than 0.01 to black or white.

    >>> round(unsquash(squash(torch.tensor([0.7]))).item(), 5)
    0.7
    """
    return 0.5 + torch.logit(x.clamp(EDGE, 1 - EDGE)) / 4


class Pixels(Picture):
    """Every pixel is a parameter."""

    def __init__(self, start: Float[Tensor, "n c h w"]) -> None:
        super().__init__()
        self.y = nn.Parameter(unsquash(start))

    def forward(self) -> Float[Tensor, "n c h w"]:
        """Return the pictures."""
        return squash(self.y)


class Fourier(Picture):
    """Fourier coefficients of decorrelated colours, each in units of its natural strength (Olah et al. 2017)."""

    def __init__(self, start: Float[Tensor, "n c h w"], statistics: ImageStatistics) -> None:
        super().__init__()
        self.sides = (int(start.shape[2]), int(start.shape[3]))
        measured = statistics.resized(*self.sides)
        self.spectrum, self.color, self.mean = (
            t.to(start) for t in (measured.spectrum.clamp(min=1e-3), measured.color, measured.mean)
        )
        z = torch.einsum("ij,njhw->nihw", torch.linalg.inv(self.color), unsquash(start) - self.mean[:, None, None])
        self.coefficients = nn.Parameter(
            torch.view_as_real(torch.fft.rfft2(z, norm="ortho") / self.spectrum).contiguous()
        )

    def forward(self) -> Float[Tensor, "n c h w"]:
        """Return the pictures."""
        coefficients = torch.view_as_complex(self.coefficients) * self.spectrum
        z = torch.fft.irfft2(coefficients, s=self.sides, norm="ortho")
        return squash(torch.einsum("ij,njhw->nihw", self.color, z) + self.mean[:, None, None])


class Maco(Picture):
    """Phases alone are parameters; magnitudes are exactly the data's before the clamp (Fel et al. 2023)."""

    def __init__(self, start: Float[Tensor, "n c h w"], statistics: ImageStatistics) -> None:
        super().__init__()
        self.sides = (int(start.shape[2]), int(start.shape[3]))
        measured = statistics.resized(*self.sides)
        self.color, self.mean = measured.color.to(start), measured.mean.to(start)
        height, width = self.sides
        self.alone = [0, width // 2] if width % 2 == 0 else [0]  # columns whose frequencies are each other's mirror
        mirror = (-torch.arange(height, device=start.device)) % height
        self.mirror = mirror
        spectrum = measured.spectrum.to(start, copy=True)
        for column in self.alone:  # of real pictures these are symmetric already, but for rounding
            spectrum[:, :, column] = (spectrum[:, :, column] + spectrum[:, mirror, column]) / 2
        self.spectrum = spectrum
        z = torch.einsum("ij,njhw->nihw", torch.linalg.inv(self.color), start - self.mean[:, None, None])
        found = torch.fft.rfft2(z, norm="ortho")
        self.phase = nn.Parameter(found.angle())
        own = torch.zeros_like(spectrum[0], dtype=torch.bool)  # frequencies that are their own mirror: real numbers
        for column in self.alone:
            own[:, column] = mirror == torch.arange(height, device=start.device)
        self.own = own
        self.sign = torch.where(found.real < 0, -1.0, 1.0).to(start)

    def unclamped(self) -> Float[Tensor, "n c h w"]:
        """Return the pictures before their range is clamped."""
        columns = []
        for column in range(self.phase.shape[3]):
            phase = self.phase[..., column]
            columns.append((phase - phase[:, :, self.mirror]) / 2 if column in self.alone else phase)
        phase = torch.stack(columns, 3) if self.alone else self.phase
        coefficients = torch.polar(self.spectrum.expand_as(phase), phase)
        coefficients = torch.where(
            self.own, torch.complex(self.sign * self.spectrum, torch.zeros_like(phase)), coefficients
        )
        z = torch.fft.irfft2(coefficients, s=self.sides, norm="ortho")
        return torch.einsum("ij,njhw->nihw", self.color, z) + self.mean[:, None, None]

    def forward(self) -> Float[Tensor, "n c h w"]:
        """Return the pictures; gradients pass the clamp."""
        free = self.unclamped()
        return free + (free.clamp(0, 1) - free).detach()


def noise(
    shape: tuple[int, int, int], statistics: ImageStatistics, seed: int, count: int, dtype: torch.dtype
) -> Float[Tensor, "count c h w"]:
    """Return noise with the data's spectrum and colours, squashed into (0, 1).

    >>> from torchloupe.synthesis.image_statistics import generic
    >>> noise((3, 8, 9), generic(8, 9), 0, 2, torch.float32).shape
    torch.Size([2, 3, 8, 9])
    """
    height, width = shape[1:]
    measured = statistics.resized(height, width)
    white = torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    coefficients = torch.fft.rfft2(white, norm="ortho") * measured.spectrum.double()
    z = torch.fft.irfft2(coefficients, s=(height, width), norm="ortho")
    y = torch.einsum("ij,njhw->nihw", measured.color.double(), z) + measured.mean.double()[:, None, None]
    return squash(y).to(dtype)


def parameterize(kind: str, start: Float[Tensor, "n c h w"], statistics: ImageStatistics) -> Picture:
    """Return pictures as parameters of a kind, starting at given ones.

    Raises:
        UsageError: there is no such kind.

    >>> from torchloupe.synthesis.image_statistics import generic
    >>> parameterize("pixel", torch.rand(2, 3, 8, 8), generic(8, 8))().shape
    torch.Size([2, 3, 8, 8])
    """
    if kind == "pixel":
        return Pixels(start)
    if kind not in KINDS:
        raise UsageError(f"no parameterization {kind!r}. It is {', '.join(KINDS)}.")
    return Fourier(start, statistics) if kind == "fourier" else Maco(start, statistics)


COLOUR = 0.3
"""How freely a channel parts from the mean of the channels; in photographs colours go together."""

BLOBS = 2.5

STRENGTHS = (0.15, 0.25)
"""Standard deviations of the pictures that `smooth` makes, in turn."""


def natural(numbers: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return pictures from free numbers, one each: grey for zeros, else with an amplitude that falls as 1/frequency.

    A linear change of variables and no constraint: every picture has its numbers. Photographs have such a spectrum
    (Field 1987), and so a step that is equally long in all numbers is a natural one in the picture (Olah et al. 2017,
    "Feature visualization", call it preconditioning). The gain is 1 in the mean square over all frequencies.

    >>> natural(torch.zeros(1, 3, 5, 7)).unique()
    tensor([0.5000])
    """
    height, width = numbers.shape[-2:]
    like = {"dtype": numbers.dtype, "device": numbers.device}
    rows = torch.fft.fftfreq(height, **like)[:, None]
    columns = torch.fft.fftfreq(width, **like)[None, :]
    gain = 1 / (rows**2 + columns**2).sqrt().clamp(min=1 / max(height, width))
    gain = (gain / (gain**2).mean().sqrt())[:, : width // 2 + 1]
    middle = numbers.mean(1, keepdim=True)
    mixed = middle + COLOUR * (numbers - middle)
    pictures: Tensor = 0.5 + torch.fft.irfft2(torch.fft.rfft2(mixed) * gain, s=(height, width))
    return pictures


def smooth(numbers: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return numbers whose pictures are soft blobs, of a strength between faint and strong from one to the next.

    What is finer than a few blobs across fades away, as exp(-(f/f₀)²) with f₀ = 2.5 cycles along the shorter side.

    >>> made = natural(smooth(torch.randn(2, 3, 16, 16)))
    >>> made.std((1, 2, 3)).round(decimals=2)
    tensor([0.1500, 0.2500])
    """
    height, width = numbers.shape[-2:]
    like = {"dtype": numbers.dtype, "device": numbers.device}
    rows, columns = torch.fft.fftfreq(height, **like)[:, None], torch.fft.rfftfreq(width, **like)[None, :]
    gain = torch.exp(-(rows**2 + columns**2) * (min(height, width) / BLOBS) ** 2)
    soft = torch.fft.irfft2(torch.fft.rfft2(numbers) * gain, s=(height, width))
    strength = numbers.new_tensor(STRENGTHS).repeat(len(numbers))[: len(numbers), None, None, None]
    blobs: Tensor = strength * soft
    if soft[0].numel() > 1:  # one number does not spread
        blobs = blobs / natural(soft).std((1, 2, 3), keepdim=True).clamp(min=1e-30)
    return blobs
