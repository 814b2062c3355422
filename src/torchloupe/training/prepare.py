"""What a training starts from: settings with nothing left open, the network, the pictures to learn and to test."""

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from torchloupe.checkpoints.file import build_bare, config_from, fill, not_finite, read_tensors, wrapped
from torchloupe.checkpoints.open import find_weights
from torchloupe.data.dataset import Dataset, Split, check_one_label, checksum
from torchloupe.data.subsets import hold_out
from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, ModelError, UsageError
from torchloupe.models.forward import called
from torchloupe.models.layout import memory_format
from torchloupe.models.network import Network
from torchloupe.models.reference import absolute, is_reference
from torchloupe.runs.config import Config
from torchloupe.runtime import distributed
from torchloupe.training.chance import seed_for
from torchloupe.training.config import TrainConfig, part_of, resolve


@dataclass(frozen=True, eq=False)
class Start:
    """Everything that is decided before the first step."""

    config: TrainConfig
    about: Config
    network: Network
    train: Split
    test: Split
    fast: set[nn.Parameter] | None
    """With weights to start from: the parameters of a new head, which learn at the full rate."""


def prepare(dataset: Dataset, config: TrainConfig, device: torch.device) -> Start:
    """Settle the settings, build the network, fill it, try it on one picture.

    Raises:
        ModelError: the weights do not fit, or the network fails on these pictures.
        DataError: there is nothing to learn from, or pictures have several classes.
    """
    check_one_label(dataset, "training")
    train, test = hold_out(dataset, config.holdout, seed_for(config, "holdout"))
    if not len(train):
        raise DataError(f"'{dataset.name}' has no pictures to train on. Check --data and --holdout.")
    tensors, old = None, None
    if config.weights is not None:  # kept as a path: by the time it is resumed, `last` is another run
        path = find_weights(config.weights).resolve()
        tensors, said = read_tensors(path)
        if broken := not_finite(tensors):
            raise ModelError(f"the weights in '{path}' hold NaN or infinity ({broken[0]}): start from others.")
        named = None if config.model == TrainConfig.model else config.model
        old, config = config_from(said, path, named), replace(config, weights=str(path))
        config = replace(config, size=config.size or old.size, mean=config.mean or old.mean, std=config.std or old.std)
    if old is not None and config.model == TrainConfig.model:
        config = replace(config, model=old.model)
    config = resolve(config, ours=not is_reference(config.model), images=len(train))
    about = describe(dataset, config, old)
    torch.manual_seed(seed_for(config, "init"))
    bare = build_bare(about)
    fast = None if tensors is None else fill_body(bare, tensors, str(config.weights), same_classes=_same(old, about))
    torch.manual_seed(seed_for(config, "network"))  # for networks with chance of their own, such as dropout
    order = memory_format(bare) if memory_format(bare) == torch.channels_last else torch.preserve_format
    bare = bare.to(device=device, memory_format=order)  # type: ignore[call-overload]
    network = wrapped(bare, about)
    try_out(network, train, config, device)
    if (config.batch or len(train)) < 2 * distributed.world():  # a rank learns from one picture at a time
        try_alone(bare, train, config, device)
    return Start(config, about, network, train, test, fast)


def _same(old: Config | None, about: Config) -> bool:
    return old is None or old.classes == about.classes


def describe(dataset: Dataset, config: TrainConfig, old: Config | None = None) -> Config:
    """Return what the checkpoint will say of itself."""
    h, w = dataset.train.images.shape[2:]
    return Config(
        model=absolute(config.model),
        classes=dataset.classes,
        mean=config.mean or dataset.mean,
        std=config.std or dataset.std,
        size=config.size or (int(h) if h == w else None),
        arguments=arguments_of(config, old),
        data=known_by(dataset),
        training=asdict(config),
        output=part_of(config.output) if config.output is not None or old is None else old.output,
    )


def known_by(dataset: Dataset) -> dict[str, Any]:
    """Return what a run says of its data, and by what it knows them again.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> about = known_by(shapes(train=10, test=20))
    >>> about["name"], about["source"], about["picture"], about["train"], about["test"]
    ('shapes', 'shapes', [32, 32], 10, 20)
    """
    h, w = dataset.train.images.shape[2:]
    counts = {"train": len(dataset.train), "test": len(dataset.test)}
    if dataset.val is not None:
        counts["val"] = len(dataset.val)
    reading = {
        "window": None if dataset.window is None else list(dataset.window),
        "labels": dataset.labels_file,
        "class_names": dataset.class_names_file,
    }
    return {
        "name": dataset.name,
        "source": dataset.source,
        "size": dataset.size,
        "picture": [int(h), int(w)],
        "crc32": checksum(dataset),
        **counts,
        **{name: value for name, value in reading.items() if value is not None},
    }


def arguments_of(config: TrainConfig, old: Config | None = None) -> dict[str, Any]:
    """Return what the network's factory is called with, besides the classes.

    Raises:
        ModelError: `--net-width` of another network than loupe.

    >>> arguments_of(TrainConfig(net_width=8))
    {'widths': [8, 16, 32]}
    """
    if old is not None and old.model == absolute(config.model):
        return old.arguments
    if config.net_width is None:
        return {}
    if config.model != TrainConfig.model:
        raise ModelError(f"only loupe can be widened, not {config.model!r}: leave --net-width out.")
    return {"widths": [config.net_width, 2 * config.net_width, 4 * config.net_width]}


def fill_body(net: nn.Module, tensors: dict[str, Tensor], source: str, *, same_classes: bool) -> set[nn.Parameter]:
    """Copy weights into a network; with other classes its last linear layer stays new. Returns what stayed new.

    Raises:
        ModelError: anything but the head does not fit.
    """
    if same_classes:
        fill(net, tensors, source, type(net).__name__)
        return set()
    heads = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ModelError(f"'{source}' knows other classes, and {type(net).__name__} has no linear layer to replace.")
    name, head = heads[-1]
    fresh = {f"{name}.{key}": tensor for key, tensor in head.state_dict().items()}
    fill(net, {**tensors, **fresh}, source, type(net).__name__)
    return set(head.parameters())


def try_alone(net: nn.Module, split: Split, config: TrainConfig, device: torch.device) -> None:
    """Send one picture through a copy of a network that learns, where a step has no more than that.

    Raises:
        UsageError: its BatchNorm is left with one value a channel, which has no spread.
    """
    image = split.images[:1]
    side = min(image.shape[2:])
    if config.low_until and 0 < config.low_size < side:
        image = image[:, :, : config.low_size, : config.low_size]
        side = config.low_size
    size = config.size and round(config.size * side / min(split.images.shape[2:]))
    with torch.random.fork_rng(), torch.no_grad():
        try:
            copy.deepcopy(net).train()(to_float(image.to(device), size))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            few = "fewer ranks or a larger --batch" if distributed.world() > 1 else "--batch 2 or more"
            side = size or side
            raise UsageError(
                f"the network {config.model!r} cannot learn from one picture of {side} x {side} at a time: "
                f"its BatchNorm is left with one value a channel. Take {few}, or larger pictures with --size."
            ) from None


def try_out(network: Network, split: Split, config: TrainConfig, device: torch.device) -> None:
    """Send one picture through, so that an unfit network is told in one sentence before training starts.

    Raises:
        ModelError: it fails, or gives another number of outputs than there are classes.
    """
    images = to_float(split.images[:1].to(device), config.size)
    with torch.no_grad():
        called(network, images)
    network.check = False
