"""Which tensor of a file is which of a network: prefixes are chosen by what fits best."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PREFIXES = ("module.", "model.", "net.", "_orig_mod.")
"""What DataParallel, Lightning and `torch.compile` put before every name; they also come combined."""
COUNTER = "num_batches_tracked"
"""BatchNorm's count of batches, which old files lack and nothing needs."""

Form = tuple[tuple[int, ...], bool]
"""Shape, and whether it is floating-point."""


@dataclass(frozen=True)
class Match:
    """How names were matched: `prefix` taken off the file's, `added` put on."""

    prefix: str
    added: str
    matched: dict[str, str]
    """Name in the network -> name in the file, of the same shape."""
    mismatched: dict[str, str]
    """The same, of another shape or kind."""
    missing: tuple[str, ...]
    """In the network only."""
    unexpected: tuple[str, ...]
    """In the file only."""


def match(found: Mapping[str, Form], wanted: Mapping[str, Form]) -> Match:
    """Return the matching with most names of the right shape; with the shortest prefixes among equals.

    >>> form = ((2, 3), True)
    >>> best = match({"model.module.w": form, "loss": form}, {"w": form, "b": form})
    >>> best.prefix, best.matched, best.missing, best.unexpected
    ('model.module.', {'w': 'model.module.w'}, ('b',), ('loss',))
    """
    matches = [_with(prefix, added, found, wanted) for prefix in prefixes_of(found) for added in prefixes_of(wanted)]
    return max(matches, key=lambda m: (len(m.matched), len(m.mismatched), -len(m.prefix + m.added)))


def prefixes_of(names: Iterable[str]) -> list[str]:
    """Return every combination of `PREFIXES` with which some name begins; "" first.

    >>> prefixes_of(["module._orig_mod.fc.weight", "loss.weight"])
    ['', 'module.', 'module._orig_mod.']
    """
    combinations = [""]
    for known in combinations:  # grows while it is walked through
        longer = (known + prefix for prefix in PREFIXES)
        combinations += [prefix for prefix in longer if any(name.startswith(prefix) for name in names)]
    return combinations


def _with(prefix: str, added: str, found: Mapping[str, Form], wanted: Mapping[str, Form]) -> Match:
    renamed = {added + name[len(prefix) :]: name for name in found if name.startswith(prefix)}
    both = {name: source for name, source in renamed.items() if name in wanted}
    matched = {name: source for name, source in both.items() if _fits(name, found[source], wanted[name])}
    return Match(
        prefix,
        added,
        matched,
        {name: source for name, source in both.items() if name not in matched},
        tuple(name for name in wanted if name not in both),
        tuple(name for name in found if name not in set(both.values())),
    )


def _fits(name: str, found: Form, wanted: Form) -> bool:
    return found[0] == wanted[0] and (found[1] == wanted[1] or name.endswith(COUNTER))
