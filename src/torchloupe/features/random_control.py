"""The parameter-randomization control: what an image owes to training, beside what the architecture alone gives it."""

import copy
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, ParamSpec, TypeVar, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from torchloupe.errors import ModelError, UsageError, short
from torchloupe.features.batch_statistics import measure_batch_statistics
from torchloupe.features.hooks import frozen_eval, observe
from torchloupe.features.owner import exclusive, seeded
from torchloupe.features.trace import placed
from torchloupe.models.layout import laid_out
from torchloupe.models.network import Network

P = ParamSpec("P")
R = TypeVar("R")
Kind = Literal["initial", "permuted"]
"""Weights as before training, or those of the trained network in another order."""

TRIES = 3
"""Streams that are drawn from before a network counts as one that cannot be drawn anew."""
SETTLING = 30
"""Power iterations for a spectral norm to fit weights that it has not seen."""


def randomize(
    model: nn.Module,
    seed: int = 0,
    images: Float[Tensor, "b c h w"] | None = None,
    *,
    kind: Kind = "initial",
) -> nn.Module:
    """Return a copy of a network with other weights (Adebayo et al. 2018, "Sanity checks for saliency maps").

    `initial`: freshly drawn, as before training. Modules that know how to reset themselves (`reset_parameters`) do so,
    the outer ones after their parts, as our own networks do; what nobody resets keeps its mean and standard deviation
    and is shuffled. `permuted`: all weights keep their values, shuffled within each tensor. Where a weight is made from
    others (`torch.nn.utils`: prune, weight_norm, spectral_norm; parametrizations) those are drawn. No `manual_seed` of
    the caller gives the same numbers, whose random state is left alone.

    With `images` in [0, 1] (some hundred of the network's own data) the statistics of BatchNorm are measured on them,
    see `measure_batch_statistics`, and it is checked that what the layers put out is finite and of a like scale.
    Without, BatchNorm has mean 0 and variance 1: it normalizes nothing, and the network differs by more than weights.

    Raises:
        ModelError: a weight stays what it is, or the random network puts out nothing sensible.
        UsageError: another kind.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3))
    >>> bool((randomize(net)[0].weight == net[0].weight).any())
    False
    >>> torch.equal(randomize(net, kind="permuted")[0].weight.flatten().sort()[0], net[0].weight.flatten().sort()[0])
    True
    """
    if kind not in get_args(Kind):
        raise UsageError(f"kind is 'initial' or 'permuted', not {short(kind)}.")
    drawn = replica(model)
    with torch.inference_mode(False), torch.no_grad():
        bare = drawn.bare if isinstance(drawn, Network) else drawn
        trained = {name: value.clone() for name, value in _weights(bare)}
        same: list[str] = []
        for attempt in range(TRIES):
            _redraw(bare, trained, seed, attempt, kind)
            same = [name for name, value in _weights(bare) if _unchanged(value, trained[name])]
            if not same:
                break
        if same:
            raise ModelError(
                f"the weight {same[0]!r} stays as it was trained when the network is drawn anew: there is no random "
                "control of it. Ask without (--no-randomized, randomized=False)."
            )
    if images is not None:
        images = placed(model, images)
        measure_batch_statistics(drawn, images)
        _check_scale(model, drawn, images)
    return drawn


def replica(model: nn.Module) -> nn.Module:
    """Return a copy of a network that gradients pass, made while no other thread has switched and hooked it.

    >>> replica(nn.ReLU())
    ReLU()
    """
    with torch.inference_mode(False), torch.no_grad(), exclusive(model):
        # in here: weights copied under inference_mode let no gradient pass
        return copy.deepcopy(model, _detached(model))


def _detached(model: nn.Module) -> dict[int, Any]:
    """Return what `deepcopy` takes for tensors that it refuses: those that a hook made of weights, with their graph."""
    kept = [value for module in model.modules() for value in module.__dict__.values() if isinstance(value, Tensor)]
    return {id(value): value.detach().clone() for value in kept if not value.is_leaf}


def _unchanged(value: Tensor, before: Tensor) -> bool:
    """Tell whether a weight that is no constant has kept (almost) all of its entries, but zeros that a mask puts in."""
    some = (value != 0) | (before != 0)
    if not bool(some.any()) or bool((value == value.flatten()[0]).all()):
        return False
    return bool((value == before)[some].float().mean() > SAME)


SAME = 0.5
"""A weight of which more entries than this share are what they were is not drawn anew."""


def _weights(bare: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of every weight, as forwards use it: what a parametrization or a hook makes of others included."""
    for prefix, module in bare.named_modules():
        if isinstance(module, parametrize.ParametrizationList):
            continue
        for name, value in _used(module).items():
            if value.numel() > 1:
                yield f"{prefix}.{name}" if prefix else name, value.detach()


def _used(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's own weights by the names that its forward uses."""
    found = {name: p for name, p in module.named_parameters(recurse=False) if not _is_part(module, name)}
    return {**found, **{name: getattr(module, name) for name in _made(module)}}


def _made(module: nn.Module) -> list[str]:
    """Return the names of a module's weights that are computed from others."""
    new = list(module.parametrizations) if parametrize.is_parametrized(module) else []  # type: ignore[arg-type]
    own = module._parameters
    old = [name for name, value in module.__dict__.items() if isinstance(value, Tensor)]
    return [*new, *(name for name in old if f"{name}_orig" in own or {f"{name}_g", f"{name}_v"} <= own.keys())]


def _is_part(module: nn.Module, parameter: str) -> bool:
    return any(parameter == f"{name}{end}" for name in _made(module) for end in ("_orig", "_g", "_v"))


def _redraw(bare: nn.Module, trained: Mapping[str, Tensor], seed: int, attempt: int, kind: Kind) -> None:
    """Draw every weight of a network anew, from a stream that no `manual_seed(n)` of a user begins."""
    word = f"torchloupe: parameter randomization {seed} {attempt}".encode()
    modules = [(name, m) for name, m in bare.named_modules() if not isinstance(m, parametrize.ParametrizationList)]
    with seeded(int.from_bytes(hashlib.sha256(word).digest()[:7], "big")):
        torch.rand(1009)  # a generator takes 32 bits of its seed only: nobody begins here
        for _, module in reversed(modules):  # parts before what holds them
            if kind == "initial":
                _reset(module)
            elif callable(forget := getattr(module, "reset_running_stats", None)):
                forget()
        for prefix, module in modules:
            for own, value in _used(module).items():
                before = trained.get(f"{prefix}.{own}" if prefix else own)
                if before is not None and (kind == "permuted" or _unchanged(value, before)):
                    _place(module, own, _shuffled(value.detach()))


def _reset(module: nn.Module) -> None:
    """Let a module that can do so draw its weights anew."""
    made = _made(module)
    plain = _plain(module) if made else module
    if callable(reset := getattr(plain, "reset_parameters", None)):
        reset()
        for name in made:
            _put(module, name, _used(plain)[name].detach())


def _place(module: nn.Module, name: str, fresh: Tensor) -> None:
    if name in _made(module):
        _put(module, name, fresh)
    else:
        module.get_parameter(name).copy_(fresh)


def _varied(value: Tensor) -> bool:
    return value.numel() > 1 and bool((value != value.flatten()[0]).any())


def _shuffled(parameter: Tensor) -> Tensor:
    """Return the same numbers in another order, if there is one."""
    order = torch.randperm(parameter.numel(), device="cpu").to(parameter.device)
    mixed = parameter.flatten()[order].view_as(parameter)
    if _varied(parameter) and torch.equal(mixed, parameter):
        mixed = parameter.flatten().roll(1).view_as(parameter)
    return mixed.clone()


def _plain(module: nn.Module) -> nn.Module:
    """Return a stand-in for a module whose weights are made from others, with weights of its own to be reset."""
    kind = parametrize.type_before_parametrizations(module)
    plain = cast(nn.Module, object.__new__(kind))
    made = set(_made(module))
    plain.__dict__ = {key: value for key, value in module.__dict__.items() if key not in made}
    plain._modules = {name: child for name, child in module._modules.items() if name != "parametrizations"}
    kept = {name: p for name, p in module._parameters.items() if not _is_part(module, name)}
    plain._parameters = {**kept, **{name: nn.Parameter(getattr(module, name).detach().clone()) for name in made}}
    return plain


def _put(module: nn.Module, name: str, fresh: Tensor) -> None:
    """Give a weight that is made from others a fresh value, as near as what makes it allows."""
    own = module._parameters
    if parametrize.is_parametrized(module, name):
        makers = cast(nn.Module, module.parametrizations)[name]  # type: ignore[index]
        try:
            setattr(module, name, fresh)
        except Exception:  # it has no way back: what it is made from is drawn
            for original in makers.parameters(recurse=False):
                original.copy_(torch.randn_like(original) * original.std() + original.mean())
        _settle(makers, lambda: getattr(module, name))
        return
    original = own.get(f"{name}_orig")
    if original is not None:
        original.copy_(fresh)
    else:
        size, direction = own[f"{name}_g"], own[f"{name}_v"]
        assert size is not None and direction is not None
        direction.copy_(fresh)
        axes = [i for i in range(fresh.ndim) if size.ndim != fresh.ndim or size.shape[i] == 1]
        size.copy_(torch.linalg.vector_norm(fresh, dim=axes, keepdim=True).view_as(size))

    def make() -> None:
        for hook in module._forward_pre_hooks.values():
            if getattr(hook, "name", getattr(hook, "_tensor_name", None)) == name:
                hook(module, ())

    _settle(module, make)


def _settle(module: nn.Module, make: Callable[[], object]) -> None:
    """Let what is estimated of a weight while training (a spectral norm) be estimated of the fresh one."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = True
        for _ in range(SETTLING):
            make()
    finally:
        for part, mode in modes:
            part.training = mode
    make()


LARGER = 100.0
"""Activations of random weights may be so many times as large as those of the trained ones."""


def _check_scale(model: nn.Module, drawn: nn.Module, images: Tensor) -> None:
    trained, random = (_scale(net, images[:1]) for net in (model, drawn))
    if math.isnan(random) or random > LARGER * trained > 0:
        much = "not finite" if math.isnan(random) else f"{random / trained:.0f} times as large"
        raise ModelError(
            f"with random weights the network's activations are {much}: there is no fair random control of it. Ask "
            "without (--no-randomized, randomized=False)."
        )


def _scale(model: nn.Module, image: Tensor) -> float:
    """Return the largest root mean square of any layer's output; NaN where one is not finite, 0 where none ran."""
    found = [0.0]

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> None:
        if output.is_floating_point() and output.numel():
            found.append(float(output.double().square().mean().sqrt()))

    with frozen_eval(model), torch.no_grad(), observe(model, see), suppress(Exception):  # what runs of it counts
        model(laid_out(model, image.clone()))
    return max(found) if all(map(math.isfinite, found)) else math.nan


def takes_twin(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method's `randomized` go by `twin` too, its name until version 0.2.

    >>> takes_twin(lambda *, randomized: randomized)(twin=False)
    False
    """

    @functools.wraps(method)
    def call(*args: Any, **settings: Any) -> Any:
        if "twin" in settings:
            settings.setdefault("randomized", settings.pop("twin"))
        return method(*args, **settings)

    return cast(Callable[P, R], call)
