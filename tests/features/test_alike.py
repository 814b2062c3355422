"""A method's passes do not change the network, and the tool does not change the call."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contract import FAST
from nets import Calls
from torchloupe.errors import ModelError
from torchloupe.evaluation.ablation import ablate
from torchloupe.evaluation.accuracy import predict
from torchloupe.evaluation.channels import health
from torchloupe.evaluation.duplicates import nearest
from torchloupe.features.feature_maps import feature_maps
from torchloupe.features.hooks import activations, frozen_eval, intervene, one_at_a_time
from torchloupe.features.top_examples import top_examples
from torchloupe.inspection.catalog import METHODS
from torchloupe.inspection.result import tensors_of
from torchloupe.inspection.run import run
from torchloupe.models import build
from torchloupe.models.network import wrap
from torchloupe.synthesis.dream import dream
from torchloupe.synthesis.invert import invert

SIDE = 20


def images(n: int = 4, side: int = SIDE) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(3))


def bytes_of(n: int = 4) -> Tensor:
    return (255 * images(n)).to(torch.uint8)


def viewing() -> nn.Module:
    """Reads pictures and maps with `view`, as most tutorials do."""

    def forward(net: Any, x: Tensor) -> Any:
        x = x.view(len(x), -1).view(x.shape)
        maps = net.relu(net.conv(x))
        return net.fc(maps.view(len(x), -1))

    torch.manual_seed(0)
    return Calls(forward, conv=nn.Conv2d(3, 4, 3, padding=1), relu=nn.ReLU(), fc=nn.Linear(4 * SIDE * SIDE, 2)).eval()


@pytest.mark.parametrize("row", METHODS, ids=[row.name for row in METHODS])
def test_a_network_that_views_its_maps_passes_every_method(row: Any) -> None:
    given: Any = {"nothing": None, "start": images(2), "pictures": images(2), "dataset": bytes_of()}[row.takes]
    fast = {**FAST.get(row.name, {}), **({"octaves": 1} if row.name == "dream" else {})}
    layer = "conv" if row.name == "filters" else "output"
    run(row.name, viewing(), layer, given, **fast)


def test_a_network_that_views_its_maps_is_measured() -> None:
    net, shown = viewing(), bytes_of()
    assert predict(net, shown).shape == (4, 2)
    assert set(health(net, shown)) >= {"conv", "relu", "fc"}
    assert set(nearest(net, shown, ["relu"])) == {"relu"}
    assert ablate(net, "relu", shown, torch.tensor([0, 1, 0, 1]), channels=[0]).images == 4
    top_examples(net, "output", shown, count=1)


class Remembers(nn.Module):
    """Keeps what it saw: in a number, a list, a dict of a plain object, a buffer, an array and a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.window, self.sizes = 99, [1]
        self.plain: Any = type("Plain", (), {})()
        self.plain.seen = {"a": 1}
        self.count: Tensor
        self.register_buffer("count", torch.zeros(1))
        self.table, self.chance = np.zeros(2), torch.Generator()
        self.late: Any

    def forward(self, x: Tensor) -> Tensor:
        self.window = min(self.window, *x.shape[2:])
        self.sizes.append(x.shape[2])
        self.plain.seen[x.shape[3]] = 2
        self.count += 1
        self.table += 1
        self.late = x
        noise = torch.rand(1, generator=self.chance)
        out: Tensor = F.relu(self.conv(x)) * self.window * self.count * (1 + noise) + float(self.table[0])
        return out


def noted(net: Any) -> Any:
    about = net.window, list(net.sizes), dict(net.plain.seen), net.count.item(), net.table.tolist()
    return *about, net.chance.get_state().tolist(), sorted(net.__dict__)


def test_what_a_network_remembers_is_put_back_and_no_pass_sees_what_another_left() -> None:
    net = Remembers()
    before = noted(net)
    with frozen_eval(net), torch.no_grad():
        first = activations(net, "output", images(1))
        activations(net, "output", images(1, 8))
        assert torch.equal(activations(net, "output", images(1)), first)
        assert torch.equal(net(images(1)), first), "a plain pass as well"
    assert noted(net) == before
    with pytest.raises(ZeroDivisionError), frozen_eval(net):
        net(images(1, 8))
        raise ZeroDivisionError
    assert noted(net) == before


def test_dreaming_on_small_octaves_leaves_a_swin_as_it_was() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SwinConfig(
        image_size=64, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=7, num_labels=3
    )
    net = transformers.SwinForImageClassification(config).eval()
    with torch.no_grad():
        before = net(images(1, 64)).logits
    alone = dream(net, "swin.embeddings.patch_embeddings.projection", images(1, 64), octaves=1, steps=2)
    with pytest.raises(ModelError, match="fewer octaves"):  # its last stage would be smaller than its window
        dream(net, "output", images(1, 64), octaves=4, steps=1)
    with torch.no_grad():
        assert torch.equal(net(images(1, 64)).logits, before)
    again = dream(net, "swin.embeddings.patch_embeddings.projection", images(1, 64), octaves=1, steps=2)
    assert torch.equal(alone.pictures, again.pictures)


def test_a_network_that_changes_its_own_weights_is_refused() -> None:
    def forward(net: Any, x: Tensor) -> Any:
        with torch.no_grad():
            net.conv.weight.mul_(0.5)
        return net.conv(x)

    with pytest.raises(ModelError, match=r"changes its own weights when it runs \('conv.weight'\)"):
        feature_maps(Calls(forward, conv=nn.Conv2d(3, 4, 3)), "conv", images())


def chancy() -> nn.Module:
    def forward(net: Any, x: Tensor) -> Any:
        x = x + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return net.conv2(F.dropout(F.relu(net.conv(x)), 0.5, training=True))

    torch.manual_seed(0)
    return Calls(forward, conv=nn.Conv2d(3, 6, 3), conv2=nn.Conv2d(6, 4, 3))


def test_chance_in_a_network_is_the_same_for_the_same_seed_and_the_callers_is_left_alone() -> None:
    net = chancy()
    states = [str(now) for now in (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state())]
    with frozen_eval(net):
        net(images(1))
    assert states == [str(now) for now in (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state())]
    found = [invert(net, "conv2", images(2), steps=3, seed=1, randomized=False) for _ in range(2)]
    maps = [feature_maps(net, "conv2", images(3)).maps for _ in range(2)]
    logits = [predict(nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten()), bytes_of()) for _ in range(2)]
    assert torch.equal(found[0].pictures, found[1].pictures)
    assert torch.equal(maps[0], maps[1]) and torch.equal(logits[0], logits[1])
    singly = torch.cat([feature_maps(net, "conv2", image[None]).maps for image in images(3)])
    assert torch.equal(maps[0], singly), "a batch equals its pictures one by one"


def sociable() -> nn.Module:
    """Its BatchNorm keeps no statistics: each picture is answered by the company it is in."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU())


def test_a_batch_equals_its_pictures_where_the_network_looks_at_all_of_them() -> None:
    net = sociable()
    assert one_at_a_time(net, images(1))
    together = feature_maps(net, "2", images()).maps
    alone = torch.cat([feature_maps(net, "2", image[None]).maps for image in images()])
    assert torch.equal(together, alone)
    assert health(net, bytes_of())["2"].best.tolist() == pytest.approx(alone.mean((2, 3)).amax(0).tolist(), rel=0.02)


@pytest.mark.parametrize("name", ["maximize", "deconvnet", "invert"])
def test_a_channels_picture_does_not_depend_on_which_others_are_asked_for(name: str) -> None:
    shown = None if name == "maximize" else images(1)
    settings: Any = {"steps": 4, "copies": 1, "canvas": 16} if name == "maximize" else {"each": True}
    one, two = (run(name, sociable(), "2", shown, channels=c, **settings).result for c in ([0], [0, 3, 2]))
    for (field, single), (_, several) in zip(tensors_of(one), tensors_of(two), strict=True):
        if field in ("pictures", "signal"):
            assert torch.equal(single[0], several[0]), field


def test_which_networks_see_one_picture_at_a_time() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for net in (plain, viewing(), build("resnet20"), nn.Sequential(nn.Dropout(), nn.GroupNorm(1, 3))):
        assert not one_at_a_time(net.eval(), images(1))
    fixed = Calls(lambda net, x: net.fc(x.view(1, -1)), fc=nn.Linear(3 * SIDE * SIDE, 2))
    head = nn.Sequential(sociable(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    nn.init.zeros_(head.get_parameter("3.weight"))  # its logits do not show it
    for net in (fixed, head, chancy(), Calls(lambda _, x: x / len(x))):
        assert one_at_a_time(net, images(1))
    assert predict(fixed.eval(), bytes_of()).shape == (4, 2)


@pytest.mark.parametrize("wrapped", [False, True])
def test_every_pass_begins_alike_be_the_network_wrapped_or_not(wrapped: bool) -> None:
    def forward(net: Any, x: Tensor) -> Any:
        net.passes += 1
        return net.fc(F.dropout(net.conv(x) * net.passes, 0.5, training=True).mean((2, 3)))

    bare = Calls(forward, conv=nn.Conv2d(3, 4, 3), fc=nn.Linear(4, 2)).eval()
    bare.passes = 0  # type: ignore[assignment]
    net = wrap(bare, mean=None, std=None, classes=2) if wrapped else bare
    with frozen_eval(net):
        inner = [activations(net, "fc", images(2)) for _ in range(3)]
        outer = [activations(net, "output", images(2)) for _ in range(2)]
    assert all(torch.equal(one, inner[0]) for one in (*inner, *outer))


def test_an_intervention_is_at_the_first_call_of_each_pass_of_a_wrapped_network() -> None:
    net = wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), mean=None, std=None, classes=2)
    with frozen_eval(net), intervene(net, "0", lambda output, module: torch.zeros_like(output)):
        first, second = (net.raw(images(1, 2)) for _ in range(2))
    assert torch.equal(first, second)
