"""MODEL: one word that names a network in every command and in `torchloupe.load`."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchloupe.checkpoints.file import (
    Maker,
    build_bare,
    check_fit,
    fill,
    load_model,
    not_finite,
    read_tensors,
    wrapped,
)
from torchloupe.errors import BrokenWeightsWarning, ModelError, OtherWeightsWarning, UsageError, did_you_mean
from torchloupe.models.network import Network, unwrapped
from torchloupe.models.reference import absolute
from torchloupe.runs.config import MOST_CLASSES, Config, is_part, is_recorded, read_config
from torchloupe.runs.folder import CONFIG, RUNS, newest_run
from torchloupe.runtime.files import check_regular

SHIPPED: dict[str, Path] = {
    path.parent.name: path for path in sorted((Path(__file__).parent / "shipped").glob("*/model.safetensors"))
}
"""Trained networks that come with the package: name -> safetensors file."""


@dataclass(frozen=True)
class Origin:
    """Where a network comes from: enough to open it again."""

    word: str
    """MODEL, `last` and `RUN@EPOCH` turned into paths; the name of a network that comes with the package."""
    options: dict[str, Any]
    """What a network of the user's own was told."""
    config: Config
    run: Path | None
    title: str
    maker: Maker | None = None
    """The user's own network that they named for a file (`model=`); its snapshots are opened by it too."""


@dataclass(frozen=True)
class Loaded:
    """A network with what is known of it."""

    network: Network
    config: Config
    run: Path | None
    """The run folder, if it comes from one."""
    title: str
    """What captions call it."""


def load(
    word: str | Path | None = None,
    /,
    *,
    model: Maker | None = None,
    weights: Path | str | None = None,
    classes: Sequence[str] | int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    output: str | int | None = None,
    multilabel: bool = False,
) -> Network:
    """Return the network that MODEL names, in eval mode on the CPU; takes pictures in [0, 1], gives logits.

    MODEL is `cifar10` (comes with the package), a run folder, `last`, `RUN@EPOCH`, a `.safetensors` file of ours, or
    `package.module:factory` / `file.py:factory` / a network's name with `weights`, `classes`, `mean`, `std`, `size`,
    `output` and `multilabel` (see `wrap`). A run or file of your own network never runs code by itself: where it was
    not trained on this machine, name that network with `model`, as a reference, class or function.

    Raises:
        ModelError: nothing goes by that name, it does not fit, or it names code that may not run.

    >>> load("resnet20", classes=["cat", "dog"]).classes
    ('cat', 'dog')
    """
    if word is None:
        if not isinstance(model, str | Path):
            raise UsageError("load takes MODEL first: load('cifar10'), load('runs/pets', model=Net).")
        word, model = model, None
    loaded = open_model(
        word,
        model=model,
        weights=weights,
        classes=classes,
        mean=mean,
        std=std,
        size=size,
        output=output,
        multilabel=multilabel,
    )
    return loaded.network


def open_model(
    word: str | Path,
    *,
    model: Maker | None = None,
    weights: Path | str | None = None,
    classes: Sequence[str] | int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    output: str | int | None = None,
    multilabel: bool = False,
) -> Loaded:
    """Return the network that MODEL names, with its description.

    `model` is the user's own network that a run or file was trained with; `weights` to `multilabel` describe one that
    `word` itself names. `output` is a key or an index: what a function would do cannot be written down.

    >>> open_model("resnet20", classes=2).config.classes
    ('0', '1')
    """
    word = str(word)
    if is_factory(word):
        if model is not None:
            raise UsageError(f"{word!r} is a network already: leave --model (model=) out.")
        if output is not None and not is_part(output):
            raise UsageError(f"output is a key or an index of {word!r}'s output, not {output!r}; wrap takes functions.")
        loaded = _from_factory(word, weights, classes, mean, std, size, output, multilabel)
        given = {
            "weights": weights and str(weights),
            "classes": classes,
            "mean": mean,
            "std": std,
            "size": size,
            "output": output,
            "multilabel": multilabel or None,
        }
        options = {name: list(v) if isinstance(v, tuple) else v for name, v in given.items() if v is not None}
        loaded.network.origin = Origin(absolute(word), options, loaded.config, None, loaded.title)
        return loaded
    path = find_weights(word)
    network, config = load_model(path, model)
    _tell_broken(network, path)
    folder = path.parent.parent if path.parent.name == "snapshots" else path.parent
    run = folder if (folder / "config.json").is_file() else None
    title = path.stem if run is None else _title(run, path)
    final = run is not None and path == run / "model.safetensors"
    network.origin = Origin(_shipped_as(path) or str(run if final else path), {}, config, run, title, model)
    return Loaded(network, config, run, title)


def _tell_broken(net: nn.Module, path: Path) -> None:
    """Warn of weights that are no numbers: all that is made of them means nothing."""
    broken = not_finite(net.state_dict())
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        text = f"the weights in '{path}' hold NaN or infinity ({broken[0]}{more}), as after a training that diverged: "
        warnings.warn(BrokenWeightsWarning(text + "no result of this network means anything."), stacklevel=3)


def _title(run: Path, path: Path) -> str:
    """Return what captions call a file of a run; each of its files has a title of its own."""
    if path == run / "model.safetensors":
        return run.name
    return f"{run.name}@{path.stem.removeprefix('epoch-')}" if path.parent != run else f"{run.name}/{path.stem}"


def _shipped_as(path: Path) -> str:
    """Return the name of the network of the package that a file is; "" for any other file."""
    return next((name for name, file in SHIPPED.items() if path.resolve() == file.resolve()), "")


def _once_shipped(path: Path) -> str:
    """Return the network of the package that a path in an installation meant, where that is gone or has moved."""
    *_, above, room, name = "", "", "", *(part for part in path.parts if part != "checkpoints")
    return name if (above, room) == ("torchloupe", "shipped") and name in SHIPPED else ""


def of_run(net: nn.Module, run: str | Path) -> Network:
    """Return someone's own network, as it is, with what a run of it says: settings, curves, snapshots.

    No code runs: the run's weights are opened by copies of `net`. It is put in eval mode and shared, not copied; of one
    that is compiled or data-parallel, the network inside. Where its weights are not those that the run ended with, a
    warning says so, and its results are stored apart from the run's own.

    Raises:
        ModelError: there is no such run, or its weights are of another network.

    >>> of_run(nn.ReLU(), "nowhere")
    Traceback (most recent call last):
    ...
    torchloupe.errors.ModelError: 'nowhere' is not a run: it holds no config.json. Make one with `torchloupe train`.
    """
    folder = Path(run) if Path(run).is_dir() or not (RUNS / run).is_dir() else RUNS / run
    if not (folder / CONFIG).is_file():
        raise ModelError(f"'{folder}' is not a run: it holds no config.json. Make one with `torchloupe train`.")
    config, bare, final = read_config(folder), unwrapped(net), folder / "model.safetensors"
    same = False
    for path in [final, *sorted((folder / "snapshots").glob("epoch-*.safetensors"))]:
        if path.is_file():
            tensors, own = read_tensors(path)[0], bare.state_dict()
            check_fit(bare, tensors, str(path), type(bare).__name__)
            same = path == final and all(torch.equal(own[name].cpu(), tensor) for name, tensor in tensors.items())
            break
    if final.is_file() and not same:
        text = (
            f"the weights of this {type(bare).__name__} are not those that '{folder}' ended with: it is shown as it is."
        )
        warnings.warn(
            OtherWeightsWarning(f"{text} To see those, torchloupe.load('{folder}', model=net)."), stacklevel=2
        )
    network = wrapped(bare, config)
    network.origin = Origin(str(folder if same else folder / "as-given"), {}, config, folder, folder.name, bare)
    return network


def find_weights(word: str) -> Path:
    """Return the weights file that a run folder, `last`, `RUN@EPOCH`, a file or a shipped name means.

    Raises:
        ModelError: nothing goes by that name.
    """
    if not word:
        return _unknown(word)
    if word in SHIPPED:
        return SHIPPED[word]
    if word == "last":
        return _of_run(newest_run())
    path = Path(word)
    if path.is_dir():
        return _of_run(path)
    if path.is_file():
        if path.suffix == ".py":
            raise ModelError(
                f"'{path}' is Python: name the class or function in it that gives the network, {path}:factory."
            )
        if path.suffix != ".safetensors":
            raise ModelError(f"'{path}' is not a .safetensors file. Bring it in with `torchloupe convert {path} …`.")
        return path
    if (RUNS / word).is_dir():
        return _of_run(RUNS / word)
    if "@" in word:
        run, _, epoch = word.rpartition("@")
        return _of_snapshot(newest_run() if run == "last" else _folder(run), epoch)
    if name := _once_shipped(path):
        return SHIPPED[name]
    return _unknown(word)


def _unknown(word: str) -> Path:
    from torchloupe.models import MODELS

    names = [row.name for row in MODELS]
    runs = [folder.name for folder in RUNS.iterdir()] if RUNS.is_dir() else []
    hint = did_you_mean(word, [*names, *runs, *SHIPPED, "last"]) or "."
    raise ModelError(
        f"no model {word!r}{hint} MODEL is a run folder, 'last', RUN@EPOCH, a .safetensors file or file.py:factory."
    )


def is_factory(word: str) -> bool:
    """Tell whether MODEL names a network to build, ours or the user's, and not trained weights.

    >>> is_factory("net.py:Net"), is_factory("resnet20"), is_factory("last")
    (True, True, False)
    """
    from torchloupe.models import MODELS

    named = any(word == row.name for row in MODELS) and not (RUNS / word).is_dir()
    return named or (re.search(r":\w[\w.]*$", word) is not None and not Path(word).exists())


def _folder(word: str) -> Path:
    for folder in (Path(word), RUNS / word):
        if folder.is_dir():
            return folder
    raise ModelError(f"no run {word!r}: neither a folder nor under '{RUNS}'. See `ls {RUNS}`.")


def _of_run(folder: Path) -> Path:
    path = folder / "model.safetensors"
    if path.is_file():
        return path
    if (folder / CONFIG).is_file():
        go_on = "Name" if is_recorded(folder) else f"Go on with `torchloupe train --resume --out {folder}`, or name"
        raise ModelError(
            f"'{folder}' holds no final weights: its training has not ended. {go_on} a snapshot, `{folder}@1`."
        )
    raise ModelError(f"'{folder}' is not a run: it holds no config.json. Make one with `torchloupe train`.")


def _of_snapshot(folder: Path, epoch: str) -> Path:
    path = folder / "snapshots" / f"epoch-{epoch}.safetensors"
    if not path.is_file():
        there = [p.stem.removeprefix("epoch-") for p in path.parent.glob("epoch-*.safetensors")]
        known = sorted((name for name in there if re.fullmatch(r"[\d.e+]+", name)), key=float)
        raise ModelError(f"'{folder}' has no snapshot of epoch {epoch}. It has: {', '.join(known) or 'none'}.")
    return path


def _from_factory(
    word: str,
    weights: Path | str | None,
    classes: Sequence[str] | int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    size: int | None,
    output: str | int | None,
    multilabel: bool,
) -> Loaded:
    if classes is None:
        raise ModelError(f"{word!r} needs its classes: give --classes N, or a file with one name a line.")
    if isinstance(classes, int) and not 0 < classes <= MOST_CLASSES:
        raise ModelError(f"{word!r} cannot have {classes} classes: from 1 to {MOST_CLASSES:,} are possible.")
    names = tuple(str(i) for i in range(classes)) if isinstance(classes, int) else tuple(classes)
    config = Config(
        word,
        names,
        tuple(mean) if mean else None,
        tuple(std) if std else None,
        size,
        output=output,
        multilabel=multilabel,
    )
    net = build_bare(config, understood=False)
    if weights is not None:
        fill(net, read_weights(Path(weights)), str(weights), word)
        _tell_broken(net, Path(weights))
    return Loaded(wrapped(net, config), config, None, word)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, ours or anyone's.

    Raises:
        ModelError: no such file, or not safetensors.
    """
    import safetensors.torch
    from safetensors import SafetensorError

    if path.is_file() and path.suffix != ".safetensors":
        raise ModelError(f"'{path}' is not a .safetensors file. Bring it in with `torchloupe convert {path} …`.")
    try:
        check_regular(path.stat(), path)
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the weights '{path}': {error}. Check the path.") from None
