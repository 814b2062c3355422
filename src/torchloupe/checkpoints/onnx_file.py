"""An exported program as ONNX: one file, weights inside, what the network is in its metadata."""

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchloupe.checkpoints.exported import cause_of, quietly
from torchloupe.errors import ModelError, UsageError

KEY = "torchloupe"
"""Of the model's `metadata_props`."""
NEEDED = ("onnx", "onnxscript")
MOST_BYTES = (1 << 31) - (64 << 20)
"""Of weights: a protobuf ends at 2 GB, and the graph needs room."""
PICTURES, LOGITS, BATCH = "pictures", "logits", "batch"


def check_installed() -> None:
    """Refuse where what ONNX files are written with is not installed.

    Raises:
        UsageError: it is not.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"ONNX needs {' and '.join(missing)}: run `pip install 'torchloupe[export]'`, or write a .pt2."
        )


def onnx_bytes(program: torch.export.ExportedProgram, about: Mapping[str, Any], title: str) -> bytes:
    """Return a program as the bytes of an ONNX model, valid by ONNX's own checker.

    Its input is `pictures` [batch, c, h, w], its output `logits` [batch, classes].

    Raises:
        ModelError: it has an operator that ONNX does not know, or weights beyond 2 GB.
        UsageError: `onnx` or `onnxscript` is not installed.
    """
    check_installed()
    import onnx

    held = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if held > MOST_BYTES:
        raise ModelError(f"{title} has {held / 1e9:.1f} GB of weights, and one ONNX file takes 2: write a .pt2.")
    try:
        with quietly():
            made = torch.onnx.export(
                program, dynamo=True, external_data=False, verbose=False, input_names=[PICTURES], output_names=[LOGITS]
            )
        assert made is not None
        model = made.model_proto
    except Exception as error:  # of whatever the network does
        raise ModelError(f"{title} cannot be exported to ONNX: {cause_of(error)}. Try a .pt2.") from error
    _cleaned(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(about, sort_keys=True, ensure_ascii=False)
    data: bytes = model.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    return data


def _cleaned(model: Any) -> None:
    """Take out what was noted of each node (paths of code on this machine among it), and name the axis of the batch."""
    graph = model.graph
    own = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if own and axis.dim_param == own:
                axis.dim_param = BATCH
    functions = [node for function in model.functions for node in function.node]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *functions):
        del part.metadata_props[:]
        if getattr(part, "doc_string", ""):
            part.doc_string = ""
    del graph.metadata_props[:]


def onnx_runner(data: bytes) -> tuple[str, Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]]]:
    """Return what runs an ONNX model here, by name, and a function that does: onnxruntime, else ONNX's evaluator."""
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        return "onnxruntime", lambda images: torch.from_numpy(session.run([LOGITS], {PICTURES: images.numpy()})[0])
    from onnx.reference import ReferenceEvaluator

    slow = ReferenceEvaluator(data)
    return "onnx.reference", lambda images: torch.from_numpy(slow.run([LOGITS], {PICTURES: images.numpy()})[0])
