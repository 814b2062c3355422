"""Short, seeded runs of the long tortures, and that each can fail."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torchloupe.inspection.catalog import METHODS
from torchloupe.inspection.run import run
from torture import leaks
from torture.fuzz_checkpoints import Ground, fuzz, prepared, unsound
from torture.ground import command, guarded

COUNT = 50


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with prepared(tmp_path_factory.mktemp("ground")) as ground:
        yield ground


def test_what_is_whole_passes_every_door(ground: Ground) -> None:
    assert not unsound(ground)


def test_mutated_files_work_or_are_told_in_one_sentence(ground: Ground, tmp_path: Path) -> None:
    """The long one: python -m torture.fuzz_checkpoints --count 10000."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tally, fallen = fuzz(ground, range(COUNT), seed=0, out=tmp_path)
    assert not fallen, "\n".join([*fallen, *(path.read_text() for path in sorted(tmp_path.glob("*.txt")))])
    assert sum(tally.tried.values()) == COUNT and len({name.partition(" > ")[0] for name in tally.tried}) > 10


def test_a_fall_is_seen(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    def slow() -> None:
        while True:
            sum(range(1000))

    def greedy() -> None:
        torch.ones(150_000_000).sum()

    assert guarded(lambda: None) is None
    assert guarded(lambda: vars()["nothing"]) is not None
    assert (seen := guarded(greedy)) is not None and "memory" in seen.why
    assert (seen := guarded(canary.touch, canary)) is not None and seen.why == "code ran"
    assert (seen := guarded(slow, seconds=0.2)) is not None and seen.why == "too slow"
    assert guarded(lambda: command("layers", str(tmp_path / "nothing"))) is None


@pytest.mark.parametrize("row", METHODS, ids=lambda row: row.name)
def test_many_uses_leave_nothing_behind(row: Any) -> None:
    """The long one: python -m torture.leaks --count 200."""
    found, _ = leaks.leaked(row, 4)
    assert not found


def test_what_stays_behind_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    def leaky(name: str, model: nn.Module, *rest: Any, **more: Any) -> Any:
        model.register_forward_hook(lambda *_: None)
        kept.append((torch.ones(2_000_000), Path("/dev/null").open("rb")))  # noqa: SIM115 (that is the leak)
        return run(name, model, *rest, **more)

    monkeypatch.setattr(leaks, "run", leaky)
    found, _ = leaks.leaked(METHODS[0], 6)
    for _, file in kept:
        file.close()
    assert [word.split()[1] for word in found] == ["hooks", "files", "tensors", "MB"]
