"""What a training starts from: settings with nothing left open, the network, the pictures to learn and to test."""

import zlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from torchloupe.checkpoint import Config, build_bare, config_from, fill, read_tensors
from torchloupe.config import TrainConfig, resolve
from torchloupe.data.dataset import Dataset, Split
from torchloupe.errors import DataError, LoupeError, ModelError
from torchloupe.loading import find_weights
from torchloupe.models.reference import absolute, is_reference
from torchloupe.network import Network, wrap


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
        DataError: there is nothing to learn from.
    """
    train, test = hold_out(dataset, config.holdout, config.seed_of("order"))
    if not len(train):
        raise DataError(f"'{dataset.name}' has no pictures to train on. Check --data and --holdout.")
    tensors, old = None, None
    if config.weights is not None:  # kept as a path: by the time it is resumed, `last` is another run
        path = find_weights(config.weights).resolve()
        tensors, said = read_tensors(path)
        named = None if config.model == TrainConfig.model else config.model
        old, config = config_from(said, path, named), replace(config, weights=str(path))
        config = replace(config, size=config.size or old.size, mean=config.mean or old.mean, std=config.std or old.std)
    if old is not None and config.model == TrainConfig.model:
        config = replace(config, model=old.model)
    config = resolve(config, ours=not is_reference(config.model), pictures=len(train))
    about = describe(dataset, config, old)
    torch.manual_seed(config.seed_of("init"))
    bare = build_bare(about)
    fast = None if tensors is None else fill_body(bare, tensors, str(config.weights), same_classes=_same(old, about))
    torch.manual_seed(config.seed_of("augment"))  # for networks with chance of their own, such as dropout
    bare = bare.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = wrap(bare, mean=about.mean, std=about.std, size=about.size, classes=about.classes)
    try_out(network, train, config, device)
    return Start(config, about, network, train, test, fast)


def _same(old: Config | None, about: Config) -> bool:
    return old is None or old.classes == about.classes


def describe(dataset: Dataset, config: TrainConfig, old: Config | None = None) -> Config:
    """Return what the checkpoint will say of itself."""
    h, w = dataset.train.images.shape[2:]
    counts = {"train": len(dataset.train), "test": len(dataset.test)}
    return Config(
        model=absolute(config.model),
        classes=dataset.classes,
        mean=config.mean or dataset.mean,
        std=config.std or dataset.std,
        size=config.size or (int(h) if h == w else None),
        arguments=arguments_of(config, old),
        data={
            "name": dataset.name,
            "source": dataset.source,
            "size": dataset.size,
            "picture": [int(h), int(w)],
            "crc32": fingerprint(dataset),
            **counts,
        },
        training=asdict(config),
    )


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


def fingerprint(dataset: Dataset) -> str:
    """Return a checksum of all pictures and labels, by which a resumed run knows its data again.

    >>> from torchloupe.data.shapes import shapes
    >>> fingerprint(shapes(train=10, test=10)) == fingerprint(shapes(train=10, test=10))
    True
    """
    value = 0
    for split in (dataset.train, dataset.test):
        for tensor in (split.images, split.labels):
            value = zlib.crc32(tensor.contiguous().numpy().data.cast("B") if tensor.numel() else b"", value)
    return f"{value:08x}"


def hold_out(dataset: Dataset, share: float, seed: int) -> tuple[Split, Split]:
    """Return what to learn from and what to test on; with a share, both are parts of train (by class).

    >>> from torchloupe.data.shapes import shapes
    >>> [len(split) for split in hold_out(shapes(train=40, test=10), 0.25, 0)]
    [30, 10]
    """
    if share == 0:
        return dataset.train, dataset.test
    labels = dataset.train.labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(len(dataset.classes)):
        members = order[labels[order] == label]
        held[members[: round(len(members) * share)]] = True
    return take(dataset.train, (~held).nonzero().flatten()), take(dataset.train, held.nonzero().flatten())


def take(split: Split, index: Tensor) -> Split:
    """Return some pictures of a split, in the order of the index.

    >>> from torchloupe.data.shapes import shapes
    >>> len(take(shapes(train=10, test=10).train, torch.tensor([3, 1])))
    2
    """
    names = tuple(split.names[i] for i in index.tolist())
    masks = None if split.masks is None else split.masks[index]
    return Split(split.images[index], split.labels[index], names, masks)


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


def try_out(network: Network, split: Split, config: TrainConfig, device: torch.device) -> None:
    """Send one picture through, so that an unfit network is told in one sentence before training starts.

    Raises:
        ModelError: it fails, or gives another number of outputs than there are classes.
    """
    from torchloupe.augment import to_float

    pictures = to_float(split.images[:1].to(device), config.size)
    try:
        with torch.no_grad():
            network(pictures)
    except LoupeError:
        raise
    except Exception as error:
        shape = " x ".join(map(str, pictures.shape[1:]))
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the network {config.model!r} fails on a picture of {shape}: {cause}. Try --size.") from error
    network.check = False
