"""What can go wrong, and the exit code of each: one sentence with the thing, the cause and the next step."""


class LoupeError(Exception):
    """An error that is told to the user in one sentence, without a traceback.

    >>> raise DataError("no such folder: 'cats'. Check the path, or see `torchloupe data --help`.")
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: no such folder: 'cats'. Check the path, or see `torchloupe data --help`.
    """

    exit_code = 1


class UsageError(LoupeError):
    """An option or argument that does not fit."""

    exit_code = 2


class DataError(LoupeError):
    """Pictures or labels that are missing, broken or unfit."""

    exit_code = 3


class ModelError(LoupeError):
    """A model or checkpoint that is missing, broken or for another network."""

    exit_code = 4


class LayerError(ModelError, LookupError):
    """A layer name that the model does not have."""


class ResourceError(LoupeError):
    """A full disk, or too little memory."""

    exit_code = 5


class DivergedError(LoupeError):
    """Training whose loss became NaN or ran away."""

    exit_code = 6


class ChangedCodeWarning(UserWarning):
    """The user's own code is not what it was when it ran last."""


class BrokenWeightsWarning(UserWarning):
    """A checkpoint holds NaN or infinity."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known word, or an empty string.

    >>> did_you_mean("resnet2", ["study", "resnet20"])
    "; did you mean 'resnet20'?"
    >>> did_you_mean("zzz", ["study"])
    ''
    """
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
