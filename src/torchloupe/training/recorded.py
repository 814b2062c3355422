"""What is written down of a network that someone trains themselves: what it is, and by what name it is found again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchloupe.checkpoints.file import build_bare, check_fit, wrapped
from torchloupe.data.dataset import Dataset
from torchloupe.errors import ModelError, UsageError, short
from torchloupe.features.hooks import frozen_eval
from torchloupe.features.owner import random_state_restored
from torchloupe.features.trace import example
from torchloupe.models import MODELS, build_blank
from torchloupe.models.network import modes_kept, wrap
from torchloupe.models.reference import NOWHERE, absolute, is_nameless, reference_of
from torchloupe.models.trust import NOT_THE_USERS, remember
from torchloupe.models.user import makes_alike
from torchloupe.runs.config import Config, is_part, parse_config
from torchloupe.training.prepare import known_by

RECORDED = {"recorded": True}
"""All that is known of the settings of a recorded training."""


def describe_own(
    net: nn.Module,
    *,
    classes: Sequence[str] | int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    size: int | None,
    model: str | Path | None = None,
    data: Dataset | str | Path | None = None,
    output: str | int | None = None,
    multilabel: bool = False,
) -> Config:
    """Return what a run says of a network that torchloupe does not train; the network stays as it is.

    It is tried on one grey picture. `model` is the reference of a class or function that makes it; without one, that is
    found out where its class makes the same network without further arguments.

    Raises:
        UsageError: settings that do not fit.
        ModelError: it fails on a picture, gives another number of outputs, or has weights that cannot be stored.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> about = describe_own(net, classes=["cat", "dog"], mean=[0.5] * 3, std=[0.25] * 3, size=2)
    >>> about.model, about.classes, net.training
    ('<made in Python>:Sequential', ('cat', 'dog'), True)
    """
    if output is not None and not is_part(output):
        raise UsageError(f"output is a key or an index of the network's output, not {output!r}: a run cannot keep it.")
    if not isinstance(classes, int | str) and not all(isinstance(name, str) for name in classes):
        raise UsageError(f"classes must be a number from 1 up or a list of different names, not {short(classes)}.")
    with modes_kept(net):
        known = wrap(net, mean=mean, std=std, size=size, classes=classes, output=output, multilabel=multilabel)
    _check_weights(net)
    about = Config(
        model=f"{NOWHERE}:{type(net).__name__}",
        classes=known.classes,
        mean=known.mean,
        std=known.std,
        size=known.size,
        data=_known_by(data),
        training=dict(RECORDED),
        output=output,
        multilabel=multilabel,
    )
    about = parse_config(json.loads(json.dumps(asdict(about))), "what is recorded")
    _try_out(net, about)
    with random_state_restored():
        return replace(about, model=_name_of(net, about) if model is None else _named(net, about, absolute(str(model))))


def _check_weights(net: nn.Module) -> None:
    """Refuse weights that no file of ours holds: sharded, quantised, or not there yet."""
    for name, tensor in net.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise ModelError(f"{short(name)} of the network is no tensor but {type(tensor).__name__}: not recordable.")
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_quantized or tensor.is_meta:
            kind = "on no device" if tensor.is_meta else type(tensor).__name__
            raise ModelError(
                f"{short(name)} of the network is {kind}, and no plain tensor that could be stored whole. "
                "Record it before it is sharded, quantised, or once it has its weights."
            )


def _try_out(net: nn.Module, about: Config) -> None:
    """Send one grey picture through."""
    with modes_kept(net):
        network = wrapped(net, about)
    image = example(network)
    with frozen_eval(network), torch.no_grad():
        network(image)


def _named(net: nn.Module, about: Config, reference: str) -> str:
    """Return the reference that the user gave, if it makes this network."""
    twin = build_bare(replace(about, model=reference), understood=False)
    check_fit(twin, net.state_dict(), type(net).__name__, reference)
    return reference


def _name_of(net: nn.Module, about: Config) -> str:
    """Return a name or reference by which the network is made again; a nameless one where none is known.

    A reference to the script that runs is noted, and not remembered as the user's word: to import it may train again.
    """
    kind, reference = type(net), reference_of(type(net))
    home, count = kind.__module__.partition(".")[0], len(about.classes)
    if home == "torchloupe":
        ours = (row.name for row in MODELS if _is_built_by(row.name, net, count))
        return next(ours, about.model)
    if home in NOT_THE_USERS or is_nameless(reference) or not makes_alike(kind, net, count):
        return about.model
    if home != "__main__":
        remember(reference)
    return reference


def _is_built_by(name: str, net: nn.Module, classes: int) -> bool:
    twin = build_blank(name, classes)
    mine, other = ({key: value.shape for key, value in each.state_dict().items()} for each in (net, twin))
    return type(twin) is type(net) and mine == other


def _known_by(data: Dataset | str | Path | None) -> dict[str, Any] | None:
    """Return what is said of the data; of a path only that, since pictures are not read for it."""
    if data is None:
        return None
    if isinstance(data, Dataset):
        return known_by(data)
    path, word = Path(data).expanduser(), str(data)
    return {"name": path.name, "source": str(path.resolve())} if path.exists() else {"name": word, "source": word}
