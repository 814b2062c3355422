"""All settings of a training run in one frozen dataclass, and the presets. Imports no torch.

The presets' measured accuracy and time stand in `PRESET_NOTES`.
"""

import math
import re
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from torchloupe.errors import UsageError, did_you_mean, short
from torchloupe.runtime.checks import are_numbers
from torchloupe.runtime.files import read_file

LARGEST_SEED = 2**42
"""Seeds of epochs are made of it and must fit into 64 bits."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what is learned; stored in the checkpoint."""

    model: Annotated[str, "network: a name from `torchloupe models`, package.module:factory or file.py:factory"] = (
        "loupe"
    )
    net_width: Annotated[
        int | None, "loupe: filters of its first layer; later stages have 2 and 4 times as many channels"
    ] = None
    output: Annotated[str | None, "your own network: part of its output that holds the classes, a key or an index"] = (
        None
    )
    size: Annotated[int | None, "side to which pictures are resized, bilinear (default: their own size)"] = None
    epochs: Annotated[float, "passes over the train split; fractions are allowed"] = 7.0
    min_steps: Annotated[int, "take more epochs where a small data set would give fewer steps than this"] = 0
    steps: Annotated[int | None, "take exactly this many steps, whatever the epochs"] = None
    batch: Annotated[int | None, "pictures a step, over all ranks (default: 250; fewer for small data sets)"] = None
    weights: Annotated[str | None, "start from these: a run or checkpoint; its last layer is new for other classes"] = (
        None
    )
    optimizer: Annotated[
        Literal["auto", "muon", "sgd", "adam", "adamw"],
        "auto: muon for the networks that come with torchloupe, adamw for your own",
    ] = "auto"
    lr: Annotated[float | None, "peak rate (muon: of the filters; default: by optimizer)"] = None
    lr_norm: Annotated[float, "muon: peak rate of normalisation weights and of all biases"] = 0.15
    lr_head: Annotated[float, "muon: peak rate of linear layers"] = 0.03
    momentum: Annotated[float | None, "of the filters (muon) or of everything (sgd, Nesterov)"] = None
    smooth: Annotated[
        float, "muon: first-layer filters of 5x5 and more learn in a basis blurred by so many pixels (0: off)"
    ] = 0.6
    weight_decay: Annotated[
        float | None, "L2 penalty (adamw: decoupled); muon keeps filters at a fixed norm instead"
    ] = None
    amsgrad: Annotated[bool, "adam: the AMSGrad variant"] = False
    schedule: Annotated[Literal["triangular", "constant"], "triangular: up, then linearly to zero"] = "triangular"
    warmup: Annotated[float | None, "share of the steps in which the rate rises (default: by optimizer)"] = None
    label_smoothing: Annotated[float, "share of the target spread over all classes"] = 0.1
    flip: Annotated[
        Literal["none", "random", "alternating"], "horizontal flips; alternating: random in epoch 1, then every other"
    ] = "alternating"
    translate: Annotated[int, "largest random shift, in pixels, borders mirrored"] = 2
    cutout: Annotated[int, "side of a random grey square, in pixels"] = 0
    low_size: Annotated[int, "side of the random crops in the first part of training (0: whole pictures)"] = 0
    low_until: Annotated[float, "share of the steps that use crops of --low-size"] = 0.0
    ema: Annotated[float, "decay a step of the averaged weights that are tested and saved (0: off)"] = 0.0
    holdout: Annotated[float, "share of train to hold out and to test on instead of the test split, for tuning"] = 0.0
    seed: Annotated[int, "seed of everything that has none of its own"] = 0
    seed_init: Annotated[int | None, "seed of the initial weights"] = None
    seed_order: Annotated[int | None, "seed of the order of the pictures"] = None
    seed_augment: Annotated[int | None, "seed of the augmentation"] = None
    streams: Annotated[int, "how seeds become chance: 2, a stream for each purpose; 1, as runs began before that"] = 2
    mean: Annotated[tuple[float, ...] | None, "per channel, in [0, 1] (default: of the train split)"] = None
    std: Annotated[tuple[float, ...] | None, "per channel, in [0, 1] (default: of the train split)"] = None

    def __post_init__(self) -> None:
        checks = {
            "net_width": self.net_width is None or self.net_width >= 2,
            "smooth": self.smooth >= 0,
            "epochs": self.epochs > 0,
            "steps": self.steps is None or self.steps > 0,
            "batch": self.batch is None or self.batch > 0,
            "lr": self.lr is None or self.lr > 0,
            "lr_norm": self.lr_norm >= 0,
            "lr_head": self.lr_head >= 0,
            "weight_decay": self.weight_decay is None or self.weight_decay >= 0,
            "min_steps": self.min_steps >= 0,
            "momentum": self.momentum is None or 0 <= self.momentum < 1,
            "size": self.size is None or self.size >= 4,
            "warmup": self.warmup is None or 0 <= self.warmup < 1,
            "ema": 0 <= self.ema < 1,
            "holdout": 0 <= self.holdout < 1,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "low_until": 0 <= self.low_until <= 1,
            "translate": self.translate >= 0,
            "cutout": self.cutout >= 0,
            "streams": self.streams in (1, 2),
            "low_size": self.low_size == 0 or self.low_size >= 4,
        }
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(hint) is Literal:
                checks[name] = value in get_args(hint)
            if isinstance(value, float) and not math.isfinite(value):
                checks[name] = False
            if name.startswith("seed") and value is not None:
                checks[name] = abs(value) < LARGEST_SEED
        for name, fits in checks.items():
            if not fits:
                raise UsageError(
                    f"--{name.replace('_', '-')} cannot be {getattr(self, name)!r}. "
                    f"It is: {help_of(name)}. See `torchloupe train --help`."
                )

    def seed_of(self, what: Literal["init", "order", "augment"]) -> int:
        """Return the seed of one source of chance.

        >>> TrainConfig(seed=3, seed_order=5).seed_of("order"), TrainConfig(seed=3).seed_of("init")
        (5, 3)
        """
        own: int | None = getattr(self, f"seed_{what}")
        return self.seed if own is None else own


NOT_ASKED = ("streams",)
"""Settings that a run keeps as it was begun, and that nobody is asked for."""

DEFAULTS: dict[str, dict[str, float]] = {
    "muon": {"lr": 0.1, "momentum": 0.6, "weight_decay": 1e-4, "warmup": 0.0},
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "warmup": 0.2},
    "adam": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0, "warmup": 0.0},
    "adamw": {"lr": 2e-3, "momentum": 0.9, "weight_decay": 0.05, "warmup": 0.2},
}
"""What an optimizer uses where a setting is left open."""

FINE_TUNE = 0.1
"""Rates of everything but a new head are multiplied by this when training starts from weights."""

PRESETS: dict[str, TrainConfig] = {
    "quick": TrainConfig(epochs=11, min_steps=400, low_size=24, low_until=0.6, translate=1),
    "good": TrainConfig(net_width=64, epochs=12, min_steps=1000, low_size=24, low_until=0.6, translate=1),
    "best": TrainConfig(net_width=80, epochs=100, min_steps=3000, low_size=24, low_until=0.5, cutout=8),
    "study": TrainConfig(
        model="study",
        size=224,
        epochs=13,
        batch=64,
        optimizer="adam",
        amsgrad=True,
        lr=1e-4,
        schedule="constant",
        label_smoothing=0.0,
        flip="random",
        translate=0,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    ),
}


PRESET_NOTES: dict[str, str] = {
    "quick": "86.3 ± 0.3 % on JPEG CIFAR-10 (n = 5, no test-time augmentation), 3 min on two CPU cores",
    "good": "89.1 ± 0.1 % on JPEG CIFAR-10 (n = 3, no test-time augmentation), 10 min on two CPU cores",
    "best": "91.0 % on JPEG CIFAR-10 (n = 1, no test-time augmentation), 2.3 hours on two CPU cores",
    "study": "the published study's recipe, to the letter: 6.2 hours on two CPU cores (13.3 in float32)",
}
"""What `--help` says of each preset, with the measured figures."""


def resolve(config: TrainConfig, *, ours: bool, images: int) -> TrainConfig:
    """Fill what was left open, by optimizer and by the number of train pictures.

    Muon rescales filters, which only networks with a normalisation behind each convolution allow: it is the
    default for those that come with torchloupe, AdamW for all others.

    >>> config = resolve(TrainConfig(epochs=2, min_steps=100), ours=True, images=640)
    >>> config.optimizer, config.lr, config.batch, config.epochs
    ('muon', 0.1, 16, 2.5)
    """
    kind = config.optimizer if config.optimizer != "auto" else "muon" if ours else "adamw"
    open_ = {name: value for name, value in DEFAULTS[kind].items() if getattr(config, name) is None}
    batch = config.batch or min(250, max(16, 2 ** round(math.log2(images / 100))), images)
    per_epoch, _ = steps_of(replace(config, batch=batch), images)
    epochs = config.steps / per_epoch if config.steps else max(config.epochs, config.min_steps / per_epoch)
    return replace(config, optimizer=kind, batch=batch, epochs=epochs, **open_)  # type: ignore[arg-type]


def steps_of(config: TrainConfig, images: int) -> tuple[int, int]:
    """Return the steps of an epoch and of the whole training; what does not fill a batch is left to the next epoch.

    >>> steps_of(TrainConfig(epochs=2.5, batch=20), images=90)
    (4, 10)
    """
    per_epoch = max(1, images // (config.batch or max(1, images)))
    return per_epoch, max(1, round(per_epoch * config.epochs))


def help_of(name: str) -> str:
    """Return the one-line help of a setting.

    >>> help_of("cutout")
    'side of a random grey square, in pixels'
    """
    hint = get_type_hints(TrainConfig, include_extras=True)[name]
    return str(hint.__metadata__[0])


def part_of(text: str | None) -> str | int | None:
    """Read `--output`: an index where it is a whole number, else a key.

    >>> part_of("out"), part_of("-1"), part_of(None)
    ('out', -1, None)
    """
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,3}", text) else text


def from_toml(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file; its keys are the names of `TrainConfig`, `preset` too.

    Raises:
        UsageError: no such file, not TOML, or a key that is no setting.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.toml"
    ...     _ = file.write_text("epochs = 3")
    ...     from_toml(file)
    {'epochs': 3}
    """
    try:
        values = tomllib.loads(read_file(path).decode("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no such file: '{path}' (--config). Check the path.") from None
    except OSError as error:
        raise UsageError(f"cannot read '{path}' (--config): {str(error.strerror).lower()}. Check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"'{path}' is not TOML: {error}. Write lines like `epochs = 3`.") from None
    known = [field.name for field in fields(TrainConfig) if field.name not in NOT_ASKED]
    values = {name.replace("-", "_"): value for name, value in values.items()}
    words = ["preset", "data", "out"]
    for name, value in values.items():
        if name not in [*known, *words]:
            raise UsageError(f"'{path}' sets {name!r}, which is no setting{did_you_mean(name, known + words) or '.'}")
        if name in words and not isinstance(value, str):
            raise UsageError(f"'{path}' sets {name} to {value!r}: write it as text in quotes.")
    return values


def configure(preset: str, values: dict[str, Any]) -> TrainConfig:
    """Return a preset with some values replaced; lists become tuples.

    Raises:
        UsageError: an unknown preset or an unfit value.

    >>> configure("quick", {"epochs": 2}).epochs
    2.0
    """
    if preset not in PRESETS:
        hint = did_you_mean(preset, list(PRESETS)) or "."
        raise UsageError(f"no preset {preset!r}{hint} There are: {', '.join(PRESETS)}.")
    if "epochs" in values:
        values = {"min_steps": 0, **values}
    hints = get_type_hints(TrainConfig)
    fitted = {name: _fit(name, value, hints[name]) for name, value in values.items()}
    return replace(PRESETS[preset], **fitted)


def decided_by(preset: str) -> list[str]:
    """Return the settings that a preset decides, and not the data, the weights to start from, or a seed.

    >>> "cutout" in decided_by("best"), "model" in decided_by("best"), "model" in decided_by("study")
    (True, False, True)
    """
    own, plain = asdict(configure(preset, {})), asdict(TrainConfig())
    left_open = {name for name, value in own.items() if value is None or name.startswith("seed") or name in NOT_ASKED}
    if own["model"] == plain["model"]:  # weights to start from bring their own network
        left_open.add("model")
    return [name for name in own if name not in left_open]


def restore(values: dict[str, Any]) -> TrainConfig:
    """Read settings back from a checkpoint's JSON; what this version does not know is left out.

    One that does not say how its seeds become chance is of before there were two ways.

    >>> old = restore({"epochs": 3.0, "mean": [0.5], "from the future": 1})
    >>> old.mean, old.streams
    ((0.5,), 1)
    """
    known = {name: value for name, value in values.items() if name in TrainConfig.__dataclass_fields__}
    return configure("quick", {**asdict(TrainConfig()), "streams": 1, **known})


def _fit(name: str, value: Any, hint: Any) -> Any:
    if isinstance(value, list) and are_numbers(value):
        value = tuple(float(v) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    kinds = tuple({type(a) if isinstance(a, str) else getattr(a, "__origin__", a) for a in get_args(hint) or (hint,)})
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise UsageError(f"{name} cannot be {short(value)}. It is: {help_of(name)}.")
    return value
