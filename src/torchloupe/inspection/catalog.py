"""The ways of looking inside, one row each: what computes it, what draws it, what may be set. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from torchloupe.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Setting:
    """A keyword argument of a method and an option of its command; a test holds names and defaults to the function."""

    name: str
    kind: type | tuple[str, ...]
    default: Any
    help: str
    formerly: str = ""
    """What earlier versions called it: still taken, in Python, on the command line and from files."""


@dataclass(frozen=True)
class Method:
    """One way of looking inside."""

    name: str
    compute: str
    """`module:function`, imported when it is first called."""
    view: str
    """`module:function` from a result to contact sheets."""
    title: str
    summary: str
    """First line of the function's docstring."""
    takes: Literal["nothing", "pictures", "start", "dataset"]
    """What it looks at beside the network; `start`: photographs to start from, or noise where none are given."""
    layer: str = "last"
    channels: bool = True
    seeded: bool = True
    needs: tuple[Literal["statistics", "best", "control"], ...] = ()
    """What it is told of the model's own data where that is at hand."""
    numbers: tuple[str, ...] = ()
    """Fields of the result that belong beside the pictures."""
    settings: tuple[Setting, ...] = field(default=())
    explains: bool = False
    """It gives one map a picture, of what spoke for a class: `compute(model, images, *, target, …)`."""
    layered: bool = True
    """It asks for a layer."""

    @property
    def function(self) -> str:
        """Its name in Python.

        >>> find_method("feature-maps").function
        'feature_maps'
        """
        return self.name.replace("-", "_")

    def renamed(self, setting: str) -> str:
        """Return today's name of a setting.

        >>> find_method("invert").renamed("twin"), find_method("invert").renamed("steps")
        ('randomized', 'steps')
        """
        return next((row.name for row in self.settings if row.formerly == setting), setting)

    @property
    def from_a_position(self) -> bool:
        """It can start from one position of one channel in each picture, and so from `top:K`.

        >>> find_method("deconvnet").from_a_position, find_method("maximize").from_a_position
        (True, False)
        """
        return self.takes == "pictures" and any(setting.name == "position" for setting in self.settings)


EACH = Setting("each", bool, False, "One picture per channel instead of one for all channels together.")
RANDOMIZED = Setting(
    "randomized", bool, True, "The same through random weights beside it (parameter-randomization control).", "twin"
)


KEEP = (
    Setting("keep", float, 0.1, "Share of each map that is the initial signal, the strongest."),
    EACH,
    Setting("position", str, None, "Start from one position instead: max, or y,x."),
    Setting("target", str, None, "From --layer output: the class, by name or number (default: the predicted one)."),
    RANDOMIZED,
)
BACK = "torchloupe.inspection.views.backward:view"

METHODS: tuple[Method, ...] = (
    Method(
        "filters",
        "torchloupe.features.filters:filters",
        "torchloupe.inspection.views.filters:view",
        "Filters",
        "Show a convolution's filters; for deeper ones each filter's strongest input channels.",
        "nothing",
        layer="first",
        seeded=False,
        settings=(Setting("strongest", int, 4, "Input channels shown for each filter of a deeper layer."),),
    ),
    Method(
        "feature-maps",
        "torchloupe.features.feature_maps:feature_maps",
        "torchloupe.inspection.views.feature_maps:view",
        "Feature maps",
        "Show all maps of a layer for each picture, dead ones marked, and their PCA as one colour picture.",
        "pictures",
        seeded=False,
    ),
    Method(
        "invert",
        "torchloupe.synthesis.invert:invert",
        "torchloupe.inspection.views.invert:view",
        "Inversion",
        "Remake images from a layer's activations: of all its channels, of some, or of each alone.",
        "pictures",
        needs=("control",),
        numbers=("error", "psnr", "ssim"),
        settings=(
            EACH,
            Setting("start", ("grey", "noise"), "grey", "Where the search begins."),
            Setting("steps", int, None, "Steps of L-BFGS, of Adam with jitter (80, with --each 24)."),
            Setting("tv", float, 0.1, "Weight of total variation."),
            Setting("bounds", float, 1.0, "Weight of values outside [0, 1]."),
            Setting("jitter", int, 0, "Shift by up to so many pixels at every step."),
            RANDOMIZED,
        ),
    ),
    Method(
        "maximize",
        "torchloupe.synthesis.maximize:maximize",
        "torchloupe.inspection.views.maximize:view",
        "Feature visualization",
        "Look for the pictures that drive units most, from noise or from photographs.",
        "start",
        needs=("statistics", "best"),
        numbers=("activation", "shifted", "best", "ratio", "spread", "clipped"),
        settings=(
            Setting("each", bool, True, "One picture per channel instead of one for all channels together."),
            Setting("position", str, None, "One neuron of each map instead of its mean: center, or y,x."),
            Setting("direction", str, None, "Numbers of a direction over the layer's channels, comma between."),
            Setting("parameterization", ("fourier", "pixel", "maco"), "fourier", "What is optimised."),
            Setting("canvas", int, None, "Side in pixels of a picture from noise (default: the network's)."),
            Setting("steps", int, 64, "Steps of Adam."),
            Setting("lr", float, 0.15, "Its learning rate."),
            Setting("copies", int, 3, "Pictures of each unit, from different noise."),
            Setting("diversity", float, 0.0, "Weight of being unlike the unit's other copies."),
            Setting("transforms", bool, True, "Shift, turn and scale the picture a little at every step."),
            Setting("shifts", bool, True, "Also measure the activation over shifts of up to 2 pixels."),
        ),
    ),
    Method(
        "deconvnet",
        "torchloupe.attribution.backprop:deconvnet",
        BACK,
        "Deconvnet",
        "Backpropagate a layer's activations to the image, rectifying the signal at each ReLU.",
        "pictures",
        needs=("control",),
        settings=KEEP,
    ),
    Method(
        "guided",
        "torchloupe.attribution.backprop:guided",
        BACK,
        "Guided backpropagation",
        "Backpropagate, passing at each ReLU only positive signals to positive inputs.",
        "pictures",
        needs=("control",),
        settings=KEEP,
    ),
    Method(
        "gradient",
        "torchloupe.attribution.backprop:gradient",
        BACK,
        "Gradient",
        "Backpropagate a layer's activations to the image by the plain derivative.",
        "pictures",
        needs=("control",),
        settings=KEEP,
    ),
    Method(
        "dream",
        "torchloupe.synthesis.dream:dream",
        "torchloupe.inspection.views.dream:view",
        "Dream",
        "Amplify in photographs whatever a layer sees in them, from the smallest octave to the full size.",
        "pictures",
        numbers=("before", "after"),
        settings=(
            Setting("octaves", int, 3, "Sizes at which it climbs, the smallest first."),
            Setting("octave_scale", float, 1.4, "From one size to the next."),
            Setting("steps", int, 12, "Steps at each size."),
            Setting("step_size", float, 0.02, "Mean change of a pixel in one step, of the range from black to white."),
        ),
    ),
    Method(
        "top-examples",
        "torchloupe.features.top_examples:top_examples",
        "torchloupe.inspection.views.top_examples:view",
        "Maximally activating dataset examples",
        "Find for each channel the pictures of a data set that drive it most, with the part that it sees.",
        "dataset",
        seeded=False,
        numbers=("activation",),
        settings=(
            Setting("count", int, 9, "Pictures for each channel."),
            Setting("rank", ("max", "mean"), "max", "Rank by the strongest position of the map, or by its mean."),
        ),
    ),
)
"""In the order of a report."""


TARGET = Setting("target", str, None, "Class, by name or number; `cat-dog`: cat and not dog (default: the predicted).")
BASELINE = Setting("baseline", float, 0.5, "What stands for nothing: a brightness in [0, 1].")
MAPS = "torchloupe.inspection.views.attribution:view"


def _explains(name: str, module: str, title: str, summary: str, *settings: Setting, **more: Any) -> Method:
    function, numbers = name.replace("-", "_"), more.pop("numbers", ())
    return Method(
        name,
        f"torchloupe.attribution.{module}:{function}",
        MAPS,
        title,
        summary,
        "pictures",
        channels=False,
        numbers=numbers,
        settings=(TARGET, *settings),
        explains=True,
        layered=module == "cam",
        **{"seeded": False, **more},
    )


COMPLETE: dict[str, Any] = {"numbers": ("residual",)}

ATTRIBUTIONS: tuple[Method, ...] = (
    _explains("grad-cam", "cam", "Grad-CAM", "Weigh a layer's maps by the mean gradient of a class's logit."),
    _explains("grad-cam-plus-plus", "cam", "Grad-CAM++", "Weigh a layer's maps by their positive gradients, by cell."),
    _explains("layer-cam", "cam", "LayerCAM", "Weigh every cell of a layer's maps by its own positive gradient."),
    _explains("eigen-cam", "cam", "Eigen-CAM", "Show the first principal component of a layer's maps, of no class."),
    _explains(
        "occlusion",
        "occlusion",
        "Occlusion",
        "Cover one square after the other and measure what the logit loses.",
        Setting("patch", int, None, "Side of the square in pixels (default: an eighth of the picture's)."),
        Setting("stride", int, None, "Pixels from one square to the next (default: half a square)."),
        BASELINE,
    ),
    _explains(
        "integrated-gradients",
        "path",
        "Integrated gradients",
        "Integrate the gradient on the way from a plain picture; it sums to what the logit gains.",
        BASELINE,
        Setting("steps", int, 16, "Points of the way, at first."),
        Setting("tolerance", float, 0.01, "Steps are doubled until the sum is right to that share of the gain."),
        **COMPLETE,
    ),
    _explains(
        "smoothgrad",
        "path",
        "SmoothGrad",
        "Average the gradient over noisy copies of the picture.",
        Setting("noise", float, 0.15, "Standard deviation of the noise, of the picture's range."),
        Setting("copies", int, 24, "Noisy copies."),
        seeded=True,
    ),
    _explains(
        "input-x-gradient",
        "path",
        "Input x gradient",
        "Multiply the gradient by how far each pixel is from a plain picture.",
        BASELINE,
        **COMPLETE,
    ),
    _explains(
        "gradient-shap",
        "path",
        "Gradient SHAP",
        "Average the gradient at random points of the way from plain pictures, times the way.",
        Setting("copies", int, 32, "Random points of the way."),
        Setting("noise", float, 0.05, "Standard deviation of noise on the picture."),
        seeded=True,
        **COMPLETE,
    ),
    _explains(
        "rise",
        "rise",
        "RISE",
        "Average random masks, weighed by the probability that the masked picture keeps.",
        Setting("masks", int, 1000, "Random masks, the same for all pictures."),
        Setting("cells", int, 7, "Cells along a side of a mask."),
        BASELINE,
        seeded=True,
    ),
    _explains(
        "lrp",
        "lrp",
        "Layer-wise relevance propagation",
        "Hand the logit back, layer by layer, in shares of what each input contributed.",
        Setting("gamma", float, 0.25, "How much more positive weights count in convolutions; 0: the plain ε rule."),
        Setting("epsilon", float, 1e-6, "What is added to each sum, of its layer's root mean square."),
        **COMPLETE,
    ),
)
"""Maps of what in a picture spoke for a class."""
ALL = (*METHODS, *ATTRIBUTIONS)


def find_method(name: str) -> Method:
    """Return the row of a method, by its name or its function's.

    Raises:
        UsageError: there is none of that name.

    >>> find_method("feature_maps").name
    'feature-maps'
    """
    row = next((row for row in ALL if name in (row.name, row.function)), None)
    if row is None:
        names = [row.name for row in ALL]
        raise UsageError(f"no method {name!r}{did_you_mean(name, names) or '.'} There are: {', '.join(names)}.")
    return row


def load_function(where: str) -> Callable[..., Any]:
    """Import `module:function`.

    >>> load_function("math:sqrt")(9.0)
    3.0
    """
    module, _, name = where.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
