"""A network under study with what is known of it beside its weights: its data, their statistics, its channels' health.

What takes a pass over the data is kept in the run's folder (or, without one, in the cache folder), so that it
travels with the model and is not computed twice.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchloupe import data as data_sets
from torchloupe.checkpoints.file import read_tensors, save_tensors
from torchloupe.checkpoints.open import Origin, open_model
from torchloupe.data.cache import cache_folder
from torchloupe.data.dataset import Dataset, Split, checksum
from torchloupe.data.subsets import spread_out
from torchloupe.errors import DataError, ModelError, ResourceError
from torchloupe.evaluation.channels import ChannelHealth, health
from torchloupe.features.trace import example
from torchloupe.models.network import Network
from torchloupe.runtime.progress import Progress
from torchloupe.synthesis.image_statistics import PictureStatistics, generic, measure

PICTURES = 10_000
"""Test pictures that the health of channels is measured on, at most."""
FIGURES = 2
"""Changes when `ChannelHealth` does."""


class Subject:
    """A network and, once asked for, what its data say of it."""

    def __init__(
        self,
        model: nn.Module,
        data: "Dataset | str | Path | None" = None,
        *,
        offline: bool = True,
        skip_bad: bool = False,
        title: str = "",
    ) -> None:
        self.model = model
        self._title = title
        self.origin: Origin | None = model.origin if isinstance(model, Network) else None
        self.size = model.size if isinstance(model, Network) else None
        self._given, self._offline, self._skip_bad, self._lost = data, offline, skip_bad, False
        self._dataset: Dataset | None = data if isinstance(data, Dataset) else None
        self._health: dict[str, ChannelHealth] = {}
        self.seen: dict[str, Any] = {}
        """What `health` was measured on, once it was asked for: data, number of pictures, classes."""
        self._weights = self._crc = ""

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
                plain = tensor.detach().cpu().contiguous()
                digest.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
                digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
            if isinstance(self.model, Network):
                around = [self.model.mean, self.model.std, self.model.size, self.model.classes]
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

    def dataset(self) -> Dataset | None:
        """Return its data; None if none are known or, unasked for, they are not at hand any more."""
        if self._dataset is None and self.source is not None and not self._lost:
            try:
                self._dataset = data_sets.load(
                    self.source, size=self.size, offline=self._offline, skip_bad=self._skip_bad
                )
            except DataError:
                if self._given is not None:
                    raise
                self._lost = True
        return self._dataset

    @property
    def crc(self) -> str | None:
        """Checksum of its data; None if they are not at hand."""
        known = self.dataset()
        if known is not None and not self._crc:
            self._crc = checksum(known)
        return self._crc or None

    def pictures(self) -> Split | None:
        """Return the test split of its data, or train where there is no test."""
        known = self.dataset()
        if known is None:
            return None
        return known.test if len(known.test) else known.train

    def statistics(self) -> tuple[PictureStatistics, str]:
        """Return spectrum and colours of its data and where they come from; generic ones where nothing is known."""
        run = self.origin.run if self.origin else None
        if self._given is None and run is not None and (run / "statistics.safetensors").is_file():
            with suppress(ModelError, KeyError):
                tensors, about = read_tensors(run / "statistics.safetensors")
                return PictureStatistics.from_tensors(tensors), str(about["data"])
        known = self.dataset()
        if known is None:
            _, channels, height, width = example(self.model).shape
            return generic(height, width, channels), "generic"
        return keep_statistics(run if self._given is None else None, known), known.name

    def health(
        self, layers: list[str], progress: Progress | None = None, *, most: int = PICTURES
    ) -> dict[str, ChannelHealth] | None:
        """Return what every channel of these layers does over (at most so many) test pictures; None where not known.

        Without the pictures it is what was found and kept when they were there.
        """
        if all(layer in self._health for layer in layers):
            return self._health
        known, split = self.dataset(), self.pictures()
        place = self.place() / f"health-{self.weights}.safetensors"
        kept, found = _kept(place)
        mine: dict[str, Any] = {"weights": self.weights, "figures": FIGURES}
        if known is None or split is None:
            if not mine.items() <= found.items() or any(layer not in kept for layer in layers):
                return None
            self._health, self.seen = {**self._health, **kept}, found
            return self._health
        chosen = spread_out(len(split), most)
        mine |= {"data": known.name, "crc32": self.crc, "classes": list(known.classes)}
        if mine.items() <= found.items() and found["pictures"] >= len(chosen):
            self._health.update(kept)
            chosen = spread_out(len(split), found["pictures"])
        about = {**mine, "pictures": len(chosen)}
        self.seen = about
        missing = [layer for layer in layers if layer not in self._health]
        if missing:
            labels = split.labels[chosen]
            told = health(
                self.model, split.images[chosen], layers=missing, labels=labels, size=self.size, progress=progress
            )
            self._health |= {name: replace(each, best_index=chosen[each.best_index]) for name, each in told.items()}
            _keep(place, _pack(self._health), about)
        return self._health

    def best(self, layer: str, progress: Progress | None = None) -> Tensor | None:
        """Return the strongest activation of each channel of a layer over its test pictures; None without data."""
        known = self.health([layer], progress)
        return None if known is None else known[layer].best

    @property
    def owns_place(self) -> bool:
        """What is measured on its data belongs into its run: the data are the run's own, the weights its last."""
        if self.origin is None or self.origin.run is None or self._given is not None:
            return False
        return self.origin.word == str(self.origin.run)

    def place(self) -> Path:
        """Return the folder where what takes a pass over its data is kept."""
        run = self.origin.run if self.origin else None
        return run if run is not None and self.owns_place else self.cache()

    def cache(self) -> Path:
        """Return the same for networks without a run, and runs with other data."""
        return cache_folder() / "models"


def keep_statistics(run: Path | None, dataset: Dataset) -> PictureStatistics:
    """Measure spectrum and colours of a data set's train pictures; kept in the run's folder, if there is one."""
    measured = measure(dataset.train.images)
    if run is not None:
        _keep(run / "statistics.safetensors", measured.to_tensors(), {"data": dataset.name})
    return measured


def _kept(path: Path) -> tuple[dict[str, ChannelHealth], dict[str, Any]]:
    """Read what was kept; nothing if there is none or it is of another version."""
    with suppress(ModelError, KeyError, TypeError):
        tensors, about = read_tensors(path)
        return _unpack(tensors), about
    return {}, {}


def _keep(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    with suppress(OSError, ResourceError):  # a read-only run: it is computed again the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, tensors, about)


def subject(model: "Subject | nn.Module | str | Path", data: "Dataset | str | Path | None" = None) -> Subject:
    """Return a network (or the MODEL that a word names) with what is known of it.

    >>> subject(nn.Conv2d(3, 8, 3)).title
    'Conv2d'
    """
    if isinstance(model, Subject):
        return model
    return Subject(open_model(model).network if isinstance(model, str | Path) else model, data)


def _pack(known: dict[str, ChannelHealth]) -> dict[str, Tensor]:
    return {f"{layer}/{name}": tensor for layer, each in known.items() for name, tensor in vars(each).items()}


def _unpack(tensors: dict[str, Tensor]) -> dict[str, ChannelHealth]:
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, _, name = key.rpartition("/")
        layers.setdefault(layer, {})[name] = tensor
    return {layer: ChannelHealth(**fields) for layer, fields in layers.items()}
