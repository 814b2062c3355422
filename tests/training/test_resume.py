"""A training's state is checked whole before anything of it is taken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchloupe.checkpoints.file import read_tensors, save_tensors
from torchloupe.errors import ModelError
from torchloupe.training.config import TrainConfig, resolve
from torchloupe.training.optimizers import build_optimizers
from torchloupe.training.resume import begun, check_state, load_state, save_state, states

ABOUT = {"step": 3, "seconds": 1.0, "metrics": 0, "running": [0.0, 0.0, 0.0]}
MOMENTUM = "optimizer/0/0/momentum"


def learning() -> tuple[nn.Module, list[Optimizer]]:
    """A network that has taken a step, with optimizers of both kinds."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).to(
        memory_format=torch.channels_last  # type: ignore[call-overload]
    )
    optimizers = build_optimizers(net, resolve(TrainConfig(), ours=True, images=9))
    net(torch.rand(2, 3, 3, 3)).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    return net, optimizers


Change = Callable[[dict[str, Tensor], dict[str, Any]], object]
DAMAGES: dict[str, Change] = {
    "no step": lambda tensors, about: about.pop("step"),
    "a negative step": lambda tensors, about: about.update(step=-1),
    "seconds of NaN": lambda tensors, about: about.update(seconds=float("nan")),
    "two sums": lambda tensors, about: about.update(running=[0.0, 0.0]),
    "strides of another number": lambda tensors, about: about["strides"].update({MOMENTUM: [1]}),
    "strides of terabytes": lambda tensors, about: about["strides"].update({MOMENTUM: [2**40, 2**20]}),
    "strides of one place": lambda tensors, about: about["strides"].update({MOMENTUM: [0, 0]}),
    "strides that overlap": lambda tensors, about: about["strides"].update({MOMENTUM: [1, 1]}),
    "no chance": lambda tensors, about: tensors.pop("chance/torch"),
    "a short chance": lambda tensors, about: tensors.update({"chance/torch": torch.zeros(3, dtype=torch.uint8)}),
    "a chance of other numbers": lambda tensors, about: tensors["chance/torch"].fill_(255),
    "a parameter too many": lambda tensors, about: tensors.update({"optimizer/0/99/momentum": torch.zeros(2)}),
    "a parameter without a number": lambda tensors, about: tensors.update({"optimizer/0/x/momentum": torch.zeros(2)}),
    "a momentum of another size": lambda tensors, about: (
        tensors.update({MOMENTUM: torch.zeros(2, 2)}),
        about["strides"].update({MOMENTUM: [2, 1]}),
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path: Path, kind: str) -> None:
    net, optimizers = learning()
    for step in (3, 4):
        save_state(tmp_path, net, optimizers, None, {**ABOUT, "step": step})
    newest = states(tmp_path)[-1]
    tensors, about = read_tensors(newest)
    check_state(tensors, about, optimizers, newest)
    DAMAGES[kind](tensors, about)
    with pytest.raises(ModelError, match="damaged"):
        check_state(tensors, about, optimizers, newest)
    save_tensors(newest, tensors, about)
    found = load_state(tmp_path, *learning(), None)
    assert found is not None and found["step"] == 3
    states(tmp_path)[0].unlink()
    with pytest.raises(ModelError, match="none of the states"):
        load_state(tmp_path, *learning(), None)


def test_a_whole_state_comes_back_with_its_layout(tmp_path: Path) -> None:
    net, optimizers = learning()
    save_state(tmp_path, net, optimizers, None, ABOUT)
    again, others = learning()
    load_state(tmp_path, again, others, None)
    for one, other in zip(optimizers, others, strict=True):
        for mine, same in zip(one.state.values(), other.state.values(), strict=True):
            for name, tensor in mine.items():
                assert tensor is None or (torch.equal(tensor, same[name]) and tensor.stride() == same[name].stride())


@pytest.mark.parametrize(
    "wrong", ['"momentum": ["x"]', '"epochs": -1.0', '"batch": "many"', '"lr": 1e999', '"size": 0']
)
def test_damaged_settings_of_a_run_are_a_fault_of_the_run(tmp_path: Path, wrong: str) -> None:
    text = '{"model": "loupe", "classes": ["a"], "mean": null, "std": null, "size": 8, "training": {%s}}'
    (tmp_path / "config.json").write_text(text % wrong)
    with pytest.raises(ModelError) as raised:
        begun(tmp_path, TrainConfig())
    assert raised.value.exit_code == 4 and str(raised.value).isprintable()
