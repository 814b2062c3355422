"""Export: a network as a file that others run without torchloupe, compared with the network before it is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from torchloupe.checkpoints.exported import cause_of, exported_bytes, in_float32, quietly, traced
from torchloupe.checkpoints.onnx_file import check_installed, onnx_bytes, onnx_runner
from torchloupe.errors import ModelError, UsageError
from torchloupe.features.hooks import frozen_eval
from torchloupe.models.network import Network
from torchloupe.runtime.environment import __version__
from torchloupe.runtime.files import atomic_write

Kind = Literal["onnx", "exported"]
SUFFIXES: dict[Kind, str] = {"onnx": ".onnx", "exported": ".pt2"}
COMPARED = 16
"""Pictures that the file is compared with the network on."""
LIMIT = 1e-4
"""Of the largest logit: a larger difference is no rounding."""

Runner = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]]


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it comes to the network."""

    path: Path
    size: int
    """Bytes."""
    difference: float
    """The largest between a logit of the file and of the network."""
    largest: float
    """The largest logit, as a magnitude."""
    images: int
    """Pictures compared, in one batch and the first one alone."""
    by: str
    """What ran the file: `onnxruntime`, `onnx.reference` or `torch`."""

    def __str__(self) -> str:
        return (
            f"{self.path}  {self.size / 1e6:.1f} MB; the same answers for {self.images} pictures to "
            f"{self.difference:.1e}, of logits up to {self.largest:.3g} ({self.by})"
        )


def export(
    network: Network,
    out: str | Path,
    images: Float[Tensor, "n c h w"],
    *,
    kind: Kind | None = None,
    weights: str = "",
    title: str = "the network",
) -> Exported:
    """Write a network as ONNX (`.onnx`) or as a program of `torch.export` (`.pt2`), normalisation inside.

    The file takes float pictures `[b, c, h, w]` in [0, 1], of the sides of `images` and any number at once, and gives
    logits `[b, classes]`, in float32 whatever the network computes in. With it go, as JSON (metadata `torchloupe` of
    an ONNX, the extra file `about.json` of a `.pt2`): classes, mean, std, size, version and `weights`, a digest.
    Up to 16 `images` are sent through the file and the network before it is written; `title` is for sentences.

    Raises:
        ModelError: the network cannot be exported (its forward decides by values, an unknown operator), or the file
            gives other answers: by more than 1e-4 of the largest logit.
        UsageError: a suffix that is of neither, or what writes ONNX is not installed.

    >>> import tempfile
    >>> from torchloupe.models import build
    >>> from torchloupe.models.network import wrap
    >>> net = wrap(build("resnet20", classes=2), mean=[0.5] * 3, std=[0.25] * 3, size=32, classes=["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = export(net, Path(folder) / "net.pt2", torch.rand(16, 3, 32, 32))
    >>> done.images, done.by, done.difference <= 1e-4 * done.largest
    (16, 'torch', True)
    """
    out = Path(out)
    kind = kind_of(out, kind)
    if kind == "onnx":
        check_installed()
    if not len(images):
        raise UsageError("an export is compared on pictures: give some.")
    images = images[:COMPARED].detach().float().cpu()
    plain = in_float32(network)
    with frozen_eval(plain), torch.no_grad():
        wanted = [plain(images), plain(images[:1])]  # a batch, and one alone; also sees how the network ends
        program = traced(plain, tuple(images.shape[1:]), title)
        about = _about(network, images, weights)
        data = onnx_bytes(program, about, title) if kind == "onnx" else exported_bytes(program, about)
        by, run = onnx_runner(data) if kind == "onnx" else ("torch", program.module())
        difference, largest = compare(wanted, run, images, title)
    atomic_write(out, data)
    return Exported(out, len(data), difference, largest, len(images), by)


def kind_of(out: Path, kind: Kind | None = None) -> Kind:
    """Return what a file is to be: as its suffix says.

    Raises:
        UsageError: it has another suffix, or that of another kind than was asked for.

    >>> kind_of(Path("a.onnx")), kind_of(Path("a.pt2"), "exported")
    ('onnx', 'exported')
    """
    found = next((name for name, suffix in SUFFIXES.items() if out.suffix.lower() == suffix), None)
    if found is None or kind not in (None, found):
        wanted = SUFFIXES[kind] if kind else " or ".join(SUFFIXES.values())
        raise UsageError(f"'{out}' cannot be the result: name a file ending in {wanted}.")
    return found


def compare(
    wanted: Sequence[Float[Tensor, "b classes"]], run: Runner, images: Float[Tensor, "n c h w"], title: str
) -> tuple[float, float]:
    """Return the largest difference of a file's logits from the network's, and the largest of those.

    `wanted` are the network's for all images, then for the first ones as far as they go.

    Raises:
        ModelError: the difference is beyond `LIMIT`, or no number.

    >>> compare([torch.tensor([[1.0, -2.0]])], lambda images: torch.tensor([[1.0, -2.0]]), torch.zeros(1, 3, 4, 4), "")
    (0.0, 2.0)
    """
    try:
        with quietly():
            found = [run(images[: len(logits)]) for logits in wanted]
    except Exception as error:  # whatever runs it
        raise ModelError(f"the export of {title} does not run: {cause_of(error)}. Nothing is written.") from error
    for one, other in zip(found, wanted, strict=True):
        if one.shape != other.shape:
            shapes = f"{list(one.shape)}, the network {list(other.shape)}"
            raise ModelError(f"the export of {title} gives logits of shape {shapes}. Nothing is written.")
    largest = max(float(logits.abs().max()) for logits in wanted)
    difference = float(torch.stack([(one - other).abs().max() for one, other in zip(found, wanted, strict=True)]).max())
    if not difference <= LIMIT * max(largest, torch.finfo(torch.float32).tiny):
        raise ModelError(
            f"the export of {title} gives other answers: they differ by {difference:.2g}, of logits up to "
            f"{largest:.3g}, and {LIMIT:g} of that is the limit. Nothing is written."
        )
    return difference, largest


def _about(network: Network, images: Tensor, weights: str) -> dict[str, Any]:
    """Return what goes into the file beside the program."""
    return {
        "torchloupe": __version__,
        "classes": list(network.classes),
        "multilabel": network.multilabel,
        "mean": network.mean,
        "std": network.std,
        "size": network.size,
        "picture": list(images.shape[1:]),
        "weights": weights,
        "input": "float pictures [batch, channels, height, width] in [0, 1], not normalised",
        "output": "logits [batch, classes]: softmax gives probabilities"
        if not network.multilabel
        else "logits [batch, classes]: sigmoid gives probabilities",
    }
