"""Train an image classifier, test it, and look inside it.

Written by `make stub` from the signatures of the methods; a test compares it with them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, type_check_only

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor, nn

from torchloupe.attribution.backward import Backward
from torchloupe.attribution.maps import Attribution
from torchloupe.checkpoints.open import load as load
from torchloupe.data.dataset import Dataset, Split
from torchloupe.features.feature_maps import FeatureMaps
from torchloupe.features.filters import Filters
from torchloupe.features.top_examples import TopExamples
from torchloupe.inspection.inputs import Images
from torchloupe.inspection.predictions import predict as predict
from torchloupe.inspection.result import Result
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network as Network
from torchloupe.models.network import wrap as wrap
from torchloupe.reports.comparison.compare import compare as compare
from torchloupe.reports.report import report as report
from torchloupe.runtime.progress import Progress
from torchloupe.synthesis.dream import Dream
from torchloupe.synthesis.invert import Inversion
from torchloupe.synthesis.maximize import Maximization
from torchloupe.training.callbacks import LightningRecorder as LightningRecorder
from torchloupe.training.callbacks import TrainerRecorder as TrainerRecorder
from torchloupe.training.recorder import Recorder as Recorder

from . import data as data
from . import errors as errors
from . import models as models

__all__ = [
    "LightningRecorder",
    "Network",
    "Recorder",
    "TrainerRecorder",
    "compare",
    "data",
    "errors",
    "load",
    "models",
    "predict",
    "report",
    "wrap",
]
__version__: str

_Model: TypeAlias = Subject | nn.Module | str | Path
_Image: TypeAlias = str | Path | PIL.Image.Image | np.ndarray[Any, Any] | Tensor | Images
"""One image or a batch: a file or folder, `test:0-15`, `samples`, a PIL image, an array `[h, w, 3]` or `[b, h, w, 3]`,
a tensor `[c, h, w]` or `[b, c, h, w]`; integers from 0 to 255, floats in [0, 1]."""
_Images: TypeAlias = _Image | Sequence[_Image]
_Data: TypeAlias = Dataset | Split | Tensor | str | Path

@type_check_only
class _FiltersResult(Result):
    result: Filters
    @property
    def layer(self) -> str: ...
    @property
    def weight(self) -> Float[Tensor, "n i kh kw"]: ...
    @property
    def channel(self) -> Int64[Tensor, "n"]: ...
    @property
    def strongest(self) -> Int64[Tensor, "n k"]: ...
    @property
    def strength(self) -> Float[Tensor, "n k"]: ...

def filters(
    model: _Model,
    /,
    layer: str | None = "first",
    *,
    channels: list[int] | int | None = None,
    strongest: int = 4,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _FiltersResult:
    """Show a convolution's filters; for deeper ones each filter's strongest input channels.

    Raises:
        LayerError: no such layer, or one that is no convolution.
        UsageError: a channel that there is not.
    """

@type_check_only
class _FeatureMapsResult(Result):
    result: FeatureMaps
    @property
    def layer(self) -> str: ...
    @property
    def maps(self) -> Float[Tensor, "b n y x"]: ...
    @property
    def channel(self) -> Int64[Tensor, "n"]: ...
    @property
    def dead(self) -> Bool[Tensor, "n"]: ...
    @property
    def pca(self) -> Float[Tensor, "b 3 y x"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...

def feature_maps(
    model: _Model,
    /,
    layer: str | None = "last",
    images: _Images | None = None,
    *,
    channels: list[int] | int | None = None,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _FeatureMapsResult:
    """Show all maps of a layer for each picture, dead ones marked, and their PCA as one colour picture.

    Raises:
        DataError: these are no pictures in [0, 1].
        LayerError: no such layer, or one that puts out no maps.
        UsageError: a channel that there is not.
    """

@type_check_only
class _InvertResult(Result):
    result: Inversion
    @property
    def layer(self) -> str: ...
    @property
    def pictures(self) -> Float[Tensor, "n c h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def image(self) -> Int[Tensor, "n"]: ...
    @property
    def channel(self) -> Int[Tensor, "n"]: ...
    @property
    def error(self) -> Float[Tensor, "n"]: ...
    @property
    def psnr(self) -> Float[Tensor, "n"]: ...
    @property
    def ssim(self) -> Float[Tensor, "n"]: ...
    @property
    def history(self) -> Float[Tensor, "steps n"]: ...
    @property
    def randomized(self) -> Inversion | None: ...
    @property
    def twin(self) -> Inversion | None: ...

def invert(
    model: _Model,
    /,
    layer: str | None = "last",
    images: _Images | None = None,
    *,
    channels: Sequence[int] | int | None = None,
    each: bool = False,
    start: Literal["grey", "noise"] = "grey",
    steps: int | None = None,
    tv: float = 0.1,
    bounds: float = 1.0,
    jitter: int = 0,
    randomized: bool = True,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _InvertResult:
    """Remake images from a layer's activations: of all its channels, of some, or of each alone.

    `channels`: all where None; together, or with `each` one picture per channel. `start`: grey (or, where a unit does
    not answer to grey, the nearest of sixteen pictures of blobs), or one natural noise of `seed`, the same for all.
    `steps`: passes through the network, by default 80, with `each` 24. `tv` and `bounds` weigh total variation and
    values outside [0, 1]. `jitter` shifts the picture by up to so many pixels, anew at each step, around its edges; no
    curvature can be learned from such a moving aim, so that Adam takes the place of L-BFGS, and the prior stays whole.
    A dead channel (zero at every position) says nothing: its picture is the start, smoothed, and its error NaN.
    `randomized` adds the parameter-randomization control: the same through random weights, drawn by `seed`; BatchNorm
    statistics measured on some hundred pictures of the data, where these are at hand, else on `images`.

    Raises:
        DataError: no pictures in [0, 1].
        LayerError: no such layer, or one that puts out neither maps nor a vector.
        UsageError: a channel or a setting out of range.
    """

@type_check_only
class _MaximizeResult(Result):
    result: Maximization
    @property
    def layer(self) -> str: ...
    @property
    def pictures(self) -> Float[Tensor, "n c h w"]: ...
    @property
    def channel(self) -> Int64[Tensor, "n"]: ...
    @property
    def image(self) -> Int64[Tensor, "n"]: ...
    @property
    def copy(self) -> Int64[Tensor, "n"]: ...
    @property
    def activation(self) -> Float[Tensor, "n"]: ...
    @property
    def shifted(self) -> Float[Tensor, "n"]: ...
    @property
    def best(self) -> Float[Tensor, "n"] | None: ...
    @property
    def spread(self) -> Float[Tensor, "n"]: ...
    @property
    def clipped(self) -> Float[Tensor, "n"]: ...
    @property
    def dead(self) -> Bool[Tensor, "n"]: ...
    @property
    def ratio(self) -> Float[Tensor, "n"] | None: ...

def maximize(
    model: _Model,
    /,
    layer: str | None = "last",
    images: _Images | None = None,
    *,
    channels: list[int] | int | None = None,
    each: bool = True,
    position: tuple[int, int] | str | None = None,
    direction: Sequence[float] | None = None,
    parameterization: str = "fourier",
    canvas: int | tuple[int, int] | None = None,
    steps: int = 64,
    lr: float = 0.15,
    copies: int = 3,
    diversity: float = 0.0,
    transforms: bool = True,
    shifts: bool = True,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _MaximizeResult:
    """Look for the pictures that drive units most, from noise or from photographs.

    A unit is a channel's spatial mean; with `position` ((y, x) or "center") one neuron of it; with layer="output" a
    class logit; with `direction` a direction over channels; without `each`, the mean of all `channels` together.
    `parameterization` is fourier (Olah et al. 2017), maco (Fel et al. 2023) or pixel. `statistics` are spectrum and
    colours of the network's data, `canvas` the side or sides of a picture from noise (the network's own by default;
    nothing is resized). From noise, each unit starts at the one of 32 noise pictures that drives it most. `best` are
    the data's best activations.

    Raises:
        ModelError: no such layer, or no gradient passes through it.
        UsageError: a channel or setting that there is not.
    """

@type_check_only
class _DeconvnetResult(Result):
    result: Backward
    @property
    def layer(self) -> str: ...
    @property
    def rule(self) -> Literal["gradient", "deconvnet", "guided"]: ...
    @property
    def signal(self) -> Float[Tensor, "n c h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def image(self) -> Int64[Tensor, "n"]: ...
    @property
    def channel(self) -> Int64[Tensor, "n"]: ...
    @property
    def box(self) -> Int64[Tensor, "n 4"] | None: ...
    @property
    def keep(self) -> float: ...
    @property
    def kept(self) -> Int64[Tensor, "n"]: ...
    @property
    def randomized(self) -> Backward | None: ...
    @property
    def smooth(self) -> tuple[str, ...]: ...
    @property
    def target(self) -> Int64[Tensor, "n"] | None: ...
    @property
    def twin(self) -> Backward | None: ...

def deconvnet(
    model: _Model,
    /,
    layer: str | None = "last",
    images: _Images | None = None,
    *,
    keep: float = 0.1,
    channels: list[int] | Int64[Tensor, "b"] | int | None = None,
    each: bool = False,
    position: str | tuple[int, int] | Int64[Tensor, "b 2"] | None = None,
    target: int | str | Int64[Tensor, "b"] | None = None,
    randomized: bool = True,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _DeconvnetResult:
    """Backpropagate a layer's activations to the image, rectifying the signal at each ReLU.

    At each rectifier y = f(x) the signal g becomes relu(g), whatever x was.

    Of each map of the layer the strongest share `keep` by signed value is the initial signal, or one `position`: "max",
    (y, x), or one a picture `[b, 2]`. One result a picture from all `channels` together, or with `each` one for each
    picture and channel, or from one channel a picture `[b]`. From the layer `output`, where none of these are named, it
    starts from 1 at the logit of one class, `target`: a number, a name, or a number a picture `[b]`; by default the
    predicted one. `randomized` adds the parameter-randomization control (Adebayo et al. 2018): the same through random
    weights, drawn by `seed`, from the same class; BatchNorm statistics measured on some hundred pictures of the data,
    where these are at hand, else on `images`.

    Raises:
        ModelError: no such layer, or a network that hides its rectifiers or detaches its features.
        UsageError: no pictures, or a channel, position, fraction or class that there is not.
    """

@type_check_only
class _GuidedResult(Result):
    result: Backward
    @property
    def layer(self) -> str: ...
    @property
    def rule(self) -> Literal["gradient", "deconvnet", "guided"]: ...
    @property
    def signal(self) -> Float[Tensor, "n c h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def image(self) -> Int64[Tensor, "n"]: ...
    @property
    def channel(self) -> Int64[Tensor, "n"]: ...
    @property
    def box(self) -> Int64[Tensor, "n 4"] | None: ...
    @property
    def keep(self) -> float: ...
    @property
    def kept(self) -> Int64[Tensor, "n"]: ...
    @property
    def randomized(self) -> Backward | None: ...
    @property
    def smooth(self) -> tuple[str, ...]: ...
    @property
    def target(self) -> Int64[Tensor, "n"] | None: ...
    @property
    def twin(self) -> Backward | None: ...

def guided(
    model: _Model,
    /,
    layer: str | None = "last",
    images: _Images | None = None,
    *,
    keep: float = 0.1,
    channels: list[int] | Int64[Tensor, "b"] | int | None = None,
    each: bool = False,
    position: str | tuple[int, int] | Int64[Tensor, "b 2"] | None = None,
    target: int | str | Int64[Tensor, "b"] | None = None,
    randomized: bool = True,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _GuidedResult:
    """Backpropagate, passing at each ReLU only positive signals to positive inputs.

    At each rectifier y = f(x) the signal g becomes relu(g) · max(f′(x), 0); for ReLU that is relu(g) · 1[x > 0].

    Of each map of the layer the strongest share `keep` by signed value is the initial signal, or one `position`: "max",
    (y, x), or one a picture `[b, 2]`. One result a picture from all `channels` together, or with `each` one for each
    picture and channel, or from one channel a picture `[b]`. From the layer `output`, where none of these are named, it
    starts from 1 at the logit of one class, `target`: a number, a name, or a number a picture `[b]`; by default the
    predicted one. `randomized` adds the parameter-randomization control (Adebayo et al. 2018): the same through random
    weights, drawn by `seed`, from the same class; BatchNorm statistics measured on some hundred pictures of the data,
    where these are at hand, else on `images`.

    Raises:
        ModelError: no such layer, or a network that hides its rectifiers or detaches its features.
        UsageError: no pictures, or a channel, position, fraction or class that there is not.
    """

@type_check_only
class _GradientResult(Result):
    result: Backward
    @property
    def layer(self) -> str: ...
    @property
    def rule(self) -> Literal["gradient", "deconvnet", "guided"]: ...
    @property
    def signal(self) -> Float[Tensor, "n c h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def image(self) -> Int64[Tensor, "n"]: ...
    @property
    def channel(self) -> Int64[Tensor, "n"]: ...
    @property
    def box(self) -> Int64[Tensor, "n 4"] | None: ...
    @property
    def keep(self) -> float: ...
    @property
    def kept(self) -> Int64[Tensor, "n"]: ...
    @property
    def randomized(self) -> Backward | None: ...
    @property
    def smooth(self) -> tuple[str, ...]: ...
    @property
    def target(self) -> Int64[Tensor, "n"] | None: ...
    @property
    def twin(self) -> Backward | None: ...

def gradient(
    model: _Model,
    /,
    layer: str | None = "last",
    images: _Images | None = None,
    *,
    keep: float = 0.1,
    channels: list[int] | Int64[Tensor, "b"] | int | None = None,
    each: bool = False,
    position: str | tuple[int, int] | Int64[Tensor, "b 2"] | None = None,
    target: int | str | Int64[Tensor, "b"] | None = None,
    randomized: bool = True,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _GradientResult:
    """Backpropagate a layer's activations to the image by the plain derivative.

    At each rectifier y = f(x) the signal g becomes g · f′(x). This is a vector-Jacobian product, its vector being the
    layer's strongest activations: the gradient of half the sum of their squares. Only from the layer `output` is it the
    derivative of a class's score, whose magnitude is the saliency of Simonyan et al. (2014).

    Of each map of the layer the strongest share `keep` by signed value is the initial signal, or one `position`: "max",
    (y, x), or one a picture `[b, 2]`. One result a picture from all `channels` together, or with `each` one for each
    picture and channel, or from one channel a picture `[b]`. From the layer `output`, where none of these are named, it
    starts from 1 at the logit of one class, `target`: a number, a name, or a number a picture `[b]`; by default the
    predicted one. `randomized` adds the parameter-randomization control (Adebayo et al. 2018): the same through random
    weights, drawn by `seed`, from the same class; BatchNorm statistics measured on some hundred pictures of the data,
    where these are at hand, else on `images`.

    Raises:
        ModelError: no such layer, or a network that hides its rectifiers or detaches its features.
        UsageError: no pictures, or a channel, position, fraction or class that there is not.
    """

@type_check_only
class _DreamResult(Result):
    result: Dream
    @property
    def layer(self) -> str: ...
    @property
    def pictures(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def before(self) -> Float[Tensor, "b"]: ...
    @property
    def after(self) -> Float[Tensor, "b"]: ...

def dream(
    model: _Model,
    /,
    layer: str | None = "last",
    images: _Images | None = None,
    *,
    channels: list[int] | int | None = None,
    octaves: int = 3,
    octave_scale: float = 1.4,
    steps: int = 12,
    step_size: float = 0.02,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _DreamResult:
    """Amplify in photographs whatever a layer sees in them, from the smallest octave to the full size.

    Each step climbs the mean square of the layer's maps along the gradient over its own mean size, by `step_size` of
    the range from black to white; detail found in one octave is carried to the next.

    Raises:
        ModelError: no such layer, or no gradient passes through it.
        UsageError: a channel or setting that there is not.
    """

@type_check_only
class _TopExamplesResult(Result):
    result: TopExamples
    @property
    def layer(self) -> str: ...
    @property
    def channel(self) -> Int64[Tensor, "c"]: ...
    @property
    def index(self) -> Int64[Tensor, "c k"]: ...
    @property
    def activation(self) -> Float[Tensor, "c k"]: ...
    @property
    def position(self) -> Int64[Tensor, "c k 2"]: ...
    @property
    def box(self) -> Int64[Tensor, "c k 4"]: ...
    @property
    def images(self) -> UInt8[Tensor, "c k channels h w"]: ...
    @property
    def names(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def pictures(self) -> UInt8[Tensor, "c k channels h w"]: ...

def top_examples(
    model: _Model,
    /,
    layer: str | None = "last",
    dataset: _Data | None = None,
    *,
    channels: list[int] | int | None = None,
    count: int = 9,
    rank: str = "max",
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _TopExamplesResult:
    """Find for each channel the pictures of a data set that drive it most, with the part that it sees.

    `dataset` has `.images`, uint8 `[n, c, h, w]`, and may have `.names`; or is such a tensor. One pass; memory does not
    grow with the data set. Pictures are ranked by the strongest position of the map (Zeiler & Fergus 2014), or with
    rank="mean" by its mean; of equal ones the earlier counts.

    Raises:
        DataError: the data set holds no pictures.
        UsageError: a channel, count or rank that there is not.
    """

@type_check_only
class _GradCamResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def grad_cam(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    layer: str | None = "last",
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _GradCamResult:
    """Weigh a layer's maps by the mean gradient of a class's logit.

    Selvaraju et al. 2017, "Grad-CAM". The weight of a map is the mean over positions of the logit's gradient by it. The
    sum is not rectified: what speaks against the class stays, below 0. Enlarged bilinearly to the picture's size.

    Raises:
        ModelError: no such layer, or no gradient passes to it.
        UsageError: no such class, or no pictures.
    """

@type_check_only
class _GradCamPlusPlusResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def grad_cam_plus_plus(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    layer: str | None = "last",
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _GradCamPlusPlusResult:
    """Weigh a layer's maps by their positive gradients, by cell.

    Chattopadhay et al. 2018, "Grad-CAM++", for the exponential of the logit, whose own factor, the same for all cells
    of a picture, is left out: the weight of a map is Σ α·relu(g), α = g² / (2g² + g³·ΣA).

    Raises:
        ModelError: no such layer, or no gradient passes to it.
        UsageError: no such class, or no pictures.
    """

@type_check_only
class _LayerCamResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def layer_cam(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    layer: str | None = "last",
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _LayerCamResult:
    """Weigh every cell of a layer's maps by its own positive gradient.

    Jiang et al. 2021, "LayerCAM".

    Raises:
        ModelError: no such layer, or no gradient passes to it.
        UsageError: no such class, or no pictures.
    """

@type_check_only
class _EigenCamResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def eigen_cam(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    layer: str | None = "last",
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _EigenCamResult:
    """Show the first principal component of a layer's maps, of no class.

    Muhammad & Yeasin 2020, "Eigen-CAM": the cells' projection on the first right singular vector of the maps
    `[positions, channels]`, uncentred, its sign such that the sum is positive. It is the same whatever the class:
    `target` only names the one that it is shown beside.

    Raises:
        ModelError: no such layer.
        UsageError: no such class, or no pictures.
    """

@type_check_only
class _OcclusionResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def occlusion(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    patch: int | None = None,
    stride: int | None = None,
    baseline: float | Float[Tensor, "..."] = 0.5,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _OcclusionResult:
    """Cover one square after the other and measure what the logit loses.

    Zeiler & Fergus 2014. The value of a pixel is the mean loss over the squares that cover it. Squares of side
    `patch` (by default an eighth of the shorter side) stand every `stride` pixels (half a square) from the upper left;
    those at the right and lower edge are cut by it. All squares of all pictures go through the network in batches.

    Raises:
        UsageError: no such class, pictures or baseline, a square larger than the picture, or gaps between squares.
    """

@type_check_only
class _IntegratedGradientsResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def integrated_gradients(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    baseline: float | Float[Tensor, "..."] = 0.5,
    steps: int = 16,
    tolerance: float = 0.01,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _IntegratedGradientsResult:
    """Integrate the gradient on the way from a plain picture; it sums to what the logit gains.

    Sundararajan et al. 2017: (x - baseline) · the mean gradient on the straight way, by Gauss-Legendre quadrature of
    `steps` points, doubled (up to 512) for pictures whose sum misses the gain by more than the share `tolerance`.
    `residual` is what is missing in the end. With `tolerance` 0 it is `steps` points and no more.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class, pictures, baseline, or less than one step.
    """

@type_check_only
class _SmoothgradResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def smoothgrad(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    noise: float = 0.15,
    copies: int = 24,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _SmoothgradResult:
    """Average the gradient over noisy copies of the picture.

    Smilkov et al. 2017, "SmoothGrad": the mean gradient over `copies` with normal noise of standard deviation `noise`,
    of the range from black to white, the same noise for each picture; signed, and summed over colours.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class or pictures, or less than one copy.
    """

@type_check_only
class _InputXGradientResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def input_x_gradient(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    baseline: float | Float[Tensor, "..."] = 0.5,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _InputXGradientResult:
    """Multiply the gradient by how far each pixel is from a plain picture.

    Shrikumar et al. 2016: (x - baseline) · gradient, summed over colours: exact for a linear network, whose logit it
    sums to. `residual` is by which share it does not.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class, pictures or baseline.
    """

@type_check_only
class _GradientShapResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def gradient_shap(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    noise: float = 0.05,
    copies: int = 32,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _GradientShapResult:
    """Average the gradient at random points of the way from plain pictures, times the way.

    Lundberg & Lee 2017 and Erion et al. 2021, "expected gradients": the mean over `copies` of (x + noise - b) · the
    gradient at b + t·(x + noise - b), t even in [0, 1], b one of `baselines`, by default of eleven greys from black to
    white. In expectation it sums to the logit's gain over the mean baseline; `residual` is what it misses.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class or pictures, or less than one copy.
    """

@type_check_only
class _RiseResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def rise(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    masks: int = 1000,
    cells: int = 7,
    baseline: float | Float[Tensor, "..."] = 0.5,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _RiseResult:
    """Average random masks, weighed by the probability that the masked picture keeps.

    A mask is a grid of `cells` x `cells`, each shown or not by chance, enlarged bilinearly and shifted. The value of a
    pixel is the covariance of its being shown with the class's probability, over that of the mask: what the probability
    gains when the pixel is shown, 0 where it does not matter. (Petsiuk et al. leave the probability's mean in, which
    adds the same to every pixel, and some noise.) What is not shown is `baseline`.

    Raises:
        UsageError: no such class, pictures or baseline, or fewer than two masks or cells.
    """

@type_check_only
class _LrpResult(Result):
    result: Attribution
    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> str: ...
    @property
    def map(self) -> Float[Tensor, "b h w"]: ...
    @property
    def images(self) -> Float[Tensor, "b c h w"]: ...
    @property
    def target(self) -> Int64[Tensor, "b"]: ...
    @property
    def against(self) -> Int64[Tensor, "b"] | None: ...
    @property
    def residual(self) -> Float[Tensor, "b"] | None: ...

def lrp(
    model: _Model,
    /,
    images: _Images | None = None,
    *,
    target: int | str | tuple[int | str, int | str] | list[int] | Int64[Tensor, "b"] | None = None,
    gamma: float = 0.25,
    epsilon: float = 1e-06,
    seed: int = 0,
    data: Dataset | str | Path | None = None,
    progress: Progress | None = None,
) -> _LrpResult:
    """Hand the logit back, layer by layer, in shares of what each input contributed.

    Bach et al. 2015; rules γ and ε of Montavon et al. 2019, see the file's head. `gamma` counts in convolutions whose
    input is nowhere below 0, `epsilon` times the root mean square of a layer's sums is added to each of them, by its
    sign. Relevance is that of the normalised picture, summed over colours. What biases, BatchNorm's shifts and ε take
    does not reach it: `residual` is that share of the logit, negative where it is missing.

    Raises:
        ModelError: no gradient passes to the picture.
        UsageError: no such class or pictures, or a negative γ or ε.
    """
