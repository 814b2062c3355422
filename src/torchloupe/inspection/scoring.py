"""Which explanation of a network to trust: the catalog's attribution methods, measured on its own test pictures."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.data.dataset import Dataset, Split, check_one_label
from torchloupe.data.subsets import sample
from torchloupe.errors import DataError, UsageError, did_you_mean
from torchloupe.evaluation.explanations import (
    COSTLY,
    FEW,
    MEASURES,
    Cell,
    Explained,
    Explainer,
    Row,
    Table,
    score_explanations,
)
from torchloupe.features.hooks import OUTPUT
from torchloupe.inspection.catalog import ATTRIBUTIONS, Method, find_method, load_function
from torchloupe.inspection.inputs import colored, from_split
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network
from torchloupe.runtime.memory import halving
from torchloupe.runtime.progress import Progress

RULES = ("gradient", "guided", "deconvnet")
"""Backpropagation from a class's logit: its magnitude, summed over channels, is a map as well."""
USUAL = (*(row.name for row in ATTRIBUTIONS), "gradient", "guided")
"""What is measured where no methods are named."""
SETTINGS: dict[str, dict[str, Any]] = {
    "rise": {"masks": 400},
    "integrated-gradients": {"steps": 32, "tolerance": 0.0},
}
"""Where a method's own defaults would take hours: here each map takes as long as any other."""
PASSES = {
    "occlusion": 225,
    "integrated-gradients": 96,
    "smoothgrad": 72,
    "gradient-shap": 160,
    "rise": 400,
}
"""About how many images the network sees for one map, where that is many; a backward pass counts as two."""
ALIKE = 0.5
"""Correlation with the map through random weights from which it is said that much of a map is not of the weights."""


@dataclass(frozen=True)
class Scores:
    """Methods by measures, of one network on pictures of one data set."""

    model: str
    data: str
    split: str
    n: int
    seed: int
    table: Table

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain numbers; NaN is null.

        >>> Scores("net", "shapes", "test", 8, 0, Table({}, {}, {}, {}, ())).to_json()["best"] is None
        True
        """
        table = self.table
        return {
            "model": self.model,
            "data": self.data,
            "split": self.split,
            "n": self.n,
            "seed": self.seed,
            "measures": {m.name: {"better": "higher" if m.higher else "lower"} for m in MEASURES},
            "methods": {name: _row(row) for name, row in table.methods.items()},
            "controls": {name: _row(row) for name, row in table.controls.items()},
            "randomized": {name: _row(row) for name, row in table.randomized.items()},
            "settings": {name: SETTINGS[name] for name in table.methods if name in SETTINGS},
            "mean_rank": table.mean_rank,
            "ranked_by": list(table.ranked_by),
            "best": table.best,
            "leads": leads(table),
            "not_beaten": table.not_beaten(table.best) if table.best else {},
            "left_out": table.left_out,
        }


def _row(row: Row) -> dict[str, Any]:
    return {name: _cell(cell) for name, cell in row.items()}


def _cell(cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = {"value": _plain(cell.value), "interval": _ends(cell.interval), "n": cell.n}
    if cell.against is not None:
        found["against"] = {
            "control": cell.against.control,
            "difference": _plain(cell.against.difference),
            "interval": _ends(cell.against.interval),
            "beaten": cell.against.beaten,
        }
    return found


def _ends(interval: tuple[float, float]) -> list[float] | None:
    return list(interval) if all(map(math.isfinite, interval)) else None


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def leads(table: Table) -> str:
    """Say which method scores best, by what, on which measures it does not beat its controls, and what is suspect.

    >>> leads(Table({"lrp": {}}, {}, {}, {"lrp": 1.0}, ("road",)))
    'leads: lrp (mean rank 1.0 of 1 by road); where it is measured beside controls, it beats them all.'
    """
    best = table.best
    if best is None:
        return "leads: none (no measure is known of all methods)."
    lost = [f"{name} ({control})" for name, control in table.not_beaten(best).items()]
    end = (
        f"it does not beat its best control on: {', '.join(lost)}."
        if lost
        else "where it is measured beside controls, it beats them all."
    )
    alike = table.methods[best].get("randomization")
    if alike is not None and alike.value > ALIKE:
        end += (
            f" Its maps stay alike ({alike.value:.2f}) when weights are drawn anew: much of them is not the network's."
        )
    head = f"leads: {best} (mean rank {table.mean_rank[best]:.1f} of {len(table.mean_rank)}"
    return f"{head} by {', '.join(table.ranked_by)}); {end}"


def score(
    studied: Subject,
    dataset: Dataset,
    *,
    n: int = 500,
    methods: Sequence[str] | None = None,
    few: int = FEW,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Measure attribution methods of a network on `n` test pictures, drawn by `seed`, of the predicted classes.

    Methods are those of the catalog, or some of them by name. What costs much is measured on the first `few` pictures.

    Raises:
        DataError: no pictures, or pictures of several classes.
        ModelError: the network allows none of the methods.
        UsageError: an unknown method, or a network whose classes do not exclude each other.

    >>> from torchloupe.data.drawn.shapes import shapes
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    >>> found = score(Subject(net), shapes(size=8, train=10, test=10), methods=["input-x-gradient"], n=4)
    >>> found.table.best, found.table.methods["input-x-gradient"]["mass"].n
    ('input-x-gradient', 4)
    """
    model = studied.model
    if isinstance(model, Network) and model.multilabel:
        raise UsageError("scores are of networks whose classes exclude each other; this one has a sigmoid each.")
    check_one_label(dataset, "scoring explanations")
    split, word = (dataset.test, "test") if len(dataset.test) else (dataset.train, "train")
    if not len(split):
        raise DataError(f"'{dataset.name}' has no pictures. Check --data.")
    chosen = sample(len(split), n, seed)
    chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))]  # the first are any
    explainers = _explainers(methods, seed)
    shown = colored(from_split(split, chosen.tolist(), word, dataset.classes, studied.size), model).images
    masks = _masks(split, chosen, (int(shown.shape[2]), int(shown.shape[3])))
    table = halving(
        lambda: score_explanations(explainers, model, shown, masks=masks, few=few, seed=seed, progress=progress),
        "scoring",
    )
    return Scores(studied.title, dataset.name, word, len(chosen), seed, table)


def _masks(split: Split, chosen: Tensor, sides: tuple[int, int]) -> Bool[Tensor, "n h w"] | None:
    """Return where the figures are, at the size that the network sees; None where the data do not know."""
    if split.masks is None:
        return None
    masks = split.masks[chosen]
    if masks.shape[1:] == sides:
        return masks
    return F.interpolate(masks[:, None].float(), sides, mode="bilinear", antialias=True)[:, 0] >= 0.5


def _explainers(names: Sequence[str] | None, seed: int) -> list[Explainer]:
    known = [row.name for row in ATTRIBUTIONS] + list(RULES)
    found: dict[str, Explainer] = {}
    for name in names or USUAL:
        word = name.strip().replace("_", "-")
        if word not in known:
            raise UsageError(
                f"no method of attribution {name!r}{did_you_mean(word, known) or '.'} There are: {', '.join(known)}."
            )
        row = find_method(word)
        found[word] = Explainer(word, _explain(row, seed), PASSES.get(word, 4))
    return list(found.values())


def _explain(row: Method, seed: int) -> Callable[[nn.Module, Tensor, Tensor], Explained]:
    compute = load_function(row.compute)
    if row.name in RULES:

        def magnitude(model: nn.Module, images: Tensor, target: Tensor) -> Explained:
            signal = compute(model, OUTPUT, images, target=target.cpu(), randomized=False).signal
            return signal.abs().sum(1), None

        return magnitude
    settings: Mapping[str, Any] = {**SETTINGS.get(row.name, {}), **({"seed": seed} if row.seeded else {})}

    def signed(model: nn.Module, images: Tensor, target: Tensor) -> Explained:
        found = compute(model, images, target=target.cpu(), **settings)
        return found.map, found.residual

    return signed


def text(scores: Scores) -> str:
    """Write the table as a terminal shows it.

    >>> print(text(Scores("net", "shapes", "test", 8, 0, Table({}, {}, {}, {}, ()))).splitlines()[0])
    net on 8 test pictures of shapes: means ± half of the 95 % interval
    """
    table = scores.table
    every = [*table.methods.values(), *table.controls.values(), *table.randomized.values()]
    shown = [m for m in MEASURES if any(m.name in row for row in every)]
    usual = {m.name: max((row[m.name].n for row in table.methods.values() if m.name in row), default=0) for m in shown}
    lines = [["", *(f"{m.name} {'↑' if m.higher else '↓'}" for m in shown)]]
    lines.append(["", *(f"n = {usual[m.name]}" for m in shown)])
    for title, rows in (("", table.methods), ("controls", table.controls), ("random weights", table.randomized)):
        if title and rows:
            lines.append([f"- {title}"])
        for name, row in rows.items():
            few = usual if title != "random weights" else {name: cell.n for name, cell in row.items()}
            lines.append([name, *(_shown(row.get(m.name), few.get(m.name, 0)) for m in shown)])
    wide = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(shown) + 1)]
    head = f"{scores.model} on {scores.n:,} {scores.split} pictures of {scores.data}"
    drawn = [f"{head}: means ± half of the 95 % interval", ""]
    for line in lines:
        cells = [f"{cell:<{wide[i + 1]}}" for i, cell in enumerate(line[1:])]
        drawn.append("  ".join([f"{line[0]:<{wide[0]}}", *cells]).rstrip())
    return "\n".join(drawn)


def _shown(cell: Cell | None, usual: int) -> str:
    if cell is None or not math.isfinite(cell.value):
        return "–"
    half = (cell.interval[1] - cell.interval[0]) / 2
    more = f" ±{half:.2f}" if math.isfinite(half) else ""
    star = "*" if cell.against is not None and cell.against.beaten else ""
    return f"{cell.value:.2f}{more}{star}" + (f" ({cell.n})" if cell.n != usual else "")


def csv(scores: Scores) -> str:
    """Write one line a cell: kind, name, measure, value, low, high, n, control, difference, its ends, beaten.

    >>> csv(Scores("net", "shapes", "test", 8, 0, Table({}, {}, {}, {}, ()))).startswith("kind,name,measure,value")
    True
    """
    lines = ["kind,name,measure,value,low,high,n,control,difference,difference_low,difference_high,beaten"]
    table = scores.table
    for kind, rows in (("method", table.methods), ("control", table.controls), ("randomized", table.randomized)):
        for name, row in rows.items():
            for measure, cell in row.items():
                parts: list[Any] = [kind, name, measure, cell.value, *cell.interval, cell.n]
                one = cell.against
                parts += [""] * 5 if one is None else [one.control, one.difference, *one.interval, int(one.beaten)]
                lines.append(",".join(map(str, parts)))
    return "\n".join(lines) + "\n"


def written(scores: Scores, suffix: str) -> bytes:
    """Return what a file of such a suffix holds: `.json`, `.csv`, or `.txt` for the table.

    Raises:
        UsageError: another suffix.

    >>> written(Scores("net", "shapes", "test", 8, 0, Table({}, {}, {}, {}, ())), ".json")[:16]
    b'{"model": "net",'
    """
    if suffix == ".json":
        return (json.dumps(scores.to_json(), allow_nan=False) + "\n").encode()
    if suffix == ".csv":
        return csv(scores).encode()
    if suffix == ".txt":
        return f"{text(scores)}\n{leads(scores.table)}\n".encode()
    raise UsageError(f"--out is a .json, .csv or .txt file, not {suffix or 'a name without a suffix'!r}.")


def costly(names: Sequence[str]) -> list[str]:
    """Return those of some methods that are measured on few pictures.

    >>> costly(["rise", "lrp"])
    ['rise']
    """
    return [name for name in names if PASSES.get(name, 0) >= COSTLY]
