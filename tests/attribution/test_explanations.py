"""Explanations against plain loops, identities, a matrix form, and captum."""

from collections.abc import Iterator
from typing import Any, cast

import captum.attr
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contract import net as small
from nets import Functional, PreActivation, Vgg, stirred
from torchloupe.attribution import lrp as rules
from torchloupe.attribution.cam import eigen_cam, grad_cam, grad_cam_plus_plus, layer_cam
from torchloupe.attribution.lrp import lrp, relevances
from torchloupe.attribution.maps import Aim, Attribution
from torchloupe.attribution.occlusion import occlusion
from torchloupe.attribution.path import gradient_shap, input_x_gradient, integrated_gradients, smoothgrad
from torchloupe.attribution.rise import random_masks, rise
from torchloupe.errors import LayerError, ModelError, UsageError
from torchloupe.features.hooks import frozen_eval
from torchloupe.inspection.catalog import ATTRIBUTIONS, load_function
from torchloupe.models import build
from torchloupe.models.network import Network, wrap

EACH = pytest.mark.parametrize("row", ATTRIBUTIONS, ids=lambda row: row.name)
QUICK: dict[str, dict[str, Any]] = {"rise": {"masks": 40}, "smoothgrad": {"copies": 3}, "gradient-shap": {"copies": 3}}


def images(n: int = 2, side: tuple[int, int] = (33, 29), seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nets() -> dict[str, tuple[nn.Module, str, tuple[int, int]]]:
    """Networks with in-place, functional and module rectifiers, with and without BatchNorm; a layer; a size."""
    return {
        "vgg": (stirred(Vgg()), "features", (33, 29)),
        "pre-activation": (stirred(PreActivation()), "last", (31, 27)),
        "functional": (stirred(Functional()), "last", (35, 31)),
        "resnet20": (stirred(build("resnet20")), "layer3.2", (21, 19)),
        "loupe": (small(), "layer3.1", (19, 19)),
    }


NETS = nets()
EACH_NET = pytest.mark.parametrize("case", NETS)


def close(one: Tensor, other: Tensor, tolerance: float = 1e-10) -> None:
    one, other = one.detach(), other.detach()
    assert one.shape == other.shape and other.abs().max() > 0
    assert float((one - other).abs().max() / other.abs().max()) <= tolerance


def logits(model: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = model(x)
    return out.flatten(2).mean(2) if out.ndim > 2 else out


def linear(classes: int = 3, side: int = 4) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes)).double()


# Class activation maps


def by_hand(model: nn.Module, layer: str, x: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """A layer's maps and the logit's gradient by them, one picture at a time, by a hook of this file."""
    maps, grads = [], []
    module = model.get_submodule(layer)
    for image in x:
        kept: list[Tensor] = []

        def hook(_: Any, __: Any, output: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(output)
            return output * 1

        handle = module.register_forward_hook(hook)
        try:
            score = logits(model, image[None].clone().requires_grad_())[0, target]
        finally:
            handle.remove()
        maps.append(kept[0].detach()[0])
        grads.append(torch.autograd.grad(score, kept[0])[0][0])
    return torch.stack(maps), torch.stack(grads)


def larger(cells: Tensor, side: tuple[int, int]) -> Tensor:
    return F.interpolate(cells[:, None], side, mode="bilinear", align_corners=False)[:, 0]


@EACH_NET
def test_class_activation_maps_by_plain_loops(case: str) -> None:
    model, layer, side = NETS[case]
    model.eval()
    x = images(2, side)
    name = grad_cam(model, x, target=1, layer=layer).layer
    maps, by = by_hand(model, name, x, 1)
    plain = torch.zeros(2, *maps.shape[2:], dtype=x.dtype)
    plus, cells, first = (torch.zeros_like(plain) for _ in range(3))
    for b in range(2):
        for c in range(maps.shape[1]):
            plain[b] += by[b, c].mean() * maps[b, c]
            cells[b] += by[b, c].clamp(min=0) * maps[b, c]
            weight = 0.0
            for y in range(maps.shape[2]):
                for z in range(maps.shape[3]):
                    g = by[b, c, y, z].item()
                    below = 2 * g**2 + g**3 * maps[b, c].sum().item()
                    weight += (g**2 / below if g and below else 0.0) * max(g, 0.0)
            plus[b] += weight * maps[b, c]
        table = maps[b].flatten(1).T
        _, vectors = torch.linalg.eigh(table.T @ table)
        seen = (table @ vectors[:, -1]).view(*maps.shape[2:])
        first[b] = seen if seen.sum() >= 0 else -seen
    for method, expected in ((grad_cam, plain), (grad_cam_plus_plus, plus), (layer_cam, cells), (eigen_cam, first)):
        close(method(model, x, target=1, layer=layer).map, larger(expected, side), 1e-8)


@EACH_NET
def test_grad_cam_as_captum_has_it(case: str) -> None:
    model, layer, side = NETS[case]
    if case == "vgg":
        pytest.skip("captum hooks a whole Sequential that ends in place; the plain loops hold it")
    model.eval()
    x = images(2, side)
    found = grad_cam(model, x, target=2, layer=layer)
    peer = captum.attr.LayerGradCam(lambda t: logits(model, t), model.get_submodule(found.layer))
    expected = peer.attribute(x.clone().requires_grad_(), target=2)
    close(found.map, larger(expected[:, 0], side), 1e-8)


def test_grad_cam_of_two_layers_by_hand() -> None:
    """Mean over positions of ReLU maps, then a linear layer: the map is Σ_k w_k / positions · A_k."""
    conv, head = nn.Conv2d(3, 4, 3, padding=1).double(), nn.Linear(4, 2).double()
    model = nn.Sequential(conv, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    x = images(2, (7, 5))
    maps = conv(x).relu()
    expected = torch.einsum("k,bkyx->byx", head.weight[1], maps) / 35
    close(grad_cam(model, x, target=1, layer="1").map, expected)
    close(
        grad_cam(model, x, target=(1, 0), layer="1").map,
        expected - torch.einsum("k,bkyx->byx", head.weight[0], maps) / 35,
    )


def test_what_is_no_map_is_refused() -> None:
    model = small()
    with pytest.raises(LayerError, match="inside the network"):
        grad_cam(model, images(1, (19, 19)), layer="output")
    with pytest.raises(LayerError):
        grad_cam(model, images(1, (19, 19)), layer="nowhere")


# By pixel


@pytest.mark.parametrize("settings", [(4, 4), (5, 3), (7, 2)])
@pytest.mark.parametrize("case", ["vgg", "loupe"])
def test_occlusion_by_a_plain_loop_and_as_captum_has_it(case: str, settings: tuple[int, int]) -> None:
    model, _, side = NETS[case]
    model.eval()
    x, (window, stride) = images(2, side), settings
    found = occlusion(model, x, target=1, patch=window, stride=stride, baseline=0.3)
    total, times = torch.zeros(2, *side, dtype=x.dtype), torch.zeros(side, dtype=x.dtype)
    with torch.no_grad():
        score = logits(model, x)[:, 1]
        for top in range(0, side[0] - window + stride, stride):
            for left in range(0, side[1] - window + stride, stride):
                covered = x.clone()
                covered[:, :, top : top + window, left : left + window] = 0.3
                total[:, top : top + window, left : left + window] += (score - logits(model, covered)[:, 1])[
                    :, None, None
                ]
                times[top : top + window, left : left + window] += 1
    close(found.map, total / times)
    peer = captum.attr.Occlusion(lambda t: logits(model, t))
    with torch.no_grad():
        expected = peer.attribute(x, (3, window, window), (3, stride, stride), baselines=0.3, target=1)
    close(found.map, expected[:, 0].double(), 1e-6)  # it computes in float32


@EACH_NET
def test_integrated_gradients_and_input_x_gradient_as_captum_has_them(case: str) -> None:
    model, _, side = NETS[case]
    model.eval()
    x = images(2, side)
    found = integrated_gradients(model, x, target=1, baseline=0.25, tolerance=0, steps=20)
    peer = captum.attr.IntegratedGradients(lambda t: logits(model, t))
    expected = peer.attribute(x, torch.full_like(x, 0.25), target=1, n_steps=20, method="gausslegendre")
    close(found.map, expected.sum(1), 1e-8)
    simple = captum.attr.InputXGradient(lambda t: logits(model, t)).attribute(x.clone().requires_grad_(), target=1)
    close(input_x_gradient(model, x, target=1, baseline=0.0).map, simple.sum(1), 1e-8)


@EACH_NET
def test_integrals_are_refined_until_they_sum_up(case: str) -> None:
    model, _, side = NETS[case]
    x = images(2, side)
    found = integrated_gradients(model, x, target=1)
    with frozen_eval(model), torch.no_grad():
        gain = (logits(model, x) - logits(model, torch.full_like(x, 0.5)))[:, 1]
    assert found.residual is not None
    close(found.residual, (found.map.sum((1, 2)) - gain) / gain.abs(), 1e-6)
    assert float(found.residual.abs().max()) <= 0.01


def test_integrated_gradients_of_smooth_and_linear_networks_sum_exactly() -> None:
    x = images(3, (4, 4))
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(48, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    found = integrated_gradients(smooth, x, tolerance=0)
    assert found.residual is not None and float(found.residual.abs().max()) <= 1e-3
    model = linear()
    weight = cast(nn.Linear, model[1]).weight  # type: ignore[index]
    expected = ((x - 0.5) * weight[2].view(3, 4, 4)).sum(1)
    for method in (integrated_gradients, input_x_gradient):
        made = method(model, x, target=2)
        close(made.map, expected)
        assert made.residual is not None and float(made.residual.abs().max()) < 1e-10
    close(smoothgrad(model, x, target=2, copies=3).map, weight[2].view(3, 4, 4).sum(0).expand(3, -1, -1))


def test_a_baseline_is_a_brightness_or_a_picture() -> None:
    model, x = linear(), images(2, (4, 4))
    one = input_x_gradient(model, x, target=0, baseline=torch.full((3, 4, 4), 0.2, dtype=torch.float64))
    close(one.map, input_x_gradient(model, x, target=0, baseline=0.2).map)
    assert float(input_x_gradient(model, x, target=0, baseline=x).map.abs().max()) == 0
    for wrong in (torch.zeros(3, 5, 5), 1.5, float("nan")):
        with pytest.raises(UsageError, match="baseline"):
            input_x_gradient(model, x, baseline=wrong)


def test_smoothgrad_by_a_plain_loop() -> None:
    model, x = small(), images(2, (19, 19))
    found = smoothgrad(model, x, target=1, noise=0.1, copies=4, seed=3)
    generator, total = torch.Generator().manual_seed(3), torch.zeros_like(x)
    with frozen_eval(model):
        for _ in range(4):
            noise = 0.1 * torch.randn(x.shape[1:], generator=generator, dtype=torch.float64)
            shown = (x + noise).requires_grad_()
            total += torch.autograd.grad(model(shown)[:, 1].sum(), shown)[0]
    close(found.map, total.sum(1) / 4)
    assert not torch.equal(found.map, smoothgrad(model, x, target=1, noise=0.1, copies=4, seed=4).map)


def test_gradient_shap_of_a_linear_network_as_captum_has_it() -> None:
    model, x = linear(), images(3, (4, 4))
    base = torch.full((1, 3, 4, 4), 0.3, dtype=torch.float64)
    found = gradient_shap(model, x, target=1, baselines=base, noise=0.0, copies=5)
    expected = captum.attr.GradientShap(model).attribute(x, base, n_samples=5, stdevs=0.0, target=1)
    close(found.map, expected.sum(1), 1e-10)
    assert found.residual is not None and float(found.residual.abs().max()) < 1e-10


def test_gradient_shap_comes_to_integrated_gradients_with_many_points() -> None:
    """From one baseline and without noise its expectation is the integral."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    x = images(2, (4, 4))
    base = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    expected = integrated_gradients(model, x, target=1).map
    few, many = (gradient_shap(model, x, target=1, baselines=base, noise=0.0, copies=n).map for n in (4, 400))
    assert float((many - expected).norm()) < 0.1 * float(expected.norm())
    assert float((many - expected).norm()) < float((few - expected).norm())


def test_rise_by_a_plain_loop() -> None:
    model, x = small(), images(2, (19, 19))
    found = rise(model, x, target=1, masks=50, cells=4, seed=5)
    masks = random_masks(50, 4, (19, 19), 5)
    assert masks.shape == (50, 19, 19) and masks.min() >= 0 and masks.max() <= 1
    said = torch.zeros(2, 50, dtype=torch.float64)
    with frozen_eval(model), torch.no_grad():
        for i, mask in enumerate(masks):
            said[:, i] = model(mask * x + (1 - mask) * 0.5).softmax(1)[:, 1]
    expected = torch.zeros(2, 19, 19, dtype=torch.float64)
    for b in range(2):
        for y in range(19):
            for z in range(19):
                both = torch.stack([said[b], masks[:, y, z]])
                covariance = torch.cov(both)
                expected[b, y, z] = covariance[0, 1] / covariance[1, 1]
    close(found.map, expected)


def test_rise_finds_the_only_corner_that_matters() -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen = x[:, :, :6, :6].mean((1, 2, 3))
            return torch.stack([20 * seen, torch.zeros_like(seen)], 1)

    found = rise(Corner(), torch.ones(1, 3, 18, 18), target=0, masks=600, cells=6).map[0]
    assert float(found[:6, :6].mean()) > 5 * float(found[8:, 8:].abs().mean())


# Relevance


def matrix(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """The layer as a matrix [outputs, inputs], from what it makes of each unit vector."""
    with torch.no_grad():
        unit = torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
        zero = layer(torch.zeros_like(unit[:1]))
        found: Tensor = (layer(unit) - zero).flatten(1).T
        return found


def relevance_by_matrices(layers: list[Any], x: Tensor, target: int, gamma: float, epsilon: float) -> Tensor:
    """The rules, written out as shares, layer by layer: one picture."""
    values = [x]
    with torch.no_grad():
        for layer in layers:
            values.append(layer(values[-1]))
    relevance = torch.zeros_like(values[-1]).flatten()
    relevance[target] = values[-1].flatten()[target]
    for layer, before, after in zip(layers[::-1], values[-2::-1], values[:0:-1], strict=True):
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            relevance = relevance.view(-1) if not isinstance(layer, nn.ReLU) else relevance
            continue
        a, z = before.flatten(), after.flatten()
        weights = matrix(layer, before)
        bias = z - weights @ a
        low = epsilon * z.square().mean().sqrt()
        out = torch.zeros_like(a)
        for k in range(len(z)):
            w, b = weights[k], bias[k]
            if gamma and isinstance(layer, nn.Conv2d) and bool((a >= 0).all()):
                w = w + gamma * (w.clamp(min=0) if z[k] >= 0 else w.clamp(max=0))
                b = b + gamma * (b.clamp(min=0) if z[k] >= 0 else b.clamp(max=0))
            total = w @ a + b
            total = total - low if total < 0 else total + low
            out += w * a / total * relevance[k]
        relevance = out
    return relevance.view(x.shape[1:])


@pytest.mark.parametrize("gamma", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("epsilon", [1e-9, 0.1])
@pytest.mark.parametrize("bias", [False, True])
def test_relevance_against_matrices(gamma: float, epsilon: float, bias: bool) -> None:
    torch.manual_seed(3)
    layers: list[Any] = [
        nn.Conv2d(3, 4, 3, stride=2, bias=bias),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(80, 6, bias=bias),
        nn.ReLU(),
        nn.Linear(6, 3, bias=bias),
    ]
    layers = [layer.double() for layer in layers]
    x = images(2, (9, 9))
    found = lrp(nn.Sequential(*layers), x, target=1, gamma=gamma, epsilon=epsilon)
    expected = torch.stack([relevance_by_matrices(layers, image[None], 1, gamma, epsilon).sum(0) for image in x])
    close(found.map, expected, 1e-9)


@EACH_NET
@pytest.mark.parametrize("gamma", [0.0, 0.25])
def test_relevance_is_conserved_once_what_biases_took_is_counted(case: str, gamma: float) -> None:
    model, _, side = NETS[case]
    x = images(2, side)
    with frozen_eval(model):
        relevance, score, taken = relevances(model, x, Aim(torch.tensor([1, 2])), gamma, 1e-6)
    total = float(relevance.sum() + taken)
    assert abs(total - float(score.sum())) <= 1e-6 * float(score.abs().sum())
    assert abs(float(taken)) > 1e-6, "the test would show nothing"


def test_plain_relevance_of_a_rectifier_network_is_input_times_gradient() -> None:
    """Ancona et al. 2018: without biases, with no rule but a vanishing ε."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3, bias=False)
    )
    x = images(2, (9, 9))
    close(
        lrp(model.double(), x, target=1, gamma=0, epsilon=0).map, input_x_gradient(model, x, target=1, baseline=0.0).map
    )


@pytest.mark.parametrize(
    "layer",
    [nn.GELU(), nn.SiLU(), nn.LayerNorm([4, 5, 5], bias=False), nn.GroupNorm(2, 4), nn.Hardswish(), nn.LeakyReLU()],
    ids=lambda layer: type(layer).__name__,
)
def test_relevance_passes_what_is_not_of_first_degree(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), layer, nn.Flatten(), nn.Linear(100, 3, bias=False)).double()
    found = lrp(model, images(2, (7, 7)), target=1, epsilon=1e-12)
    assert found.residual is not None and float(found.residual.abs().max()) < 1e-9
    expected = integrated_gradients(model, images(2, (7, 7)), target=1, baseline=0.0)
    assert found.map.isfinite().all() and not torch.allclose(found.map, expected.map)


def test_relevance_as_zennit_has_it() -> None:
    composites = pytest.importorskip("zennit.rules", reason="zennit is not installed")
    core = pytest.importorskip("zennit.composites")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(125, 3)
    ).double()
    x = images(2, (9, 9)).requires_grad_()
    composite = core.LayerMapComposite([(nn.Conv2d, composites.Epsilon(1e-12)), (nn.Linear, composites.Epsilon(1e-12))])
    with composite.context(model) as modified:
        out = modified(x)
        (expected,) = torch.autograd.grad(out, x, out * F.one_hot(torch.tensor([1, 1]), 3))
    close(lrp(model, x.detach(), target=1, gamma=0, epsilon=1e-14).map, expected.sum(1), 1e-7)


def test_the_network_is_as_it_was() -> None:
    model, x = small(), images(1, (19, 19))
    before = model(x)
    lrp(model, x)
    assert torch.equal(model(x), before)
    with rules._Shares(0.25, 1e-6):
        close(model(x.requires_grad_()), before, 1e-12)


# What all share


@EACH
def test_a_class_by_name_number_list_and_tensor_is_one_class(row: Any) -> None:
    bare = small().bare
    model = wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, size=19, classes=("a", "b-c", "c", "b"))
    method, x = load_function(row.compute), images(2, (19, 19))
    first: Attribution = method(model, x, target="b-c", **QUICK.get(row.name, {}))
    for target in (1, "1", [1, 1], torch.tensor([1, 1]), [1]):
        again = method(model, x, target=target, **QUICK.get(row.name, {}))
        assert torch.equal(again.map, first.map) and again.target.tolist() == [1, 1] and again.against is None
    predicted = method(model, x, **QUICK.get(row.name, {}))
    assert predicted.target.tolist() == model(x).argmax(1).tolist()
    mixed = method(model, x, target=[3, 1], **QUICK.get(row.name, {}))
    torch.testing.assert_close(mixed.map[1], first.map[1], rtol=1e-9, atol=1e-12)


@EACH
def test_the_difference_of_two_classes(row: Any) -> None:
    bare = small().bare
    model = wrap(bare, mean=[0.5] * 3, std=[0.25] * 3, size=19, classes=("a", "b-c", "c", "b"))
    method, x, more = load_function(row.compute), images(2, (19, 19)), QUICK.get(row.name, {})
    if row.name == "integrated-gradients":
        more = {"tolerance": 0}
    pair = method(model, x, target="b-c-c", **more)
    assert pair.target.tolist() == [1, 1] and pair.against is not None and pair.against.tolist() == [2, 2]
    assert torch.equal(method(model, x, target=(1, "c"), **more).map, pair.map)
    if row.name in ("lrp", "eigen-cam", "grad-cam-plus-plus", "layer-cam"):
        return  # rectified, or of no class
    one, other = (method(model, x, target=number, **more).map for number in (1, 2))
    torch.testing.assert_close(pair.map, one - other, rtol=1e-6, atol=1e-10)


@EACH
@pytest.mark.parametrize("target", ["nothing", 4, -1, [0, 1, 2], "a-nothing", []])
def test_what_is_no_class_is_told(row: Any, target: Any) -> None:
    model = wrap(small().bare, mean=[0.5] * 3, std=[0.25] * 3, size=19, classes=("a", "b", "c", "d"))
    with pytest.raises(UsageError, match="target"):
        load_function(row.compute)(model, images(2, (19, 19)), target=target)


@EACH
def test_it_does_not_matter_how_many_pictures_go_at_once(row: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    method, x, more = load_function(row.compute), images(5, (19, 19)), QUICK.get(row.name, {})
    expected = method(small(), x, **more).map
    monkeypatch.setattr("torchloupe.attribution.maps.at_once", lambda *_: 2)
    torch.testing.assert_close(method(small(), x, **more).map, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(method(small(), x[3:4], **more).map, expected[3:4], rtol=1e-9, atol=1e-12)


@EACH
def test_maps_are_finite_signed_and_of_the_pictures_size(row: Any) -> None:
    found = load_function(row.compute)(small(torch.float32), images(2, (19, 19)).float(), **QUICK.get(row.name, {}))
    assert found.map.shape == (2, 19, 19) and found.map.dtype == torch.float32 and found.map.isfinite().all()
    if row.name not in ("layer-cam", "eigen-cam", "grad-cam-plus-plus"):
        least = load_function(row.compute)(small(), images(4, (19, 19)), target=[0, 1, 2, 3], **QUICK.get(row.name, {}))
        assert bool((least.map < 0).any())
    assert found.name == row.name and row.layered == (found.layer != "output")


@EACH
def test_a_segmenting_network_has_classes_too(row: Any) -> None:
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 1)).double()
    more = {"layer": "1"} if row.layered else QUICK.get(row.name, {})
    for model in (bare, wrap(bare, mean=[0.5] * 3, std=[0.5] * 3, size=12, classes=4)):
        found = load_function(row.compute)(model, images(2, (12, 11)), target=2, **more)
        assert found.map.shape == (2, 12, 11) and found.map.abs().max() > 0


def silly() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "occlusion", {"patch": 34}
    yield "occlusion", {"patch": 3, "stride": 4}
    yield "rise", {"masks": 1}
    yield "smoothgrad", {"copies": 0}
    yield "gradient-shap", {"copies": 0}
    yield "integrated-gradients", {"steps": 0}
    yield "lrp", {"gamma": -1.0}


@pytest.mark.parametrize(("name", "settings"), list(silly()))
def test_settings_that_make_no_sense_are_told(name: str, settings: dict[str, Any]) -> None:
    row = next(row for row in ATTRIBUTIONS if row.name == name)
    with pytest.raises(UsageError):
        load_function(row.compute)(small(), images(1, (19, 19)), **settings)


def test_a_network_that_detaches_its_features_is_told() -> None:
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().mean((2, 3))

    for method in (integrated_gradients, lrp, smoothgrad):
        with pytest.raises(ModelError, match="no gradient"):
            method(Cut(), images(1, (5, 5)))
    assert isinstance(small(), Network)
