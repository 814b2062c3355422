"""Receptive fields against sets of pixels walked layer by layer, and effective ones against sums by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets import Calls
from torchloupe.errors import DataError
from torchloupe.features.receptive import effective_side, effective_sides, receptive_fields

Step = tuple[int, int, int, int]
"""Kernel, stride, padding, dilation along one axis."""
Seen = list[set[int]]


def walked(seen: Seen, step: Step) -> Seen:
    """Return the pixels that each position of the next layer sees: those of every tap that is not padding."""
    k, s, p, d = step
    count = (len(seen) + 2 * p - d * (k - 1) - 1) // s + 1
    taps = [[y * s - p + d * i for i in range(k)] for y in range(count)]
    return [set().union(*(seen[t] for t in each if 0 <= t < len(seen))) for each in taps]


def pixels(n: int) -> Seen:
    return [{i} for i in range(n)]


def ranges(seen: Seen) -> list[list[int]]:
    return [[min(each), max(each) + 1] for each in seen]


def layers_of(steps: list[tuple[Step, Step]], pool: bool, groups: int = 1) -> nn.Sequential:
    """Convolutions (or every second of them max pooling) with these steps along y and x."""
    layers: list[nn.Module] = []
    for i, step in enumerate(steps):
        k, s, p, d = zip(*step, strict=True)
        if pool and i % 2:
            layers.append(nn.MaxPool2d(k, s, p, d))
        else:
            layers.append(nn.Conv2d(4 if layers else 2 * groups, 4, k, s, p, d, groups=groups))
    return nn.Sequential(*layers)


CHAINS: dict[str, list[tuple[Step, Step]]] = {
    "strides": [((3, 2, 0, 1), (3, 2, 0, 1)), ((3, 2, 0, 1), (2, 2, 0, 1)), ((3, 1, 0, 1), (3, 1, 0, 1))],
    "padding": [((3, 1, 1, 1), (5, 1, 2, 1)), ((3, 2, 1, 1), (3, 2, 1, 1)), ((4, 2, 2, 1), (2, 1, 1, 1))],
    "dilation": [((3, 1, 2, 2), (3, 1, 0, 3)), ((3, 2, 0, 1), (3, 2, 1, 1)), ((2, 1, 1, 3), (3, 1, 1, 2))],
    "unlike axes": [((1, 1, 0, 1), (7, 3, 3, 1)), ((5, 3, 0, 1), (1, 1, 0, 1))],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [(23, 28), (32, 21)])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("chain", CHAINS)
def test_every_position_of_every_layer(chain: str, pool: bool, side: tuple[int, int], dtype: torch.dtype) -> None:
    steps = CHAINS[chain]
    if pool:  # pooling pads by half its kernel at most
        steps = [tuple((k, s, min(p, k // 2), d) for k, s, p, d in step) for step in steps]  # type: ignore[misc]
    fields = receptive_fields(layers_of(steps, pool).to(dtype), side)
    rows, columns = pixels(side[0]), pixels(side[1])
    for i, (down, right) in enumerate(steps):
        rows, columns = walked(rows, down), walked(columns, right)
        field = fields[str(i)]
        assert field.rows.tolist() == ranges(rows) and field.columns.tolist() == ranges(columns)
        y, x = len(rows) - 1, len(columns) // 2
        (top, bottom), (left, right_end) = ranges(rows)[y], ranges(columns)[x]
        assert field.box(y, x) == (top, left, bottom, right_end) and field.image == side


@pytest.mark.parametrize("chain", CHAINS)
def test_the_size_is_the_closed_formula_where_the_picture_is_large_enough(chain: str) -> None:
    steps = CHAINS[chain]
    fields = receptive_fields(layers_of(steps, pool=False), (61, 57))
    for depth in range(1, len(steps) + 1):
        size = [1, 1]
        for axis in (0, 1):
            jump = 1
            for step in steps[:depth]:
                k, s, _, d = step[axis]
                size[axis] += (k - 1) * d * jump
                jump *= s
        assert fields[str(depth - 1)].size == tuple(size) and not fields[str(depth - 1)].clipped


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_change_nothing(groups: int) -> None:
    steps = CHAINS["dilation"]
    one, many = (receptive_fields(layers_of(steps, False, g), (23, 28)) for g in (1, groups))
    for name in "012":
        assert torch.equal(one[name].rows, many[name].rows) and torch.equal(one[name].columns, many[name].columns)


def test_a_residual_sum_sees_what_either_branch_sees() -> None:
    def run(net: Any, x: Tensor) -> Any:
        return net.both(net.up(F.relu(net.down(x))) + net.skip(x))

    net = Calls(
        run,
        down=nn.Conv2d(3, 4, 3, 2, 1),
        up=nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        skip=nn.Conv2d(3, 4, 1, 2),
        both=nn.BatchNorm2d(4),
    )
    for n in (15, 16):
        skip = walked(pixels(n), (1, 2, 0, 1))
        long = walked(walked(pixels(n), (3, 2, 1, 1)), (3, 1, 2, 2))
        both = [a | b for a, b in zip(skip, long, strict=True)]
        fields = receptive_fields(net.eval(), (n, 11))
        for name, seen in (("skip", skip), ("up", long), ("both", both)):
            assert fields[name].rows.tolist() == ranges(seen)


@pytest.mark.parametrize(
    "mixing",
    [
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        Calls(lambda net, x: x * net.gate(x.mean((2, 3), keepdim=True)).sigmoid(), gate=nn.Conv2d(4, 4, 1)),
        nn.Sequential(nn.Flatten(), nn.Linear(4 * 5 * 7, 3)),
    ],
    ids=["group norm", "instance norm", "mean", "gate", "linear"],
)
def test_what_mixes_all_positions_sees_everything(mixing: nn.Module) -> None:
    fields = receptive_fields(nn.Sequential(nn.Conv2d(3, 4, 3), mixing), (7, 9))
    assert fields["0"].size == (3, 3) and not fields["0"].clipped
    assert fields["1"].size == (7, 9) and fields["1"].clipped
    assert fields["1"].rows.tolist() == [[0, 7]] * len(fields["1"].rows)


def test_what_a_choice_hides_is_left_out_and_not_told_wrongly() -> None:
    gate = Calls(lambda _, x: torch.where(x > 0, x, torch.zeros_like(x)))
    assert list(receptive_fields(nn.Sequential(nn.Conv2d(3, 4, 3), gate, nn.Conv2d(4, 4, 3)), 9)) == ["0"]


def test_asked_layers_alone_and_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    net = layers_of(CHAINS["padding"], pool=False)
    whole = receptive_fields(net, (23, 21))
    monkeypatch.setattr("torchloupe.features.receptive.at_once", lambda *_: 10)
    parts = receptive_fields(net, (23, 21), ["2"])
    assert list(whole) == ["0", "1", "2"] and list(parts) == ["2"]
    assert torch.equal(parts["2"].rows, whole["2"].rows) and torch.equal(parts["2"].columns, whole["2"].columns)


def linear(*kernels: Tensor) -> nn.Sequential:
    convs = [nn.Conv2d(k.shape[1], k.shape[0], tuple(k.shape[2:]), bias=False) for k in kernels]  # type: ignore[arg-type]
    for layer, kernel in zip(convs, kernels, strict=True):
        layer.weight = nn.Parameter(kernel)
    return nn.Sequential(*convs)


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


def test_a_pixel_counts_from_one_twentysecond_of_the_strongest() -> None:
    kernel = torch.tensor([[0.045, 0.046, 0.0], [-0.2, -1.0, 0.046], [0.045, -0.045, 0.02]])
    assert effective_side(linear(kernel[None, None]), "0", random(3, 1, 9, 11)) == pytest.approx(math.sqrt(4))


def test_channels_are_summed_before_and_colours_averaged_after_the_absolute_value() -> None:
    kernel = torch.zeros(2, 2, 1, 3)
    kernel[0, :, 0] = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.05]])
    kernel[1, :, 0] = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 0.05]])
    # sums [1, 0, 0] and [1, 0, .1]; means of their absolute values [1, 0, .05]: two pixels
    assert effective_side(linear(kernel), "0", random(1, 2, 5, 7)) == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_stacked_boxes(count: int) -> None:
    profile = [1]
    for _ in range(count):
        profile = [sum(profile[max(0, i - 2) : i + 1]) for i in range(len(profile) + 2)]
    strong = sum(a * b >= 0.0455 * max(profile) ** 2 for a in profile for b in profile)
    boxes = linear(*[torch.ones(1, 1, 3, 3)] * count)
    found = effective_side(boxes, str(count - 1), random(2, 1, 17, 15))
    assert found == pytest.approx(math.sqrt(strong))
    assert (count < 3) == (strong == len(profile) ** 2), "corners of four boxes are too weak to count"


def test_the_middle_of_a_rectified_network_by_finite_differences() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1)).double()
    with torch.no_grad():
        net[0].weight.mul_(torch.tensor([0.02, 1.0, 0.3]))  # type: ignore[operator]
    x = random(3, 2, 8, 7).double()
    influence = torch.zeros(8, 7, dtype=torch.float64)
    for place in range(8 * 7):
        for color in range(2):
            bumped = x.clone()
            bumped[:, color, place // 7, place % 7] += 1e-6
            with torch.no_grad():
                slopes = (net(bumped) - net(x))[:, :, 2, 2].sum(1) / 1e-6
            influence.view(-1)[place] += float(slopes.abs().sum())
    expected = math.sqrt(int((influence >= 0.0455 * influence.max()).sum()))
    assert 3 < expected < 5, "else the threshold would not matter"
    assert effective_side(net, "2", x) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_no_pixel_moves_has_no_effective_field(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).to(dtype)
    nn.init.constant_(net[0].bias, -100.0)  # type: ignore[arg-type]
    assert effective_side(net, "1", random(1, 1, 9, 9)) == 0


def test_a_layer_apart_from_the_picture_has_no_effective_field() -> None:
    net = Calls(lambda net, x: x + net.embed(torch.ones_like(x)), embed=nn.Conv2d(1, 1, 1))
    assert effective_side(net, "embed", random(1, 1, 9, 9)) == 0


def test_a_normalised_picture_is_refused() -> None:
    with pytest.raises(DataError, match="already normalised"):
        effective_side(nn.Sequential(nn.Conv2d(1, 1, 3)), "0", random(1, 1, 9, 9) - 0.5)


def test_a_known_field_is_not_looked_for_again_unless_the_network_has_changed() -> None:
    passes: list[int] = []

    class Counted(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            passes.append(len(x))
            return super().forward(x)

    net = nn.Sequential(Counted(3, 4, 3), Counted(4, 4, 3))
    first = receptive_fields(net, 9, ["0"])
    assert list(first) == ["0"] and passes and first["0"].size == (3, 3)
    passes.clear()
    assert receptive_fields(net, 9, ["0"])["0"] is first["0"] and not passes
    assert receptive_fields(net, 11, ["0"])["0"].image == (11, 11) and passes, "another size"
    net[1] = nn.Conv2d(4, 4, 5)
    assert receptive_fields(net, 9, ["1"])["1"].size == (7, 7)
    net[0] = nn.Conv2d(3, 4, 1)
    assert receptive_fields(net, 9, ["0", "1"])["1"].size == (5, 5), "another layer before it"
    assert receptive_fields(net, 9, ["0", "none"]).keys() == {"0"}


def test_nothing_runs_after_the_layers_that_are_asked_for() -> None:
    class Loud(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Loud())
    assert receptive_fields(net, 9, ["0"])["0"].size == (3, 3)


def wide(net: nn.Module) -> nn.Module:
    return net.double().eval()


class Crooked(nn.Module):
    """Pads its rows by how wide the picture is, so that a strip is another picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(nn.functional.pad(x, (0, 0, x.shape[3] // 25, 0)))
        return out


LARGE_NETS = {
    "uneven kernels, strides and dilations": lambda: nn.Sequential(
        nn.Conv2d(3, 4, (5, 3), (2, 1), (2, 0)),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, (1, 7), dilation=(1, 3), padding=(0, 9)),
        nn.ZeroPad2d((0, 1, 1, 2)),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(4, 96, 3, stride=3),
    ),
    "channels last inside": lambda: nn.Sequential(
        nn.Conv2d(3, 60, 4, 4), Order(), nn.LayerNorm(60), nn.Linear(60, 30), nn.ReLU(inplace=True)
    ),
    "one size only": lambda: nn.Sequential(
        nn.Conv2d(3, 2, 5, 4), nn.AvgPool2d(5), nn.Flatten(), nn.Linear(2 * 5 * 4, 3)
    ),
    "another in a strip": Crooked,
}


class Order(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("name", LARGE_NETS)
def test_a_strip_tells_what_the_whole_picture_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = wide(LARGE_NETS[name]())
    quick = receptive_fields(net, (113, 99))
    monkeypatch.setattr("torchloupe.features.receptive.STRIP", 10_000)
    whole = receptive_fields(net, (113, 99))
    assert quick.keys() == whole.keys() and whole
    for layer, field in whole.items():
        assert torch.equal(quick[layer].rows, field.rows) and torch.equal(quick[layer].columns, field.columns), layer


def test_rows_are_looked_for_in_a_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []

    class Watched(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            widths.extend([min(x.shape[2:])] * len(x))
            return super().forward(x)

    receptive_fields(wide(nn.Sequential(Watched(3, 2, 3))), 128)
    assert 2 * 128 <= widths.count(32) < 2.5 * 128 and widths.count(128) < 40


def test_effective_fields_of_many_layers_are_those_of_each() -> None:
    net = wide(
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4 * 35, 2)
        )
    )
    x = random(2, 1, 9, 11)
    names = [name for name, _ in net.named_children()]
    assert effective_sides(net, names, x) == pytest.approx({name: effective_side(net, name, x) for name in names})


def test_a_layer_that_sees_the_whole_picture_takes_one_pass_an_axis() -> None:
    class Counting(nn.Conv2d):
        passed = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passed += len(x)
            return super().forward(x)

    first = Counting(3, 4, 3)
    net = nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    fields = receptive_fields(net, (37, 41), ["1"])
    assert fields["1"].rows.tolist() == [[0, 37]] and fields["1"].columns.tolist() == [[0, 41]]
    assert first.passed <= 2 * 2 + 2, "first and last line alone, and what asks for shapes"
