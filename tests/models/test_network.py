"""`wrap`: the bare network's names, its arithmetic, and what it refuses."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.fx
from torch import Tensor, nn

from torchloupe.errors import DataError, LayerError, ModelError, UsageError
from torchloupe.features.names import find_layer, layer_name
from torchloupe.models import build
from torchloupe.models.network import Network, wrap

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Nested(nn.Module):
    """Children in children, names that the wrapper also uses, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
        self.classes = nn.Linear(4, 2)
        self.bare = nn.Identity()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("running", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classes(self.bare(self.body(x)).mean((2, 3))) * self.scale
        return out


def wrapped() -> Network:
    return wrap(Nested(), mean=MEAN, std=STD, size=8, classes=["cat", "dog"])


def test_it_is_the_bare_network_behind_its_normalisation() -> None:
    net = wrapped()
    x = torch.rand(3, 3, 8, 8)
    normal = torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    torch.testing.assert_close(net(x), net.bare(normal))
    assert (net.mean, net.std, net.size, net.classes) == (MEAN, STD, 8, ("cat", "dog"))
    assert not net.training
    assert not net.bare.training


def test_without_mean_pictures_pass_as_they_are() -> None:
    bare = Nested()
    net = wrap(bare, mean=None, std=None, classes=2)
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(net(x), bare(x))
    assert net.classes == ("0", "1")


def test_it_speaks_the_bare_names() -> None:
    net = wrapped()
    assert torch.equal(net.bare.get_buffer("mean"), torch.zeros(3))
    assert net.get_buffer("running") is net.bare.get_buffer("running")
    assert [n for n, _ in net.named_modules()] == [n for n, _ in net.bare.named_modules()]
    assert [n for n, _ in net.named_parameters()] == [n for n, _ in net.bare.named_parameters()]
    assert [n for n, _ in net.named_buffers()] == [n for n, _ in net.bare.named_buffers()]
    assert list(net.state_dict()) == list(net.bare.state_dict())
    for name, module in net.bare.named_modules():
        assert net.get_submodule(name) is (module if name else net)
    assert net.get_parameter("body.0.weight") is net.bare.body[0].weight  # type: ignore[index,union-attr]
    assert net.get_parameter("scale") is net.bare.scale


def test_hooks_of_named_layers_fire() -> None:
    net = wrapped()
    seen: list[str] = []
    for name, module in net.named_modules():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    net(torch.rand(1, 3, 8, 8))
    assert sorted(seen) == sorted(n for n, _ in net.named_modules())


def test_mode_and_type_are_shared_with_the_bare_network() -> None:
    net = wrapped()
    net.train()
    assert all(module.training for module in (net.bare, *net.bare.modules()))
    for module in net.modules():  # as code that restores saved modes does
        module.training = False
    assert not any(module.training for module in net.bare.modules())
    net.double()
    assert {p.dtype for p in net.bare.parameters()} == {torch.float64}
    assert net(torch.rand(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64
    assert not any(p.requires_grad for p in net.requires_grad_(False).bare.parameters())


def test_float64_pictures_are_normalised_in_float64() -> None:
    class Keep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.seen = x
            return x.mean((2, 3))

    net = wrap(Keep(), mean=MEAN, std=STD, classes=3)
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64).to(memory_format=torch.channels_last)
    net(x)
    seen = net.bare.seen
    assert isinstance(seen, Tensor)
    assert seen.is_contiguous(memory_format=torch.channels_last)
    by_hand = [(float(x[0, c, 1, 2]) - MEAN[c]) / STD[c] for c in range(3)]
    torch.testing.assert_close(seen[0, :, 1, 2], torch.tensor(by_hand, dtype=torch.float64), rtol=1e-14, atol=1e-14)


def test_gradients_reach_the_pictures_also_after_inference_mode() -> None:
    net = wrapped()
    with torch.inference_mode():
        net(torch.rand(2, 3, 8, 8))
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    net(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_stand_alone(twin_of: Callable[[Network], Network]) -> None:
    net = wrapped()
    net.check = False
    x = torch.rand(2, 3, 8, 8)
    before = net(x)
    twin = twin_of(net)
    assert torch.equal(twin(x), before)
    assert not twin.check
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert not twin.bare.scale
    assert torch.equal(net(x), before)
    assert net.bare.scale


def test_its_state_loads_into_the_bare_network_and_back() -> None:
    net, other = wrapped(), Nested()
    stream = io.BytesIO()
    torch.save(net.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert all(torch.equal(mine, net.state_dict()[name]) for name, mine in other.state_dict().items())
    third = Nested()
    net.load_state_dict(third.state_dict())
    assert all(torch.equal(mine, net.bare.state_dict()[name]) for name, mine in third.state_dict().items())


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"not uint8: pass pictures\.float\(\) / 255"),
        (torch.full((1, 3, 8, 8), 1.01), "already normalised"),
        (torch.full((1, 3, 8, 8), -0.002), "already normalised"),
        (torch.full((1, 3, 8, 8), torch.nan), "NaN"),
        (torch.full((1, 3, 8, 8), torch.inf), "already normalised"),
        (torch.zeros(3, 8, 8), r"add the batch axis with picture\[None\]"),
        (torch.zeros(1, 8, 8, 3), r"must have the shape \[b, 3, h, w\], not \[1, 8, 8, 3\]"),
    ],
)
def test_other_pictures_are_refused(images: Tensor, said: str) -> None:
    with pytest.raises(DataError, match=said), torch.inference_mode():
        wrapped()(images)


def test_rounding_is_let_pass_and_the_check_can_be_cleared() -> None:
    net = wrapped()
    net(torch.full((1, 3, 8, 8), 1.0005))
    assert net(torch.zeros(0, 3, 8, 8)).shape == (0, 2)
    net.check = False
    net(torch.full((1, 3, 8, 8), 7.0))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mean": MEAN, "std": None}, "go together"),
        ({"mean": MEAN, "std": STD[:2]}, "3 values and std 2"),
        ({"mean": (125.0, 120.0, 110.0), "std": STD}, "divide by 255"),
        ({"mean": MEAN, "std": (0.2, 0.0, 0.2)}, "std"),
        ({"classes": 0}, "classes"),
        ({"classes": ["a", "a"]}, "'a' stands twice"),
        ({"classes": "ab"}, "list"),
        ({"size": 0}, "size"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, object], said: str) -> None:
    usual: dict[str, object] = {"mean": MEAN, "std": STD, "classes": 2}
    with pytest.raises(UsageError, match=said):
        wrap(Nested(), **{**usual, **settings})  # type: ignore[arg-type]


def test_only_bare_networks_are_wrapped() -> None:
    with pytest.raises(UsageError, match="not a Network"):
        wrap(wrapped(), mean=None, std=None, classes=2)
    with pytest.raises(UsageError, match="not a type"):
        wrap(Nested, mean=None, std=None, classes=2)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="TorchScript"):
        scripted = torch.jit.trace(Nested().eval(), torch.rand(1, 3, 8, 8))  # type: ignore[no-untyped-call]
        wrap(scripted, mean=None, std=None, classes=2)


def test_a_traced_network_copies_as_a_whole() -> None:
    net = wrap(torch.fx.symbolic_trace(build("resnet20")), mean=MEAN, std=STD, classes=10)
    twin = copy.deepcopy(net)  # a GraphModule makes its copy by its own rules
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(net(x), twin(x))
    assert twin.get_submodule("conv1") is twin.bare.get_submodule("conv1")
    assert twin.get_parameter("conv1.weight") is not net.get_parameter("conv1.weight")


def test_a_wrong_number_of_classes_is_told() -> None:
    with pytest.raises(ModelError, match="2 outputs for 3 classes"):
        wrap(Nested(), mean=None, std=None, classes=3)(torch.rand(1, 3, 8, 8))


def test_layers_by_name_and_index() -> None:
    net = wrap(build("resnet18"), mean=MEAN, std=STD, classes=10)
    assert find_layer(net, "layer4[-1]") is net.get_submodule("layer4.1")
    assert layer_name(net, "layer4[-2].conv2") == "layer4.0.conv2"
    assert layer_name(net, "layer3[0].downsample[1]") == "layer3.0.downsample.1"
    assert layer_name(net, "layer4.1") == "layer4.1"
    shared = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.ReLU())
    shared[2] = shared[0]
    assert layer_name(shared, "[-1]") == "2"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("layer4.3", "no layer 'layer4.3'; did you mean 'layer4.1'?"),
        ("layer4[2]", "no layer 'layer4[2]': 'layer4' has 2 parts."),
        ("layer4[-3]", "no layer 'layer4[-3]': 'layer4' has 2 parts."),
        ("[9]", "no layer '[9]': the network has 9 parts."),
        ("layer4[x]", "no layer 'layer4[x]'; did you mean 'layer4'?"),
        ("", "no layer ''; at the top there are: conv1, bn1, relu, layer1, layer2, layer3, layer4, avgpool, fc"),
        ("layer4..1", "no layer 'layer4..1'; did you mean 'layer4.1'?"),
        ("nope[0]", "no layer 'nope[0]': 'nope' has 0 parts."),
    ],
)
def test_wrong_layers(name: str, said: str) -> None:
    with pytest.raises(LookupError) as caught:
        find_layer(build("resnet18"), name)
    assert isinstance(caught.value, LayerError)
    assert str(caught.value) == said


def test_a_class_name_that_stands_twice_is_named_by_itself() -> None:
    names = [f"class {i}" for i in range(1000)]
    names[500] = names[3]
    with pytest.raises(UsageError, match="'class 3' stands twice: give each class a name of its own") as caught:
        wrap(nn.Linear(1, 1), mean=MEAN, std=STD, size=8, classes=names)
    assert len(str(caught.value)) < 200
    with pytest.raises(UsageError, match=r"'class 3' stands twice \(and 1 more names\)"):
        wrap(nn.Linear(1, 1), mean=MEAN, std=STD, size=8, classes=[*names, "class 7"])
