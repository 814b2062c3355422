"""Top examples: against a loop over pictures, and boxes against the arithmetic of a known chain."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchloupe.data.dataset import Split
from torchloupe.data.tensors import to_float
from torchloupe.errors import DataError, UsageError
from torchloupe.features.top_examples import TopExamples, top_examples
from torchloupe.models.network import wrap

RANKS = pytest.mark.parametrize("rank", ["max", "mean"])
SIDE = (13, 11)
CHAIN = ((3, 2, 1, 1), (2, 2, 0, 1), (3, 1, 2, 2))
"""Kernel, stride, padding, dilation."""


def chain() -> nn.Sequential:
    """Whole weights, channel 3 of the last layer dead: on black and white pictures every activation is exact."""
    first, last = nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Conv2d(5, 7, 3, padding=2, dilation=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (*first.parameters(), *last.parameters()):
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
        last.weight[3] = 0
        assert last.bias is not None
        last.bias[3] = -1
    return nn.Sequential(first, nn.ReLU(inplace=True), nn.MaxPool2d(2), last, nn.ReLU(inplace=True)).double()


def forward(net: nn.Sequential, x: Tensor) -> Tensor:
    weights = [p.detach() for p in net.parameters()]
    x = F.max_pool2d(F.conv2d(x, weights[0], weights[1], 2, 1).clamp(min=0), 2)
    return F.conv2d(x, weights[2], weights[3], 1, 2, 2).clamp(min=0)


def split(n: int = 20, side: tuple[int, int] = SIDE, gray: bool = False) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256 if gray else 2, (n, 3, *side), generator=generator) * (1 if gray else 255)
    return Split(images.to(torch.uint8), torch.zeros(n, dtype=torch.int64), tuple(f"a/{i}.png" for i in range(n)))


def by_loop(net: nn.Sequential, images: Tensor, channel: int, rank: str) -> list[tuple[float, int]]:
    """Score and number of every picture, best first, the earlier of equal ones first."""
    scores = []
    for i, image in enumerate(images):
        values = forward(net, image[None].double() / 255)[0, channel].flatten().tolist()
        scores.append((max(values) if rank == "max" else math.fsum(values) / len(values), i))
    return sorted(scores, key=lambda pair: (-pair[0], pair[1]))


def same(one: TopExamples, other: TopExamples) -> bool:
    fields = ("channel", "index", "activation", "position", "box", "images")
    return one.names == other.names and all(torch.equal(getattr(one, f), getattr(other, f)) for f in fields)


@RANKS
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("channels", [None, [2, 0]])
def test_against_a_loop_over_pictures(rank: str, gray: bool, channels: list[int] | None) -> None:
    net, data = chain(), split(gray=gray)
    found = top_examples(net, "4", data, channels=channels, count=7, rank=rank)
    asked = list(range(7)) if channels is None else channels
    assert found.layer == "4" and found.channel.tolist() == asked
    for row, channel in enumerate(asked):
        expected = by_loop(net, data.images, channel, rank)[:7]
        assert found.index[row].tolist() == [i for _, i in expected]
        assert found.activation[row].tolist() == pytest.approx([score for score, _ in expected], rel=1e-6)
        assert found.names[row] == tuple(f"a/{i}.png" for _, i in expected)
        for k, (_, i) in enumerate(expected):
            features = forward(net, data.images[i : i + 1].double() / 255)[0, channel]
            y, x = found.position[row, k].tolist()
            assert float(features[y, x]) == float(features.max())
            assert torch.equal(found.images[row, k], data.images[i])


@RANKS
def test_of_equal_pictures_the_earlier_counts_whatever_the_batch(rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = chain(), split(6)
    images = torch.cat([data.images, data.images.flip(0), data.images])  # every picture three times
    whole = top_examples(net, "4", images, count=5, rank=rank)
    for row in range(7):
        assert whole.index[row].tolist() == [i for _, i in by_loop(net, images, row, rank)[:5]]
    for batch in (1, 4, 5, 17, 18):
        monkeypatch.setattr("torchloupe.features.top_examples.at_once", lambda *_, batch=batch: batch)
        assert same(whole, top_examples(net, "4", images, count=5, rank=rank))


def test_a_dead_channel_is_zero_and_keeps_the_first() -> None:
    found = top_examples(chain(), "4", split(), channels=[3], count=4)
    assert found.index.tolist() == [[0, 1, 2, 3]] and found.activation.tolist() == [[0.0] * 4]


def fields(ops: tuple[tuple[int, int, int, int], ...], n: int) -> list[tuple[int, int]]:
    """First and last + 1 pixel that each position depends on, walked forwards by the definition of a convolution."""
    seen = [(i, i + 1) for i in range(n)]
    for kernel, stride, padding, dilation in ops:
        out = []
        for o in range((len(seen) + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1):
            taps = [t for j in range(kernel) if 0 <= (t := o * stride - padding + j * dilation) < len(seen)]
            out.append((min(seen[t][0] for t in taps), max(seen[t][1] for t in taps)))
        seen = out
    return seen


@pytest.mark.parametrize(("layer", "many"), [("0", 1), ("2", 2), ("4", 3)])
@pytest.mark.parametrize("side", [SIDE, (21, 19)])
def test_boxes_of_a_known_chain(layer: str, many: int, side: tuple[int, int]) -> None:
    found = top_examples(chain(), layer, split(30, side), count=30)
    rows, columns = (fields(CHAIN[:many], n) for n in side)
    places = found.position.flatten(0, 1).tolist()
    assert found.box.flatten(0, 1).tolist() == [
        [rows[y][0], columns[x][0], rows[y][1], columns[x][1]] for y, x in places
    ]
    assert len({tuple(place) for place in places}) > 5, "too few positions to show anything"


@pytest.mark.parametrize(
    ("size", "stored"),
    [
        (9, (9, 9)),
        (9, (18, 27)),
        (12, (9, 31)),
        (9, (13, 5)),
        (11, (29, 13)),  # 11 * (29 / 11) is more than 29 in float32
    ],
)
def test_boxes_are_in_pixels_of_the_stored_picture(size: int, stored: tuple[int, int]) -> None:
    data, (height, width) = split(40, stored, gray=True), stored
    net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.normal_(net[0].weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    found = top_examples(wrap(net, mean=None, std=None, size=size, classes=6), "0", data, count=40)
    seen = fields(CHAIN[:1], size)
    assert found.images.shape[3:] == stored
    for row, (places, boxes) in enumerate(zip(found.position.tolist(), found.box.tolist(), strict=True)):
        with torch.no_grad():  # the network sees the picture brought to its size
            x = to_float(found.images[row, :1], size)
            assert float(net[0](x)[0, row].max()) == pytest.approx(float(found.activation[row, 0]), rel=1e-4)
        for (y, x), box in zip(places, boxes, strict=True):
            (top, bottom), (left, right) = seen[y], seen[x]
            ends = (-(-bottom * height // size), -(-right * width // size))
            assert box == [top * height // size, left * width // size, *ends]
            assert box[2] <= height and box[3] <= width


def test_a_layer_that_mixes_all_sees_all() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 11 * 9, 5)).double()
    for layer in ("2", "output"):
        found = top_examples(net, layer, split(), count=2)
        assert found.box.tolist() == [[[0, 0, *SIDE]] * 2] * 5 and not bool(found.position.any())


def test_fewer_pictures_than_asked_for() -> None:
    found = top_examples(chain(), "4", split(3), count=9)
    assert found.index.shape == (7, 3) and all(sorted(row) == [0, 1, 2] for row in found.index.tolist())


def test_pictures_without_names_are_called_by_number() -> None:
    found = top_examples(chain(), "4", split(12).images, count=3)
    assert found.names == tuple(tuple(str(i) for i in row) for row in found.index.tolist())


def test_progress_counts_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchloupe.features.top_examples.at_once", lambda *_: 8)
    told: list[tuple[int, int]] = []
    top_examples(chain(), "4", split(20), progress=lambda done, total: told.append((done, total)))
    assert told == [(8, 20), (16, 20), (20, 20)]


@pytest.mark.parametrize("settings", [{"count": 0}, {"rank": "median"}, {"channels": [7]}, {"channels": []}])
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        top_examples(chain(), "4", split(), **settings)


@pytest.mark.parametrize("images", [torch.rand(3, 3, 9, 9), torch.zeros(0, 3, 9, 9, dtype=torch.uint8)])
def test_what_is_no_data_set_is_refused(images: Tensor) -> None:
    with pytest.raises(DataError, match="this data set has none"):
        top_examples(chain(), "4", images)
