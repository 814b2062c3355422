"""Which precision a device gets, and that it reaches what is multiplied."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchloupe.data.drawn.shapes import shapes
from torchloupe.runtime.device import autocast, flushes_denormals, has_bfloat16, process_settings
from torchloupe.runtime.files import read_json
from torchloupe.training.config import TrainConfig
from torchloupe.training.journal import Listener
from torchloupe.training.loop import train

CPU = torch.device("cpu")


def processor(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


@pytest.mark.parametrize(
    ("capabilities", "there"),
    [
        ({"avx512": True, "avx512_bf16": True}, True),  # Zen 4, Cooper Lake
        ({"avx512": True, "amx_bf16": True}, True),  # Sapphire Rapids
        ({"avx512": True, "avx512_vnni": True}, False),  # Ice Lake: emulates it, slower than float32
        ({}, False),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], there: bool
) -> None:
    processor(monkeypatch, **capabilities)
    assert has_bfloat16(CPU) is there
    wanted = torch.bfloat16 if there else torch.float32
    with autocast(CPU, "auto"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == wanted
    for word, dtype in (("on", torch.bfloat16), ("off", torch.float32)):
        with autocast(CPU, word):
            assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def test_a_run_says_in_which_precision_it_was_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    processor(monkeypatch, avx512_bf16=True)
    seen: set[torch.dtype] = set()
    real = nn.functional.conv2d

    def spy(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = real(x, *args, **kwargs)
        seen.add(out.dtype)
        return out

    monkeypatch.setattr("torch.nn.functional.conv2d", spy)
    for amp, dtype in (("auto", torch.bfloat16), ("off", torch.float32)):
        seen.clear()
        data, config = shapes(train=20, test=10, size=8), TrainConfig(epochs=1, batch=10, model="resnet20")
        train(data, config, tmp_path / amp, device="cpu", amp=amp)
        said = read_json(tmp_path / amp / "environment.json")
        assert said["amp"] == amp and f"torch.{said['precision']}" == str(dtype)
        assert seen == {torch.float32, dtype}  # the one picture that tries the network out is in float32


@pytest.mark.parametrize("before", [False, True])
def test_settings_of_the_process_end_with_their_block(before: bool) -> None:
    assert torch.get_num_threads() == 1
    with process_settings(flush_denormal=before):
        with pytest.raises(ZeroDivisionError), process_settings(threads=2, flush_denormal=not before):
            assert (torch.get_num_threads(), flushes_denormals()) == (2, not before)
            raise ZeroDivisionError
        assert (torch.get_num_threads(), flushes_denormals()) == (1, before)
        with process_settings():
            torch.set_num_threads(2)
        assert torch.get_num_threads() == 2, "what it was not asked to set, it leaves alone"
        torch.set_num_threads(1)
    assert not flushes_denormals()


def test_training_leaves_the_callers_process_as_it_was(tmp_path: Path) -> None:
    data, config = shapes(train=20, test=10, size=8), TrainConfig(epochs=1, batch=10, model="resnet20")
    seen: list[bool] = []
    train(
        data, config, tmp_path / "r", device="cpu", listener=Listener(step=lambda *_: seen.append(flushes_denormals()))
    )
    assert seen == [True, True]
    assert torch.tensor(5e-324, dtype=torch.float64).mul(1).item() == 5e-324 and not flushes_denormals()
