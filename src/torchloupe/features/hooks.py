"""The only file that registers hooks: capture the outputs of layers, observe a forward pass, intervene in one.

Every hook lives inside a `with` and is removed at its end, after an error too.
"""

import copy
import dataclasses
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.errors import LayerError, ModelError
from torchloupe.features.company import depends_on_company
from torchloupe.features.names import layer_name
from torchloupe.features.owner import exclusive, random_state_restored, reseed
from torchloupe.features.remembered import Remembered
from torchloupe.features.tokens import grid_of
from torchloupe.models.forward import called, check_ready, walled
from torchloupe.models.layout import laid_out, memory_format
from torchloupe.models.network import Network, at_the_door, run
from torchloupe.runtime.device import at_least_float32

OUTPUT = "output"
"""Names the network's own output (its logits) where it has no layer of that name."""

CLEARLY, FITS, FAR = 0.1, 0.15, 1.0
"""Logarithms of how far proportions lie apart: enough to tell two orders, still alike, out of the question."""


class _Enough(BaseException):
    """Ends a forward pass early; no `except Exception` of a network stops it."""


@contextmanager
def frozen_eval(model: nn.Module) -> Iterator[nn.Module]:
    """Put a network in eval mode with `requires_grad` off for its parameters, and restore it afterwards.

    Gradients with respect to the input are enabled, inside `no_grad` and `inference_mode` as well. Restored are the
    mode of each module, the flag of each parameter, the check of a `Network`, and the global random generators. Every
    pass inside begins alike: with what the network remembered before (see `remembered`), and the same chance.
    Other threads that enter the same network wait (see `owner.exclusive`); plain predictions do not.

    Raises:
        ModelError: the network has no weights yet, was made under `inference_mode`, or changes its own weights.
        ForwardError: the network's own code raised an error inside, forwards or backwards.

    >>> net = nn.Sequential(nn.Dropout())
    >>> with torch.no_grad(), frozen_eval(net):
    ...     net.training, torch.is_grad_enabled()
    (False, True)
    >>> net.training
    True
    """
    with exclusive(model), torch.inference_mode(False), torch.enable_grad(), random_state_restored():
        check_ready(model)
        modes = [(module, module.training) for module in model.modules()]
        flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        if any(parameter.is_inference() for parameter, _ in flags):
            raise ModelError(
                "the network was made under inference_mode, so that no gradient can pass: make it outside."
            )
        checked = model.check if isinstance(model, Network) else False
        try:
            for module, _ in modes:
                module.training = False
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            if isinstance(model, Network):
                model.check = False
            with walled(model.bare if isinstance(model, Network) else model), _alike(model):
                yield model
        finally:
            for module, mode in modes:
                module.training = mode
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
            if isinstance(model, Network):
                model.check = checked


_REMEMBERED: "WeakKeyDictionary[nn.Module, Remembered]" = WeakKeyDictionary()
"""The state at the outermost `frozen_eval` of each network that is in one."""


@contextmanager
def _alike(model: nn.Module) -> Iterator[None]:
    """Let every pass of this thread begin with the same state and the same chance; the state is put back at the end."""
    bare = model.bare if isinstance(model, Network) else model
    known = _REMEMBERED.get(bare)
    if known is not None:  # within another
        known.restore()
        yield
        return
    before = _REMEMBERED[bare] = Remembered(bare)

    def begin(module: nn.Module, inputs: Any) -> None:
        before.restore()
        reseed()

    handle = None
    if not isinstance(bare, torch.jit.ScriptModule):  # the bare network: looks at inner layers call it alone
        handle = bare.register_forward_pre_hook(_this_thread_only(begin))
    try:
        reseed()
        yield
    finally:
        if handle is not None:
            handle.remove()
        del _REMEMBERED[bare]
        before.restore()


def _this_thread_only(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Make a hook that ignores the forward passes of other threads, such as a server's predictions beside a method."""
    owner = threading.get_ident()

    def call(module: nn.Module, *values: Any) -> Any:
        return hook(module, *values) if threading.get_ident() == owner else None

    return call


@contextmanager
def observe(model: nn.Module, see: Callable[[str, nn.Module, Tensor | None, Tensor], bool | None]) -> Iterator[None]:
    """Call `see(name, module, input, output)` after every submodule of every forward pass run inside.

    `input` and `output` are the first tensors of each; a module that puts out no tensor is passed over. Where `see`
    returns True the forward pass stops there, and with it the `with` block. Passes of other threads are not observed.

    >>> net, ran = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), []
    >>> with frozen_eval(net), observe(net, lambda name, module, before, output: ran.append(name)):
    ...     _ = net(torch.ones(3, 1, 2, 2))
    >>> ran
    ['0', '1']
    """
    handles = []

    def hook(name: str) -> Callable[..., None]:
        def call(module: nn.Module, inputs: Any, output: Any) -> None:
            out = first_tensor(output)
            if out is not None and see(name, module, first_tensor(inputs), out):
                raise _Enough

        return _this_thread_only(call)

    with exclusive(model):
        try:
            for name, module in model.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):
                    handles.append(module.register_forward_hook(hook(name)))
            with suppress(_Enough):
                yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def observe_inputs(model: nn.Module, see: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """Call `see(name, module, input)` before every module of every forward pass run inside, the network itself as "".

    `input` is the first tensor of its inputs; without one the module is passed over. What `see` writes into a module's
    buffers is what the module then computes with. Passes of other threads are not observed.

    >>> net, seen = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), []
    >>> with frozen_eval(net), observe_inputs(net, lambda name, module, before: seen.append((name, before.ndim))):
    ...     _ = net(torch.ones(3, 1, 2, 2))
    >>> seen
    [('', 4), ('0', 4), ('1', 2)]
    """
    handles = []

    def hook(name: str) -> Callable[..., None]:
        def call(module: nn.Module, inputs: Any) -> None:
            first = first_tensor(inputs)
            if first is not None:
                see(name, module, first)

        return _this_thread_only(call)

    bare = model.bare if isinstance(model, Network) else model
    with exclusive(model):
        try:
            for name, module in bare.named_modules():
                if not isinstance(module, torch.jit.ScriptModule):
                    handles.append(module.register_forward_pre_hook(hook(name)))
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def capture(model: nn.Module, *layers: str) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that a forward pass run inside fills with the outputs of layers, gradient graph kept.

    The keys are the names as given. A value is the layer's output at its first call, or the first tensor in it. The
    forward pass stops, and with it the `with` block, as soon as the last of the layers has run.

    Raises:
        LayerError: no such layer, or one that puts out no tensor; no hook is left then either.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Softmax(1))
    >>> with frozen_eval(net), capture(net, "1") as seen:
    ...     _ = net(torch.ones(3, 1, 2, 2))
    >>> seen["1"].shape
    torch.Size([3, 2])
    """
    names = {layer: layer_name(model, layer) for layer in layers}
    seen: dict[str, Tensor] = {}
    handles = []

    def hook(layer: str) -> Callable[..., None]:
        def call(module: nn.Module, inputs: Any, output: Any) -> None:
            out = first_tensor(output)
            if out is None:
                raise LayerError(
                    f"layer {layer!r} puts out no tensor but a {type(output).__name__}. Name a part of it."
                )
            if layer not in seen:
                last = len(seen) == len(names) - 1
                seen[layer] = out if last else out.clone()  # what runs on may change it in place
            if len(seen) == len(names):
                raise _Enough

        return _this_thread_only(call)

    with exclusive(model):
        try:
            for layer, name in names.items():
                handles.append(model.get_submodule(name).register_forward_hook(hook(layer)))
            with suppress(_Enough):
                yield seen
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def intervene(model: nn.Module, layer: str, change: Callable[[Tensor, nn.Module], Tensor]) -> Iterator[None]:
    """Replace a layer's output by `change(output, module)` in every forward pass run inside, at the layer's first call.

    Of an output that holds several things the first tensor is replaced. `change` may return another batch size;
    whether the rest of the network can go on with it is the caller's to check. Passes of other threads run unchanged.

    Raises:
        LayerError: no such layer; no hook is left then either.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> with intervene(net, "0", lambda output, module: output.repeat(3, 1)):
    ...     net(torch.ones(5, 1, 2, 2)).shape
    torch.Size([15, 2])
    """
    calls = 0

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        return _replaced(output, lambda found: change(found, module)) if calls == 1 else output

    def begin(module: nn.Module, inputs: Any) -> None:
        nonlocal calls
        calls = 0

    module = model.get_submodule(layer_name(model, layer))
    with exclusive(model):
        handles = [
            (model.bare if isinstance(model, Network) else model).register_forward_pre_hook(_this_thread_only(begin)),
            module.register_forward_hook(_this_thread_only(hook)),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _replaced(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of a layer's output with its first tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    for key, part in _parts(value):
        if first_tensor(part) is not None:
            new = _replaced(part, change)
            if isinstance(value, tuple):
                parts = (*value[:key], new, *value[key + 1 :])
                return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
            twin = copy.copy(value)
            if isinstance(value, dict | list):
                twin[key] = new
            else:
                object.__setattr__(twin, key, new)  # a frozen dataclass as well
            return twin
    return value


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return key and value of each part of a layer's output: of a dict, list, tuple or dataclass."""
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, list | tuple):
        return enumerate(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
    return ()


def is_output(model: nn.Module, layer: str) -> bool:
    """Tell whether a layer's name means the network's own output.

    >>> is_output(nn.ReLU(), "output")
    True
    """
    return layer == OUTPUT and OUTPUT not in dict(model.named_children())


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in a layer's output: itself, or the first in a tuple, list, dict or dataclass.

    >>> first_tensor((None, [torch.ones(1)]))
    tensor([1.])
    """
    if isinstance(value, Tensor):
        return value
    return next((found for _, part in _parts(value) if (found := first_tensor(part)) is not None), None)


def activations(model: nn.Module, layer: str, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b channels y x"]:
    """Return the activations of a layer for a batch of images, channels first, with their gradient graph.

    Of a layer that is called several times it is the first call; the forward pass stops there. A vector `[b, n]` comes
    as n maps of 1 x 1, tokens `[b, n, channels]` as maps of the patches that they stand for; `output` names the logits.
    Half precision comes in full. A network whose answer depends on what else is in the batch sees one picture at a
    time. Call it inside `frozen_eval`.

    Raises:
        LayerError: no such layer, it did not run, or its output is neither a map, nor tokens, nor a vector.
        ModelError: the pictures ask for gradients, and none passes: the network detaches its features.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> with frozen_eval(net):
    ...     activations(net, "0", torch.rand(2, 3, 5, 5)).shape
    torch.Size([2, 8, 3, 3])
    """
    if len(images) > 1 and one_at_a_time(model, images[:1], layer):
        return torch.cat([_activations(model, layer, image[None]) for image in images])
    return _activations(model, layer, images)


def _activations(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    if is_output(model, layer):
        out = first_tensor(called(model, _own(model, images)))
        if out is None:
            raise LayerError("the network puts out no tensor.")
        return at_least_float32(as_maps(_reachable(out, images, layer), model, layer, images.shape[2:]))
    with capture(model, layer) as seen:
        run(model, _own(model, images))
    if layer not in seen:
        raise LayerError(f"layer {layer!r} does not run when the network sees pictures. Name one that does.")
    module = model.get_submodule(layer_name(model, layer))
    if seen[layer].ndim > 2 and len(seen[layer]) != len(images):
        raise LayerError(
            f"layer {layer!r} sees {len(seen[layer])} pieces of {len(images)} pictures, such as windows, so that its "
            "output is no map of a picture. Name the block around it."
        )
    return at_least_float32(as_maps(_reachable(seen[layer], images, layer), module, layer, images.shape[2:]))


def _own(model: nn.Module, images: Tensor) -> Tensor:
    """Copy pictures, since a network may work in place, in the order of memory that it is given them in."""
    own = images.clone(memory_format=memory_format(model))
    return own if isinstance(model, Network) else at_the_door(model, own)


_ALONE: "WeakKeyDictionary[nn.Module, dict[Any, bool | None]]" = WeakKeyDictionary()
"""Which networks that still live see one picture at a time; None where the whole of one does not run."""


def one_at_a_time(model: nn.Module, image: Float[Tensor, "b c h w"], layer: str = "") -> bool:
    """Tell whether a network must see each picture alone: its answer depends on what else is in the batch.

    Of a network that does not run to its end only what runs up to `layer` counts.

    >>> one_at_a_time(nn.BatchNorm2d(3, track_running_stats=False), torch.rand(1, 3, 4, 4))
    True
    """
    bare = model.bare if isinstance(model, Network) else model
    if type(bare).__module__.startswith("torchloupe.models."):
        return False
    about = (tuple(image.shape[1:]), image.dtype, tuple(map(id, bare.modules())))
    known = _ALONE.setdefault(bare, {})
    if about not in known:
        try:
            known[about] = _depends(model, image[:1].detach(), "")
        except Exception:  # whatever it raises behind the layer; what it raises before is raised again
            known[about] = None
    if known[about] is None and (*about, layer) not in known:
        known[*about, layer] = _depends(model, image[:1].detach(), layer)
    return bool(known[about] if known[about] is not None else known[*about, layer])


def _depends(model: nn.Module, image: Tensor, layer: str) -> bool:
    def passed(images: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
            found.setdefault(name, output.clone())
            return name == layer

        with observe(model, see):
            out = first_tensor(run(model, laid_out(model, images)))
            if out is not None:
                found[""] = out
        return found

    with frozen_eval(model), torch.no_grad():
        return depends_on_company(passed, image)


def _reachable(output: Tensor, images: Tensor, layer: str) -> Tensor:
    if images.requires_grad and torch.is_grad_enabled() and not output.requires_grad:
        raise ModelError(
            f"no gradient passes from layer {layer!r} to the picture: the network detaches its features or runs under "
            "no_grad. Take that out of its forward."
        )
    return output


def as_maps(
    output: Tensor, module: nn.Module, layer: str = "", image: Sequence[int] = (1, 1)
) -> Float[Tensor, "b channels y x"]:
    """Bring a layer's output into the order `[b, channels, y, x]`; `image` is the height and width of the input.

    It is a view of the output. Of tokens, those of no place (class token, registers) are left out.

    >>> as_maps(torch.zeros(2, 7, 7, 96), nn.Linear(96, 96)).shape
    torch.Size([2, 96, 7, 7])
    """
    if output.ndim == 2:
        return output[:, :, None, None]
    grid = grid_of(module, output.shape, image) if output.ndim == 3 else None
    if grid is not None:
        tokens = output if grid.axis == 1 else output.transpose(1, 2)
        return tokens[:, grid.extra :].view(len(tokens), grid.height, grid.width, -1).permute(0, 3, 1, 2)
    if output.ndim != 4:
        raise LayerError(
            f"layer {layer!r} puts out {list(output.shape)}, which is no map [b, channels, y, x], no vector "
            "[b, channels] and no token a patch [b, n, channels]. Name a layer that does; `torchloupe layers` lists "
            "them."
        )
    return output.permute(0, 3, 1, 2) if channels_last(module, output.shape, image) else output


def maps_of(
    output: Tensor, module: nn.Module, images: int, image: Sequence[int] = (1, 1)
) -> Float[Tensor, "b channels y x"] | None:
    """Return the output of a layer for so many pictures as `as_maps` does; None where it is no map, token or vector.

    >>> maps_of(torch.zeros(2, 5, 5, 5, 5), nn.Identity(), 2) is None
    True
    """
    if len(output) != images or output.ndim not in (2, 3, 4):
        return None
    if output.ndim == 3 and grid_of(module, output.shape, image) is None:
        return None
    return as_maps(output, module, "", image)


def channels_last(module: nn.Module, shape: torch.Size, image: Sequence[int] = (1, 1)) -> bool:
    """Tell whether a 4-D output is `[b, y, x, channels]`: by the module's kind, else by the picture's proportions.

    The two axes of a map have about the proportions of the picture (height, width). Channels come first unless the
    other order fits clearly better, and either fits well or the first not at all.

    >>> channels_last(nn.GELU(), torch.Size([1, 7, 7, 96])), channels_last(nn.GELU(), torch.Size([1, 96, 7, 7]))
    (True, False)
    """
    _, second, third, last = shape
    height, width = image
    if isinstance(module, nn.Linear):
        return True
    if isinstance(module, nn.modules.conv._ConvNd | nn.modules.batchnorm._BatchNorm | nn.GroupNorm):
        return False
    format = getattr(module, "data_format", None)
    if format in ("channels_first", "channels_last"):
        return bool(format == "channels_last")
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[-1] == last

    def misfit(y: int, x: int) -> float:
        return abs(math.log(max(1, y) / max(1, x) * width / height))

    first, other = misfit(third, last), misfit(second, third)
    return other < first - CLEARLY and (other < FITS or first > FAR)
