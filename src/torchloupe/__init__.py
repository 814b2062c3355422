"""Train an image classifier, test it, and look inside it."""

import importlib

_WHERE = {
    "__version__": "torchloupe.runtime.environment",
    "load": "torchloupe.checkpoints.open",
    "wrap": "torchloupe.models.network",
    "Network": "torchloupe.models.network",
    "data": "torchloupe.data",
    "models": "torchloupe.models",
    "errors": "torchloupe.errors",
    "report": "torchloupe.reports.report",
    "compare": "torchloupe.reports.comparison.compare",
    "predict": "torchloupe.inspection.predictions",
    "Recorder": "torchloupe.training.recorder",
    "LightningRecorder": "torchloupe.training.callbacks",
    "TrainerRecorder": "torchloupe.training.callbacks",
}
__all__ = [
    "LightningRecorder",
    "Network",
    "Recorder",
    "TrainerRecorder",
    "compare",
    "data",
    "errors",
    "load",
    "models",
    "predict",
    "report",
    "wrap",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import torchloupe` costs milliseconds."""
    if name in _WHERE:
        module = importlib.import_module(_WHERE[name])
        value = module if _WHERE[name] == f"torchloupe.{name}" else getattr(module, name)
    elif name in _methods():
        value = importlib.import_module("torchloupe.inspection.run").method(name)
    else:
        raise AttributeError(f"module 'torchloupe' has no attribute {name!r}")
    globals()[name] = value
    return value


def _methods() -> list[str]:
    """Return the ways of looking inside: filters, feature_maps, invert, … grad_cam, …"""
    from torchloupe.inspection.catalog import ALL

    return [row.function for row in ALL]


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE, *_methods()})
