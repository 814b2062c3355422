"""Our checkpoints: safetensors with one metadata key of sorted JSON. A checkpoint alone rebuilds its model."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from torchloupe.checkpoints.foreign.match import COUNTER
from torchloupe.errors import LONGEST, ModelError, short
from torchloupe.models import build, build_blank
from torchloupe.models.network import Network, wrap
from torchloupe.models.reference import is_reference
from torchloupe.models.trust import check_made, permitted
from torchloupe.models.user import build_user
from torchloupe.runs.config import Config, parse_config
from torchloupe.runtime.files import LONGEST_PATH, atomic_write, check_regular, parse_json

KEY = "torchloupe"
MOST_AXES = 16
"""Of a tensor in a file; torch itself cannot work with more than 64."""
COLORS = 3
"""Channels of the pictures that our own networks take."""
Maker = str | Callable[..., nn.Module] | nn.Module
"""What the user may name as the network of a file: a reference to code, or that code itself."""


def config_from(values: Any, source: str | Path, model: str | None = None) -> Config:
    """Read a Config from a file's parsed JSON; keys of later versions are ignored.

    Its `model` is one of ours, or code that may run: what the file names has passed `trust.permitted`, or is `model`,
    which the user named for it.

    Raises:
        ModelError: a key is missing, or the schema is newer than this package, or it names code that may not run.

    >>> about = {"schema": 1, "model": "loupe", "classes": ["a", "b"], "mean": None, "std": None, "size": 32}
    >>> config_from(about, "a.safetensors").size
    32
    """
    config = parse_config(values, source)
    arguments = config.arguments
    if model is not None and model.rpartition(":")[2] != config.model.rpartition(":")[2]:
        arguments = {}  # they were another network's
    allowed = permitted(config.model, source, arguments=arguments, given=model)
    return replace(config, model=allowed, arguments=arguments)


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write named tensors with a JSON description, atomically; the same input gives the same bytes.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors(Path(folder) / "a.safetensors", {"x": torch.ones(2)}, {"step": 3})
    ...     read_tensors(Path(folder) / "a.safetensors")
    ({'x': tensor([1., 1.])}, {'step': 3})
    """
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in sorted(tensors.items()):
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if place in seen else own  # tied weights: safetensors takes no shared memory
        seen.add(place)
    text = json.dumps(about, sort_keys=True, ensure_ascii=False)
    atomic_write(path, safetensors.torch.save(plain, metadata={KEY: text}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        ModelError: no such file, not safetensors, or not ours.
    """
    place = short(path, LONGEST_PATH)
    try:
        check_regular(path.stat(), path)
        with safe_open(path, framework="pt") as stream:
            about = (stream.metadata() or {}).get(KEY)
            if about is None:
                raise ModelError(
                    f"{place} is safetensors, but not written by torchloupe. Bring it in with `torchloupe convert`."
                )
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        cause = "no such file" if isinstance(error, FileNotFoundError) else f"not a whole safetensors file ({error})"
        raise ModelError(f"cannot read {place}: {cause}. Check the path, or save it again.") from None
    if any(tensor.ndim > MOST_AXES for tensor in tensors.values()):
        raise ModelError(f"{place} holds a tensor of more than {MOST_AXES} axes. Was it made by torchloupe?")
    try:
        return tensors, parse_json(about)
    except ValueError as error:
        raise ModelError(f"the description in {place} is damaged ({error}). Save it again.") from None


def save_model(path: Path, net: nn.Module, config: Config) -> None:
    """Write a network's weights and what is needed to rebuild it.

    >>> import tempfile
    >>> config = Config("resnet20", ("cat", "dog"), None, None, 32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(Path(folder) / "m.safetensors", build("resnet20", classes=2), config)
    ...     load_model(Path(folder) / "m.safetensors")[1].classes
    ('cat', 'dog')
    """
    save_tensors(path, net.state_dict(), asdict(config))


def load_model(path: Path, model: "Maker | None" = None) -> tuple[Network, Config]:
    """Rebuild a network from its checkpoint alone, in eval mode on the CPU.

    A checkpoint of one of our networks is all that is needed. One of someone's own names code, which runs if `model`
    is given (the same reference, or the class, function or network itself), or where this user ran it before.

    Raises:
        ModelError: the file is missing, broken, not ours, does not fit the network that it names, or names code that
            may not run.
    """
    tensors, about = read_tensors(path)
    if model is None or isinstance(model, str):
        config = config_from(about, path, model)
        net = _filled(config, tensors, path)
    else:
        config = parse_config(about, path)
        if config.arguments:
            check_made(model, config.model)
        net = build_user(
            config.model,
            len(config.classes),
            size=config.size,
            channels=channels_of(config),
            arguments=config.arguments,
            factory=model,
            understood=False,
        )
        fill(net, tensors, str(path), config.model)
    return wrapped(net, config), config


def wrapped(net: nn.Module, config: Config) -> Network:
    """Return a bare network as the network that a description says it is.

    >>> wrapped(nn.Flatten(), Config("loupe", ("cat", "dog"), None, None, 32)).size
    32
    """
    return wrap(
        net,
        mean=config.mean,
        std=config.std,
        size=config.size,
        classes=config.classes,
        output=config.output,
        multilabel=config.multilabel,
    )


def _filled(config: Config, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """Return the network with these tensors; one of ours that does not fit them takes no memory."""
    if is_reference(config.model):
        net = build_bare(config, understood=False)
        fill(net, tensors, str(path), config.model)
        return net
    net = build_blank(config.model, len(config.classes), **config.arguments)
    if config.mean is not None and len(config.mean) != COLORS:
        raise ModelError(
            f"{short(path, LONGEST_PATH)} is damaged: {config.model} takes {COLORS} channels, and its mean has "
            f"{len(config.mean)}. Was it made by torchloupe?"
        )
    check_fit(net, tensors, str(path), config.model)
    own = {
        name: tensors[name].to(tensor.dtype, copy=True) for name, tensor in net.state_dict().items()
    }  # not the file's
    net.load_state_dict(own, assign=True)
    return net


def channels_of(config: Config) -> int | None:
    """Return the channels of the pictures that a network takes; None where its description does not say.

    >>> channels_of(Config("net.py:Net", ("a", "b"), (0.5,), (0.5,), 28))
    1
    """
    return None if config.mean is None else len(config.mean)


def build_bare(config: Config, *, understood: bool = True) -> nn.Module:
    """Build the untrained network that a description names; its output must be `understood`, unless that is not asked.

    >>> build_bare(Config("resnet20", ("cat", "dog"), None, None, 32)).linear.out_features
    2
    """
    if is_reference(config.model):
        return build_user(
            config.model,
            len(config.classes),
            size=config.size,
            channels=channels_of(config),
            arguments=config.arguments,
            output=config.output,
            understood=understood,
        )
    return build(config.model, len(config.classes), **config.arguments)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity.

    >>> import torch
    >>> not_finite({"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan])})
    ['b']
    """
    return [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def fill(net: nn.Module, tensors: dict[str, Tensor], source: str, model: str) -> None:
    """Copy tensors into a network, strictly.

    Raises:
        ModelError: names or shapes differ; the first few are told.
    """
    check_fit(net, tensors, source, model)
    net.load_state_dict(tensors)


def check_fit(net: nn.Module, tensors: Mapping[str, Tensor], source: str, model: str) -> None:
    """Refuse tensors that are not those of a network, by name and shape.

    Raises:
        ModelError: the first few that differ are told.

    >>> check_fit(nn.ReLU(), {}, "a.safetensors", "ReLU")
    """
    own, given = ({name: _form(name, tensor) for name, tensor in each.items()} for each in (net.state_dict(), tensors))
    wrong = [f"{name} is missing" for name in own if name not in given]
    wrong += [f"{name[:LONGEST]} is not in the network" for name in given if name not in own]
    wrong += [
        f"{name} is {given[name]} instead of {own[name]}" for name in own if name in given and given[name] != own[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(
            f"{short(source, LONGEST_PATH)} does not fit the network {short(model)}: {'; '.join(wrong[:3])}{more}. "
            "Name the network that it was trained with."
        )


def _form(name: str, tensor: Tensor) -> str:
    """Return shape and kind of a tensor in a few words: numbers of another width are converted, of another kind not."""
    counts = name.endswith(COUNTER) and not tensor.is_complex()
    kind = "" if counts or tensor.is_floating_point() else " " + str(tensor.dtype).removeprefix("torch.")
    return f"{list(tensor.shape)}{kind}"
