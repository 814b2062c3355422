"""Near-duplicate channels against numpy's correlation of all values."""

import numpy as np
import pytest
import torch
from torch import nn

from nets import hooks_of, images, stirred
from torchloupe.evaluation.duplicates import nearest


def network() -> nn.Sequential:
    net = stirred(nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(inplace=True), nn.Conv2d(6, 1, 1), nn.Flatten()))
    assert isinstance(net, nn.Sequential)
    conv = net[0]
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    with torch.no_grad():
        conv.weight[4] = 2.5 * conv.weight[1]
        conv.bias[4] = 1e4
        conv.weight[2] = 0
    return net


@pytest.mark.parametrize("n", [3, 23, 200])
def test_every_channel_finds_the_one_most_like_it(n: int) -> None:
    net, data = network(), images(n)
    found = nearest(net, data, ["0", "1", "2"])
    with torch.no_grad():
        features = net[0](data.double() / 255)
    for name, values in (("0", features), ("1", features.relu())):
        rows = values.transpose(0, 1).flatten(1).numpy()
        moving = rows.std(1) > 1e-9
        for c in range(6):
            others = [k for k in range(6) if k != c and moving[k]]
            if not moving[c]:
                assert int(found[name].other[c]) == -1 and float(found[name].correlation[c]) == 0
                continue
            each = [np.corrcoef(rows[c], rows[k])[0, 1] for k in others]
            chosen = each[others.index(int(found[name].other[c]))]  # of two alike, either
            assert chosen == pytest.approx(max(each), abs=1e-9)
            assert float(found[name].correlation[c]) == pytest.approx(max(each), abs=1e-6)
    assert found["0"].duplicate.tolist() == [False, True, False, False, True, False]
    assert found["2"].other.tolist() == [-1], "a layer of one channel"
    assert not hooks_of(net)


def test_vectors_and_layers_that_do_not_run() -> None:
    net = network()
    found = nearest(net, images(), ["3", "none"])
    assert list(found) == ["3"] and len(found["3"].other) == 20
