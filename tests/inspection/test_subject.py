"""What is known of a network beside its weights, where it is kept, and the table of its layers."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets import Calls
from torchloupe.checkpoints.file import read_tensors, save_tensors
from torchloupe.checkpoints.open import Origin
from torchloupe.data.dataset import Dataset, Split, checksum
from torchloupe.data.subsets import spread_out
from torchloupe.errors import DataError
from torchloupe.features.hooks import OUTPUT
from torchloupe.inspection.layer_table import counted, layer_table
from torchloupe.inspection.subject import Subject, keep_statistics, subject
from torchloupe.models.network import Network, wrap
from torchloupe.runs.config import Config
from torchloupe.synthesis.image_statistics import ImageStatistics, generic, measure

SIDE = 11
KEPT = replace(generic(SIDE, SIDE), mean=torch.tensor([0.1, 0.2, 0.3]))


def split(n: int, seed: int) -> Split:
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Split(images, torch.zeros(n, dtype=torch.int64), tuple(map(str, range(n))))


def dataset(seed: int = 0, name: str = "data") -> Dataset:
    return Dataset(name, split(7, seed), split(11, seed + 1), ("a", "b"), (0.5,) * 3, (0.25,) * 3, name)


def network(run: Path | None = None, mean: float = 0.5, source: str = "data") -> Network:
    """A network with a shared ReLU, a dead channel and a buffer; the same weights each time."""

    def forward(net: Any, x: Tensor) -> Any:
        x = net.pool(net.relu(net.norm(net.stem(x))))
        return net.fc(net.relu(net.deep(x)).mean((2, 3)))

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        stem, norm = nn.Conv2d(3, 6, (3, 5), (2, 1), bias=False), nn.BatchNorm2d(6)
        deep, fc = nn.Sequential(nn.Conv2d(6, 4, 1)), nn.Linear(4, 2)
        bare: Any = Calls(forward, stem=stem, norm=norm, pool=nn.MaxPool2d(2), deep=deep, relu=nn.ReLU(), fc=fc)
        bare.norm.bias[1] = -100.0
    net = wrap(bare, mean=[mean] * 3, std=[0.25] * 3, size=SIDE, classes=2)
    if run is not None:
        config = Config("net", ("a", "b"), net.mean, net.std, SIDE, data={"source": source})
        net.origin = Origin(str(run), {}, config, run, run.name)
    return net


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Data sets by name, without a reader; the list of names asked for."""
    asked: list[str] = []

    def load(source: str, **_: Any) -> Dataset:
        asked.append(source)
        if source == "lost":
            raise DataError("no such data")
        return dataset(name=source)

    monkeypatch.setattr("torchloupe.inspection.subject.data_sets.load", load)
    return asked


@contextmanager
def counting(net: nn.Module) -> Iterator[list[int]]:
    """Collect the sizes of the batches that the network sees."""
    seen: list[int] = []
    handle = net.get_submodule("stem").register_forward_hook(lambda _, x, y: seen.append(len(x[0])))
    yield seen
    handle.remove()


def equal(one: ImageStatistics, other: ImageStatistics) -> bool:
    mine, theirs = one.to_tensors(), other.to_tensors()
    return all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_statistics_kept_in_the_run_need_no_data(tmp_path: Path, loads: list[str]) -> None:
    save_tensors(tmp_path / "statistics.safetensors", KEPT.to_tensors(), {"data": "old data"})
    found, name = Subject(network(tmp_path)).statistics()
    assert equal(found, KEPT) and name == "old data" and not loads


def test_statistics_are_measured_on_train_once_and_kept(tmp_path: Path, loads: list[str]) -> None:
    expected = measure(dataset().train.images)
    for _ in range(2):
        found, name = Subject(network(tmp_path)).statistics()
        assert equal(found, expected) and name == "data" and loads == ["data"]
    (tmp_path / "statistics.safetensors").write_bytes(b"half a file")
    found, name = Subject(network(tmp_path)).statistics()
    assert equal(found, expected) and loads == ["data"] * 2


def test_given_data_come_before_the_runs_and_do_not_change_the_run(tmp_path: Path, loads: list[str]) -> None:
    save_tensors(tmp_path / "statistics.safetensors", KEPT.to_tensors(), {"data": "old data"})
    before = (tmp_path / "statistics.safetensors").read_bytes()
    for given, name in ((dataset(5, "mine"), "mine"), ("named", "named")):
        studied = Subject(network(tmp_path), given)
        assert studied.statistics()[1] == studied.source == name and studied.health(["relu"]) is not None
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["statistics.safetensors"]
    assert (tmp_path / "statistics.safetensors").read_bytes() == before


def test_without_data_they_are_generic_and_no_channel_has_a_best(tmp_path: Path, loads: list[str]) -> None:
    for net in (network(), network(tmp_path, source="lost")):
        studied = Subject(net)
        found, name = studied.statistics()
        assert name == "generic" and equal(found, generic(SIDE, SIDE))
        assert studied.best("relu") is None and studied.health(["relu"]) is None and studied.split() is None
    assert equal(Subject(nn.Conv2d(1, 2, 3)).statistics()[0], generic(224, 224, 1))
    with pytest.raises(DataError):
        Subject(network(), "lost").statistics()


def test_what_was_kept_is_told_where_the_data_are_gone(tmp_path: Path, loads: list[str]) -> None:
    there = Subject(network(tmp_path))
    known = there.health(["relu", "deep"])
    assert known is not None and there.seen["data"] == "data" and there.seen["pictures"] == 11
    lost = network(tmp_path, source="lost")
    with counting(lost) as seen:
        gone = Subject(lost)
        found = gone.health(["relu"])
        assert found is not None and gone.dataset() is None and not seen
    for name, value in vars(known["relu"]).items():
        if value is None:
            assert getattr(found["relu"], name) is None
            continue
        one, other = torch.as_tensor(getattr(found["relu"], name)), torch.as_tensor(value)
        assert torch.equal(one.nan_to_num(9), other.nan_to_num(9))
    assert gone.seen["classes"] == ["a", "b"] and gone.health(["norm"]) is None, "what was not kept is not known"
    unlike = network(tmp_path, source="lost", mean=0.25)
    assert Subject(unlike).health(["relu"]) is None, "another normalisation"
    with torch.no_grad():
        bare: Any = lost.bare
        bare.stem.weight[0] *= 2
    assert Subject(lost).health(["relu"]) is None, "other weights"


def test_of_many_pictures_some_are_taken_evenly_from_all_classes() -> None:
    assert spread_out(5, 10).tolist() == [0, 1, 2, 3, 4] and spread_out(10, 5).tolist() == [0, 2, 4, 6, 8]
    data = dataset()
    studied = Subject(network(), data)
    found = studied.health(["relu"], most=4)
    assert found is not None and studied.seen["pictures"] == 4
    chosen = spread_out(11, 4).tolist()
    assert chosen == [0, 2, 5, 8]
    torch.testing.assert_close(found["relu"].best, plain_best(network(), data.test.images[chosen]))
    assert set(found["relu"].best_index.tolist()) <= set(chosen), "numbers of the whole split"
    more = Subject(network(), data)
    assert more.health(["relu"]) is not None and more.seen["pictures"] == 11, "what was measured on few is no answer"
    again = Subject(network(), data)
    assert again.health(["relu"], most=4) is not None and again.seen["pictures"] == 11, "what was on more is one"


def test_dead_channels_are_counted_on_all_classes_of_a_sorted_data_set() -> None:
    images = torch.zeros(20, 3, SIDE, SIDE, dtype=torch.uint8)
    images[10:] = 255  # the second class, after all of the first
    data = replace(dataset(), test=Split(images, torch.arange(20) // 10, tuple(map(str, range(20)))))
    net = wrap(
        nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(3 * SIDE**2, 2)), mean=None, std=None, size=SIDE, classes=2
    )
    rows = layer_table(Subject(net, data), 10)
    assert rows[0].images == 10 and rows[0].dead == 0, "the channels are alive on the second class"


def plain_best(net: Network, images: Tensor) -> Tensor:
    bare: Any = net.bare
    mean = 0.5 if net.mean is None else net.mean[0]
    with torch.no_grad():
        means = [F.relu(bare.norm(bare.stem((x[None] / 255 - mean) / 0.25))).mean((2, 3))[0] for x in images]
    return torch.stack(means).amax(0)


@pytest.mark.parametrize("place", ["run", "cache"])
def test_health_is_computed_once(place: str, tmp_path: Path, cache_folder: Path, loads: list[str]) -> None:
    net, given = (network(tmp_path), None) if place == "run" else (network(), dataset())
    studied = Subject(net, given)
    torch.testing.assert_close(studied.best("relu"), plain_best(net, dataset().test.images))
    (kept,) = (tmp_path if place == "run" else cache_folder / "models").glob("health-*.safetensors")
    with counting(net) as seen:
        again = Subject(net, given)
        torch.testing.assert_close(again.best("relu"), studied.best("relu"), rtol=0, atol=0)
        assert not seen
        again.best("deep")
        assert sum(seen) >= 11
        seen.clear()
        third = Subject(net, given)
        assert third.best("relu") is not None and third.best("deep") is not None and not seen
    assert {name.partition("/")[0] for name in read_tensors(kept)[0]} == {"relu", "deep"}


@pytest.mark.parametrize("changed", ["weights", "buffer", "data", "damage", "mean"])
def test_health_is_computed_anew_where_it_no_longer_fits(changed: str, cache_folder: Path) -> None:
    data = dataset()
    Subject(network(), data).best("relu")
    net = network(mean=0.25 if changed == "mean" else 0.5)
    bare: Any = net.bare
    with torch.no_grad():
        if changed == "weights":
            bare.stem.weight[0] *= 2
        if changed == "buffer":
            bare.norm.running_mean += 1
    if changed == "data":
        data = dataset(3)
    if changed == "damage":
        (kept,) = (cache_folder / "models").glob("health-*")
        kept.write_bytes(kept.read_bytes()[:-5])
    with counting(net) as seen:
        found = Subject(net, data).best("relu")
    assert sum(seen) >= 11, "the network ran over the data"
    torch.testing.assert_close(found, plain_best(net, data.test.images))
    if changed == "weights":
        with counting(net := network()) as seen:
            assert Subject(net, data).best("relu") is not None and not seen, "the other's is still there"


@pytest.mark.parametrize("how", ["read-only", "a file in the way"])
def test_what_cannot_be_kept_is_still_told(
    how: str, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    if how == "read-only":
        monkeypatch.setattr("torchloupe.checkpoints.file.atomic_write", refuse)
    else:
        cache_folder.write_text("")
    assert Subject(network(), dataset()).best("relu") is not None
    run = tmp_path if how == "read-only" else cache_folder / "run"
    assert equal(keep_statistics(run, dataset()), measure(dataset().train.images))
    assert not list(tmp_path.rglob("*.safetensors"))


def with_buffer(name: str, value: Tensor, saved: bool = True) -> nn.Module:
    net = nn.Flatten()
    net.register_buffer(name, value, persistent=saved)
    return net


def test_the_digest_changes_with_any_weight_or_buffer() -> None:
    digests = {Subject(network()).weights, Subject(network()).weights}
    assert [len(digest) for digest in digests] == [16]
    names = list(network().state_dict())
    assert {"stem.weight", "norm.running_var", "norm.num_batches_tracked"} < set(names)
    for name in names:
        net = network()
        net.state_dict()[name].view(-1)[-1:].add_(1)
        digests.add(Subject(net).weights)
    assert len(digests) == 1 + len(names)
    zeros = torch.zeros(2, 3)
    same_bytes = [("a", zeros), ("b", zeros), ("a", zeros.view(3, 2)), ("a", zeros.int())]
    assert len({Subject(with_buffer(*each)).weights for each in same_bytes}) == 4


def test_the_digest_changes_with_a_buffer_that_is_not_saved() -> None:
    one, other = (with_buffer("scale", torch.tensor(value), saved=False) for value in (1.0, 2.0))
    assert Subject(one).weights != Subject(other).weights


def test_titles_and_subjects() -> None:
    assert Subject(network(Path("runs/cats"))).title == "cats" and Subject(network()).title == "Calls"
    assert Subject(network(), title="mine").title == "mine"
    studied = Subject(network())
    assert subject(studied) is studied and subject(studied.model).model is studied.model
    train_only = replace(dataset(), test=split(0, 0))
    assert Subject(network(), train_only).split() is train_only.train


def test_the_table_of_layers() -> None:
    net, data = network(), dataset()
    rows = layer_table(Subject(net, data), 6)
    table = {row.name: row for row in rows}
    assert list(table) == ["stem", "norm", "relu", "pool", "deep.0", "deep", "fc"], "in order of their first ends"
    assert [row.output for row in rows] == [(6, 5, 7)] * 3 + [(6, 2, 3)] + [(4, 2, 3)] * 2 + [(2,)]
    kinds = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Conv2d", "Sequential", "Linear"]
    assert [row.kind for row in rows] == kinds
    assert [row.kernel for row in rows] == ["3x5/2", "", "", "2x2/2", "1x1", "", ""]
    assert [row.times for row in rows] == [1, 1, 2, 1, 1, 1, 1]
    assert [row.parameters for row in rows] == [6 * 3 * 15, 12, 0, 0, 28, 28, 10], "deep's are those of deep.0"
    assert [row.field for row in rows] == [(3, 5), (3, 5), (3, 5), (5, 6), (5, 6), (5, 6), None]
    assert not any(row.clipped for row in rows)
    weight = net.get_submodule("stem").weight
    assert isinstance(weight, Tensor)
    influence = weight.detach().sum(0).abs().mean(0)
    strong = int((influence >= 0.0455 * influence.max()).sum())
    assert table["stem"].effective_field == pytest.approx(strong**0.5) and table["fc"].effective_field is None


def test_the_table_of_some_layers_and_the_output() -> None:
    studied = Subject(network(), dataset())
    every = {row.name: row for row in layer_table(studied, 6)}
    some = layer_table(studied, 6, layers=["deep", "stem", OUTPUT])
    assert some[:2] == [every["deep"], every["stem"]]
    assert (some[2].name, some[2].kind, some[2].output, some[2].parameters) == (OUTPUT, "logits", (), 0)
    assert some[2].dead is None and some[2].images == 6, "logits may be negative"


def test_what_is_refused_leaves_the_rest_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def attempt(what: str, layer: str, make: Any) -> Any:
        if what in ("health", "effective fields"):
            refused.append(layer)
            return None
        return make()

    rows = layer_table(Subject(network(), dataset()), 6, layers=["stem"], attempt=attempt)
    assert refused == ["all", "all"] and rows[0].dead is rows[0].effective_field is None and rows[0].field == (3, 5)


def test_the_table_counts_dead_channels_on_so_many_pictures() -> None:
    data, shares = dataset(), []
    data.test.images[[0, 1, 2, 3, 4, 5]] = 0  # black: other channels are dead; two evenly taken are both black
    for asked, count in ((2, 2), (99, 11)):
        net = network()
        bare: Any = net.bare
        rows = layer_table(Subject(net, data), asked)
        chosen = data.test.images[torch.arange(count) * 11 // count]
        with torch.no_grad():
            features = F.relu(bare.norm(bare.stem((chosen / 255 - 0.5) / 0.25)))
        alive = features.flatten(2).any(2).double().mean(0)
        shares.append(float((alive < 0.01).double().mean()))
        table = {row.name: row.dead for row in rows}
        assert counted(rows) == str(count) and table["relu"] == pytest.approx(shares[-1]) and table["stem"] is None
    assert shares[0] > shares[1] == pytest.approx(1 / 6)


def test_the_table_counts_on_the_images_that_a_report_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [row.name for row in layer_table(Subject(network()), 0)]
    Subject(network(), dataset()).health(names, most=4)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("torchloupe.inspection.subject.health", refuse)
    rows = layer_table(Subject(network(), dataset()), 3)
    assert {row.images for row in rows} == {4} and counted(rows) == "4"


def test_the_table_without_pictures_does_not_guess_what_is_dead(tmp_path: Path, loads: list[str]) -> None:
    for studied, count in ((Subject(network()), 5), (Subject(network(), dataset()), 0)):
        rows = layer_table(studied, count)
        assert counted(rows) == "" and [row.dead for row in rows] == [None] * 7
    Subject(network(tmp_path)).health(["relu"])
    rows = layer_table(Subject(network(tmp_path, source="lost")), 5)
    assert [row.name for row in rows if row.dead is not None] == ["relu"] and counted(rows) == "11"


def test_each_layer_says_on_how_many_images_it_was_measured() -> None:
    data = dataset()
    studied = Subject(network(), data)
    assert studied.health(["relu"], most=4) is not None
    found = studied.health(["deep"], most=11)
    assert found is not None and (found["relu"].images, found["deep"].images) == (4, 11)
    assert studied.seen["pictures"] == 4, "of all layers so many, of some more"
    torch.testing.assert_close(found["relu"].best, plain_best(network(), data.test.images[spread_out(11, 4)]))
    later = Subject(network(), data)
    with counting(later.model) as seen:
        read = later.health(["relu", "deep"], most=4)
        assert read is not None and (read["relu"].images, read["deep"].images) == (4, 11) and not seen
        read = later.health(["relu"], most=11)
        assert read is not None and read["relu"].images == 11 and sum(seen) >= 11, "few images are no answer for many"


def test_health_that_an_earlier_version_stored_says_one_number_for_all_layers(cache_folder: Path) -> None:
    data = dataset()
    Subject(network(), data).health(["relu"], most=4)
    (file,) = (cache_folder / "models").glob("health-*")
    tensors, about = read_tensors(file)
    old = {name: tensor for name, tensor in tensors.items() if not name.endswith("/images")}
    assert len(old) < len(tensors)
    save_tensors(file, old, {**about, "pictures": 5})
    studied = Subject(network(), data)
    with counting(studied.model) as seen:
        found = studied.health(["relu"], most=4)
        assert found is not None and found["relu"].images == 5 and not seen


def test_the_strongest_of_few_images_says_so() -> None:
    studied = Subject(network(), dataset())
    studied.health(["deep"])
    studied.health(["relu"], most=4)
    best = studied.best("relu")
    assert best is not None and studied.counted("relu") == 4 and studied.counted("deep") == 11
    assert studied.counted("stem") is None


def test_looking_at_a_run_downloads_nothing_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def load(source: str, *, offline: bool, **_: Any) -> Dataset:
        asked.append(offline)
        if offline:
            raise DataError("not here, and this run is offline")
        return dataset(name=source)

    monkeypatch.setattr("torchloupe.inspection.subject.data_sets.load", load)
    studied = Subject(network(tmp_path, source="cifar10"), offline=False)
    assert studied.dataset() is None and asked == [True]
    for part in ("cifar10", "170 MB", "torchloupe data get cifar10"):
        assert part in studied.missing
    assert "offline" not in studied.missing
    named = Subject(network(tmp_path, source="cifar10"), "cifar10", offline=False)
    assert named.dataset() is not None and asked == [True, False], "what is asked for may be downloaded"
    assert named.missing == ""


def test_what_was_measured_on_other_data_is_not_the_runs_own(tmp_path: Path, cache_folder: Path) -> None:
    own, other = dataset(), dataset(5, "other")
    net = network(tmp_path, source="lost")
    assert net.origin is not None
    config = replace(net.origin.config, data={"source": "lost", "crc32": checksum(own)})
    net.origin = replace(net.origin, word=str(tmp_path / "snapshots" / "epoch-1.safetensors"), config=config)
    assert Subject(net, other).health(["relu"]) is not None
    assert Subject(net).health(["relu"]) is None, "measured on other data"
    assert Subject(net, own).health(["relu"]) is not None
    assert Subject(net).health(["relu"]) is not None
