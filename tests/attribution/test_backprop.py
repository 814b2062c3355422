"""Deconvnet, guided backpropagation and gradient against a walk by hand, identities, and captum."""

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets import RELUS, Functional, PreActivation, Vgg, stirred
from oracle import Conv, MaxPool, Op, backwards, forwards, resnet_cifar, study
from torchloupe.attribution.backprop import deconvnet, gradient, guided
from torchloupe.attribution.backward import initial_signal
from torchloupe.attribution.rules import relu_backward
from torchloupe.errors import ModelError, UsageError
from torchloupe.features.hooks import OUTPUT, activations, frozen_eval
from torchloupe.models import build
from torchloupe.models.network import wrap

RULES: dict[str, Any] = {"deconvnet": deconvnet, "guided": guided, "gradient": gradient}
EACH_RULE = pytest.mark.parametrize("rule", RULES)


def images(n: int = 2, side: tuple[int, int] = (33, 29), seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cases() -> dict[str, tuple[nn.Module, str, list[Op], tuple[int, int]]]:
    vgg, pre, free = (cast(Any, stirred(net)) for net in (Vgg(), PreActivation(), Functional()))
    resnet, whole = cast(Any, stirred(build("resnet20"))), cast(Any, stirred(build("study")))
    return {
        "vgg": (vgg, "features", vgg.ops(), (33, 29)),
        "pre-activation": (pre, OUTPUT, pre.ops(), (31, 27)),
        "functional": (free, OUTPUT, free.ops(), (35, 31)),
        "resnet20": (resnet, "layer3.2", resnet_cifar(resnet), (21, 19)),
        "study": (whole, "resblock2_2", study(whole, 4), (45, 37)),
        "study to its last block": (whole, "resblock4_2", study(whole, 8), (65, 49)),
    }


CASES = cases()


def close(one: Tensor, other: Tensor, tolerance: float = 1e-10) -> None:
    one, other = one.detach(), other.detach()
    assert one.shape == other.shape
    assert float((one - other).abs().max() / other.abs().max().clamp(min=1e-300)) <= tolerance


@EACH_RULE
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_backpropagation_by_hand(rule: str, case: str, keep: float) -> None:
    net, layer, ops, side = CASES[case]
    x = images(2, side)
    features = forwards(ops, x)
    expected = backwards(ops, strongest(features, keep), rule)
    found = RULES[rule](net, layer, x, keep=keep, randomized=False)
    assert expected.abs().max() > 1e-6, "the test would show nothing"
    close(found.signal, expected)


def strongest(features: Tensor, keep: float) -> Tensor:
    """Keep the strongest share of each map, found by sorting each alone."""
    out = torch.zeros_like(features)
    for b in range(features.shape[0]):
        for c in range(features.shape[1]):
            flat = features[b, c].flatten()
            count = max(1, int(keep * len(flat)))
            for place in sorted(range(len(flat)), key=lambda i: (-flat[i].item(), i))[:count]:
                out[b, c].view(-1)[place] = flat[place]
    return out


@pytest.mark.parametrize("case", CASES)
def test_the_three_rules_differ(case: str) -> None:
    net, layer, _, side = CASES[case]
    found = [RULES[rule](net, layer, images(1, side), randomized=False).signal for rule in RULES]
    for i in range(3):
        assert float((found[i] - found[i - 1]).abs().max() / found[i].abs().max()) > 1e-3


def test_each_channel_alone_adds_up_for_the_gradient_and_is_walked_by_hand_for_all() -> None:
    net, layer, ops, side = CASES["vgg"]
    x = images(3, side)
    features = forwards(ops, x)
    for rule, method in RULES.items():
        found = method(net, layer, x, keep=0.5, channels=[1, 6], each=True, randomized=False)
        assert found.image.tolist() == [0, 0, 1, 1, 2, 2] and found.channel.tolist() == [1, 6] * 3
        for channel, place in ((1, 0), (6, 1)):
            start = strongest(features, 0.5)
            start[:, [c for c in range(8) if c != channel]] = 0
            close(found.signal[place::2], backwards(ops, start, rule))
    whole = gradient(net, layer, x, keep=0.5, channels=[1, 6], randomized=False).signal
    alone = gradient(net, layer, x, keep=0.5, channels=[1, 6], each=True, randomized=False).signal
    close(alone.view(3, 2, *alone.shape[1:]).sum(1), whole)


@EACH_RULE
def test_positions(rule: str) -> None:
    net, layer, ops, side = CASES["vgg"]
    x = images(2, side)
    features = forwards(ops, x)
    one = torch.zeros_like(features)
    one[:, 2, 1, 3] = features[:, 2, 1, 3]
    close(RULES[rule](net, layer, x, channels=[2], position=(1, 3), randomized=False).signal, backwards(ops, one, rule))
    two = torch.zeros_like(features)
    two[0, 2, 1, 3], two[1, 2, 0, 2] = features[0, 2, 1, 3], features[1, 2, 0, 2]
    at = torch.tensor([[1, 3], [0, 2]])
    close(RULES[rule](net, layer, x, channels=[2], position=at, randomized=False).signal, backwards(ops, two, rule))
    top = RULES[rule](net, layer, x, position="max", randomized=False).signal
    close(top, backwards(ops, strongest(features, 1e-9), rule))


@EACH_RULE
@pytest.mark.parametrize("case", ["vgg", "resnet20", "pre-activation"])
def test_a_positive_factor_passes_through(rule: str, case: str) -> None:
    net, layer, _, side = CASES[case]
    x = images(2, side).requires_grad_()
    with frozen_eval(net), relu_backward(net, cast(Any, rule)):
        y = activations(net, layer, x)
        start = torch.rand(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype) - 0.3
        (one,) = torch.autograd.grad(y, x, start, retain_graph=True)
        (more,) = torch.autograd.grad(y, x, 7.5 * start)
    close(more, 7.5 * one, 1e-12)


@pytest.mark.parametrize("side", [(9, 9), (10, 9), (11, 12), (13, 8)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("dilation", "groups"), [(1, 1), (2, 3)])
def test_a_convolution_is_walked_by_its_adjoint(side: tuple[int, int], stride: int, dilation: int, groups: int) -> None:
    conv = nn.Conv2d(3, 6, 3, stride, 1, dilation, groups, bias=False).double()
    x = images(2, side)
    y = conv(x).detach()
    v = torch.rand(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    back = torch.autograd.grad(conv(z := x.clone().requires_grad_()), z, v)[0]
    op = Conv(conv)
    op.run(x)
    close(op.back(v, "gradient"), back, 1e-12)
    assert torch.isclose((y * v).sum(), (x * back).sum(), rtol=1e-12)
    found = gradient(nn.Sequential(conv), "0", x, keep=1.0, randomized=False).signal
    close(found, torch.autograd.grad(conv(z), z, y)[0], 1e-12)


def test_where_all_is_positive_the_three_are_one() -> None:
    net = cast(Any, stirred(Vgg()))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.abs_()
                if module.bias is not None:
                    module.bias.fill_(0.1)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1.0)
                module.bias.fill_(0.0)
                cast(Tensor, module.running_mean).zero_()
                cast(Tensor, module.running_var).fill_(1 - module.eps)
    found = [RULES[rule](net, "features", images(), randomized=False).signal for rule in RULES]
    close(found[0], found[1], 1e-14)
    close(found[1], found[2], 1e-14)


@EACH_RULE
@pytest.mark.parametrize("written", RELUS)
def test_a_relu_is_obeyed_however_it_is_written(rule: str, written: str) -> None:
    net = stirred(Functional(RELUS[written]))
    plain = stirred(Functional(F.relu))
    x = images()
    with torch.no_grad():
        close(net(x.clone()), plain(x.clone()), 1e-14)
    close(
        RULES[rule](net, OUTPUT, x, randomized=False).signal,
        RULES[rule](plain, OUTPUT, x, randomized=False).signal,
        1e-13,
    )


@EACH_RULE
@pytest.mark.parametrize(
    "f",
    [
        F.gelu,
        F.silu,
        F.elu,
        F.softplus,
        F.mish,
        F.hardswish,
        F.leaky_relu,
        F.relu6,
        F.selu,
        lambda x: F.leaky_relu(x, 0.3),
        lambda x: x.clamp(0, 0.5),
    ],
)
def test_other_rectifiers_by_the_written_rule(rule: str, f: Any) -> None:
    conv, tail = cast(Any, stirred(nn.Conv2d(3, 5, 3))), cast(Any, stirred(nn.Conv2d(5, 4, 3), seed=5))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.tail = conv, tail

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.tail(f(self.conv(x)))
            return out

    net, x = Net(), images(1, (9, 8))
    with torch.no_grad():
        before = conv(x)
        h = 1e-6
        slope = (f(before + h) - f(before - h)) / (2 * h)  # a numeric derivative
        start = net(x)
        g = F.conv_transpose2d(start, tail.weight)
    passed = {"gradient": g * slope, "deconvnet": g.clamp(min=0), "guided": g.clamp(min=0) * slope.clamp(min=0)}[rule]
    close(RULES[rule](net, "tail", x, keep=1.0, randomized=False).signal, F.conv_transpose2d(passed, conv.weight), 1e-6)


def test_forward_values_are_untouched_by_the_rules() -> None:
    net, x = stirred(Functional(lambda x: F.relu(x, inplace=True))), images()
    plain = net(x.clone())
    for rule in ("deconvnet", "guided"):
        with relu_backward(net, cast(Any, rule)):
            close(net(x.clone()), plain, 1e-15)
    y = x.clone().requires_grad_() - 0.5
    with relu_backward(net, "guided"):
        z = F.relu(y, inplace=True)
    assert z is y and bool((y >= 0).all()), "in place means in place: what reads y later sees it rectified"


def test_pooling_windows_that_share_a_maximum_sum() -> None:
    x = torch.zeros(1, 3, 5, 5, dtype=torch.float64)
    x[0, :, 2, 2] = 1.0  # the maximum of all four windows
    pool = nn.Sequential(nn.MaxPool2d(3, 2))
    found = deconvnet(pool, "0", x, keep=1.0, randomized=False).signal
    assert found[0, 0, 2, 2] == 4.0
    op = MaxPool(3, 2)
    close(found, op.back(op.run(x), "deconvnet"), 0)


@pytest.mark.parametrize(("rule", "name"), [("deconvnet", "NeuronDeconvolution"), ("guided", "NeuronGuidedBackprop")])
@pytest.mark.parametrize("network", ["vgg", "resnet20"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_captum_agrees(rule: str, name: str, network: str) -> None:
    attr = pytest.importorskip("captum.attr")
    net = stirred(Vgg(inplace=False)) if network == "vgg" else stirred(build("resnet20"))
    layer = "features.7" if network == "vgg" else "layer3.2.conv1"  # captum starts before the layer's own ReLU
    x = images(2, (25, 21))
    with torch.no_grad(), frozen_eval(net):
        features = activations(net, layer, x)
    least = features.amin(0)
    place = int(least.argmax())  # a neuron that is positive for both pictures: relu(g) knows no sign
    at = (place // least[0].numel(), place % least[0].numel() // least.shape[2], place % least.shape[2])
    activation = features[(slice(None), *at)]
    assert bool((activation > 0).all())
    twin = copy.deepcopy(net)
    theirs = getattr(attr, name)(twin, twin.get_submodule(layer)).attribute(x.clone().requires_grad_(), at)
    ours = RULES[rule](net, layer, x, channels=[at[0]], position=at[1:], randomized=False).signal
    close(ours / activation[:, None, None, None], theirs, 1e-9)


def test_kept_cells_of_equal_strength_are_the_first() -> None:
    flat = initial_signal(torch.ones(1, 1, 3, 3), 0.4, None)
    assert flat.flatten().tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert int((initial_signal(torch.rand(2, 3, 4, 5), 0.001, None) != 0).sum()) == 6


def test_the_randomized_network_is_another_network_and_ours_is_left_alone() -> None:
    net, layer, _, side = CASES["vgg"]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = deconvnet(net, layer, images(2, side), seed=1)
    assert found.randomized is not None and found.randomized.randomized is None
    assert not torch.allclose(found.randomized.signal, found.signal)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    again, other = (deconvnet(net, layer, images(2, side), seed=s) for s in (1, 2))
    assert again.randomized is not None and other.randomized is not None
    assert torch.equal(found.randomized.signal, again.randomized.signal) and not torch.equal(
        again.randomized.signal, other.randomized.signal
    )


class Compared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        out: Tensor = self.b(torch.where(x > 0, x, 0.0))
        return out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hidden_rectifiers_are_refused_not_ignored() -> None:
    x = images(1, (9, 9)).float()
    scripted = nn.Sequential(torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())))
    compiled = nn.Sequential(cast(nn.Module, torch.compile(nn.ReLU())))
    for net, layer, said in (
        (Compared(), "b", r"x \* \(x > 0\)"),
        (scripted, "0", "TorchScript"),
        (compiled, "0", "torch.compile"),
    ):
        for method in (deconvnet, guided):
            with pytest.raises(ModelError, match=said):
                method(net, layer, x, randomized=False)
    gradient(Compared(), "b", x, randomized=False)  # needs no rule


class ByHand(nn.Module):
    """GELU by its tanh formula, or tanh itself: no rectifier that a rule could act on."""

    def __init__(self, f: Any) -> None:
        super().__init__()
        self.a, self.f, self.b = nn.Conv2d(3, 4, 3), f, nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.f(self.a(x)))
        return out


@pytest.mark.parametrize(
    "f",
    [
        torch.tanh,
        lambda x: x.tanh(),
        nn.Tanh(),
        nn.Sigmoid(),
        lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3))),
        lambda x: x * torch.sigmoid(1.702 * x),
        lambda x: (x + x.abs()) / 2,
    ],
)
def test_the_rules_are_never_the_plain_gradient_under_another_name(f: Any) -> None:
    net, x = ByHand(f), images(1, (9, 9)).float()
    for method in (deconvnet, guided):
        with pytest.raises(ModelError, match="no rectifier"):
            method(net, "b", x, randomized=False)
        method(net, "a", x, randomized=False)  # linear up to there: the three are one, rightly
    gradient(net, "b", x, randomized=False)


def test_a_gate_beside_a_rectifier_passes_its_own_derivative() -> None:
    gated = ByHand(lambda x: F.relu(x) * torch.sigmoid(x.mean((2, 3), keepdim=True)))
    x = images(1, (9, 9)).float()
    found = [RULES[rule](gated, "b", x, randomized=False).signal for rule in ("deconvnet", "gradient")]
    assert not torch.allclose(*found)


@pytest.mark.usefixtures("wrong_shapes")
def test_bad_settings_are_refused() -> None:
    net, layer, _, side = CASES["vgg"]
    x = images(2, side)
    for settings, said in (
        ({"keep": 0.0}, "above 0 and up to 1"),
        ({"keep": 1.5}, "above 0 and up to 1"),
        ({"channels": [8]}, "channels 0 to 7"),
        ({"position": (99, 0)}, "no position"),
        ({"position": "middle"}, "position is"),
        ({"position": torch.zeros(3, 2, dtype=torch.int64)}, "position is"),
    ):
        with pytest.raises(UsageError, match=said):
            deconvnet(net, layer, x, randomized=False, **cast(Any, settings))


@EACH_RULE
def test_from_the_output_it_starts_from_one_class(rule: str) -> None:
    """The predicted one, or the one asked for; by hand: 1 at its logit, through the linear layer, then as ever."""
    net = wrap(stirred(build("resnet20")), mean=None, std=None, classes=["ant", *"bcdefghij"])
    ops = [*resnet_cifar(cast(Any, net.bare)), *head(net)]
    x = images(3, (17, 15))
    logits = forwards(ops, x)[:, :, 0, 0]
    predicted = logits.argmax(1)
    close(net(x), logits)
    for target, classes in ((None, predicted), (4, torch.full((3,), 4)), ("e", torch.full((3,), 4))):
        found = RULES[rule](net, OUTPUT, x, target=target, randomized=False)
        close(found.signal, backwards(ops, F.one_hot(classes, 10).double()[:, :, None, None], rule))
        assert torch.equal(found.target, classes) and found.keep == 0 and found.kept.tolist() == [1, 1, 1]
    each = torch.tensor([2, 0, 7])
    several = RULES[rule](net, OUTPUT, x, target=each)
    assert several.target.tolist() == several.randomized.target.tolist() == [2, 0, 7]
    for i in range(3):
        alone = RULES[rule](net, OUTPUT, x[i : i + 1], target=int(each[i]), randomized=False)
        close(several.signal[i : i + 1], alone.signal)


def head(net: nn.Module) -> list[Op]:
    return [Mean(), Fully(cast(nn.Linear, net.get_submodule("linear")))]


class Mean(Op):
    def run(self, x: Tensor) -> Tensor:
        self.sides = x.shape[2:]
        return x.mean((2, 3), keepdim=True)

    def back(self, g: Tensor, rule: str) -> Tensor:
        return g.expand(-1, -1, *self.sides) / (self.sides[0] * self.sides[1])


class Fully(Op):
    def __init__(self, linear: nn.Linear) -> None:
        self.weight, self.bias = linear.weight.detach(), linear.bias.detach()

    def run(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)

    def back(self, g: Tensor, rule: str) -> Tensor:
        return F.conv_transpose2d(g, self.weight[:, :, None, None])


def test_the_gradient_of_a_class_is_its_scores_derivative() -> None:
    """Simonyan's: against central differences of the logit."""
    net = wrap(stirred(build("resnet20")), mean=(0.5,) * 3, std=(0.25,) * 3, classes=10)
    x = 0.1 + 0.8 * images(1, (9, 9))
    found = gradient(net, OUTPUT, x, target=3, randomized=False).signal
    step = torch.zeros_like(x)
    for c, i, j in ((0, 4, 4), (1, 0, 8), (2, 7, 3)):
        step.zero_()[0, c, i, j] = 1e-6
        with torch.no_grad():
            slope = (net(x + step)[0, 3] - net(x - step)[0, 3]) / 2e-6
        assert float(found[0, c, i, j]) == pytest.approx(float(slope), rel=1e-4, abs=1e-7)


def test_class_maps_start_from_all_positions_of_one() -> None:
    net, x = wrap(stirred(Maps()), mean=None, std=None, classes=4), images(2, (9, 9))
    found = gradient(net, OUTPUT, x, randomized=False)
    score = net(x.requires_grad_())
    assert found.target is not None and torch.equal(found.target, score.argmax(1))
    (expected,) = torch.autograd.grad(score.max(1).values.sum(), x)
    close(found.signal, expected)


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)).square()


@pytest.mark.usefixtures("wrong_shapes")
def test_channels_of_the_output_keep_their_activations_and_a_class_goes_alone() -> None:
    net, x = wrap(stirred(build("resnet20")), mean=None, std=None, classes=10), images(2, (9, 9))
    mixed = gradient(net, OUTPUT, x, channels=list(range(10)), randomized=False)
    logits = net(x.requires_grad_())
    (expected,) = torch.autograd.grad((logits**2 / 2).sum(), x)
    close(mixed.signal, expected)
    assert mixed.target is None
    for layer, settings, said in (
        (OUTPUT, {"target": 10}, "one of 10 classes"),
        (OUTPUT, {"target": "11"}, "one of 10 classes"),
        (OUTPUT, {"target": torch.tensor([1, 2, 3])}, "one for each image"),
        (OUTPUT, {"target": True}, "one of 10 classes"),
        (OUTPUT, {"target": 1, "channels": [2]}, "leave channels"),
        ("layer1.0", {"target": 1}, "of layer 'layer1.0' name channels"),
    ):
        with pytest.raises(UsageError, match=said):
            gradient(net, layer, x, randomized=False, **cast(Any, settings))
