"""A report of a network, from the outside to the inside: one HTML file that asks nothing of any network."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from torchloupe.checkpoints.open import of_run
from torchloupe.data.dataset import Dataset
from torchloupe.errors import UsageError
from torchloupe.figures.colors import rgb
from torchloupe.inspection.inputs import Images, colored, drawn, is_from_data
from torchloupe.inspection.places import is_report, report_folder
from torchloupe.inspection.run import images_to_inspect
from torchloupe.inspection.subject import Subject, subject
from torchloupe.models.network import Network, modes_kept, unwrapped
from torchloupe.reports.contents import Contents, Mistake, Performance
from torchloupe.reports.html.page import INDEX, parts, whole
from torchloupe.reports.html.sprites import reduced, sprite
from torchloupe.reports.html.tables import RULES
from torchloupe.reports.making import Making
from torchloupe.reports.plan import Plan, plan, sentences
from torchloupe.reports.sections.control import cascade_chart, control_images
from torchloupe.reports.sections.layers import PARTS, all_layers
from torchloupe.reports.sections.performance import performance, training_curves, training_facts
from torchloupe.reports.sections.probing import probing
from torchloupe.reports.sections.training_film import snapshots, training_film
from torchloupe.runs.metrics import how_measured, measured_on
from torchloupe.runtime.console import Console, duration
from torchloupe.runtime.environment import environment
from torchloupe.runtime.files import atomic_write, sweep
from torchloupe.runtime.locks import locked
from torchloupe.runtime.progress import Progress

LARGEST = 15 * 2**20
"""Bytes above which the report becomes a folder with an index page."""
BUDGET = 600.0
"""Seconds that a report may take where nothing is said."""
SLACK = 1.5
"""How much longer than the budget it may go on before parts are left out: the estimate is one."""


@dataclass(frozen=True)
class ReportFile:
    """A report that was written."""

    path: Path
    """The file to open."""
    size: int
    """Bytes of all its files."""
    seconds: float
    refused: tuple[tuple[str, str, str], ...]
    contents: Contents


def report(
    model: "Subject | nn.Module | str | Path",
    out: str | Path | None = None,
    *,
    run: str | Path | None = None,
    data: "Dataset | str | Path | None" = None,
    pictures: "str | Path | Sequence[str | Path]" = (),
    layers: Sequence[str] | None = None,
    units: int | str | None = None,
    budget: float | None = BUDGET,
    seed: int = 0,
    second: "nn.Module | str | Path | None" = None,
    quiet: bool = False,
) -> ReportFile:
    """Write a report of a network, by default with everything that fits into ten minutes.

    It goes to `out`, by default `report.html`. The network takes pictures in [0, 1]; `data` is its data set (a word,
    folder or `Dataset`; by default that of its run), `pictures` are those every layer is shown by, `units` those of a
    layer at most (or `all`), `budget` seconds (None: no limit). What it will show and cost is printed beforehand, what
    it left out at the end; `quiet`: nothing. `second` is another training of the same network: how alike the two are
    stands beside how alike trained and random networks are.

    `run` is the run that was recorded of a network of your own (see `torchloupe.Recorder`), which is given as it was
    trained: the report then tells how it learned, too, and by default goes into that run.

    Raises:
        LayerError: a layer that there is not.
        UsageError: units that are no number above 0, or another process is writing this report.
        ModelError: there is no such run, or it is of another network.
        DataError: data or pictures that cannot be had.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = report(net, f"{folder}/a.html", units=1, budget=1, layers=["0"])
    ...     made.size == made.path.stat().st_size
    True
    """
    if run is None:
        studied = subject(model, data)
        return _report(studied, Path(out or "report.html"), pictures, layers, units, budget, seed, second, quiet)
    if isinstance(model, Subject | str | Path):
        raise UsageError("run= is of a network in Python: leave it out where the run itself is named.")
    with modes_kept(unwrapped(model)):
        studied = Subject(of_run(model, run), data)
        assert studied.origin is not None and studied.origin.run is not None
        place = Path(out) if out is not None else studied.origin.run / "report.html"
        return _report(studied, place, pictures, layers, units, budget, seed, second, quiet)


def _report(
    studied: Subject,
    out: Path,
    pictures: "str | Path | Sequence[str | Path]",
    layers: Sequence[str] | None,
    units: int | str | None,
    budget: float | None,
    seed: int,
    second: "nn.Module | str | Path | None",
    quiet: bool,
) -> ReportFile:
    words = [str(word) for word in ([pictures] if isinstance(pictures, str | Path) else pictures)]
    console = Console(quiet)
    other = None if second is None else _second(studied, second)
    lock = out.with_name(f".{out.name}.lock")
    with locked(lock, f"the report '{out}' is being written", "name another file with --out"):
        sweep(report_folder(out))
        with console.progress("planning the report"):
            planned, samples = prepare(studied, pictures=words, layers=layers, units=units, budget=budget, seed=seed)
        for line in announced(planned, samples):
            console.say(line)
        with console.progress("report") as tick:
            made = write(studied, out, planned, samples, budget=budget, seed=seed, second=other, tick=tick)
        for line in left_out(made):
            console.say(line)
    return made


def _second(studied: Subject, second: "nn.Module | str | Path") -> Subject:
    """Open another training of the same network.

    Raises:
        UsageError: it is another architecture.
    """
    other = subject(second)
    mine, theirs = ({key: tuple(v.shape) for key, v in each.model.named_parameters()} for each in (studied, other))
    if mine != theirs or studied.size != other.size:
        raise UsageError(f"second is another training of the same network, and {other.title} is another network.")
    other.model.to(next((p.device for p in studied.model.parameters()), torch.device("cpu")))
    return other


def announced(plan: Plan, samples: Images) -> list[str]:
    """Return what is said of a report before it is made.

    >>> from torchloupe.models import build
    >>> planned = prepare(Subject(build("loupe")), layers=["conv1"], units=4)
    >>> announced(*planned)[0]
    'Report 2 layers, at most 4 units each, 8 sample pictures'
    """
    units = "all" if plan.amount.units is None else f"at most {plan.amount.units}"
    return [
        f"Report {len(plan.layers)} layers, {units} units each, {len(samples.names)} sample pictures",
        f"Time   about {duration(max(1.0, plan.seconds))} on this machine (estimated)",
        *(f"Note   {sentence}" for sentence in plan.omitted),
    ]


def left_out(made: ReportFile) -> list[str]:
    """Return what is said of a report once it is written."""
    folder = made.path.parent
    return [
        *(f"Left out: {sentence}" for sentence in made.contents.late),
        *(f"Left out: {what} of {layer}: {reason}" for what, layer, reason in made.refused),
        *([f"It is a folder, '{folder}', with an index page."] if made.path.name == INDEX else []),
        f"\n{made.size / 2**20:.1f} MB in {duration(made.seconds)}; open it in any browser, offline:",
    ]


def sample_images(studied: Subject, words: Sequence[str], count: int, seed: int) -> Images:
    """Return the pictures that every layer is shown by: those named, else test pictures drawn by seed, else samples.

    >>> from torch import nn
    >>> len(sample_images(Subject(nn.Conv2d(3, 8, 3)), (), 3, 0).names)
    3
    """
    if words:
        return images_to_inspect(studied, words)
    known = studied.dataset()
    if known is not None:
        return colored(drawn(known, seed, studied.size, count), studied.model)
    shown = images_to_inspect(studied, "samples")
    chosen = [i * len(shown.names) // count for i in range(min(count, len(shown.names)))]
    return shown.take(chosen)


def prepare(
    studied: Subject,
    *,
    pictures: Sequence[str] = (),
    layers: Sequence[str] | None = None,
    units: int | str | None = None,
    budget: float | None = BUDGET,
    seed: int = 0,
) -> tuple[Plan, Images]:
    """Decide what a report shows, and on which pictures; its seconds are estimated on this machine.

    Raises:
        LayerError: a layer that there is not.
        UsageError: units that are no number above 0.

    >>> from torchloupe.models import build
    >>> prepare(Subject(build("loupe")), layers=["conv1"], units=4)[0].amount.units
    4
    """
    if units is not None and units != "all" and not (str(units).isdecimal() and int(units) >= 1):
        raise UsageError(f"--units is a number from 1 up, or all, not {units!r}.")
    shown = sample_images(studied, pictures, 8, seed)
    split = studied.split()
    found = plan(
        studied.model,
        shown.images[:1],
        layers=layers,
        units=units,
        budget=budget,
        images=0 if split is None else len(split),
        snapshots=len(snapshots(studied.origin.run if studied.origin else None)),
    )
    most = found.amount.samples
    if len(shown.names) > most and not pictures:
        shown = sample_images(studied, pictures, most, seed)
    return found, shown


def write(
    studied: Subject,
    out: Path,
    plan: Plan,
    samples: Images,
    *,
    budget: float | None = BUDGET,
    seed: int = 0,
    second: Subject | None = None,
    tick: Progress | None = None,
) -> ReportFile:
    """Make a report as planned and write it to `out` (a file; above 15 MB a folder of that name with an index page).

    What the network refuses is listed in the report, which goes on.
    """
    began = time.monotonic()
    out = out if out.suffix else out.with_suffix(".html")
    contents = contents_of(studied, plan, samples, budget=budget, seed=seed, second=second, tick=tick)
    html = _bytes(whole(contents))
    folder = report_folder(out)
    if len(html) <= LARGEST:
        atomic_write(out, html)
        forget(folder)
        return ReportFile(out, len(html), time.monotonic() - began, tuple(contents.refused), contents)
    forget(folder)
    size = 0
    for name, text in parts(contents).items():
        atomic_write(folder / name, _bytes(text))
        size += len(_bytes(text))
    out.unlink(missing_ok=True)
    return ReportFile(folder / INDEX, size, time.monotonic() - began, tuple(contents.refused), contents)


def _bytes(html: str) -> bytes:
    return html.encode("utf-8", "backslashreplace")  # a file's name need not be text


def contents_of(
    studied: Subject,
    plan: Plan,
    samples: Images,
    *,
    budget: float | None = None,
    seed: int = 0,
    second: Subject | None = None,
    tick: Progress | None = None,
) -> Contents:
    """Compute everything that a report says."""
    began = time.monotonic()
    deadline = None if budget is None else began + SLACK * max(budget, plan.seconds)
    making = Making(studied, plan, samples, seed, deadline, tick, second=None if second is None else second.model)
    states = snapshots(studied.origin.run if studied.origin else None)
    making.total = PARTS * len(plan.layers) + 0.5 * len(states) + 3
    tested = making.attempt("how well it does", "all", lambda: performance(studied, plan.amount.images))
    making.step()
    layers = all_layers(making)
    rules = [rule for rule in RULES if any(rule in layer.controls for layer in layers)]
    cascade, cascade_layers = cascade_chart(making, rules)
    probes = probing(making)
    making.step()
    film = training_film(making)
    making.step()
    run = studied.origin.run if studied.origin else None
    config = studied.origin.config if studied.origin else None
    loss, accuracy = training_curves(run, measured_on(config.training, config.data) if config else "test")
    if tested is not None:
        tested = replace(tested, mistakes=_with_tiles(making, tested))
    model = studied.model
    names = model.classes if isinstance(model, Network) else ()
    return Contents(
        title=_title(studied),
        performance=tested,
        loss_chart=loss,
        loss_called="Loss" if config and how_measured(config.training) else "Loss, nats",
        accuracy_chart=accuracy,
        facts=training_facts(studied),
        layers=layers,
        probing=probes,
        cascade_chart=cascade,
        cascade_layers=cascade_layers,
        control_images=control_images(making),
        second="" if second is None else second.title,
        film=film,
        samples=samples.captions,
        sample_words=_words(samples),
        photos=making.photos.sprite(),
        shown=sprite(reduced(rgb(samples.images))),
        classes=names,
        data_classes=studied.seen.get("classes", names),
        has_data=studied.split() is not None,
        counted_on=_counted_on(studied),
        left_out=plan.omitted,
        late=_late(making.late),
        refused=making.refused,
        methods=sentences(plan.amount, len(samples.names), studied.dataset() is not None),
        took=duration(time.monotonic() - began),
        seed=seed,
        weights=studied.weights,
        surroundings=_surroundings(),
    )


def _words(samples: Images) -> tuple[str | None, ...]:
    """Return what names the sample images again wherever the report is read; a path of this machine does not."""
    words = samples.words or (None,) * len(samples.names)
    return tuple(word if word is not None and is_from_data(word) else None for word in words)


def _late(parts: Sequence[tuple[str, str]]) -> list[str]:
    """Say what was not begun for lack of time."""
    layers: dict[str, list[str]] = {}
    for what, layer in parts:
        layers.setdefault(what, []).append(layer)
    parts_left = [
        what if each == ["all"] else f"{what} of {', '.join(dict.fromkeys(each))}" for what, each in layers.items()
    ]
    return [f"The time of --budget was used up before: {'; '.join(parts_left)}."] if parts_left else []


def _title(studied: Subject) -> str:
    data = (studied.origin.config.data or {}).get("name") if studied.origin else None
    return f"{studied.title}, trained on {data}" if data and data not in studied.title else studied.title


def _counted_on(studied: Subject) -> str:
    seen = studied.seen
    return f"{seen['pictures']:,} pictures of {seen['data']}" if seen else "the data (which were not at hand)"


def _with_tiles(making: Making, tested: Performance) -> tuple[Mistake, ...]:
    """Return the mistakes with their tiles, where the images are at hand."""
    split = making.studied.split()
    if split is None:
        return tested.mistakes
    return tuple(
        replace(mistake, tile=making.photos.place(mistake.index, split.images[mistake.index]))
        if mistake.index >= 0
        else mistake
        for mistake in tested.mistakes
    )


def _surroundings() -> str:
    about = environment("cpu")
    return f"torch {about['packages']['torch']} on {about['processor']}, {torch.get_num_threads()} threads"


def forget(folder: Path) -> None:
    """Remove the pages of an older report in several files.

    >>> forget(Path("nowhere"))
    """
    if is_report(folder):
        for path in [folder / INDEX, *folder.glob("layer-*.html")]:
            path.unlink()
        with suppress(OSError):
            folder.rmdir()
