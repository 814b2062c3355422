"""request.json: what a training was asked for, on the disk until `config.json` says what it became.

It is written before pictures are read, so that a run that is stopped then goes on as it was meant.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchloupe.errors import ModelError, UsageError
from torchloupe.runs.config import Reading, is_window, read_config
from torchloupe.runs.folder import CONFIG, REQUEST, newest_run
from torchloupe.runtime.checks import is_text
from torchloupe.runtime.files import atomic_write, read_json, write_json
from torchloupe.runtime.launched import launched_rank


@contextmanager
def requested(run: Path, settings: Mapping[str, Any], data: str, reading: Reading | None = None) -> Iterator[None]:
    """Keep what a run was asked for while it begins; `data` is the word or path of its pictures,
    `reading` what was said of how they are to be read.

    An error on the way leaves what was there before; a run that is stopped or killed keeps its request.
    """
    if launched_rank() > 0 or (run / CONFIG).is_file():
        yield
        return
    before = (run / REQUEST).read_bytes() if (run / REQUEST).is_file() else None
    training = {**settings, "weights": _lasting(settings.get("weights"))}
    write_json(run / REQUEST, {"training": training, "data": data, **(reading or {})})
    try:
        yield
    except Exception:
        if before is not None and (run / REQUEST).is_file():
            atomic_write(run / REQUEST, before)
        else:
            forget(run)
        raise


def asked_for(run: Path) -> dict[str, Any] | None:
    """Return what a run that has learned nothing yet was asked for: its `training` settings and its `data`.

    Raises:
        ModelError: it is damaged.

    >>> asked_for(Path("nowhere"))
    """
    if (run / CONFIG).is_file() or not (run / REQUEST).is_file():
        return None
    values = read_json(run / REQUEST)
    if not isinstance(values, dict) or not isinstance(values.get("training"), dict):
        raise ModelError(f"'{run / REQUEST}' is damaged: remove '{run}' and train anew.")
    return values


def begun_on(run: Path) -> str:
    """Return the word or path of the data that a run was begun on.

    Raises:
        UsageError: it does not say.
    """
    asked = asked_for(run)
    source = asked.get("data") if asked else (read_config(run).data or {}).get("source")
    if source is None:
        raise UsageError(f"'{run}' does not say what data it was trained on: give --data.")
    return str(source)


def begun_with(run: Path) -> Reading:
    """Return how the pictures of a run were read: window, labels, names of classes, None for what was not said."""
    asked = asked_for(run)
    if asked is None:
        return read_config(run).reading
    found: Any = asked.get("window")
    window = (float(found[0]), float(found[1])) if is_window(found) else None
    paths = {name: asked.get(name) if is_text(asked.get(name)) else None for name in ("labels", "class_names")}
    return {"window": window, **paths}


def forget(run: Path) -> None:
    """Remove a run's request: it is answered, or in vain.

    >>> forget(Path("nowhere"))
    """
    (run / REQUEST).unlink(missing_ok=True)


def _lasting(weights: str | None) -> str | None:
    """Return weights by a name that stays: by the time a run goes on, `last` is another."""
    if weights is None or weights.partition("@")[0] != "last":
        return weights
    return str(newest_run()) + weights.removeprefix("last")
