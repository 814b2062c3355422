"""Train, test, report: the stages of a run as functions of plain values, for the command line and for notebooks.

    from torchloupe import pipeline
    done = pipeline.train("shapes", configure("quick", {"epochs": 2}), "runs/mine")
    pipeline.test(done.run).figures.accuracy
    pipeline.report(done.run, budget=60)

A run is named by its folder. `model` is someone's own network that the run is of: code runs only if it is named.
"""

import re
import zlib
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from torchloupe import data as data_sets
from torchloupe.checkpoints.file import Maker
from torchloupe.checkpoints.open import open_model
from torchloupe.data.dataset import Dataset, check_one_label, checksum
from torchloupe.errors import DataError, ModelError, UsageError, short
from torchloupe.evaluation.accuracy import Evaluation, examine
from torchloupe.inspection.subject import Subject, keep_statistics
from torchloupe.models.network import Network
from torchloupe.reports.report import BUDGET, ReportFile
from torchloupe.reports.report import report as write_report
from torchloupe.runs.config import read_config
from torchloupe.runs.folder import check_free, is_begun, read_environment, to_go_on_with
from torchloupe.runs.metrics import read_metrics
from torchloupe.runs.request import requested
from torchloupe.runs.results import Figures, at_chance, figures_of, read_figures, write_results
from torchloupe.runs.summary import finish
from torchloupe.runs.writing import writing, writing_new
from torchloupe.runtime.checks import is_object, is_text
from torchloupe.runtime.device import pick_device, process_settings
from torchloupe.runtime.environment import __version__
from torchloupe.runtime.files import read_json, write_json
from torchloupe.runtime.launched import launched_rank
from torchloupe.runtime.progress import Progress
from torchloupe.training.advice import learned_nothing
from torchloupe.training.config import TrainConfig, restore
from torchloupe.training.journal import Listener
from torchloupe.training.loop import train as learn

PAGE = re.compile(r"[\w-]+(/[\w-]+)?\.html")
"""Where a report of a run lies in its folder."""


@dataclass(frozen=True)
class Trained:
    """A training that has ended."""

    run: Path
    network: Network
    """In eval mode, on the device that it learned on."""
    figures: dict[str, Any]
    """Of the last epoch, with the run, its model and data, and a `note` where it learned nothing; none on ranks other
    than the first."""


@dataclass(frozen=True)
class Evaluated:
    """A test that was made."""

    evaluation: Evaluation
    figures: Figures
    folder: Path
    """Where its files are."""


def train(
    dataset: Dataset | str | Path,
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    resume: bool | Literal["auto"] = False,
    device: str = "auto",
    amp: str = "auto",
    compiled: bool = False,
    threads: int | None = None,
    listener: Listener | None = None,
    window: tuple[float, float] | None = None,
    labels: str | Path | None = None,
    class_names: str | Path | None = None,
) -> Trained:
    """Train a network and write a whole run folder, as the command does: curves, README and statistics too.

    `out` is a new folder under `runs/` if left out. With `resume` the run in it (or the newest) goes on, on as many
    threads as it began with; with "auto" it begins where there is none. `window`, `labels` and
    `class_names` say how pictures are to be read, as for `torchloupe.data.load`. For the loop alone, see
    `torchloupe.training.loop.train`, whose errors are raised here as well.

    Raises:
        UsageError: the folder holds a run already, or something else, or none to go on with, or another training is at
            it.
        Stopped: the listener wanted to stop.

    >>> import tempfile
    >>> from torchloupe.data.drawn.shapes import shapes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = train(shapes(train=40, test=10), TrainConfig(epochs=1, batch=20), folder, device="cpu")
    ...     (done.run / "curves.png").is_file(), (done.run / "statistics.safetensors").is_file()
    (True, True)
    """
    if resume is True:
        out = to_go_on_with(None if out is None else Path(out))
    elif resume and out is None:
        raise UsageError("resume='auto' needs out: a job that is started again must find the same folder.")
    with _folder(dataset, config, out) as run:
        resume = bool(resume) and is_begun(run)
        if not resume and launched_rank() == 0:
            check_free(run)
        paths = {"labels": labels, "class_names": class_names}
        reading: dict[str, Any] = {name: None if path is None else str(path) for name, path in paths.items()}
        reading["window"] = window
        with requested(run, asdict(config), dataset.source if isinstance(dataset, Dataset) else str(dataset), reading):
            known = (
                dataset if isinstance(dataset, Dataset) else data_sets.load(str(dataset), size=config.size, **reading)
            )
            with process_settings(threads=threads or (_threads_of(run) if resume else None)):
                network = learn(
                    known, config, run, device=device, resume=resume, amp=amp, compiled=compiled, listener=listener
                )
        if launched_rank() != 0:
            return Trained(run, network, {})
        figures = {**finish(run), **_note(run, known)}
        keep_statistics(run, known)  # so that images made later look like the data, wherever the run goes
        return Trained(run, network, figures)


def _folder(dataset: Dataset | str | Path, config: TrainConfig, out: str | Path | None) -> AbstractContextManager[Path]:
    """Return the run folder to train in, to be entered: nobody else trains in it meanwhile."""
    if out is not None:
        return writing(Path(out))
    name = dataset.name if isinstance(dataset, Dataset) else data_sets.find(dataset)[0]
    return writing_new(config.model, name)


def _note(run: Path, dataset: Dataset) -> dict[str, str]:
    """Say where a training ended no better than guessing."""
    config = restore(read_json(run / "config.json")["training"])
    last = read_metrics(run, "epoch")[-1]
    split = dataset.train if config.holdout or not len(dataset.test) else dataset.test
    share = config.holdout or 1.0
    counts = [round(share * n) for n in torch.bincount(split.labels, minlength=len(dataset.classes)).tolist()]
    accuracy = last.get("test_accuracy", last["train_accuracy"])
    return {"note": learned_nothing(config, accuracy, last["step"])} if at_chance(accuracy, counts) else {}


def _threads_of(run: Path) -> int | None:
    """Return how many threads a run began with: another number of them sums in another order."""
    found: int | None = read_environment(run).get("threads") if (run / "environment.json").is_file() else None
    return found


def check_data(run: Path, dataset: Dataset) -> None:
    """Refuse to go on with a run, if there is one, on other images than it began with.

    Raises:
        UsageError: they are others.
    """
    own = _own_crc(run) if (run / "config.json").is_file() else None  # one that was recorded may not know
    if own is not None and own != checksum(dataset):
        raise UsageError(f"'{run}' was trained on other pictures than these of '{dataset.source}'. Name another --out.")


def is_trained(run: Path) -> bool:
    """Tell whether a training has ended.

    >>> is_trained(Path("nowhere"))
    False
    """
    return (run / "model.safetensors").is_file()


def trained_with(run: Path) -> str:
    """Say what a run was trained with: its network, epochs and seed."""
    about = read_config(run)
    training = about.training or {}
    return f"{short(about.model)}, {training.get('epochs', 0):.4g} epochs, seed {training.get('seed', 0)}"


def measure(
    network: Network,
    dataset: Dataset,
    *,
    split: str = "test",
    name: str = "",
    tta: bool = False,
    batch: int = 500,
    progress: Progress | None = None,
) -> tuple[Evaluation, Figures]:
    """Test a network on a split, `test`, `val` or `train`, of a data set; `name` is what the figures call it.

    Raises:
        DataError: the split is empty, or has a class that the network does not know, or several a picture.

    >>> from torchloupe import load
    >>> from torchloupe.data.drawn.shapes import shapes
    >>> dataset = shapes(train=10, test=20)
    >>> measure(load("resnet20", classes=dataset.classes), dataset)[1].n
    20
    """
    images = dataset.split(split)
    if images is None or not len(images):
        raise DataError(f"'{dataset.name}' has no {split} pictures. Check --data.")
    check_one_label(dataset, "the accuracy of a network")
    evaluation, mirrored = examine(
        network, images.images, images.labels, dataset.classes, tta=tta, batch=batch, progress=progress
    )
    figures = figures_of(
        evaluation,
        model=name,
        data=dataset.name,
        split=split,
        weights=Subject(network).weights,
        crc32=checksum(dataset),
        mirrored=mirrored,
    )
    return evaluation, figures


def test(
    run: str | Path,
    dataset: Dataset | None = None,
    *,
    model: Maker | None = None,
    tta: bool = True,
    device: str = "auto",
    batch: int = 500,
    progress: Progress | None = None,
) -> Evaluated:
    """Test a run on the test split of its data, and write the files of the test into its folder.

    `dataset` is the run's own, where it is at hand already.

    Raises:
        ModelError: there is no such run, or it names code that may not run.
        DataError: its data are not where they were, are others, or have no test split.
    """
    word = _word(run)
    loaded = open_model(word, model=model)
    if dataset is None:
        about = loaded.config.data or {}
        dataset = data_sets.load(about["source"], size=loaded.config.size, **loaded.config.reading)
    check_data(Path(word), dataset)
    network = loaded.network.to(pick_device(device))
    evaluation, figures = measure(network, dataset, name=word, tta=tta, batch=batch, progress=progress)
    folder = Path(word)
    write_results(folder, evaluation, dataset.test, f"{loaded.title} on {dataset.name} (test)", figures.to_json())
    return Evaluated(evaluation, figures, folder)


test.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for one of its own


def is_tested(run: str | Path, *, model: Maker | None = None) -> bool:
    """Tell whether the test in a run's folder is of its weights and its data."""
    folder = Path(run)
    if not (folder / "test.json").is_file():
        return False
    try:
        found = read_figures(folder)
    except ModelError:
        return False
    weights = Subject(open_model(_word(run), model=model).network).weights
    return bool(found.get("weights") == weights and found.get("crc32") == _own_crc(folder))


def report(
    run: str | Path,
    *,
    model: Maker | None = None,
    budget: float | None = BUDGET,
    seed: int = 0,
    device: str = "auto",
    offline: bool = True,
    skip_bad: bool = False,
    quiet: bool = True,
) -> ReportFile | None:
    """Write the report of a run into its folder; None if it is there and of these weights: see `report_path`.

    A report that lacked time is tried again. `quiet`: nothing is printed on the way.

    Raises:
        ModelError: there is no such run, or it names code that may not run.
    """
    folder = Path(run)
    network = open_model(_word(run), model=model).network.to(pick_device(device))
    studied = Subject(network, offline=offline, skip_bad=skip_bad)
    of = {"weights": studied.weights, "torchloupe": __version__, "budget": budget, "seed": seed}
    known = _last_report(folder)
    if known and known["of"] == of and known["crc32"] == _crc(folder / known["path"]):
        return None
    made = write_report(studied, folder / "report.html", budget=budget, seed=seed, quiet=quiet)
    whole = None if made.contents.late else of  # what lacked time is tried again the next time
    about = {"of": whole, "path": made.path.relative_to(folder).as_posix(), "crc32": _crc(made.path)}
    write_json(folder / "report.json", about)
    return made


def report_path(run: str | Path) -> Path | None:
    """Return the file to open of a run's report; None where `report` has made none.

    >>> report_path("nowhere")
    """
    known = _last_report(Path(run))
    return Path(run) / known["path"] if known else None


def _word(run: str | Path) -> str:
    """Return what names a run and nothing else: `last` or `cifar10` alone would mean other networks."""
    path = Path(run)
    return str(path.resolve() if len(path.parts) == 1 else path)


def _own_crc(run: Path) -> str | None:
    """Return the checksum of the data that a run was trained on."""
    crc: str | None = (read_config(run).data or {}).get("crc32")
    return crc


def _last_report(run: Path) -> dict[str, Any]:
    """Return what is noted of the report that was made last; nothing if there is none."""
    with suppress(ModelError):
        found = read_json(run / "report.json")
        if is_object(found) and found.keys() >= {"of", "path", "crc32"} and _is_a_page(found["path"]):
            return found
    return {}


def _is_a_page(path: Any) -> bool:
    """Tell whether a word is that of a page in the run's own folder: it is opened in a browser."""
    return is_text(path) and PAGE.fullmatch(path) is not None


def _crc(path: Path) -> str:
    """Return a checksum of a report, of all its pages if it has several."""
    pages = sorted(path.parent.glob("*.html")) if path.name == "index.html" else [path]
    return f"{zlib.crc32(b''.join(page.read_bytes() for page in pages)):08x}" if path.is_file() else ""
