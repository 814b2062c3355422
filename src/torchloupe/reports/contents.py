"""What a report says, as plain values: made by the sections, laid out by the page, read by its script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from torchloupe.reports.html.sprites import Sprite


@dataclass(frozen=True)
class FromNoise:
    """One feature visualization of a unit."""

    tile: int
    """In the layer's sprite `maximize`."""
    activation: float | None
    shifted: float | None
    """Mean activation when it is moved by a few pixels."""
    ratio: float | None
    """Activation over that of the strongest test image."""
    dead: bool


@dataclass(frozen=True)
class Example:
    """One of the images of the data set that activate a unit most."""

    tile: int
    """In the layer's sprite `photos`."""
    activation: float | None
    box: tuple[float, ...]
    """What its strongest position sees: top, left, bottom, right as shares of the image's sides."""
    name: str
    word: str | None = None
    """What names it again: `test:3`; None where nothing does."""
    position: tuple[int, int] | None = None
    """(y, x) of its strongest position in the map."""


@dataclass(frozen=True)
class Told:
    """The class that a unit tells best from the others."""

    label: int
    auc: float | None
    low: float | None
    """End of the interval that holds for all classes at once by 95 % (Bonferroni)."""
    high: float | None
    classes: int
    """Among which it is the best."""
    inside: int
    """Images of the class."""
    images: int


@dataclass(frozen=True)
class Effect:
    """What the network loses without a unit, and whether that could be chance."""

    drop: float | None
    """Accuracy less accuracy without it."""
    error: float | None
    """Its paired standard error."""
    lost: int
    """Images that are right with the unit only."""
    gained: int
    """Images that are right without it only."""
    p: float | None
    """Of McNemar's exact test."""
    found: bool
    """Discovered at a false discovery rate of 5 % among the layer's units."""


@dataclass
class Unit:
    """One unit: a channel of a layer, or a class of the output."""

    channel: int
    name: str | None = None
    """Of the class, where it is one."""
    live: float | None = None
    """Share of the test images on which it is not zero."""
    live_ends: tuple[float | None, ...] | None = None
    """Its 95 % interval."""
    dead: bool = False
    correlation_ratio: float | None = None
    """η²: share of its variance over images that lies between classes."""
    omega_squared: float | None = None
    """The same without what chance gives."""
    class_selectivity: float | None = None
    """Index of Morcos et al. 2018; None where it does not apply."""
    told: Told | None = None
    """None where it was not measured."""
    class_means: list[float | None] = field(default_factory=list)
    near: tuple[int, float | None] | None = None
    """The channel whose maps are most like its own, and their correlation."""
    filter: int | None = None
    """Its tile in the sprite `filters`."""
    maximizing: list[FromNoise] = field(default_factory=list)
    spread: float | None = None
    """Standard deviation of those activations."""
    examples: list[Example] = field(default_factory=list)
    backpropagated: list[int] = field(default_factory=list)
    """Tiles in the sprite `backpropagated`, one for each of the first examples."""
    maps: list[int] = field(default_factory=list)
    """Tiles in the sprite `maps`, one a sample image."""
    drop: float | None = None
    """Accuracy less accuracy when it is zero everywhere."""
    effect: Effect | None = None
    """More of that; None where an earlier version measured it."""
    mean_effect: Effect | None = None
    """The same with its mean in its place; None where that was not measured."""
    class_drops: list[float | None] = field(default_factory=list)

    @property
    def class_most(self) -> int:
        """The class with the largest mean; -1 where none is known.

        >>> Unit(0, class_means=[0.1, None, 0.4]).class_most, Unit(0).class_most
        (2, -1)
        """
        known = [(mean, i) for i, mean in enumerate(self.class_means) if mean is not None]
        return max(known, key=lambda each: (each[0], -each[1]))[1] if known else -1


@dataclass(frozen=True)
class Score:
    """How near an inversion came."""

    error: float | None
    psnr: float | None
    ssim: float | None


@dataclass(frozen=True)
class Inversions:
    """The sample images found again from a layer: tiles of the sprite `invert`, trained, then randomized."""

    scores: list[Score]
    psnr: float | None
    """Mean over the sample images."""
    psnr_randomized: float | None
    chart: str
    """The error against steps, as SVG."""


@dataclass(frozen=True)
class Ablated:
    """Where and on what the units of a layer were set to zero."""

    site: str
    accuracy: float | None
    """With every unit."""
    images: int
    units: int = 0
    """Among which effects were looked for; 0 where an earlier version measured it."""
    found: int = 0
    """Of these, with an effect as zero."""
    found_mean: int | None = None
    """Of these, with an effect as their mean; None where that was not measured."""


@dataclass(frozen=True)
class Interval:
    """A mean over images with its 95 % interval."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Control:
    """How alike the signals of two kinds of networks are: Spearman's correlation, signed and of magnitudes."""

    pair: str
    """`trained, random` and so on, see `attribution.randomization`."""
    networks: int
    """Pairs of networks."""
    signed: Interval
    absolute: Interval


@dataclass(frozen=True)
class Probing:
    """What linear probes read from the layers: rows are networks, columns layers."""

    networks: list[str]
    layers: list[str]
    features: list[int]
    psnr: list[list[Interval]]
    accuracy: list[list[Interval]]
    mean_image: float | None
    """dB of the mean image, which knows nothing of an image."""
    mean_color: float | None
    """dB of each image's own mean color."""
    chance: float | None
    """Accuracy of the commonest class."""
    fitted: int
    tuned: int
    tested: int
    psnr_chart: str = ""
    accuracy_chart: str = ""


@dataclass
class Layer:
    """One layer, and what it makes of the sample images."""

    name: str
    kind: str
    count: int = 0
    """Its channels."""
    shape: tuple[int, ...] | None = None
    parameters: int | None = None
    receptive_field: tuple[int, ...] | None = None
    """Sides of its receptive field in pixels."""
    clipped: bool = False
    """The image's edge cuts it."""
    effective: float | None = None
    dead: float | None = None
    """Share of its channels; None where that is not known, or does not apply: not behind a rectifier."""
    images: int = 0
    """Test images on which its units were measured."""
    duplicates: float | None = None
    """Share of its channels whose maps are those of another."""
    units: list[Unit] = field(default_factory=list)
    rest: str = ""
    """What is said of the units that are not shown."""
    sprites: dict[str, Sprite] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    """How each kind of image was made."""
    correlations: dict[str, list[float | None]] = field(default_factory=dict)
    """Rule -> Spearman's correlation with the control, for each sample image."""
    inversions: Inversions | None = None
    ablated: Ablated | None = None
    controls: dict[str, list[Control]] = field(default_factory=dict)
    """Rule -> how far its signal depends on the weights, beside what that could lose to."""


@dataclass(frozen=True)
class Mistake:
    """One image that the network takes for something else."""

    name: str
    true: str
    predicted: str
    confidence: float
    index: int
    """In the test split; -1 where that is not at hand."""
    tile: int | None = None
    """In the page's sprite `photos`."""


@dataclass(frozen=True)
class Performance:
    """The figures of a test."""

    figures: dict[str, Any]
    """As in test.json."""
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Row: true class, column: predicted."""
    mistakes: tuple[Mistake, ...]
    measured: bool
    """Now, and not read from a file."""


@dataclass(frozen=True)
class Mended:
    """An image that was wrong at a moment and right at every later one."""

    tile: int
    """In the page's sprite `photos`."""
    true: str
    predicted: str
    name: str


@dataclass(frozen=True)
class Moment:
    """The network at one snapshot."""

    epoch: float
    accuracy: float | None
    """On the probe's images; None without data."""
    mended: tuple[Mended, ...]


@dataclass(frozen=True)
class Strip:
    """One strip of the film: the same tiles at every moment."""

    title: str
    sprite: Sprite
    """The tiles of the first moment, then of the next."""
    count: int
    """Tiles of a moment."""
    columns: int
    animation: bytes
    """A looping WebP."""
    about: dict[str, Any]
    """How it was made."""


@dataclass(frozen=True)
class TrainingFilm:
    """A film of a network in training."""

    moments: tuple[Moment, ...]
    strips: dict[str, Strip]
    probe: int
    """Test images that every moment was tested on."""


@dataclass(frozen=True)
class Contents:
    """All that a report says."""

    title: str
    performance: Performance | None
    loss_chart: str
    """SVG; empty where there is none."""
    loss_called: str
    """What stands above it: a recorded loss may be of any kind."""
    accuracy_chart: str
    facts: Sequence[tuple[str, str]]
    layers: Sequence[Layer]
    probing: Probing | None
    """What the layers still know; None without data."""
    cascade_chart: str
    """The parameter-randomization control layer by layer, as SVG; empty where there is none."""
    cascade_layers: Sequence[str]
    """The layers in the order in which they are randomized."""
    control_images: str
    """What BatchNorm statistics of the random networks were measured on; empty where they keep none."""
    second: str
    """What the second training is called; empty where none was given."""
    film: TrainingFilm | None
    samples: Sequence[str]
    """What the sample images are called; they are the tiles of `shown`."""
    sample_words: Sequence[str | None]
    """What names each again: `test:3`; None where nothing does."""
    shown: Sprite
    photos: Sprite | None
    """The test images outside of layers; None without data."""
    classes: Sequence[str]
    data_classes: Sequence[str]
    """Of the data by which units' activations were measured."""
    has_data: bool
    counted_on: str
    """What dead channels were counted on."""
    left_out: Sequence[str]
    late: Sequence[str]
    """What was not begun for lack of time."""
    refused: Sequence[tuple[str, str, str]]
    methods: Sequence[tuple[str, str]]
    took: str
    seed: int
    weights: str
    surroundings: str


def plain_values(value: Any) -> Any:
    """Return dataclasses as dicts (without what is None), sprites as text and the rest as it is: for JSON.

    >>> plain_values(Unit(3, live=0.5))["live"], "name" in plain_values(Unit(3))
    (0.5, False)
    """
    if isinstance(value, Sprite):
        return value.plain()
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((each.name, getattr(value, each.name)) for each in fields(value))
        return {name: plain_values(each) for name, each in pairs if each is not None}
    if isinstance(value, Mapping):
        return {name: plain_values(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(each) for each in value]
    return value
