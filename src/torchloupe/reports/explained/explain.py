"""Why a network answers as it does: some pictures -> one offline page, what the command calls."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchloupe.errors import UsageError
from torchloupe.inspection.catalog import ATTRIBUTIONS
from torchloupe.inspection.run import images_to_inspect
from torchloupe.inspection.subject import Subject
from torchloupe.reports.explained.measured import METHODS, Explained, measure, mistakes
from torchloupe.reports.explained.page import page
from torchloupe.runtime.console import Console
from torchloupe.runtime.files import atomic_write

MOST = 200
"""Pictures on one page."""


def explain(
    studied: Subject,
    images: Any,
    out: Path,
    *,
    worst: int | None = None,
    methods: Sequence[str] = METHODS,
    leads: str = "",
    seed: int = 0,
    console: Console | None = None,
) -> Explained:
    """Explain a network's answers to pictures, or to the `worst` it is surest of and wrong, on one page.

    `leads` is what a measurement said of which explanation to trust.

    Raises:
        UsageError: no such method, no pictures, too many of them, or no mistakes to explain.

    >>> from torchloupe.checkpoints.open import load
    >>> explain(Subject(load("resnet20", classes=3)), "samples", Path("a.html"), methods=["grid-cam"])
    Traceback (most recent call last):
    ...
    torchloupe.errors.UsageError: no explanation 'grid-cam'. There are: grad-cam, ...
    """
    known = [row.name for row in ATTRIBUTIONS]
    for name in methods:
        if name not in known:
            raise UsageError(f"no explanation {name!r}. There are: {', '.join(known)}.")
    said = console or Console(quiet=True)
    if worst is None:
        chosen = images_to_inspect(studied, images, seed)
    else:
        with said.progress("testing") as tick:
            chosen = mistakes(studied, worst, tick)
    if not chosen.names:
        raise UsageError("there is nothing to explain: the network makes no mistake on these pictures.")
    if len(chosen.names) > MOST:
        raise UsageError(f"a page explains up to {MOST} pictures, not {len(chosen.names)}. Name some of them.")
    found = measure(studied, chosen, said.progress, methods=methods, seed=seed)
    atomic_write(out, page(found, leads).encode("utf-8", "backslashreplace"))
    return found
