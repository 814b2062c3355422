"""Which explanation to trust: methods by measures, beside controls that each could lose to.

What a method gives for images is measured image by image; a cell is the mean with its interval, and beside it stands
the difference, on the same images, to the control that does best there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from torchloupe.attribution.maps import class_logits
from torchloupe.attribution.rank_correlation import mean_of, ranks
from torchloupe.attribution.scoring.controls import center, sobel, uniform
from torchloupe.attribution.scoring.curves import STEPS, deletion, insertion
from torchloupe.attribution.scoring.localization import pixel_auc, pointing_game, relevance_mass
from torchloupe.attribution.scoring.order import Answer
from torchloupe.attribution.scoring.road import SHARES, road
from torchloupe.attribution.scoring.sanity import DEPTHS, cascade_maps, likeness
from torchloupe.attribution.scoring.stability import shift_stability
from torchloupe.errors import ModelError, UsageError
from torchloupe.evaluation.intervals import paired_interval, wilson
from torchloupe.features.hooks import frozen_eval
from torchloupe.features.trace import placed
from torchloupe.models.layout import laid_out
from torchloupe.runtime.progress import Progress


@dataclass(frozen=True)
class Measure:
    """What is measured of a map."""

    name: str
    higher: bool
    """Higher is better."""
    low: float
    high: float
    """Its range."""
    ranked: bool = True
    """It counts for which method leads; the others are conditions, not merits."""


MEASURES = (
    Measure("insertion", True, 0, 1),
    Measure("deletion", False, 0, 1),
    Measure("road", True, -1, 1),
    Measure("mass", True, 0, 1),
    Measure("pointing", True, 0, 1),
    Measure("auc", True, 0, 1),
    Measure("randomization", False, -1, 1, ranked=False),
    Measure("stability", True, -1, 1, ranked=False),
    Measure("completeness", False, 0, math.inf, ranked=False),
)
"""In the order of the table."""
OF_MASKS = ("mass", "pointing", "auc")
SHIFT = ((2, 1),)
"""How far the picture is shifted, down and to the right."""
FEW = 64
"""Images of what costs much: randomization, stability, and all of a costly method."""
COSTLY = 150
"""Passes an image from which a method is."""

Explained = tuple[Float[Tensor, "b h w"], Float[Tensor, "b"] | None]
"""A map an image, and of methods that should sum up the share of the logit that it misses."""
Values = dict[str, Tensor]
"""By measure: one number for each of the first images, as many as it was measured on."""


@dataclass(frozen=True)
class Explainer:
    """A way of explaining: a network, images `[b, c, h, w]` and a class of each `[b]` -> maps."""

    name: str
    explain: Callable[[nn.Module, Tensor, Tensor], Explained]
    passes: int = 4
    """About how many images the network sees for one map: how long it takes, and on how many images it is measured."""
    of_weights: bool = True
    """It asks the network; the same through random weights is a control of it."""


def controls() -> tuple[Explainer, ...]:
    """Return the maps that no network made: a constant one, a blob in the middle, and edges.

    >>> [each.name for each in controls()]
    ['uniform', 'center', 'sobel']
    """

    def of(make: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor, Tensor], Explained]:
        return lambda model, images, target: (make(images), None)

    makers = (uniform, center, sobel)
    return tuple(Explainer(make.__name__, of(make), passes=0, of_weights=False) for make in makers)


@dataclass(frozen=True)
class Against:
    """A method beside the control that does best on the same images."""

    control: str
    difference: float
    """The method's less the control's."""
    interval: tuple[float, float]
    """95 %, of paired images."""
    beaten: bool
    """The interval lies on the better side of 0."""


@dataclass(frozen=True)
class Cell:
    """The mean of a measure over images."""

    value: float
    interval: tuple[float, float]
    """95 %; NaN where there is too little for one."""
    n: int
    """Images that it is known of."""
    against: Against | None = None


Row = dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """Methods by measures, and the same for controls."""

    methods: dict[str, Row]
    controls: dict[str, Row]
    randomized: dict[str, Row]
    """Each method through random weights."""
    mean_rank: dict[str, float]
    """Of each method over the measures that all have and that count, 1 the best."""
    ranked_by: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    """Methods and measures that this network has not, and why."""

    @property
    def best(self) -> str | None:
        """The method of the lowest mean rank; None where there is none.

        >>> Table({}, {}, {}, {"a": 2.0, "b": 1.0}, ()).best
        'b'
        """
        return min(self.mean_rank, key=lambda name: self.mean_rank[name], default=None)

    def not_beaten(self, method: str) -> dict[str, str]:
        """Return the measures on which a method does not beat its best control, with the control.

        >>> Table({}, {}, {}, {}, ()).not_beaten("a")
        {}
        """
        row = self.methods.get(method, {})
        return {name: c.against.control for name, c in row.items() if c.against is not None and not c.against.beaten}


def score_explanations(
    explainers: Sequence[Explainer],
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    *,
    masks: Bool[Tensor, "n h w"] | None = None,
    target: Int64[Tensor, "n"] | None = None,
    few: int = FEW,
    seed: int = 0,
    progress: Progress | None = None,
) -> Table:
    """Measure explanations of a network, and controls, on the same images; `target`: by default the predicted classes.

    What costs much is measured on the first `few` images. A method that this network does not allow is left out, and
    the table says why. `masks`: where the figures are, for the measures of place.

    Raises:
        ModelError: the network allows none of the methods.
        UsageError: no images, or no methods.

    >>> from torchloupe.attribution.scoring.controls import sobel
    >>> net, images = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(4, 3, 4, 4)
    >>> table = score_explanations([Explainer("edges", lambda m, x, t: (sobel(x), None))], net, images)
    >>> table.best, table.methods["edges"]["deletion"].n
    ('edges', 4)
    """
    if not len(images) or not explainers:
        raise UsageError("there is nothing to score: give one picture and one method at least.")
    images = placed(model, images)
    masks = None if masks is None else masks.cpu()
    with frozen_eval(model):
        answer = answers(model)
        aims = _predicted(answer, images) if target is None else target.to(images.device)
    left_out: dict[str, str] = {}
    if masks is None:
        left_out["mass, pointing, auc"] = "the data know no masks of their figures"
    found: dict[str, tuple[Values, Values]] = {}
    every = [*controls(), *explainers]
    work = [_work(each, len(images), few) for each in every]
    for i, each in enumerate(every):
        spent = sum(work[:i])

        def spend(passes: int, end: int = spent + work[i]) -> None:
            nonlocal spent
            spent = min(spent + passes, end)
            if progress is not None:
                progress(spent, sum(work))

        try:
            found[each.name] = _measured(
                each, model, images, aims, masks, few=few, seed=seed, spend=spend, left_out=left_out
            )
        except ModelError as error:
            left_out[each.name] = str(error)
        spend(work[i])
    fixed = {each.name: found[each.name][0] for each in controls() if each.name in found}
    mine = {each.name: found[each.name] for each in explainers if each.name in found}
    if not mine:
        raise ModelError(f"the network allows none of the methods: {next(iter(left_out.values()))}")
    return tabulate(
        {name: values for name, (values, _) in mine.items()},
        fixed,
        {name: twin for name, (_, twin) in mine.items() if twin},
        left_out,
    )


def answers(model: nn.Module) -> Answer:
    """Return what a network answers, images in [0, 1] to logits. To be called inside `frozen_eval`.

    >>> with frozen_eval(nn.Flatten()) as net:
    ...     answers(net)(torch.rand(2, 1, 1, 4)).shape
    torch.Size([2, 4])
    """
    return lambda images: class_logits(model, laid_out(model, images))


def _predicted(answer: Answer, images: Tensor, size: int = 256) -> Int64[Tensor, "n"]:
    with torch.no_grad():
        return torch.cat([answer(images[start : start + size]).argmax(1) for start in range(0, len(images), size)])


PASSES = 2 * (STEPS + 1) + 2 * len(SHARES)
"""Images that the network sees for insertion, deletion and ROAD of one map."""


def _counts(explainer: Explainer, n: int, few: int) -> tuple[int, int]:
    """Return on how many images a method is measured, and on how many what costs much."""
    return (n if explainer.passes < COSTLY else min(n, few)), min(n, few)


def _work(explainer: Explainer, n: int, few: int) -> int:
    """Return how many images the network will see, about."""
    many, fewer = _counts(explainer, n, few)
    again = explainer.passes * (len(SHIFT) + DEPTHS) + (PASSES if explainer.of_weights else 0)
    return many * (PASSES + explainer.passes) + fewer * again


def _measured(
    explainer: Explainer,
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    masks: Tensor | None,
    *,
    few: int,
    seed: int,
    spend: Callable[[int], None],
    left_out: dict[str, str],
) -> tuple[Values, Values]:
    """Measure a method on the first images, and its maps through random weights on some of them."""
    many, fewer = _counts(explainer, len(images), few)
    some = slice(0, fewer)
    values: dict[str, list[Tensor]] = {}
    shown: list[Tensor] = []
    for number, start in enumerate(range(0, many, few)):
        part = slice(start, min(start + few, many))
        maps, residual = _explained(explainer, model, images[part], target[part], spend)
        found = _of_maps(model, images[part], maps, target[part], masks, part, seed + number)
        if residual is not None:
            found["completeness"] = residual.abs().cpu().double()
        for name, each in found.items():
            values.setdefault(name, []).append(each)
        shown += [maps] if not start else []
        spend(len(maps) * PASSES)
    told, first = {name: torch.cat(each) for name, each in values.items()}, shown[0].cpu()

    def again(network: nn.Module, pictures: Tensor) -> Tensor:
        return _explained(explainer, network, pictures, target[some], spend)[0].cpu()  # some devices have no float64

    told["stability"] = shift_stability(
        lambda shifted: again(model, shifted), images[some], first, shifts=_shift(images)
    )
    if not explainer.of_weights:
        told["randomization"] = likeness(first, first)
        return told, {}
    randomized: list[Tensor] = []
    try:
        cascaded = cascade_maps(lambda other: again(other, images[some]), model, images[some], trained=False, seed=seed)
        randomized += [maps for _, maps in cascaded]
    except ModelError as error:
        left_out[f"randomization of {explainer.name}"] = str(error)
    if not randomized:  # a network without weights, or with some that no one can draw anew
        return told, {}
    told["randomization"] = torch.stack([likeness(first, maps) for maps in randomized]).nanmean(0)
    return told, _of_maps(model, images[some], randomized[-1].to(images), target[some], masks, some, seed)


AT_ONCE = 2048
"""Images that the network sees between two words of how far it is."""


def _explained(
    explainer: Explainer, model: nn.Module, images: Tensor, target: Tensor, spend: Callable[[int], None]
) -> Explained:
    """Explain a number of images at a time."""
    size = max(8, AT_ONCE // max(1, explainer.passes))
    parts: list[Explained] = []
    for start in range(0, len(images), size):
        parts.append(explainer.explain(model, images[start : start + size], target[start : start + size]))
        spend(len(parts[-1][0]) * explainer.passes)
    known = [residual for _, residual in parts if residual is not None]
    maps = torch.cat([maps for maps, _ in parts]).detach().to(images)
    return maps, torch.cat(known) if len(known) == len(parts) else None


def _shift(images: Tensor) -> tuple[tuple[int, int], ...]:
    """Return how far pictures are shifted: less, where they are tiny."""
    height, width = images.shape[2:]
    return tuple((min(dy, height - 1), min(dx, width - 1)) for dy, dx in SHIFT)


def _of_maps(
    model: nn.Module, images: Tensor, maps: Tensor, target: Tensor, masks: Tensor | None, part: slice, seed: int
) -> Values:
    """Return what is measured of maps alone."""
    with frozen_eval(model):
        answer = answers(model)
        found = {
            "insertion": insertion(answer, images, maps, target, seed=seed),
            "deletion": deletion(answer, images, maps, target, seed=seed),
            "road": road(answer, images, maps, target, seed=seed),
        }
    if masks is not None:
        where, plain = masks[part], maps.cpu()
        found |= {
            "mass": relevance_mass(plain, where),
            "pointing": pointing_game(plain, where),
            "auc": pixel_auc(plain, where),
        }
    return {name: each.cpu().double() for name, each in found.items()}


def tabulate(
    methods: Mapping[str, Values],
    controls: Mapping[str, Values],
    randomized: Mapping[str, Values] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> Table:
    """Turn numbers of each image into means, intervals, differences to the best control, and ranks.

    Each measure's numbers are of the first images, in the same order for all; NaN is not known. `randomized`: a control
    that only the method of the same name has.

    >>> values = {"road": torch.tensor([0.3, 0.5, 0.4])}
    >>> table = tabulate({"a": values}, {"uniform": {"road": torch.zeros(3)}})
    >>> table.methods["a"]["road"].against.control, table.not_beaten("a"), table.best
    ('uniform', {}, 'a')
    """
    twins = randomized or {}
    rows: dict[str, Row] = {}
    for name, values in methods.items():
        own = {**controls, **({"random weights": twins[name]} if name in twins else {})}
        rows[name] = {
            measure.name: _cell(
                values[measure.name],
                measure,
                {key: each[measure.name] for key, each in own.items() if measure.name in each},
            )
            for measure in MEASURES
            if measure.name in values
        }
    plain = [
        {
            name: {m.name: _cell(values[m.name], m, {}) for m in MEASURES if m.name in values}
            for name, values in each.items()
        }
        for each in (controls, twins)
    ]
    by = tuple(
        m.name for m in MEASURES if m.ranked and rows and all(r.get(m.name) and r[m.name].n for r in rows.values())
    )
    return Table(rows, plain[0], plain[1], _mean_ranks(rows, by), by, dict(left_out or {}))


def _mean_ranks(rows: Mapping[str, Row], by: Sequence[str]) -> dict[str, float]:
    if not by:
        return {}
    better = {m.name: 1 if m.higher else -1 for m in MEASURES}
    values = torch.tensor([[-better[name] * row[name].value for row in rows.values()] for name in by])
    return dict(zip(rows, ranks(values).mean(0).tolist(), strict=True))


def _cell(values: Tensor, measure: Measure, others: Mapping[str, Tensor]) -> Cell:
    value, interval, n = _mean(values, measure.low, measure.high)
    return Cell(value, interval, n, _against(values, measure, others))


def _against(values: Tensor, measure: Measure, others: Mapping[str, Tensor]) -> Against | None:
    """Compare with the control that is best on those images that both know."""
    sign, pairs = 1 if measure.higher else -1, {}
    for name, other in others.items():
        m = min(len(values), len(other))
        one, two = values[:m].double(), other[:m].double()
        known = one.isfinite() & two.isfinite()
        if int(known.sum()) > 1:
            pairs[name] = (one[known] - two[known], two[known])
    if not pairs:
        return None
    best = min(pairs, key=lambda name: (sign * pairs[name][0]).mean().item())
    difference, other = pairs[best]
    value, (low, high), _ = _mean(difference, -math.inf, math.inf, other + difference)
    return Against(best, value, (low, high), low > 0 if measure.higher else high < 0)


def _mean(
    values: Tensor, low: float, high: float, whole: Tensor | None = None
) -> tuple[float, tuple[float, float], int]:
    """Return mean, 95 % interval and number of known values; hits and misses by Wilson and by Bonett & Price.

    `whole`: of a difference, what it is of.
    """
    known = values.double()[values.isfinite()]
    n = len(known)
    binary = n > 0 and bool(((known == 0) | (known.abs() == 1)).all())
    if binary and whole is not None and bool(((whole == 0) | (whole == 1)).all()):
        return known.mean().item(), paired_interval(int((known > 0).sum()), int((known < 0).sum()), n), n
    if binary and whole is None and low == 0 and high == 1:
        return known.mean().item(), wilson(int(known.sum()), n), n
    found = mean_of(known, low, high)
    return found.mean, (found.low, found.high), n
