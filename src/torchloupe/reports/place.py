"""The folder of a report in several files: never one that holds anything else."""

from contextlib import suppress
from pathlib import Path

from torchloupe.reports.page import INDEX

MAKER = b'<meta name="generator" content="torchloupe '
"""By which a page is known as one of a report."""


def folder_of(out: Path) -> Path:
    """Return the folder of a report in several files: of the file's name, unless something else is there.

    >>> folder_of(Path("nowhere/report.html")).as_posix()
    'nowhere/report'
    """
    folder = out.with_suffix("")
    return folder if _ours(folder) or not folder.exists() else out.with_name(f"{out.stem}-pages")


def forget(folder: Path) -> None:
    """Remove the pages of an older report in several files.

    >>> forget(Path("nowhere"))
    """
    if _ours(folder):
        for path in [folder / INDEX, *folder.glob("layer-*.html")]:
            path.unlink()
        with suppress(OSError):
            folder.rmdir()


def _ours(folder: Path) -> bool:
    """Whether a folder holds the pages of an older report."""
    try:
        return MAKER in (folder / INDEX).read_bytes()
    except OSError:
        return False
