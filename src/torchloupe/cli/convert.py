"""`torchloupe convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchloupe.cli.options import class_names, foreign, numbers, open_named, quiet, stack
from torchloupe.errors import UsageError
from torchloupe.runtime.console import Console, print_result
from torchloupe.training.config import part_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from torchloupe.inspection.subject import Subject

KINDS = {".onnx": "onnx", ".pt2": "exported"}
"""What a suffix of --out means; all others are safetensors."""


@click.command()
@click.argument("source")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["safetensors", "onnx", "exported"]),
    help="safetensors: SOURCE is a foreign checkpoint, to be one of ours. onnx, or exported (.pt2 of torch.export): "
    "SOURCE is a MODEL, to run without torchloupe (default: as the suffix of --out says).",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--partial", is_flag=True, help="Keep fresh weights where the file has none or others.")
@stack(foreign, quiet)
def convert(source: str, **options: Any) -> None:
    """Bring SOURCE, a foreign checkpoint (.pth, .pt, .ckpt, .bin), in as one of ours; or export SOURCE, a MODEL.

    A foreign checkpoint is a program: it is read in a process of its own that imports nothing it names.

    An export takes pictures in [0, 1] and gives logits; it is compared with MODEL on 16 pictures before it is written.
    """
    kind = options["kind"] or KINDS.get(options["out"].suffix.lower(), "safetensors")
    if kind == "safetensors":
        _bring_in(Path(source), options)
    else:
        _export(source, kind, options)


def _bring_in(source: Path, options: dict[str, Any]) -> None:
    console = Console(options["quiet"])
    for name, there in (("--model", options["trained_with"]), ("--classes", options["classes"])):
        if there is None:
            raise UsageError(f"missing {name}: a foreign checkpoint says nothing of its network. Add {name}.")
    if options["weights"] is not None or options["multilabel"]:
        raise UsageError("--weights and --multilabel are for an export (--to onnx, exported): leave them out.")
    mean, std = numbers(options["mean"], "--mean"), numbers(options["std"], "--std")
    if (mean is None) != (std is None) or (mean is None) == (options["normalize"] is None):
        raise UsageError("say how pictures are normalised: --mean and --std, or --normalize none.")
    names = class_names(options["classes"])
    classes = [str(i) for i in range(names)] if isinstance(names, int) else names or []
    if source.suffix != ".safetensors":
        console.say(f"Warning: '{source}' may hold code. It is read in a process of its own; nothing it names runs.")
    from torchloupe.checkpoints.convert import convert as bring_in

    report = bring_in(
        source,
        options["trained_with"],
        options["out"],
        classes=classes,
        mean=mean,
        std=std,
        size=options["size"],
        output=part_of(options["output"]),
        strict=not options["partial"],
    )
    print_result(str(report))
    console.say(f"Next: torchloupe test {options['out']} --data D")


def _export(model: str, kind: Any, options: dict[str, Any]) -> None:
    from torchloupe.checkpoints.export import export, kind_of
    from torchloupe.checkpoints.onnx_file import check_installed
    from torchloupe.inspection.subject import Subject

    console = Console(options["quiet"])
    if options["partial"]:
        raise UsageError("--partial is for a foreign checkpoint: leave it out.")
    kind_of(options["out"], kind)  # refused now, not after the pictures were read
    if kind == "onnx":
        check_installed()
    loaded = open_named(model, options)
    studied = Subject(loaded.network, say=console.say)
    done = export(
        loaded.network,
        options["out"],
        _pictures(studied, model),
        kind=kind,
        weights=studied.weights,
        title=studied.title,
    )
    print_result(str(done))
    sides = " x ".join(map(str, _sides(studied)))
    console.say(f"It takes float pictures of {sides} in [0, 1], any number at once, and gives logits.")


def _pictures(studied: "Subject", model: str) -> "Float[Tensor, 'n c h w']":
    """Return pictures to compare on: of the test split, else samples, else noise of the size it was trained on."""
    import torch

    from torchloupe.checkpoints.export import COMPARED
    from torchloupe.features.trace import example
    from torchloupe.inspection.inputs import colored, unasked

    height, width = _sides(studied) or (0, 0)
    if not height:
        raise UsageError(f"{model!r} does not say what size of pictures it takes: give --size.")
    found = unasked(studied.dataset(), 0, studied.size)
    channels = example(studied.model, (height, width)).shape[1]
    if found is not None:
        images = colored(found, studied.model).images[:COMPARED]
        if images.shape[1:] == (channels, height, width):
            return images
    return torch.rand(COMPARED, channels, height, width, generator=torch.Generator().manual_seed(0))


def _sides(studied: "Subject") -> tuple[int, ...]:
    """Return height and width of the pictures that a network takes; none where nothing says so."""
    if studied.size is not None:
        return studied.size, studied.size
    told = (studied.origin.config.data or {}).get("picture") if studied.origin else None
    fits = isinstance(told, list) and len(told) == 2 and all(isinstance(side, int) and side > 0 for side in told)
    return tuple(told) if fits and told else ()
