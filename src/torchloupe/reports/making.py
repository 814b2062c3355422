"""What the parts of a report share while it is made: the network, its pictures, what was refused, the time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from torchloupe.data.dataset import Split
from torchloupe.data.subsets import spread_out, take
from torchloupe.errors import LoupeError
from torchloupe.inspection.inputs import Images
from torchloupe.inspection.result import Result
from torchloupe.inspection.run import run
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network
from torchloupe.reports.html.sprites import Pool
from torchloupe.reports.plan import Plan
from torchloupe.runtime.environment import __version__
from torchloupe.runtime.memory import halving
from torchloupe.runtime.progress import Progress

T = TypeVar("T")

PAIR = 2
"""Settings of more numbers than a position or a size are too long for a caption."""


@dataclass
class Making:
    """A report under way."""

    studied: Subject
    plan: Plan
    samples: Images
    seed: int
    deadline: float | None
    """On the monotonic clock; what is not begun by then is left out, and said."""
    tick: Progress | None = None
    photos: Pool = field(default_factory=Pool)
    """Test pictures outside of layers: mistakes."""
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """What, of which layer, why."""
    late: list[tuple[str, str]] = field(default_factory=list)
    """What, of which layer, was not begun for lack of time."""
    done: float = 0.0
    total: float = 1.0
    second: nn.Module | None = None
    """The same architecture, trained once more."""

    def attempt(self, what: str, layer: str, make: Callable[[], T]) -> T | None:
        """Make one part; what the network refuses, or time does not allow, is noted, and None returned."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.late.append((what, layer))
            return None
        try:
            return halving(make, f"{what} of {layer}")
        except Exception as error:  # whatever a user's network raises, the report goes on
            self.refused.append((what, layer, why(error)))
        return None

    def show(self, name: str, layer: str, images: Any = None, **settings: Any) -> Result | None:
        """Run a method of the catalog."""
        return self.attempt(name, layer, lambda: run(name, self.studied, layer, images, seed=self.seed, **settings))

    def step(self, share: float = 1.0) -> None:
        """Tell that a part is done."""
        self.done += share
        if self.tick is not None:
            self.tick(min(round(100 * self.done), round(100 * self.total)), round(100 * self.total))

    @property
    def canvas(self) -> tuple[int, int] | None:
        """Height and width of pictures to make."""
        return canvas_of(self.studied, self.samples)

    def split(self) -> Split | None:
        """Return the test pictures that are looked through."""
        split = self.studied.split()
        if split is None:
            return None
        chosen = spread_out(len(split), self.plan.amount.images)
        return split if len(chosen) == len(split) else take(split, chosen)

    def index_in_split(self, index: Tensor) -> Tensor:
        """Turn numbers of the pictures that are looked through into those of the whole split."""
        split = self.studied.split()
        chosen = spread_out(0 if split is None else len(split), self.plan.amount.images)
        return chosen[index]

    def about(self, shown: Result) -> dict[str, Any]:
        """Return what the pictures of a result have in common: how they were made, and of what."""
        manifest = {key: value for key, value in shown.about.items() if key not in ("names", "classes", "title")}
        settings = {
            name: v for name, v in manifest["settings"].items() if not isinstance(v, list | dict) or len(v) <= PAIR
        }
        origin = self.studied.origin
        if origin is not None:
            manifest["opened_from"] = Path(origin.word).name
        noted = {"torchloupe": __version__, "weights": self.studied.weights, "crc32": self.studied.crc}
        return {
            **manifest,
            **noted,
            "settings": settings,
            "numbers": {name: [mean, std] for name, mean, std in shown.numbers()},
        }


def why(error: Exception) -> str:
    """Say in one sentence what the network, or torchloupe for it, refused; a bug of our own is called one.

    >>> why(LoupeError("there is no such layer.")), why(KeyError("bn"))
    ('there is no such layer.', "a bug in torchloupe, KeyError: 'bn'.")
    """
    if isinstance(error, LoupeError):
        return str(error)
    return f"a bug in torchloupe, {type(error).__name__}: {(str(error).splitlines() or [''])[0]}."


def canvas_of(studied: Subject, samples: Images) -> tuple[int, int] | None:
    """Return height and width of pictures to make: those of the samples; None where the network says what it takes.

    >>> from torch import nn
    >>> from torchloupe.inspection.inputs import fallback
    >>> canvas_of(Subject(nn.Conv2d(3, 8, 3)), fallback(48))
    (48, 48)
    """
    model = studied.model
    if isinstance(model, Network) and model.size is not None:
        return None
    height, width = samples.images.shape[2:]
    return int(height), int(width)
