"""A network under study with what is known of it beside its weights: its data, their statistics, its channels' health.

What takes a pass over the data is stored in the run's folder (or, without one, in the cache folder), so that it
travels with the model and is not computed twice: `places` says where, `kept` whether it still holds.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe import data as data_sets
from torchloupe.checkpoints.file import read_tensors
from torchloupe.checkpoints.open import Origin, open_model
from torchloupe.data.dataset import Dataset, Split, check_one_label, checksum
from torchloupe.data.downloads.mirrors import KNOWN
from torchloupe.data.subsets import spread_out
from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, ModelError
from torchloupe.evaluation.channels import ChannelHealth, health
from torchloupe.features.batch_statistics import measurable
from torchloupe.features.random_control import Kind, randomize
from torchloupe.features.trace import example, placed
from torchloupe.inspection import kept
from torchloupe.inspection.places import caches, own_run
from torchloupe.models.network import Network, uncompiled
from torchloupe.runtime.checks import Schema, each, first_unfit, is_count, is_object, is_text
from torchloupe.runtime.memory import halving
from torchloupe.runtime.progress import Progress
from torchloupe.synthesis.image_statistics import ImageStatistics, generic, measure

MOST = 10_000
"""Test pictures that the health of channels is measured on, at most."""
ABOUT: Schema = {
    "pictures": (is_count, "a number of images"),
    "data": (is_text, "a text"),
    "classes": (lambda value: each(value, is_text), "a list of names"),
}
"""What stands beside the stored health of channels."""
CALIBRATION = 256
"""Images that the BatchNorm statistics of a control are measured on, at most."""
CONTROLS = 2**29
"""Bytes of networks with other weights that are kept at hand; one network at least."""
LOOKING = "looking inside a network"
FIGURES = 2
"""Changes when `ChannelHealth` does."""


def silent(text: str) -> None:
    """Say nothing.

    >>> silent("Note: …")
    """


class Subject:
    """A network and, once asked for, what its data say of it.

    Data that are given may be downloaded, unless `offline`; those of its run never are unasked. `say` gets sentences
    for the user.
    """

    def __init__(
        self,
        model: nn.Module,
        data: "Dataset | str | Path | None" = None,
        *,
        offline: bool = True,
        skip_bad: bool = False,
        window: tuple[float, float] | None = None,
        labels: str | Path | None = None,
        class_names: str | Path | None = None,
        title: str = "",
        say: Callable[[str], None] = silent,
    ) -> None:
        self.model = model = uncompiled(model)
        self._title = title
        self.origin: Origin | None = model.origin if isinstance(model, Network) else None
        self.size = model.size if isinstance(model, Network) else None
        self._given, self._offline, self._skip_bad, self._say = data, offline, skip_bad, say
        self._window, self._labels, self._class_names = window, labels, class_names
        self.missing = ""
        """Why the data of its run are not at hand, and how to get them, once they were looked for."""
        self._dataset: Dataset | None = data if isinstance(data, Dataset) else None
        if self._dataset is not None:
            check_one_label(self._dataset, LOOKING)
        self._health: dict[str, ChannelHealth] = {}
        self._asked: set[str] = set()
        self.seen: dict[str, Any] = {}
        """What `health` was measured on, once it was asked for: data, classes, number of images (the least of all
        layers asked for; `counted` says each layer's)."""
        self._weights = self._crc = ""
        self._controls: dict[tuple[int, Kind], nn.Module] = {}

    @property
    def title(self) -> str:
        """What captions call the network."""
        if self._title:
            return self._title
        return self.origin.title if self.origin else type(getattr(self.model, "bare", self.model)).__name__

    @property
    def weights(self) -> str:
        """Sixteen digits that change when a weight, a buffer, the normalisation, the size or a class's name does."""
        if not self._weights:
            digest = hashlib.sha256()
            for name, tensor in sorted({**self.model.state_dict(), **dict(self.model.named_buffers())}.items()):
                if not isinstance(tensor, Tensor):  # of quantised layers
                    digest.update(f"{name} {_said(tensor)}".encode())
                    continue
                plain = tensor.detach().cpu().contiguous()
                digest.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
                digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
            if isinstance(self.model, Network):
                around: list[Any] = [self.model.mean, self.model.std, self.model.size, self.model.classes]
                part = self.model.output
                if part is not None or self.model.multilabel:  # else as it always was
                    around += [getattr(part, "__qualname__", type(part).__name__) if callable(part) else part]
                    around += [self.model.multilabel]
                digest.update(json.dumps(around).encode())
            self._weights = digest.hexdigest()[:16]
        return self._weights

    @property
    def source(self) -> str | None:
        """The word or path of its data: what was given, else the data of the run."""
        if isinstance(self._given, Dataset):
            return self._given.source
        if self._given is not None:
            return str(self._given)
        return (self.origin.config.data or {}).get("source") if self.origin else None

    @property
    def window(self) -> tuple[float, float] | None:
        """The values that are black and white in pictures of more than 8 bits: as given, of its run, of its data."""
        if self._window is not None:
            return self._window
        if self.origin is not None and self.origin.config.window is not None:
            return self.origin.config.window
        return self._dataset.window if self._dataset is not None else None

    def dataset(self) -> Dataset | None:
        """Return its data; None if none are known or those of its run are not at hand any more."""
        if self._dataset is None and self.source is not None and not self.missing:
            asked = self._given is not None
            own = self.origin.config.reading if self.origin else {}
            try:
                self._dataset = data_sets.load(
                    self.source,
                    size=self.size,
                    offline=self._offline or not asked,
                    skip_bad=self._skip_bad,
                    window=self.window,
                    labels=self._labels or (None if asked else own.get("labels")),
                    class_names=self._class_names or own.get("class_names"),
                    say=self._say,
                )
                check_one_label(self._dataset, LOOKING)
            except DataError as error:
                if asked:
                    raise
                self.missing = _missing(self.source, error)
                self._say(f"Note: {self.missing}")
                return None
            for note in self._dataset.notes:
                self._say(f"Note: {note}")
        return self._dataset

    @property
    def crc(self) -> str | None:
        """Checksum of its data; None if they are not at hand."""
        known = self.dataset()
        if known is not None and not self._crc:
            self._crc = checksum(known)
        return self._crc or None

    def split(self) -> Split | None:
        """Return the test split of its data, or train where there is no test."""
        known = self.dataset()
        if known is None:
            return None
        return known.test if len(known.test) else known.train

    def statistics(self) -> tuple[ImageStatistics, str]:
        """Return spectrum and colours of its data and where they come from; generic ones where nothing is known."""
        run = self.origin.run if self.origin else None
        if self._given is None and run is not None and (run / "statistics.safetensors").is_file():
            with suppress(ModelError, KeyError, ValueError):  # what is damaged is measured anew
                tensors, about = read_tensors(run / "statistics.safetensors")
                found = ImageStatistics.from_tensors(tensors)
                if is_object(about) and is_text(about.get("data")) and len(found.mean) == self._colors():
                    return found, about["data"]
        known = self.dataset()
        if known is None or int(known.train.images.shape[1]) != self._colors():
            _, channels, height, width = example(self.model).shape
            return generic(height, width, channels), "generic"
        return keep_statistics(own_run(run) if self._given is None else None, known), known.name

    def control(
        self, seed: int, images: Float[Tensor, "b c h w"], kind: Kind = "initial"
    ) -> tuple[nn.Module, str | None]:
        """Return the parameter-randomization control of a seed, and what its BatchNorm statistics were measured on.

        That is some of its data (train), spread out, or, where those are not at hand, `images`; None: it has none.

        Raises:
            ModelError: there is no control of it.
        """
        shown = self.calibration(images)
        measured = self.calibrated_on(images)
        if self._own_images() is None:
            return randomize(self.model, seed, shown, kind=kind), measured
        if (seed, kind) not in self._controls:
            size = sum(p.numel() * p.element_size() for p in self.model.parameters())
            while self._controls and (1 + len(self._controls)) * size > CONTROLS:
                self._controls.pop(next(iter(self._controls)))
            self._controls[seed, kind] = randomize(self.model, seed, shown, kind=kind)
        return self._controls[seed, kind], measured

    def calibration(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "m c h w"]:
        """Return what BatchNorm statistics of a control are measured on: some of its data, else `images`."""
        own = self._own_images()
        if own is None:
            return placed(self.model, images)
        shown = to_float(own.images[spread_out(len(own), CALIBRATION)], self.size)
        return placed(self.model, shown if shown.shape[1] == self._colors() else shown.mean(1, keepdim=True))

    def calibrated_on(self, images: Float[Tensor, "b c h w"]) -> str | None:
        """Say what BatchNorm statistics of a control are measured on; None for a network that keeps none."""
        count, own, known = measurable(self.model, self.calibration(images)), self._own_images(), self.dataset()
        if count is None:
            return None
        if own is None or known is None:
            return f"{count} of the pictures shown" if count < len(images) else f"the {count} pictures shown"
        return f"{count} {'train' if own is known.train else 'test'} pictures of {known.name}"

    def _own_images(self) -> Split | None:
        """Return the train split of its data, or test; None if the network does not take such images."""
        known = self.dataset()
        own = None if known is None else known.train if len(known.train) else known.test
        fits = own is not None and len(own) and self._colors() in (1, own.images.shape[1])
        return own if fits else None

    def _colors(self) -> int:
        return int(example(self.model).shape[1])

    def health(
        self, layers: list[str], progress: Progress | None = None, *, most: int = MOST, ranked: bool = False
    ) -> dict[str, ChannelHealth] | None:
        """Return what every channel of these layers does over (at least so many) test images; None where not known.

        Each layer's `images` says on how many it was measured. Without the data it is what was found and stored when
        they were there. `ranked`: with the AUC of each class, where there are data.
        """
        known, split = self.dataset(), self.split()
        ranked = ranked and split is not None
        count = 0 if split is None else min(most, len(split))
        if not all(self._enough(layer, count, ranked) for layer in layers):
            self._recall()
        missing = [layer for layer in layers if not self._enough(layer, count, ranked)]
        if missing and (known is None or split is None):
            return None
        if missing and known is not None and split is not None:
            chosen = spread_out(len(split), count)
            images, labels = split.images[chosen], split.labels[chosen]
            found = halving(
                lambda: health(
                    self.model, images, layers=missing, labels=labels, ranked=ranked, size=self.size, progress=progress
                ),
                "the statistics of channels",
            )
            self._health |= {name: replace(each, best_index=chosen[each.best_index]) for name, each in found.items()}
            self.seen = {"data": known.name, "classes": list(known.classes)}
            self._remember()
        self._asked |= set(layers) & set(self._health)
        if self._asked:
            self.seen["pictures"] = min(self._health[layer].images for layer in self._asked)
        return self._health

    def _enough(self, layer: str, count: int, ranked: bool) -> bool:
        found = self._health.get(layer)
        return found is not None and found.images >= count and (found.auc is not None or not ranked)

    def _recall(self) -> None:
        """Read what was stored; of each layer what was measured on the most images counts."""
        crc = self.crc or self._own_crc
        found = list(kept.stored(self.caches, "health", weights=self.weights, crc=crc))
        for tensors, about in found if crc else found[:1]:  # of unknown data: not of several
            with suppress(KeyError, TypeError, ValueError):
                if about["figures"] != FIGURES or first_unfit(about, ABOUT):
                    continue
                read = _unpack(tensors, about["pictures"])
                self.seen = {**about, **self.seen}
                for name, each in read.items():
                    if name not in self._health or _worth(each) > _worth(self._health[name]):
                        self._health = {**self._health, name: each}

    def _remember(self) -> None:
        least = min(each.images for each in self._health.values())
        about = {"weights": self.weights, "crc32": self.crc, "figures": FIGURES, **self.seen, "pictures": least}
        kept.store(self.caches[0] / f"health-{self.weights}.safetensors", _pack(self._health), about)

    def counted(self, layer: str) -> int | None:
        """Return on how many images the health of a layer was measured; None where it is not known yet."""
        return self._health[layer].images if layer in self._health else None

    def best(self, layer: str, progress: Progress | None = None) -> Tensor | None:
        """Return the strongest activation of each channel of a layer over its test images; None without data.

        Where the layer's health is known already, of however few images, that is what is returned: `counted` says.
        """
        known = self._health if layer in self._health else self.health([layer], progress)
        return None if known is None else known[layer].best

    def once(
        self,
        name: str,
        about: Mapping[str, Any],
        make: "Callable[[], kept.Tensors | None]",
        *,
        of_data: Collection[str] = (),
    ) -> tuple[kept.Tensors, kept.About] | None:
        """Return what was measured of its weights and data, or measure it now (see `kept.once`)."""
        return kept.once(
            name,
            make,
            about,
            weights=self.weights,
            crc=self.crc,
            folders=self.caches,
            own=self._own_crc,
            of_data=of_data,
        )

    def holds(self, about: Mapping[str, Any]) -> bool:
        """Tell whether a description is of these weights and of its data (those of its run, if they are not here)."""
        return kept.holds(about, weights=self.weights, crc=self.crc or self._own_crc)

    @property
    def _own_crc(self) -> str | None:
        return (self.origin.config.data or {}).get("crc32") if self.origin else None

    @property
    def caches(self) -> tuple[Path, ...]:
        """The folders where what takes a pass over its data is stored: the first is written to, all are read."""
        origin = self.origin
        return caches(origin.run, origin.word, given=self._given is not None) if origin else caches()


def _said(state: Any) -> str:
    """Write out a part of a network's state that is no tensor, such as the packed weights of a quantised layer."""
    if isinstance(state, tuple | list):
        return "".join(map(_said, state))
    if isinstance(state, Tensor) and state.is_quantized:
        about = (
            (state.int_repr(), state.q_per_channel_scales())
            if "channel" in str(state.qscheme())
            else (state.int_repr(), state.q_scale(), state.q_zero_point())
        )
        return _said(about)
    return str(state.tolist() if isinstance(state, Tensor) else state)


def _missing(source: str, error: DataError) -> str:
    """Say which data of a run are not at hand and how to get them."""
    if source not in KNOWN:
        return f"the data of this run are not at hand: {error}"
    size = f"{KNOWN[source].size / 1e6:.0f} MB"
    return (
        f"{source}, the data of this run, is not on this machine, and looking at a run downloads nothing. "
        f"Get it with `torchloupe data get {source}` ({size})."
    )


def keep_statistics(run: Path | None, dataset: Dataset) -> ImageStatistics:
    """Measure spectrum and colours of a data set's train pictures; stored in the run's folder, if there is one."""
    measured = measure(dataset.train.images)
    if run is not None:
        kept.store(run / "statistics.safetensors", measured.to_tensors(), {"data": dataset.name})
    return measured


def subject(model: "Subject | nn.Module | str | Path", data: "Dataset | str | Path | None" = None) -> Subject:
    """Return a network (or the MODEL that a word names) with what is known of it.

    >>> subject(nn.Conv2d(3, 8, 3)).title
    'Conv2d'
    """
    if isinstance(model, Subject):
        return model
    return Subject(open_model(model).network if isinstance(model, str | Path) else model, data)


def _worth(found: ChannelHealth) -> tuple[int, bool]:
    return found.images, found.auc is not None


def _pack(known: dict[str, ChannelHealth]) -> dict[str, Tensor]:
    return {
        f"{layer}/{name}": torch.as_tensor(value)
        for layer, each in known.items()
        for name, value in vars(each).items()
        if value is not None
    }


def _unpack(tensors: dict[str, Tensor], images: int) -> dict[str, ChannelHealth]:
    """Return each layer's health; `images`: on how many, where a layer does not say (files of earlier versions).

    Raises:
        TypeError, ValueError: it is not that of channels.
    """
    layers: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        layer, _, name = key.rpartition("/")
        layers.setdefault(layer, {"images": images})[name] = int(tensor) if name == "images" else tensor
    found = {layer: ChannelHealth(**fields) for layer, fields in layers.items()}
    for layer_health in found.values():
        count = len(layer_health.best)
        rows = [getattr(layer_health, name) for name in ("best", "mean", "std", "live", "selectivity")]
        index, by_class = layer_health.best_index, layer_health.class_mean
        if not all(row.shape == (count,) and row.is_floating_point() for row in rows):
            raise ValueError("not one number a channel")
        if index.shape != (count,) or index.dtype != torch.int64 or bool((index < 0).any()):
            raise ValueError("not one image a channel")
        if by_class.ndim != 2 or len(by_class) != count or not by_class.is_floating_point() or layer_health.images < 0:
            raise ValueError("not one row a channel")
        lowest, auc, count_by_class = layer_health.lowest, layer_health.auc, layer_health.class_count
        if lowest is not None and (lowest.shape != (count,) or not lowest.is_floating_point()):
            raise ValueError("not one lowest value a channel")
        if (auc is None) is not (count_by_class is None):
            raise ValueError("an AUC of unknown pictures")
        if auc is not None and count_by_class is not None:
            whole = count_by_class.dtype == torch.int64 and not bool((count_by_class < 0).any())
            if auc.shape != by_class.shape or not auc.is_floating_point() or not whole:
                raise ValueError("not one AUC a class")
            if count_by_class.shape != by_class.shape[1:]:
                raise ValueError("not one count a class")
    return found
