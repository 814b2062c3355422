"""Tokens as maps: where each stands, against autograd and indices by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchloupe import wrap
from torchloupe.attribution.backprop import gradient
from torchloupe.errors import LayerError
from torchloupe.evaluation.ablation import ablate
from torchloupe.evaluation.channels import health
from torchloupe.features.feature_maps import feature_maps
from torchloupe.features.hooks import activations, frozen_eval
from torchloupe.features.receptive import receptive_fields
from torchloupe.features.tokens import grid_of, places
from torchloupe.features.top_examples import top_examples
from torchloupe.features.trace import resolve, trace
from torchloupe.models.network import Network

transformers = pytest.importorskip("transformers")
SIDE = 32
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "num_labels": 3}


def vit() -> nn.Module:
    config = transformers.ViTConfig(image_size=SIDE, patch_size=8, **SMALL)
    return transformers.ViTForImageClassification(config)  # type: ignore[no-any-return]


def dino() -> nn.Module:
    config = transformers.Dinov2WithRegistersConfig(image_size=SIDE, patch_size=8, num_register_tokens=4, **SMALL)
    return transformers.Dinov2WithRegistersForImageClassification(config)  # type: ignore[no-any-return]


def swin() -> nn.Module:
    config = transformers.SwinConfig(
        image_size=SIDE, patch_size=4, embed_dim=8, depths=[2, 1], num_heads=[1, 2], window_size=4, num_labels=3
    )
    return transformers.SwinForImageClassification(config)  # type: ignore[no-any-return]


BLOCKS = {"vit": (vit, 1, (4, 4)), "dino": (dino, 5, (4, 4)), "swin": (swin, 0, (4, 4))}


def network(name: str, dtype: torch.dtype = torch.float64) -> Network:
    torch.manual_seed(0)
    bare = BLOCKS[name][0]()
    for parameter in bare.parameters():
        nn.init.normal_(parameter, std=0.2)
    return wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, size=SIDE, classes=3).to(dtype)


def images(n: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(
    ("tokens", "image", "found"),
    [
        (197, (224, 224), (1, 14, 14)),
        (196, (224, 224), (0, 14, 14)),
        (198, (224, 224), (2, 14, 14)),
        (201, (224, 224), (5, 14, 14)),
        (257, (224, 224), (1, 16, 16)),
        (261, (224, 224), (5, 16, 16)),
        (50, (224, 224), (1, 7, 7)),
        (65, (32, 32), (1, 8, 8)),
        (1 + 8 * 12, (128, 192), (1, 8, 12)),
        (1 + 9 * 9, (37, 37), (1, 9, 9)),
        (1, (224, 224), None),
        (3, (224, 224), None),
    ],
)
def test_the_grid_of_tokens(tokens: int, image: tuple[int, int], found: tuple[int, int, int] | None) -> None:
    assert places(tokens, image) == found


def test_channels_may_stand_before_places() -> None:
    assert grid_of(nn.Flatten(2), (1, 64, 16), (32, 32)) == (2, 0, 4, 4)
    assert grid_of(nn.Linear(3, 16), (1, 20, 16), (32, 32)) == (1, 4, 4, 4)
    assert grid_of(nn.LayerNorm(16), (1, 60, 16), (32, 32)) is None


def by_hand(net: Network, layer: str, extra: int, x: Tensor) -> Tensor:
    """What a hook of one's own sees, token by token."""
    seen: list[Any] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o))
    net(x)
    handle.remove()
    tokens: Tensor = seen[0] if isinstance(seen[0], Tensor) else seen[0][0]
    return tokens[:, extra:]


def block_of(net: Network) -> str:
    return resolve(net, "last")


@pytest.mark.parametrize("name", BLOCKS)
def test_a_token_is_the_place_that_its_patch_comes_from(name: str) -> None:
    net, (_, extra, (rows, columns)) = network(name), BLOCKS[name]
    layer, x = block_of(net), images()
    maps = feature_maps(net, layer, x).maps
    tokens = by_hand(net, layer, extra, x)
    assert maps.shape == (2, tokens.shape[2], rows, columns)
    for y in range(rows):
        for c in range(columns):
            torch.testing.assert_close(maps[:, :, y, c], tokens[:, y * columns + c])


@pytest.mark.parametrize("name", BLOCKS)
def test_the_gradient_is_that_of_autograd_through_the_tokens(name: str) -> None:
    net, (_, extra, (_, columns)) = network(name), BLOCKS[name]
    layer, x = block_of(net), images(1).requires_grad_()
    tokens = by_hand(net, layer, extra, x)
    value = tokens[0, 2 * columns + 1, 3]
    (slope,) = torch.autograd.grad(value, x)
    found = gradient(net, layer, x.detach(), channels=[3], each=True, position=(2, 1), randomized=False)
    torch.testing.assert_close(found.signal[0], slope[0] * value.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", BLOCKS)
def test_last_is_a_block_and_the_layers_are_listed(name: str) -> None:
    net = network(name)
    calls = {call.name: call for call in trace(net)}
    last = calls[block_of(net)]
    assert next(last.module.children(), None) is not None and last.sides == BLOCKS[name][2]
    assert type(last.module).__name__.endswith(("Layer", "Block", "Stage")), type(last.module)
    assert last.channels == by_hand(net, last.name, 0, images()).shape[2]


def test_a_patch_sees_itself_and_attention_sees_everything() -> None:
    net = network("vit", torch.float32)
    fields = receptive_fields(net, SIDE)
    patches = next(name for name in fields if name.endswith("projection"))
    assert fields[patches].size == (8, 8) and fields[patches].box(1, 2) == (8, 16, 16, 24)
    assert fields[block_of(net)].size == (SIDE, SIDE)


def test_windows_are_no_maps_of_a_picture() -> None:
    net = network("swin")
    window = next(name for name, _ in net.named_modules() if name.endswith(("attention.self", "attention")))
    with pytest.raises(LayerError, match="pieces of 2 pictures, such as windows"), frozen_eval(net):
        activations(net, window, images())
    assert {call.name: call.channels for call in trace(net)}[window] is None


def test_health_top_examples_and_ablation_count_tokens() -> None:
    net = network("vit", torch.float32)
    layer = block_of(net)
    pictures = (images(6) * 255).round().to(torch.uint8)
    maps = by_hand(net, layer, 1, pictures.float() / 255)
    known = health(net, pictures, layers=[layer])[layer]
    torch.testing.assert_close(known.mean, maps.mean((0, 1)).detach(), rtol=1e-4, atol=1e-5)
    found = top_examples(net, layer, pictures, channels=[5], count=2)
    best = maps[:, :, 5].amax(1).topk(2)
    assert found.index[0].tolist() == best.indices.tolist()
    torch.testing.assert_close(found.activation[0], best.values.detach())
    place = int(maps[best.indices[0], :, 5].argmax())
    assert found.position[0, 0].tolist() == [place // 4, place % 4]
    labels = net(pictures.float() / 255).argmax(1)

    def without(module: nn.Module, inputs: Any, output: Any) -> Any:
        tokens = (output if isinstance(output, Tensor) else output[0]).clone()
        tokens[:, :, 5] = 0  # of the class token too
        return tokens if isinstance(output, Tensor) else (tokens, *output[1:])

    handle = net.get_submodule(layer).register_forward_hook(without)
    right = (net(pictures.float() / 255).argmax(1) == labels).float().mean()
    handle.remove()
    lost = ablate(net, layer, pictures, labels, channels=[5], size=SIDE)
    assert lost.accuracy == 1 and lost.drop[0] == pytest.approx(1 - float(right))
