"""The last linear layer: each of its inputs adds its weight times itself to a class's logit, and nothing else does."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchloupe.features.hooks import OUTPUT, activations, frozen_eval, observe
from torchloupe.features.trace import at_once, placed

EQUAL = 1e-3
"""By what share of the logits' size they may differ from weights times inputs: half precision's rounding."""


@dataclass(frozen=True, eq=False)
class Head:
    """What a network's logits are made of: features @ weight.T + bias."""

    layer: str
    weight: Float[Tensor, "classes units"]
    bias: Float[Tensor, " classes"]


def head(model: nn.Module, images: Float[Tensor, "b c h w"]) -> Head | None:
    """Return the linear layer that the logits come from, times a factor where one follows; None where there is none.

    It is looked for by its numbers: the last linear layer whose output, times one factor, equals the logits.

    >>> head(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(2, 3, 2, 2)).layer
    '1'
    """
    found: list[tuple[str, nn.Linear, Tensor]] = []

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        if isinstance(module, nn.Linear) and output.ndim == 2:
            found.append((name, module, output.clone()))
        return False

    batch = placed(model, images[:4])
    with frozen_eval(model), torch.no_grad():
        with observe(model, see):
            logits = activations(model, OUTPUT, batch).flatten(2)
        if logits.shape[2] != 1:
            return None
        for name, module, output in reversed(found):
            factor = _factor(output[-len(batch) :].to(logits), logits[:, :, 0])
            if factor is not None:
                weight = module.weight.detach().to(logits) * factor
                bias = (
                    weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().to(logits) * factor
                )
                return Head(name, weight, bias)
    return None


def head_features(model: nn.Module, images: Float[Tensor, "b c h w"], layer: str) -> Float[Tensor, "b units"]:
    """Return what goes into a linear layer that runs once, of images in batches, on the CPU.

    >>> head_features(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.ones(2, 3, 2, 2), "1").shape
    torch.Size([2, 12])
    """
    parts: list[Tensor] = []

    def see(name: str, module: nn.Module, before: Tensor | None, output: Tensor) -> bool:
        if name == layer and before is not None:
            parts.append(
                before.detach().clone().float() if before.dtype in (torch.half, torch.bfloat16) else before.clone()
            )
        return False

    size = at_once(model, OUTPUT, placed(model, images[:1]))
    out: list[Tensor] = []
    with frozen_eval(model), torch.no_grad():
        for start in range(0, len(images), size):
            parts.clear()
            piece = placed(model, images[start : start + size])
            with observe(model, see):
                activations(model, OUTPUT, piece)
            out.append(torch.cat(parts)[-len(piece) :].cpu())
    return torch.cat(out)


def _factor(output: Tensor, logits: Tensor) -> float | None:
    """Return the number that makes logits of a layer's output; None where none does."""
    if output.shape != logits.shape or not bool(output.square().sum() > 0):
        return None
    factor = float((output * logits).sum() / output.square().sum())
    apart = (output * factor - logits).abs().max()
    return factor if bool(apart <= EQUAL * logits.abs().max()) else None
