"""What a report shows of a network: which layers, which units, how much of each, and what that costs beforehand."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.errors import LoupeError
from torchloupe.evaluation.ablation import RECTIFIER_MODULES
from torchloupe.evaluation.channels import ChannelHealth
from torchloupe.features.cascade import weighted_layers
from torchloupe.features.hooks import OUTPUT, activations, frozen_eval
from torchloupe.features.trace import PASSING, Call, at_once, blocks_of, placed, resolve, trace
from torchloupe.inspection.subject import CALIBRATION

LAYERS = 12
"""Layers of a report where none are named, at most."""
BATCH = 16
"""Pictures on which a pass is timed."""
CASCADED = 24
"""Layers with weights of a network whose randomization layer by layer is shown, at most."""
NETWORKS = 8
"""Networks whose signals are compared: the trained ones, random and shuffled ones."""
PROBED = 3
"""Networks whose layers are probed: the trained one, a random and a permuted one."""
PROBING = 1.5
"""Seconds that the probes of a layer take beside the passes, where they are fitted to 1,000 images."""
FIXED = 0.5
"""Seconds of a layer's own work that no number of pictures changes: receptive fields, files, drawing."""


@dataclass(frozen=True)
class Amount:
    """How much of everything a report has."""

    units: int | None = 32
    """Units of a layer at most; None: all."""
    copies: int = 3
    """Feature visualizations of a unit, from different noise."""
    steps: int = 64
    samples: int = 8
    """Pictures that every layer is shown by."""
    inversion_steps: int = 80
    examples: int = 9
    """Maximally activating images of the data set for a unit."""
    traced: int = 3
    """Of those, so many are backpropagated to the image."""
    images: int = 10_000
    """Test pictures looked through at most."""
    ablated: int = 1000
    """Pictures on which a unit is ablated, but for the last block."""
    mean_ablated: bool = True
    """Units of every layer are replaced by their mean as well; else only the last block's."""
    learned: int = 8
    """Units whose picture is shown as it was while the network learned."""
    controlled: int = 16
    """Pictures on which signals of trained and random networks are compared."""
    probed: int = 1000
    """Train pictures to which linear probes are fitted."""


SPARING = (
    Amount(units=20, copies=2, steps=48, inversion_steps=64),
    Amount(12, 2, 40, 6, 48, images=5000, ablated=500, learned=6, controlled=12, probed=500),
    Amount(8, 2, 32, 4, 32, examples=6, images=2000, ablated=300, learned=4, controlled=8, probed=400),
    Amount(4, 1, 24, 3, 20, examples=6, traced=2, images=1000, ablated=200, learned=4, controlled=6, probed=250),
)
TIERS = (Amount(), *(replace(each, mean_ablated=False) for each in SPARING))
"""From whole to sparing: the first whose estimate fits the budget is taken."""


@dataclass(frozen=True)
class Plan:
    """What a report will show, and how long that should take."""

    layers: tuple[str, ...]
    amount: Amount
    seconds: float
    omitted: tuple[str, ...]
    """Sentences: what is left out, and why."""


def layers_of(
    model: nn.Module, image: Float[Tensor, "b c h w"], most: int = LAYERS
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the layers worth a look, in the order in which they run, and sentences on what is left out.

    The first convolution, every block (or, of a network without blocks, every rectifier, or convolution), and the
    output.

    >>> from torchloupe.models import build
    >>> layers_of(build("loupe"), torch.rand(1, 3, 32, 32))[0]
    ('conv1', 'layer1.0', 'layer2.0', 'layer2.1', 'layer3.0', 'layer3.1', 'output')
    """
    calls = trace(model, image)
    names = [call.name for call in _candidates(model, calls)]
    ends = []
    for word in ("first", "last"):
        try:
            ends.append(resolve(model, word, image))
        except LoupeError:
            continue
    order = {call.name: i for i, call in enumerate(calls)}
    found = sorted({*names, *ends}, key=lambda name: order[name])
    omitted = []
    if len(found) > most - 1:
        inner = [name for name in found if name not in ends]
        room = most - 1 - len(ends)
        chosen = {inner[i * len(inner) // room] for i in range(room)} | set(ends)
        omitted.append(
            f"{len(found) - len(chosen)} of {len(found)} layers are left out, evenly; name those you want by --layers."
        )
        found = [name for name in found if name in chosen]
    return (*found, OUTPUT), tuple(omitted)


def _candidates(model: nn.Module, calls: Sequence[Call]) -> list[Call]:
    shown = [c for c in calls if c.is_map and c.sides != (1, 1) and not isinstance(c.module, PASSING)]
    blocks = blocks_of(model, shown)
    if len(blocks) >= 2:
        return blocks
    rectified = [c for c in shown if isinstance(c.module, RECTIFIER_MODULES)]
    return rectified or [c for c in shown if isinstance(c.module, nn.Conv2d)]


def units_of(count: int, most: int | None, known: ChannelHealth | None) -> tuple[tuple[int, ...], str]:
    """Return the units of a layer with `count` channels that a report shows, and what it says of the others.

    The live ones with the largest correlation ratios; without data, evenly taken.

    >>> units_of(64, 3, None)
    ((0, 21, 42), '61 of 64 units are not shown; those shown are evenly taken.')
    """
    if most is None or count <= most:
        return tuple(range(count)), ""
    rest = f"{count - most} of {count} units are not shown"
    if known is None or len(known.best) != count or not bool(known.selectivity.isfinite().all()):
        return tuple(i * count // most for i in range(most)), f"{rest}; those shown are evenly taken."
    worth = torch.where(known.dead, -1, known.selectivity)
    chosen = worth.argsort(descending=True, stable=True)[:most].sort().values
    return tuple(chosen.tolist()), f"{rest}; those shown have the largest correlation ratios."


def timed(
    model: nn.Module, layers: Sequence[str], image: Float[Tensor, "1 c h w"], batch: int = BATCH
) -> dict[str, float]:
    """Measure the seconds that one picture takes forwards to each layer and back.

    >>> timed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), ["1"], torch.rand(1, 3, 8, 8))["1"] > 0
    True
    """
    found = {}
    with frozen_eval(model):
        for layer in layers:
            n = min(batch, at_once(model, layer, image))
            x = placed(model, image[:1]).repeat(n, 1, 1, 1).requires_grad_()
            seconds = []
            for _ in range(2):
                began = time.perf_counter()
                with suppress(Exception):  # no gradient passes: what the report will say of it
                    torch.autograd.grad(activations(model, layer, x).sum(), x)
                seconds.append(time.perf_counter() - began)
            found[layer] = min(seconds) / n
    return found


def cost(
    layers: Sequence[str],
    channels: Mapping[str, int],
    each: Mapping[str, float],
    amount: Amount,
    images: int,
    snapshots: int,
    weighted: int = 0,
) -> float:
    """Estimate the seconds of a report: pictures through the network, counted, over what one takes, measured.

    `pictures`: test pictures at hand. `snapshots`: states of the network on its way. `weighted`: layers with weights.

    >>> cost(["output"], {"output": 10}, {"output": 0.001}, Amount(), 0, 0) > 0
    True
    """
    whole = each[layers[-1]]
    count = min(images, amount.images)
    forward = 1 / 3  # of forwards and back
    total = FIXED * (1 + len(layers)) + 3 * count * forward * whole  # what channels do; the test, and mirrored
    for layer in layers:
        units = channels[layer] if amount.units is None else min(amount.units, channels[layer])
        walks = 3 * (2 * amount.samples + NETWORKS * amount.controlled) + units * amount.traced
        inversions = 2 * amount.samples * amount.inversion_steps
        climbs = units * amount.copies * amount.steps
        total += (climbs + inversions + walks + count * forward) * each[layer]
        if count and layer != OUTPUT:
            passes = units * min(amount.ablated, count) * (2 if amount.mean_ablated else 1)
            total += passes * forward * max(whole - each[layer], 0.05 * whole)
    if count:
        probed = len(layers) * PROBING * (amount.probed / 1000) ** 2
        total += PROBED * (probed + 1.75 * amount.probed * forward * sum(each[layer] for layer in layers))
    if weighted <= CASCADED:
        total += weighted * (3 * amount.samples + CALIBRATION * forward) * whole
    total += snapshots * (amount.learned * amount.steps + min(1000, count) * forward) * whole
    return total


def plan(
    model: nn.Module,
    image: Float[Tensor, "1 c h w"],
    *,
    layers: Sequence[str] | None = None,
    units: int | str | None = None,
    budget: float | None = None,
    images: int = 0,
    snapshots: int = 0,
) -> Plan:
    """Decide what a report shows within a budget in seconds (None: whatever it takes).

    `units`: a number, "all", or None for what the budget allows.

    Raises:
        LayerError: a layer that there is not, or one that puts out neither maps nor a vector.

    >>> from torchloupe.models import build
    >>> plan(build("loupe"), torch.rand(1, 3, 32, 32), units=4, layers=["layer2.1"]).layers
    ('layer2.1', 'output')
    """
    omitted: tuple[str, ...] = ()
    if layers:
        order = {call.name: i for i, call in enumerate(trace(model, placed(model, image[:1])))}
        named = {resolve(model, layer, image) for layer in layers} - {OUTPUT}
        chosen = (*sorted(named, key=lambda name: order.get(name, -1)), OUTPUT)
    else:
        chosen, omitted = layers_of(model, image)
    with frozen_eval(model), torch.no_grad():
        channels = {layer: int(activations(model, layer, placed(model, image[:1])).shape[1]) for layer in chosen}
    each = timed(model, chosen, image)
    weighted = len(weighted_layers(model, placed(model, image[:1])))
    seconds, amount = 0.0, TIERS[0]
    for tier in TIERS:
        amount = tier if units is None else replace(tier, units=None if units == "all" else int(units))
        seconds = cost(chosen, channels, each, amount, images, snapshots, weighted)
        if budget is None or seconds <= budget:
            break
    notes = list(omitted)
    if amount.steps < TIERS[0].steps:
        notes.append(
            f"To fit the time, pictures are made with {amount.steps} steps instead of {TIERS[0].steps}, "
            f"{amount.copies} a unit, {amount.examples} maximally activating pictures are shown of {amount.images:,} "
            f"test pictures at most, and units are ablated on {amount.ablated:,} (the last block's on all of those); "
            "a larger --budget gives more."
        )
    return Plan(tuple(chosen), amount, seconds, tuple(notes))


def sentences(amount: Amount, samples: int, has_data: bool) -> list[tuple[str, str]]:
    """Return for each kind of picture and number how it was made.

    >>> sentences(Amount(), 8, True)[0][0]
    'Sample pictures'
    """
    of = "test pictures drawn by seed" if has_data else "the free pictures that come with torchloupe"
    among = f"up to {amount.images:,} test pictures" if has_data else "the sample pictures only: no data were at hand"
    return [
        ("Sample pictures", f"{samples} {of}, unless others were named."),
        (
            "Activation",
            "A channel's spatial mean of the layer's output as it stands; of the output, the class's logit.",
        ),
        (
            "Feature visualization",
            f"A picture that activates a unit most, from noise with the spectrum and colours of the data, by "
            f"{amount.steps} steps of Adam on Fourier coefficients with decorrelated colours (Olah et al. 2017), "
            f"shifted, turned and scaled a little at every step; {amount.copies} from different noise. ×: activation "
            "over that of the strongest test picture.",
        ),
        (
            "Maximally activating pictures",
            f"Those with the strongest position of the unit's map, among {among}; dimmed: what that position "
            "cannot see, by the exact receptive field (Zeiler & Fergus 2014).",
        ),
        (
            "Deconvnet, guided, gradient",
            "Backpropagated from one position (units) or from the strongest tenth of every map (layers). Deconvnet "
            "rectifies the signal at every ReLU (Zeiler & Fergus 2014); guided backpropagation also where the input "
            "was not positive (Springenberg et al. 2015); gradient: the plain derivative.",
        ),
        (
            "Inversion",
            f"The least ‖Φ(x) − Φ₀‖² / ‖Φ₀‖² plus total variation, from grey, {amount.inversion_steps} passes of "
            "L-BFGS (Mahendran & Vedaldi 2015). PSNR to the original.",
        ),
        (
            "Zero-ablation",
            "Accuracy when the channel is set to zero everywhere, behind its block's rectifier (the module named with "
            "the layer), less accuracy with all channels, on as many pictures of each class; their number is given "
            "with it. ±: paired standard error, of the pictures that change sides. No measurable effect: not found by "
            "McNemar's exact test at a false discovery rate of 5 % among the units of the layer (Benjamini & Hochberg "
            f"1995). Mean-ablation, {'of every layer' if amount.mean_ablated else 'of the last block'}: the same with "
            "the mean of its map over these pictures in its place (Morcos et al. 2018), tested apart.",
        ),
        (
            "Correlation ratio",
            "η², the share of a unit's variance over pictures that lies between classes, 0 to 1; ω²: without what "
            "chance gives (Hays 1963).",
        ),
        (
            "AUC",
            "The chance that a picture of the class activates the unit more than one of another class; 0.5 says "
            "nothing. Of the class it tells best, with an interval that holds for all classes at once by 95 % "
            "(Bonferroni; the variance of Hanley & McNeil 1982, solved for its ends as Wilson does).",
        ),
        (
            "Class selectivity index",
            "(µmax − µ−max) / (µmax + µ−max) of a unit's mean activations by class, behind a rectifier (Morcos et al. "
            "2018).",
        ),
        (
            "Calibration",
            "Over up to 15 bins of as many pictures each (Guo et al. 2017; Nixon et al. 2019). By chance: the error of "
            "a perfectly calibrated network with the same confidences. One temperature is fitted on a random half "
            "of the test pictures and used for the other half, both ways.",
        ),
        (
            "Parameter-randomization control",
            "The same network with weights drawn anew by seed, as before training (its own initializer where it has "
            "one), and BatchNorm statistics measured with them; beside it networks of the trained weights, shuffled "
            "within each tensor (Adebayo et al. 2018).",
        ),
    ]
