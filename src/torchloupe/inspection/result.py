"""A result with all that shows and repeats it: figure, files, notebook. Methods stay pure; this is put around them."""

import dataclasses
import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchloupe.checkpoints.file import save_tensors
from torchloupe.checkpoints.open import SHIPPED
from torchloupe.errors import UsageError
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.catalog import Method, load_function
from torchloupe.inspection.inputs import Images, is_from_data
from torchloupe.models.reference import is_reference
from torchloupe.runtime.environment import __version__, packages
from torchloupe.runtime.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchloupe.figures.sheet import Sheet
    from torchloupe.inspection.subject import Subject


class Result:
    """A method's result; its fields are attributes of this. `save`, `figure`, and a picture in notebooks."""

    def __init__(
        self,
        method: Method,
        result: Any,
        studied: "Subject",
        images: Images | None,
        *,
        seed: int,
        channels: Any,
        settings: dict[str, Any],
        told: dict[str, Any],
    ) -> None:
        self.method, self.result, self.images_taken = method, result, images
        self.studied, self.seed, self.channels, self.settings, self.told = studied, seed, channels, settings, told

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "result":
            raise AttributeError(name)
        return getattr(self.result, name)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {mean:.3g}" for name, mean, _ in self.numbers())
        return (
            f"<{self.method.name} of {self.studied.title}, layer {self.result.layer}{': ' if numbers else ''}{numbers}>"
        )

    @property
    def about(self) -> dict[str, Any]:
        """What captions say: model, data, seed, every setting."""
        settings = {s.name: self.settings.get(s.name, s.default) for s in self.method.settings}
        return {
            "model": self.studied.title,
            "data": self.studied.source and Path(self.studied.source).stem,
            "method": self.method.name,
            "title": self.method.title,
            "layer": self.result.layer,
            "seed": self.seed if self.method.seeded else None,
            "settings": settings,
            "names": self.images_taken.names if self.images_taken else None,
            "classes": getattr(self.studied.model, "classes", None),
            **self.told,
        }

    def numbers(self) -> Iterator[tuple[str, float, float]]:
        """Yield name, mean and standard deviation over results of every number that belongs beside the pictures."""
        for name in self.method.numbers:
            value = getattr(self.result, name, None)
            if isinstance(value, Tensor) and value.numel():
                known = value.double().flatten()
                known = known[known.isfinite()]
                if len(known):
                    yield name, known.mean().item(), known.std(correction=min(1, len(known) - 1)).item()

    def sheets(self, look: FigureStyle | None = None) -> "list[Sheet]":
        """Return the contact sheets."""
        sheets: list[Sheet] = load_function(self.method.view)(self.result, look or FigureStyle(), self.about)
        return sheets

    def figure(self, page: int = 0, **look: Any) -> "Figure":
        """Return one sheet as a matplotlib figure; settings are those of `FigureStyle`."""
        from torchloupe.figures.sheet import draw

        drawn = FigureStyle(**look)
        figure: Figure = draw(self.sheets(drawn)[page], drawn)
        return figure

    def _repr_png_(self) -> bytes:
        from torchloupe.figures.plots import style

        stream = io.BytesIO()
        with style():
            self.figure().savefig(stream, format="png", dpi=100)
        return stream.getvalue()

    def save(self, file: "str | Path", **look: Any) -> list[Path]:
        """Write the sheets to `file` (`-2`, `-3` … for further pages), the raw tensors and a JSON beside it.

        Returns the pictures' paths. The suffix chooses PNG, SVG, PDF, JPEG or WebP. `torchloupe again FILE.json`
        makes the same files.

        Raises:
            UsageError: the suffix is not a picture format.
        """
        from torchloupe.figures.plots import FORMATS, save_figure
        from torchloupe.figures.sheet import draw

        path, drawn = Path(file), FigureStyle(**look)
        if path.suffix.lower().lstrip(".") not in FORMATS:
            raise UsageError(f"cannot write '{path}': the suffix is not one of {', '.join(FORMATS)}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        sheets = self.sheets(drawn)
        files = [path if page == 0 else path.with_stem(f"{path.stem}-{page + 1}") for page in range(len(sheets))]
        for sheet, target in zip(sheets, files, strict=True):
            figure = draw(sheet, drawn)
            save_figure(figure, target, dpi=figure.dpi)
        manifest = self.manifest(path.parent)
        raw = dict(tensors_of(self.result))
        if self.images_taken is not None and self.images_taken.words is None:
            raw["inputs"] = self.images_taken.pictures
        save_tensors(path.with_suffix(".safetensors"), raw, {"method": self.method.name})
        write_json(path.with_suffix(".json"), {**manifest, "look": look, "files": [each.name for each in files]})
        return files

    def manifest(self, folder: Path) -> dict[str, Any]:
        """Return all that is needed to make the result again; paths are relative to `folder`."""
        origin, taken = self.studied.origin, self.images_taken
        words = None if taken is None or taken.words is None else [_from(word, folder) for word in taken.words]
        options = dict(origin.options) if origin else {}
        if "weights" in options:
            options["weights"] = _from(options["weights"], folder)
        return {
            "torchloupe": __version__,
            "method": self.method.name,
            "model": _from(origin.word, folder) if origin else None,
            "model_options": options,
            "title": self.studied.title,
            "weights": self.studied.weights,
            "layer": self.result.layer,
            "channels": self.channels,
            "data": self.studied.source and _from(self.studied.source, folder),
            "pictures": words,
            "names": list(taken.names) if taken else None,
            "started_from_pictures": taken is not None,
            "seed": self.seed,
            "settings": {s.name: self.settings.get(s.name, s.default) for s in self.method.settings},
            "told": self.told,
            "numbers": {name: _listed(getattr(self.result, name, None)) for name in self.method.numbers},
            "environment": {**packages(), "threads": torch.get_num_threads(), "device": str(_device(self.studied))},
        }


def _from(word: str, folder: Path) -> str:
    """Return a path as seen from a folder; what is no path stays as it is."""
    if is_from_data(word) or word in SHIPPED:
        return word
    file, colon, name = word.rpartition(":") if is_reference(word) else (word, "", "")
    return os.path.relpath(Path(file).resolve(), folder.resolve()) + colon + name if Path(file).exists() else word


def _device(studied: "Subject") -> torch.device:
    return next((p.device for p in studied.model.parameters()), torch.device("cpu"))


def _listed(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    plain = value.double().tolist()
    return _plain(plain)


def _plain(value: Any) -> Any:
    """Turn NaN and infinity, which JSON does not know, into null."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if math.isfinite(value) else None


def tensors_of(result: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of every tensor in a result, those of a result inside it as `twin.error`.

    >>> from torchloupe.synthesis.image_statistics import generic
    >>> sorted(name for name, _ in tensors_of(generic(4, 4)))[:2]
    ['color', 'mean']
    """
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, Tensor):
            yield prefix + field.name, value
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from tensors_of(value, f"{prefix}{field.name}.")
