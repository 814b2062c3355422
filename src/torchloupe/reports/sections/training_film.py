"""How a network learned, from the snapshots of its run: filters, units' pictures, and mistakes it stopped making."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from torchloupe.checkpoints.file import load_model
from torchloupe.data.subsets import stratified
from torchloupe.errors import LoupeError
from torchloupe.evaluation.accuracy import labels_of, predict
from torchloupe.features.hooks import OUTPUT, activations, frozen_eval
from torchloupe.features.trace import example, resolve
from torchloupe.figures.colors import stretched
from torchloupe.inspection.catalog import find_method, load_function
from torchloupe.models.network import Network
from torchloupe.reports.contents import Mended, Moment, Strip, TrainingFilm
from torchloupe.reports.html.sprites import animation, grid, reduced, sprite
from torchloupe.reports.making import Making
from torchloupe.reports.plan import units_of
from torchloupe.runs.metrics import read_metrics
from torchloupe.runtime.environment import __version__

SNAPSHOTS = 9
FILTERS = 32
PROBE = 1000
MENDED = 6
"""Pictures shown for each stretch between two snapshots, at most."""
GREY = 128
OF_DATA = ("right", "said", "index", "label")
"""What says how the snapshots answered test images; the rest is of the weights, whatever data are given."""


def snapshots(run: Path | None, most: int = SNAPSHOTS) -> list[tuple[float, Path]]:
    """Return epoch and file of a run's snapshots and of its end, evenly thinned to `most`; first and last are kept.

    >>> snapshots(None)
    []
    """
    if run is None:
        return []
    found = []
    for path in (run / "snapshots").glob("epoch-*.safetensors"):
        try:
            found.append((float(path.stem.removeprefix("epoch-")), path))
        except ValueError:
            continue
    found.sort()
    epochs = read_metrics(run, "epoch")
    final = run / "model.safetensors"
    if epochs and final.is_file() and (not found or epochs[-1]["epoch"] > found[-1][0] + 1e-9):
        found.append((float(epochs[-1]["epoch"]), final))
    if len(found) > most:
        found = [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]
    return found


def training_film(making: Making) -> TrainingFilm | None:
    """Return how the network learned; None where no snapshots are at hand and none were kept."""
    studied = making.studied
    states = snapshots(studied.origin.run if studied.origin else None)
    blocks = [layer for layer in making.plan.layers if layer != OUTPUT]
    layer = blocks[-1] if blocks else OUTPUT
    amount = making.plan.amount
    about = {
        "epochs": [epoch for epoch, _ in states],
        "layer": layer,
        "seed": making.seed,
        "steps": amount.steps,
        "learned": amount.learned,
        "probe": min(PROBE, amount.images),
    }
    made = making.attempt(
        "how it learned",
        layer,
        lambda: studied.once("learned", about, lambda: _at_snapshots(making, states, layer), of_data=OF_DATA),
    )
    if made is None or len(made[0]["epoch"]) < 2:
        return None
    return _film(making, *made)


def _at_snapshots(making: Making, states: list[tuple[float, Path]], layer: str) -> dict[str, Tensor] | None:
    """Measure every snapshot."""
    if len(states) < 2:
        return None
    studied, amount = making.studied, making.plan.amount
    fits = _takes_its_data(making)
    known = (studied.health([layer], most=amount.images) or {}).get(layer) if fits else None
    count = _channels(studied.model, layer) if known is None else len(known.best)
    units = list(units_of(count, amount.learned, known)[0])
    statistics, _ = studied.statistics()
    maximize = load_function(find_method("maximize").compute)
    chosen, labels = _probe(making) if fits else (torch.empty(0, dtype=torch.int64),) * 2
    split = studied.split()
    rows: dict[str, list[Tensor]] = {"filters": [], "pictures": [], "right": [], "said": []}
    for _, path in states:
        network, _ = load_model(path, studied.origin.maker if studied.origin else None)
        weight = _filters(network)
        if weight is not None:
            rows["filters"].append(weight[:FILTERS])
        if units:
            made = maximize(
                network,
                layer,
                channels=units,
                copies=1,
                steps=amount.steps,
                canvas=making.canvas,
                shifts=False,
                seed=making.seed,
                statistics=statistics,
            )
            rows["pictures"].append((made.pictures * 255).round().to(torch.uint8))
        if split is not None and len(chosen):
            predicted = predict(network, split.images[chosen], size=studied.size).argmax(1)
            rows["right"].append((predicted == labels).to(torch.uint8))
            rows["said"].append(predicted)
        making.step(0.5)
    tensors = {name: torch.stack(parts) for name, parts in rows.items() if len(parts) == len(states)}
    tensors["epoch"] = torch.tensor([epoch for epoch, _ in states], dtype=torch.float64)
    return {**tensors, "unit": torch.tensor(units, dtype=torch.int64), "index": chosen, "label": labels}


def _takes_its_data(making: Making) -> bool:
    """Tell whether the network takes pictures of as many channels as its data have; without data it may."""
    split = making.studied.split()
    return split is None or int(split.images.shape[1]) == int(example(making.studied.model).shape[1])


def _channels(model: nn.Module, layer: str) -> int:
    """Return the number of a layer's channels, where no data have told it."""
    with frozen_eval(model), torch.no_grad():
        return int(activations(model, layer, example(model)).shape[1])


def _probe(making: Making) -> tuple[Tensor, Tensor]:
    """Return numbers and labels of the test pictures that every snapshot answers."""
    studied = making.studied
    dataset, split = studied.dataset(), studied.split()
    none = torch.empty(0, dtype=torch.int64)
    if dataset is None or split is None:
        return none, none
    try:
        labels = labels_of(studied.model, split.labels, dataset.classes)
    except LoupeError:
        return none, none
    chosen = stratified(labels, min(PROBE, making.plan.amount.images), making.seed)
    return chosen, labels[chosen]


def _filters(network: nn.Module) -> Tensor | None:
    """Return the first convolution's filters, if they see colours."""
    try:
        module = network.get_submodule(resolve(network, "first"))
    except LoupeError:
        return None
    if not isinstance(module, nn.Conv2d) or module.in_channels != 3 or min(module.kernel_size) < 2:
        return None
    return module.weight.detach()


def _film(making: Making, made: dict[str, Tensor], about: dict[str, Any]) -> TrainingFilm:
    """Turn what was measured into images."""
    epochs = made["epoch"].tolist()
    shared = {
        "epochs": epochs,
        "seed": about["seed"],
        "weights_of_the_report": making.studied.weights,
        "torchloupe": __version__,
    }
    strips = {}
    if "filters" in made:
        shown = torch.stack([stretched(weight) for weight in made["filters"]])
        scale = "each filter from its smallest weight to its largest"
        how = {"method": "filters", "channels": list(range(shown.shape[1])), "scale": scale, **shared}
        strips["filters"] = _strip("First filters", shown, 8, 6, how)
    if "pictures" in made:
        shown = made["pictures"]
        small = reduced(shown.flatten(0, 1))
        shown = small.view(*shown.shape[:2], *small.shape[1:])
        units, layer = made["unit"].tolist(), about["layer"]
        settings = {"steps": about["steps"], "copies": 1}
        how = {"method": "maximize", "layer": layer, "channels": units, "settings": settings, **shared}
        title = f"Feature visualizations of {len(units)} units of {layer}"
        strips["maximize"] = _strip(title, shown, 4, max(1, 96 // shown.shape[-1]), how)
    mended = _mended(making, made) if "right" in made else [()] * len(epochs)
    right = made["right"].double().mean(1).tolist() if "right" in made else [None] * len(epochs)
    moments = tuple(Moment(e, r, m) for e, r, m in zip(epochs, right, mended, strict=True))
    return TrainingFilm(moments, strips, len(made.get("index", ())))


def _strip(title: str, shown: UInt8[Tensor, "s n 3 h w"], columns: int, factor: int, about: dict[str, Any]) -> Strip:
    """Return one strip and its animation, every pixel enlarged by `factor`."""
    frames = torch.stack([grid(each, columns, gap=1, fill=GREY) for each in shown])
    large = frames.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return Strip(title, sprite(shown.flatten(0, 1)), int(shown.shape[1]), columns, animation(large), about)


def _mended(making: Making, made: dict[str, Tensor]) -> list[tuple[Mended, ...]]:
    """Return for each moment the images that were wrong then and right from the next moment on."""
    split, model = making.studied.split(), making.studied.model
    right = made["right"].bool()
    if split is None or not isinstance(model, Network):
        return [()] * len(right)
    found: list[tuple[Mended, ...]] = []
    for moment in range(len(right)):
        here = ~right[moment] & right[moment + 1 :].all(0) if moment + 1 < len(right) else torch.zeros_like(right[0])
        rows = here.nonzero().flatten().tolist()
        rows = [rows[i * len(rows) // MENDED] for i in range(MENDED)] if len(rows) > MENDED else rows
        tiles = []
        for row in rows:
            index = int(made["index"][row])
            tile = making.photos.place(index, split.images[index])
            true, predicted = int(made["label"][row]), int(made["said"][moment, row])
            tiles.append(Mended(tile, model.classes[true], model.classes[predicted], split.names[index]))
        found.append(tuple(tiles))
    return found
