"""Where results go: one rule for each kind of result, so that none overwrites another's.

Results of a run's final weights go into the run, those of a snapshot into `snapshots/`, those of anything else (and of
a run that cannot be written to) beside where the command was called.
"""

import re
from pathlib import Path

from torchloupe.checkpoints.open import SHIPPED
from torchloupe.data.cache import cache_folder
from torchloupe.errors import UsageError
from torchloupe.runs.folder import is_writable
from torchloupe.runtime.files import read_file

INDEX = "index.html"
"""The first page of a report in several files."""
MAKER = b'<meta name="generator" content="torchloupe '
"""By which a page is known as one of a report."""


def own_run(run: Path | None) -> Path | None:
    """Return the run folder that results may go to: none for a network that comes with the package.

    >>> own_run(Path("runs/pets")), own_run(None)
    (PosixPath('runs/pets'), None)
    """
    return None if run is None or any(run == file.parent for file in SHIPPED.values()) else run


def weights_of(run: Path, word: str) -> str:
    """Return which weights of a run `Origin.word` names: "" for the final ones, else an epoch or a file's name.

    >>> run = Path("runs/pets")
    >>> weights_of(run, "runs/pets"), weights_of(run, "runs/pets/snapshots/epoch-0.25.safetensors")
    ('', '0.25')
    """
    if word in SHIPPED or Path(word) == run:
        return ""
    return Path(word).stem.removeprefix("epoch-")


def file_name(text: str) -> str:
    """Return a title or a data set's name as part of a file's name.

    >>> file_name("nets/mine.py:Net"), file_name("my cats"), file_name("pets@0.25")
    ('Net', 'my-cats', 'pets@0.25')
    """
    return re.sub(r"[^\w.@-]+", "-", text.rpartition(":")[2]).strip("-.") or "model"


def images_folder(run: Path | None, word: str, title: str) -> Path:
    """Return the folder of the images made of a network; `run` and `word` are those of its `Origin`.

    >>> images_folder(None, "net.py:Net", "net.py:Net").as_posix()
    'Net/pictures'
    """
    if run is None or own_run(run) is None or not is_writable(run):
        return Path(file_name(title)) / "pictures"
    which = weights_of(run, word)
    return run / "snapshots" / f"pictures-{which}" if which else run / "pictures"


def image_file(
    out: Path | None, method: str, layer: str, *, run: Path | None = None, word: str = "", title: str = ""
) -> Path:
    """Return the file of one method's image of a layer: `out` itself if it is a file's name, else one in that folder.

    Raises:
        UsageError: `out` is neither a folder nor a file's name with a suffix.

    >>> image_file(None, "invert", "layer1.0", title="mine").as_posix(), image_file(Path("a.svg"), "invert", "1").name
    ('mine/pictures/invert/layer1-0.png', 'a.svg')
    """
    name = f"{layer.replace('.', '-')}.png"
    if out is None:
        return images_folder(run, word, title) / method / name
    if out.suffix and not out.is_dir():
        return out
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is neither a folder nor a picture file's name. Give --out FILE.png or a folder.")
    return out / f"{method}-{name}"


def results_folder(run: Path | None, word: str, title: str, *, split: str = "test", other: str = "") -> Path:
    """Return the folder of a test's results; `other` names the data where they are not the run's own.

    >>> results_folder(None, "a.safetensors", "a", other="my cats").as_posix(), results_folder(None, "", "a").as_posix()
    ('a-test-my-cats', 'a-test')
    """
    data = f"-{file_name(other)}" if other else ""
    if run is None or own_run(run) is None or not is_writable(run):
        base = Path(f"{file_name(title)}-test{data}")
    elif which := weights_of(run, word):
        base = run / "snapshots" / f"test-{which}{data}"
    else:
        base = run / f"test{data}" if data else run
    return base if split == "test" else base / f"{split}-split"


def report_file(run: Path | None, word: str, title: str) -> Path:
    """Return the file of a report.

    >>> report_file(None, "net.py:Net", "net.py:Net").as_posix()
    'Net-report.html'
    """
    if run is None or own_run(run) is None or not is_writable(run):
        return Path(f"{file_name(title)}-report.html")
    return run / "snapshots" / f"report-{Path(word).stem}.html" if weights_of(run, word) else run / "report.html"


def comparison_file(run: Path | None, word: str, title: str, other: str) -> Path:
    """Return the file of a comparison with another network, of that title.

    >>> comparison_file(None, "net.py:Net", "net.py:Net", "pets@0.25").as_posix()
    'Net-compare-pets@0.25.html'
    """
    name = f"compare-{file_name(other)}.html"
    if run is None or own_run(run) is None or not is_writable(run):
        return Path(f"{file_name(title)}-{name}")
    return run / "snapshots" / f"{Path(word).stem}-{name}" if weights_of(run, word) else run / name


def explanation_file(run: Path | None, word: str, title: str) -> Path:
    """Return the file of a page that explains a network's answers.

    >>> explanation_file(None, "net.py:Net", "net.py:Net").as_posix()
    'Net-explain.html'
    """
    if run is None or own_run(run) is None or not is_writable(run):
        return Path(f"{file_name(title)}-explain.html")
    return run / "snapshots" / f"{Path(word).stem}-explain.html" if weights_of(run, word) else run / "explain.html"


def scores_file(run: Path | None, word: str) -> Path | None:
    """Return where the scores of explanations of a run's network are kept; None for a network that has no place.

    >>> scores_file(None, "net.py:Net") is None
    True
    """
    if run is None or own_run(run) is None or not is_writable(run):
        return None
    return run / "snapshots" / f"{Path(word).stem}-scores.json" if weights_of(run, word) else run / "scores.json"


def report_folder(out: Path) -> Path:
    """Return the folder of a report in several files: of the file's name, unless something else is there.

    >>> report_folder(Path("nowhere/report.html")).as_posix()
    'nowhere/report'
    """
    folder = out.with_suffix("")
    return folder if is_report(folder) or not folder.exists() else out.with_name(f"{out.stem}-pages")


def is_report(folder: Path) -> bool:
    """Tell whether a folder holds the pages of a report.

    >>> is_report(Path("nowhere"))
    False
    """
    try:
        return MAKER in read_file(folder / INDEX)
    except OSError:
        return False


def caches(run: Path | None = None, word: str = "", *, given: bool = False) -> tuple[Path, ...]:
    """Return where measurements are stored: the first is written to, all are read.

    That is the run for its final weights and its own data (`given`: other data were named), else the cache folder.

    >>> [folder.name for folder in caches()]
    ['models']
    """
    shared = cache_folder() / "models"
    if run is None:
        return (shared,)
    own = not given and own_run(run) is not None and is_writable(run) and not weights_of(run, word)
    return (run, shared) if own else (shared, run)
