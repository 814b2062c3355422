"""What to do about a training that diverged or learned nothing: settings far from what works. Imports no torch."""

from pathlib import Path

from torchloupe.errors import DivergedError
from torchloupe.training.config import DEFAULTS, TrainConfig

FAR = 10.0
"""How many times its default a rate is far above it."""
LOW = 0.01
"""The same for far below."""
FEW = 100
"""Steps in which little can be learned."""


def usual_rates(config: TrainConfig) -> dict[str, float]:
    """Return the default of every rate that resolved settings make use of.

    >>> usual_rates(TrainConfig(optimizer="sgd"))
    {'lr': 0.05}
    """
    plain = TrainConfig()
    kind = "muon" if config.optimizer == "auto" else config.optimizer
    own = {"lr_norm": plain.lr_norm, "lr_head": plain.lr_head} if kind == "muon" else {}
    return {"lr": DEFAULTS[kind]["lr"], **own}


def lower(config: TrainConfig) -> str:
    """Return options that lower the rates: what is above its default goes there, else the main one to a tenth.

    >>> lower(TrainConfig(optimizer="sgd", lr=1e30)), lower(TrainConfig(optimizer="sgd", lr=0.02))
    ('--lr 0.05', '--lr 0.002')
    """
    usual = usual_rates(config)
    high = {name: value for name, value in usual.items() if (getattr(config, name) or 0.0) > value}
    return _options(high or {"lr": (config.lr or usual["lr"]) / 10})


def diverged(config: TrainConfig, out: Path, cause: str) -> DivergedError:
    """Return what is raised where a training diverged.

    >>> str(diverged(TrainConfig(lr=9.0), Path("r"), "the loss is nan")).partition("'. ")[2]
    'Try a lower rate, with another --out: --lr 0.1.'
    """
    check = ", and check --mean and --std" if config.mean or config.std else ""
    return DivergedError(
        f"training diverged: {cause}. The last good state is kept in '{out}'. "
        f"Try a lower rate, with another --out: {lower(config)}{check}."
    )


def learned_nothing(config: TrainConfig, accuracy: float, steps: int) -> str:
    """Say that a training ended no better than guessing, and the likely cause.

    >>> learned_nothing(TrainConfig(optimizer="sgd", lr=100.0), 0.1, 500)
    '10.00 % are right, no better than guessing: --lr 100 is far above what works. Try --lr 0.05.'
    """
    said = f"{100 * accuracy:.2f} % are right, no better than guessing"
    usual = usual_rates(config)
    rates = {name: getattr(config, name) or usual[name] for name in usual}
    high = {name: rate for name, rate in rates.items() if rate > FAR * usual[name]}
    low = {name: rate for name, rate in rates.items() if rate < LOW * usual[name]}
    if off := high or low:
        instead = _options({name: usual[name] for name in off})
        return f"{said}: {_options(off)} is far {'above' if high else 'below'} what works. Try {instead}."
    if steps < FEW:
        return f"{said}: it took {steps} steps only. Give it more with --epochs or --steps."
    return f"{said}. Look whether the labels fit the pictures: torchloupe data show."


def _options(values: dict[str, float]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value:.4g}" for name, value in values.items())
