"""Who writes a run: one training at a time, which also sweeps up what a killed one left half written."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from torchloupe.runs.folder import LOCK, RUNS, new_run
from torchloupe.runtime import files
from torchloupe.runtime.launched import launched_rank
from torchloupe.runtime.locks import BusyError, locked


@contextmanager
def writing(run: Path) -> Iterator[Path]:
    """Be the one who trains in a run folder, and yield it; of several ranks the first is. Reading it stays free.

    Raises:
        UsageError: another training is at it.
    """
    if launched_rank() > 0:
        yield run
        return
    with locked(run / LOCK, f"'{run}' is being trained", "choose another folder with --out"):
        sweep(run)
        yield run


@contextmanager
def writing_new(model: str, data: str, root: Path = RUNS) -> Iterator[Path]:
    """Be the one who trains in a new run folder of a network on some data; yields it."""
    with ExitStack() as stack:
        while True:
            run = new_run(model, data, root)
            with suppress(BusyError):  # another took the same number in the meantime
                stack.enter_context(writing(run))
                break
        yield run


def sweep(run: Path) -> None:
    """Remove what was left half written in a run.

    >>> sweep(Path("nowhere"))
    """
    for folder in {part.parent for part in run.rglob(f".*{files.PART}")}:
        files.sweep(folder)
