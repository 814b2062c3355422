"""The signature of a method as `torchloupe.<method>` takes it: any image, any MODEL, with the settings of its row."""

import inspect
from pathlib import Path
from typing import Any

from torch import nn

from torchloupe.data.dataset import Dataset
from torchloupe.inspection.catalog import Method, load_function
from torchloupe.inspection.result import Result
from torchloupe.inspection.subject import Subject
from torchloupe.runtime.progress import Progress

Model = Subject | nn.Module | str | Path
"""A network, or what names one: a run, a file, `cifar10`, `file.py:factory`."""

TAKES = {"nothing": None, "pictures": "images", "start": "images", "dataset": "dataset"}
"""What the third argument is called."""


def public_signature(row: Method) -> inspect.Signature:
    """Return what `torchloupe.<method>` takes and gives.

    Names, order, defaults and types of the settings are those of the function that computes it.

    >>> from torchloupe.inspection.catalog import find_method
    >>> list(public_signature(find_method("filters")).parameters)
    ['model', 'layer', 'channels', 'strongest', 'seed', 'data', 'progress']
    """
    computed = inspect.signature(load_function(row.compute)).parameters
    ask, either = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    found = [inspect.Parameter("model", inspect.Parameter.POSITIONAL_ONLY, annotation=Model)]
    layer = inspect.Parameter("layer", ask if row.explains else either, default=row.layer, annotation=str | None)
    if not row.explains:
        found.append(layer)
    if third := TAKES[row.takes]:
        found.append(inspect.Parameter(third, either, default=None, annotation=Any))
    if row.explains and row.layered:
        found.append(layer)
    settings = {setting.name for setting in row.settings}
    for parameter in computed.values():
        if parameter.name == "channels" and row.channels:
            found.append(parameter.replace(annotation=parameter.annotation | int, kind=ask))
        elif parameter.name in settings:
            found.append(parameter.replace(kind=ask))
    found += [
        inspect.Parameter("seed", ask, default=0, annotation=int),
        inspect.Parameter("data", ask, default=None, annotation=Dataset | str | Path | None),
        inspect.Parameter("progress", ask, default=None, annotation=Progress | None),
    ]
    return inspect.Signature(found, return_annotation=Result)
