"""A result with all that shows and repeats it: figure, files, notebook. Methods stay pure; this is put around them."""

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchloupe.checkpoints.file import save_tensors
from torchloupe.errors import UsageError
from torchloupe.figures.style import FigureStyle
from torchloupe.inspection.catalog import Method, load_function
from torchloupe.inspection.inputs import Images
from torchloupe.inspection.manifest import Manifest, finite, is_image_name, plain, seen_from
from torchloupe.runtime.environment import __version__, packages

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
    def all_settings(self) -> dict[str, Any]:
        """Every setting of the method: what was asked, in plain numbers, and the defaults."""
        return {s.name: self.settings.get(s.name, s.default) for s in self.method.settings}

    @property
    def about(self) -> dict[str, Any]:
        """What captions say: model, data, seed, every setting."""
        return {
            "model": self.studied.title,
            "data": self.studied.source and Path(self.studied.source).stem,
            "method": self.method.name,
            "title": self.method.title,
            "layer": self.result.layer,
            "seed": self.seed if self.method.seeded else None,
            "settings": self.all_settings,
            "names": self.images_taken.names if self.images_taken else None,
            "labels": self.images_taken.labels if self.images_taken else None,
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
        from torchloupe.figures.plots import save_figure
        from torchloupe.figures.sheet import draw

        path, drawn = Path(file), FigureStyle(**look)
        check_suffix(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sheets = self.sheets(drawn)
        files = [path if page == 0 else path.with_stem(f"{path.stem}-{page + 1}") for page in range(len(sheets))]
        raw = dict(tensors_of(self.result))
        if self.images_taken is not None and self.images_taken.words is None:
            raw["inputs"] = self.images_taken.images
        self.manifest(path.parent, look=look, files=files).write(path.with_suffix(".json"))
        save_tensors(path.with_suffix(".safetensors"), raw, {"method": self.method.name})
        for sheet, target in zip(sheets, files, strict=True):
            figure = draw(sheet, drawn)
            save_figure(figure, target, dpi=figure.dpi)
        return files

    def manifest(self, folder: Path, *, look: Mapping[str, Any], files: Sequence[Path]) -> Manifest:
        """Return all that is needed to make the result again; paths are relative to `folder`."""
        origin, taken = self.studied.origin, self.images_taken
        words = None if taken is None or taken.words is None else [seen_from(word, folder) for word in taken.words]
        options = dict(origin.options) if origin else {}
        if "weights" in options:
            options["weights"] = seen_from(options["weights"], folder)
        return Manifest(
            method=self.method.name,
            model=seen_from(origin.word, folder) if origin else None,
            model_options=plain(options, "an option of the network"),
            title=self.studied.title,
            weights=self.studied.weights,
            layer=self.result.layer,
            channels=self.channels,
            data=self.studied.source and seen_from(self.studied.source, folder),
            pictures=words,
            names=list(taken.names) if taken else None,
            labels=list(taken.labels) if taken and taken.labels else None,
            started_from_pictures=taken is not None,
            seed=self.seed,
            settings=self.all_settings,
            environment={**packages(), "threads": torch.get_num_threads(), "device": str(_device(self.studied))},
            look=plain(look, "a setting of the figure"),
            files=[each.name for each in files],
            told=plain(self.told, "what captions say"),
            numbers={name: finite(plain(getattr(self.result, name, None), name)) for name in self.method.numbers},
            torchloupe=__version__,
        )


def check_suffix(file: Path) -> None:
    """Refuse a file that is no image by its suffix, before anything is computed for it.

    Raises:
        UsageError: the suffix is not that of an image format.

    >>> check_suffix(Path("a.gif"))
    Traceback (most recent call last):
    ...
    torchloupe.errors.UsageError: cannot write 'a.gif': the suffix is not one of png, svg, pdf, jpg, jpeg, webp.
    """
    from torchloupe.figures.plots import FORMATS

    if not is_image_name(file.name):
        raise UsageError(f"cannot write '{file}': the suffix is not one of {', '.join(FORMATS)}.")


def check_target(out: Path | None) -> None:
    """Refuse a place that no image can be written to, before anything is computed for it: a file, or a folder.

    Raises:
        UsageError: a file with another suffix, or without one.

    >>> check_target(None), check_target(Path("new/folder")), check_target(Path("a.png"))
    (None, None, None)
    """
    if out is None or out.is_dir():
        return
    if out.suffix:
        check_suffix(out)
    elif out.exists():
        raise UsageError(f"'{out}' is neither a folder nor a picture file's name. Give --out FILE.png or a folder.")


def _device(studied: "Subject") -> torch.device:
    return next((p.device for p in studied.model.parameters()), torch.device("cpu"))


def tensors_of(result: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of every tensor in a result, those of a result inside it as `randomized.error`.

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
