"""Two networks compared, and one page about it: what `torchloupe.compare` and the command call."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from torchloupe.data.dataset import Dataset
from torchloupe.errors import UsageError
from torchloupe.inspection.subject import Subject, subject
from torchloupe.reports.comparison.measured import IMAGES, Comparison, measure, with_path
from torchloupe.reports.comparison.page import page
from torchloupe.runtime.console import Console
from torchloupe.runtime.files import atomic_write


def compare(
    a: "Subject | nn.Module | str | Path",
    b: "Subject | nn.Module | str | Path",
    out: str | Path | None = None,
    *,
    data: "Dataset | str | Path | None" = None,
    layers: Sequence[str] | None = None,
    layers_b: Sequence[str] | None = None,
    images: int = IMAGES,
    control: bool = True,
    batch: int = 500,
    seed: int = 0,
    quiet: bool = False,
) -> Comparison:
    """Put two networks side by side: their answers, their layers by CKA, their units matched one to one.

    Both see the same test pictures (of `data`; by default of A's run, else of B's), each at its own size and by its own
    normalization: all of them for accuracies, `images` of them, evenly taken, for layers and units. `layers` are A's,
    `layers_b` B's, where these have other names. `control`: also against B with random weights. With `out` one offline
    page is written.

    Raises:
        LayerError: a layer that there is not.
        UsageError: no data, or fewer than four images asked for.
        DataError: data that cannot be had.

    >>> import torchloupe
    >>> from torchloupe.data.drawn.shapes import shapes
    >>> pictures = shapes(train=10, test=20, size=16)
    >>> net = torchloupe.load("resnet20", classes=pictures.classes, size=16)
    >>> found = compare(net, net, data=pictures, layers=["conv1"], control=False, quiet=True)
    >>> found.agreement.same, round(float(found.cka[0, 0]), 6), found.pairs[0].matching.twin.tolist()[:3]
    (1.0, 1.0, [0, 1, 2])
    """
    if images < 4:
        raise UsageError(f"two networks are compared on 4 images or more, not on {images}.")
    first, second = subject(a, data), subject(b, data)
    console = Console(quiet)
    found = measure(
        first,
        second,
        console.progress,
        layers=layers,
        layers_b=layers_b,
        images=images,
        control=control,
        batch=batch,
        seed=seed,
    )
    if out is None:
        return found
    path = Path(out)
    path = path if path.suffix else path.with_suffix(".html")
    with console.progress("page") as tick:
        html = page(found, tick)
    atomic_write(path, html.encode("utf-8", "backslashreplace"))
    return with_path(found, path)
