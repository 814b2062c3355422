"""What the layers still know, in a report: linear probes of the trained network beside those of its controls."""

from dataclasses import replace
from functools import partial

from torchloupe.evaluation.probe import Estimate, Probed, probe
from torchloupe.features.random_control import Kind
from torchloupe.reports.contents import Interval, Probing
from torchloupe.reports.html.charts import line_chart
from torchloupe.reports.making import Making
from torchloupe.reports.sections.units import plain

NETWORKS = ("trained", "random", "permuted")
"""Curves, in the order of their colors."""


def probing(making: Making) -> Probing | None:
    """Probe the report's layers in the trained network, in a random one, and in one of its weights permuted.

    None without images of one class each to fit to, or where there is no time left.
    """
    data, test = making.studied.dataset(), making.split()
    if data is None or test is None or not len(data.train) or data.train.labels.ndim != 1:
        return None
    layers = list(making.plan.layers)

    images = making.samples.images

    def probed(name: str) -> Probed:
        kind: dict[str, Kind] = {"random": "initial", "permuted": "permuted"}
        net = making.studied.control(making.seed, images, kind[name])[0] if name in kind else making.studied.model
        return probe(net, layers, data.train, test, count=making.plan.amount.probed, seed=making.seed)

    found = {name: making.attempt(f"the probes, {name}", "all", partial(probed, name)) for name in NETWORKS}
    known = {name: each for name, each in found.items() if each is not None}
    if "trained" not in known:
        return None
    first = known["trained"]
    made = Probing(
        networks=list(known),
        layers=layers,
        features=[each.features for each in first.probes],
        psnr=[[_interval(each.psnr, first.tested) for each in one.probes] for one in known.values()],
        accuracy=[[_interval(each.accuracy, first.tested) for each in one.probes] for one in known.values()],
        mean_image=plain(first.floor.mean_image, 2),
        mean_color=plain(first.floor.mean_color, 2),
        chance=plain(first.floor.chance, 3),
        fitted=first.fitted,
        tuned=first.tuned,
        tested=first.tested,
    )
    return replace(made, psnr_chart=_psnr_chart(made), accuracy_chart=_accuracy_chart(made))


def _interval(value: Estimate, n: int) -> Interval:
    return Interval(plain(value.value, 4), plain(value.low, 4), plain(value.high, 4), n)


def _curves(made: Probing, rows: list[list[Interval]]) -> list[tuple[str, str, list[float], list[float]]]:
    places = [float(i) for i in range(len(made.layers))]
    return [
        (name, "abc"[NETWORKS.index(name)], places, [float("nan") if v.mean is None else v.mean for v in row])
        for name, row in zip(made.networks, rows, strict=True)
    ]


def _psnr_chart(made: Probing) -> str:
    title = "PSNR of the image as a linear probe foretells it from each layer, dB"
    return line_chart(title, _curves(made, made.psnr), x_label="layers, first to last")


def _accuracy_chart(made: Probing) -> str:
    title = "Accuracy of a linear probe for the class at each layer"
    return line_chart(
        title, _curves(made, made.accuracy), x_label="layers, first to last", percent=True, y_range=(0.0, 1.0)
    )
