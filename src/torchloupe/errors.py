"""What can go wrong, and the exit code of each: one sentence with the thing, the cause and the next step.

A sentence often repeats what a file says, and the file may come from a stranger: `short` is how a text of a file stands
in one, and every message is made `printable` and cut, whatever went into it.
"""

LONGEST = 100
"""Letters of a stranger's text that a sentence repeats."""
LONGEST_MESSAGE = 600
"""Letters of a whole message; a longer one loses its middle, since its end says what to do."""


def printable(text: str) -> str:
    """Return a text with every control character, line break and direction mark made visible.

    >>> printable("cat\x1b[31m")
    'cat·[31m'
    """
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "·" for letter in text)


def short(text: object, most: int = LONGEST) -> str:
    """Return a stranger's text, or what is written for a value, as a sentence may repeat it: quoted, escaped and cut.

    >>> short("a" * 200).endswith("…'"), short("a\\nb"), short(-3)
    (True, "'a\\\\nb'", "'-3'")
    """
    words = str(text)
    return printable(repr(words if len(words) <= most else words[: most - 1] + "…"))


def in_one_line(text: str) -> str:
    """Return a message as a terminal may show it: one line, printable, and not longer than people read.

    >>> in_one_line("no\\nsuch file"), len(in_one_line("x" * 10_000))
    ('no·such file', 600)
    """
    line = printable(text)
    if len(line) <= LONGEST_MESSAGE:
        return line
    kept = LONGEST_MESSAGE - 3
    return f"{line[: kept // 2]} … {line[-(kept - kept // 2) :]}"


class LoupeError(Exception):
    """An error that is told to the user in one sentence, without a traceback.

    >>> raise DataError("no such folder: 'cats'. Check the path, or see `torchloupe data --help`.")
    Traceback (most recent call last):
    ...
    torchloupe.errors.DataError: no such folder: 'cats'. Check the path, or see `torchloupe data --help`.
    """

    exit_code = 1

    def __init__(self, text: str = "") -> None:
        super().__init__(in_one_line(text))


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


class ForwardError(ModelError, RuntimeError):
    """What a network's own forward or backward pass raised."""

    def __init__(self, text: str = "", shape: tuple[int, ...] | None = None, *, advised: bool = False) -> None:
        super().__init__(text)
        self.shape = shape
        """Of the pictures it was given, if it was given any."""
        self.advised = advised
        """The sentence says what to do where that is known."""


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


class RecordingWarning(UserWarning):
    """Something of a training could not be recorded; the training goes on."""


class OtherWeightsWarning(UserWarning):
    """A network does not have the weights that its run ended with."""


class SmallerBatchWarning(UserWarning):
    """Memory ran out, and work goes on with fewer images at a time."""


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
