"""The table of explanations: planted networks whose true map is known, and numbers by hand."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nets import hooks_of
from torchloupe.errors import ModelError, UsageError
from torchloupe.evaluation.explanations import (
    COSTLY,
    MEASURES,
    Explained,
    Explainer,
    controls,
    score_explanations,
    tabulate,
)
from torchloupe.evaluation.intervals import paired_interval, wilson


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Reads(nn.Module):
    """A linear network of two classes that reads one part of the picture and nothing else."""

    where: Tensor

    def __init__(self, where: Tensor) -> None:
        super().__init__()
        size = 0.5 + torch.rand(3, *where.shape, generator=generator(1), dtype=torch.float64)
        self.weight = nn.Parameter(torch.stack([size, -size]))
        self.register_buffer("where", where.double())

    def forward(self, x: Tensor) -> Tensor:
        seen = (x - 0.5) * self.where
        return torch.einsum("bchw,kchw->bk", seen, self.weight) / 3


def input_x_gradient(net: nn.Module, images: Tensor, target: Tensor) -> Explained:
    x = images.clone().requires_grad_()
    logits = net(x)
    (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), x)
    maps = ((images - 0.5) * gradient).sum(1)
    residual = (maps.sum((1, 2)) - logits.gather(1, target[:, None])[:, 0]).detach()
    return maps, residual


def planted() -> tuple[Reads, Tensor, Tensor]:
    where = torch.zeros(10, 10, dtype=torch.bool)
    where[2:6, 5:9] = True
    images = torch.rand(70, 3, 10, 10, generator=generator(2), dtype=torch.float64)
    return Reads(where).eval(), images, where.expand(70, -1, -1)


def test_a_network_that_reads_a_mask() -> None:
    """Its true map has all its mass there, points there, and beats every control that does not know the mask."""
    net, images, masks = planted()
    true = Explainer("true", input_x_gradient)
    place = Explainer("place", lambda m, x, t: (net.where.expand(len(x), -1, -1), None))
    table = score_explanations([true, place], net, images, masks=masks)
    for name in ("mass", "pointing", "auc"):
        assert table.methods["place"][name].value == 1 and table.methods["place"][name].n == 70
    assert table.methods["true"]["mass"].value == pytest.approx(1) and table.methods["true"]["pointing"].value == 1
    assert table.controls["uniform"]["auc"].value == 0.5
    assert table.controls["uniform"]["mass"].value == pytest.approx(0.16)
    for name in ("insertion", "deletion", "road"):
        against = table.methods["true"][name].against
        assert against is not None and against.beaten, (name, against)
    assert table.randomized["true"]["mass"].value == pytest.approx(1), "the mask is no weight"
    assert {"mass", "pointing"} <= table.not_beaten("true").keys()
    assert max(table.controls[name]["mass"].value for name in ("center", "sobel")) < 0.5
    assert table.methods["true"]["completeness"].value == pytest.approx(0, abs=1e-12)
    assert "completeness" not in table.methods["place"] and "completeness" not in table.ranked_by
    assert table.ranked_by == ("insertion", "deletion", "road", "mass", "pointing", "auc")
    assert hooks_of(net) == 0


def test_a_map_that_knows_no_weight_is_told() -> None:
    _, images, _ = planted()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(300, 2)).double().eval()
    edges = next(each for each in controls() if each.name == "sobel")
    table = score_explanations([Explainer("edges", edges.explain), Explainer("own", input_x_gradient)], net, images)
    assert table.methods["edges"]["randomization"].value == pytest.approx(1)
    against = table.methods["edges"]["randomization"].against
    assert against is not None and not against.beaten
    assert "randomization" in table.not_beaten("edges") and "road" in table.not_beaten("edges")
    assert table.methods["own"]["randomization"].value < 0.5
    assert table.best == "own"
    assert "mass, pointing, auc" in table.left_out and "mass" not in table.methods["own"]
    for name in ("insertion", "deletion", "road"):
        assert table.randomized["edges"][name].value == pytest.approx(table.methods["edges"][name].value, abs=0.05)


class Silent(nn.Module):
    """Answers the same whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias + 0 * x.sum((1, 2, 3))[:, None]


def test_an_answer_that_knows_no_picture() -> None:
    """Every curve is flat at its probability, and no map beats a constant one."""
    images = torch.rand(5, 3, 8, 8, generator=generator(), dtype=torch.float64)
    maker = Explainer("noise", lambda m, x, t: (torch.randn(x[:, 0].shape, generator=generator()).to(x), None))
    net = Silent().eval()
    table = score_explanations([maker], net, images)
    share = net.bias.softmax(0)[2].item()
    for row in (table.methods["noise"], *table.controls.values()):
        assert row["insertion"].value == pytest.approx(share) and row["deletion"].value == pytest.approx(share)
        assert row["road"].value == pytest.approx(0, abs=1e-12)
    assert {"insertion", "deletion", "road"} <= table.not_beaten("noise").keys()


def test_what_costs_much_is_measured_on_few() -> None:
    net, images, masks = planted()
    slow = Explainer("slow", input_x_gradient, passes=COSTLY)
    table = score_explanations([slow, Explainer("quick", input_x_gradient)], net, images, masks=masks, few=6)
    slow_n, quick_n = ({name: cell.n for name, cell in table.methods[key].items()} for key in ("slow", "quick"))
    assert set(slow_n.values()) == {6}
    assert {name for name, n in quick_n.items() if n == 6} == {"randomization", "stability"}
    assert quick_n["road"] == 70 and table.controls["sobel"]["road"].n == 70
    assert table.methods["slow"]["road"].value == pytest.approx(table.randomized["slow"]["road"].value, abs=2)


def test_classes_may_be_named() -> None:
    net, images, _ = planted()
    seen: list[Tensor] = []

    def explain(model: nn.Module, x: Tensor, target: Tensor) -> Explained:
        seen.append(target)
        return input_x_gradient(model, x, target)

    score_explanations([Explainer("a", explain)], net, images[:8], few=8)
    assert all(torch.equal(target, net(images[:8]).argmax(1)) for target in seen)
    seen.clear()
    score_explanations([Explainer("a", explain)], net, images[:8], few=8, target=torch.ones(8, dtype=torch.int64))
    assert seen and all((target == 1).all() for target in seen)


def test_a_method_that_a_network_does_not_allow_is_left_out() -> None:
    net, images, _ = planted()

    def refuse(model: nn.Module, x: Tensor, target: Tensor) -> Explained:
        raise ModelError("no such layer.")

    table = score_explanations([Explainer("no", refuse), Explainer("yes", input_x_gradient)], net, images[:4])
    assert table.left_out["no"] == "no such layer." and list(table.methods) == ["yes"]
    with pytest.raises(ModelError, match="none of the methods: no such layer"):
        score_explanations([Explainer("no", refuse)], net, images[:4], masks=torch.ones(4, 10, 10) > 0)
    for given, methods in ((images[:0], [Explainer("yes", input_x_gradient)]), (images, [])):
        with pytest.raises(UsageError, match="nothing to score"):
            score_explanations(methods, net, given)


def test_a_network_that_nobody_can_randomize(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images, _ = planted()

    def refuse(*_: object, **__: object) -> Iterator[tuple[str, Tensor]]:
        raise ModelError("a weight stays.")

    monkeypatch.setattr("torchloupe.evaluation.explanations.cascade_maps", refuse)
    table = score_explanations([Explainer("own", input_x_gradient)], net, images[:6])
    assert table.left_out["randomization of own"] == "a weight stays." and table.randomized == {}
    assert "randomization" not in table.methods["own"] and table.methods["own"]["stability"].n == 6


def test_progress_ends_at_the_end() -> None:
    net, images, _ = planted()
    seen: list[tuple[int, int]] = []
    score_explanations([Explainer("a", input_x_gradient)], net, images, progress=lambda *at: seen.append(at))
    done = [at for at, _ in seen]
    assert done == sorted(done) and seen[-1][0] == seen[-1][1] and len({total for _, total in seen}) == 1


def test_the_table_by_hand() -> None:
    chance = generator()
    a, u, s = (torch.rand(40, generator=chance, dtype=torch.float64) for _ in range(3))
    table = tabulate({"a": {"deletion": a}}, {"u": {"deletion": u + 5}, "s": {"deletion": s}})
    cell = table.methods["a"]["deletion"]
    assert cell.value == pytest.approx(a.mean().item()) and cell.n == 40
    half = 2.0227 * a.std().item() / math.sqrt(40)
    assert cell.interval == pytest.approx((a.mean().item() - half, a.mean().item() + half), abs=1e-3)
    assert cell.against is not None and cell.against.control == "s", "lower is better"
    assert cell.against.difference == pytest.approx((a - s).mean().item())
    half = 2.0227 * (a - s).std().item() / math.sqrt(40)
    assert cell.against.interval[1] == pytest.approx((a - s).mean().item() + half, abs=1e-3)
    assert tabulate({"a": {"deletion": s - 1}}, {"s": {"deletion": s}}).not_beaten("a") == {}


def test_hits_have_intervals_of_shares() -> None:
    hits = torch.tensor([1.0] * 30 + [0.0] * 10)
    other = torch.tensor([1.0] * 10 + [0.0] * 30)
    cell = tabulate({"a": {"pointing": hits}}, {"u": {"pointing": other}}).methods["a"]["pointing"]
    assert cell.interval == wilson(30, 40) and cell.against is not None
    assert cell.against.interval == paired_interval(20, 0, 40) and cell.against.beaten
    sure = tabulate({"a": {"pointing": torch.ones(5)}}, {"u": {"pointing": torch.ones(5)}}).methods["a"]["pointing"]
    assert sure.interval[0] < 0.6 and sure.against is not None and not sure.against.beaten


def test_only_images_that_both_know_are_compared() -> None:
    long, short = torch.linspace(0, 1, 20, dtype=torch.float64), torch.full((5,), 0.2, dtype=torch.float64)
    short[3] = math.nan
    row = tabulate({"a": {"road": short}}, {"u": {"road": long}, "flat": {"road": torch.full((20,), math.nan)}})
    cell = row.methods["a"]["road"]
    kept = torch.tensor([0, 1, 2, 4])
    assert cell.n == 4 and cell.against is not None
    assert cell.against.difference == pytest.approx((0.2 - long[kept]).mean().item())
    assert cell.against.control == "u" and row.controls["flat"]["road"].n == 0


def test_ranks_are_means_over_measures_that_all_have() -> None:
    rows: dict[str, dict[str, Any]] = {
        "a": {"insertion": [0.9, 0.9], "deletion": [0.1, 0.1], "road": [0.5, 0.5], "stability": [0.0, 0.1]},
        "b": {"insertion": [0.8, 0.8], "deletion": [0.2, 0.2], "road": [0.6, 0.6], "auc": [1.0, 1.0]},
        "c": {"insertion": [0.8, 0.8], "deletion": [0.3, 0.3], "road": [0.4, 0.4], "auc": [1.0, 1.0]},
    }
    values = {name: {key: torch.tensor(each) for key, each in row.items()} for name, row in rows.items()}
    table = tabulate(values, {})
    assert table.ranked_by == ("insertion", "deletion", "road") and table.best == "a"
    assert table.mean_rank == pytest.approx({"a": 4 / 3, "b": (2.5 + 2 + 1) / 3, "c": (2.5 + 3 + 3) / 3})
    assert table.not_beaten("a") == {} and tabulate({}, {}).best is None
    assert len({m.name for m in MEASURES}) == len(MEASURES)
