"""Foreign checkpoints become ours: prefixes, the result, and what is told when something does not fit."""

import builtins
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from torchloupe.checkpoints import convert as module
from torchloupe.checkpoints.convert import Report, convert, read_foreign
from torchloupe.checkpoints.file import load_model
from torchloupe.errors import ModelError, UsageError
from torchloupe.models import build

CLASSES = ["cat", "dog", "frog"]
SETTINGS: dict[str, Any] = {"classes": CLASSES, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "size": 32}


def trained(name: str = "resnet20") -> nn.Module:
    torch.manual_seed(1)
    net = build(name, classes=3).eval()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    return net


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return set(found) == set(wanted) and all(
        found[n].dtype == t.dtype and torch.equal(found[n], t) for n, t in wanted.items()
    )


def bring(path: Path, **changed: Any) -> tuple[Report, Path]:
    out = path.parent / "new.safetensors"
    model = changed.pop("model", "resnet20")
    return convert(path, model, out, **{**SETTINGS, **changed}), out


class Call:
    """Pickled as a call that a plain unpickler makes."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_hostile_file_runs_nothing(tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    script = f"import pathlib; pathlib.Path({str(marker)!r}).touch()"
    (tmp_path / "evil_module.py").write_text(f"{script}\nclass Thing: pass\n")
    state = trained().state_dict()
    monkeypatch.syspath_prepend(tmp_path)
    import evil_module  # type: ignore[import-not-found]

    assert marker.exists()
    marker.unlink()
    calls = [
        Call(os.system, f"touch {marker}"),
        Call(subprocess.check_call, ["touch", str(marker)]),
        Call(builtins.eval, script.replace("import pathlib; pathlib", "__import__('pathlib')")),
        Call(builtins.exec, script),
        Call(builtins.__import__, "evil_module"),
        Call(getattr, Call(builtins.__import__, "os"), "system"),
        Call(torch.load, str(marker)),
        evil_module.Thing(),
    ]
    torch.save({"state_dict": state, "calls": calls}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    torch.save({**state, "call": calls[0]}, tmp_path / "b.pth", _use_new_zipfile_serialization=zipped)
    torch.save(calls[0], tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    del sys.modules["evil_module"]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this process unpickles")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, never)
    for file in ("a.pth", "b.pth"):
        report, _ = bring(tmp_path / file)
        assert len(report.matched) == len(state)
    assert f"{os.system.__module__}.system" in report.unknown
    with pytest.raises(ModelError, match="holds no tensors by name"):
        bring(tmp_path / "c.pth")
    assert not marker.exists()
    assert "evil_module" not in sys.modules


def test_safetensors_of_others(tmp_path: Path) -> None:
    state = trained().state_dict()
    safetensors.torch.save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    report, out = bring(tmp_path / "model.safetensors")
    assert len(report.matched) == len(state)
    assert same(load_model(out)[0].state_dict(), state)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        bring(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "net.", "_orig_mod.", "module._orig_mod.", "model.net.", "_orig_mod.module.model."],
)
def test_prefixes(tmp_path: Path, prefix: str) -> None:
    state = trained().state_dict()
    file = {f"{prefix}{name}": tensor for name, tensor in state.items()} | {"loss.weight": torch.ones(10)}
    safetensors.torch.save_file(file, tmp_path / "a.safetensors")
    report, out = bring(tmp_path / "a.safetensors")
    assert (report.prefix, report.added, report.unexpected) == (prefix, "", ("loss.weight",))
    assert same(load_model(out)[0].state_dict(), state)


def test_a_prefix_is_put_on_where_the_network_has_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "from torchloupe.models import build\n"
        "class Mine(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.model = build('resnet20', classes)\n"
        "    def forward(self, x):\n"
        "        return {'logits': self.model(x)}\n"
    )
    state = trained().state_dict()
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "a.pth")
    report, out = bring(tmp_path / "a.pth", model=f"{tmp_path / 'mine.py'}:Mine")
    assert (report.prefix, report.added, report.unexpected) == ("module.", "model.", ())
    net, config = load_model(out)
    x = torch.rand(2, 3, 32, 32)
    normal = (x - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(3, 1, 1)
    torch.testing.assert_close(net(x), trained()(normal))


def test_the_prefix_with_most_matches_wins(tmp_path: Path) -> None:
    state = trained().state_dict()
    file = {f"model.{n}": t for n, t in state.items()} | {f"net.{n}": t[:0] for n, t in state.items() if t.ndim}
    safetensors.torch.save_file({n: t.clone() for n, t in file.items()}, tmp_path / "a.safetensors")
    assert bring(tmp_path / "a.safetensors")[0].prefix == "model."


def test_the_result_is_one_of_ours(tmp_path: Path) -> None:
    state = trained("study").state_dict()
    torch.save(state, tmp_path / "cifar_net.pth")
    report, out = bring(tmp_path / "cifar_net.pth", model="study", size=224)
    assert str(report) == f"{len(state)} matched, 0 missing, 0 unexpected, 0 mismatched"
    with safe_open(out, framework="pt") as stream:
        metadata = stream.metadata()
    assert list(metadata) == ["torchloupe"]
    about = json.loads(metadata["torchloupe"])
    assert about == {
        "schema": 1, "model": "study", "arguments": {}, "classes": CLASSES, "mean": SETTINGS["mean"],
        "std": SETTINGS["std"], "size": 224, "data": None, "training": None, "output": None, "multilabel": False,
    }  # fmt: skip
    assert metadata["torchloupe"] == json.dumps(about, sort_keys=True)
    first = out.read_bytes()
    bring(tmp_path / "cifar_net.pth", model="study", size=224)
    assert out.read_bytes() == first


def test_half_precision_is_kept(tmp_path: Path) -> None:
    state = {n: t.half() if t.is_floating_point() else t for n, t in trained().state_dict().items()}
    torch.save(state, tmp_path / "a.pt")
    _, out = bring(tmp_path / "a.pt", mean=None, std=None)
    assert same(safetensors.torch.load_file(out), state)
    assert load_model(out)[1].mean is None


def test_what_is_missing_or_of_another_shape(tmp_path: Path) -> None:
    state = dict(trained().state_dict())
    state["linear.weight"] = torch.ones(10, 64)
    del state["layer1.0.conv1.weight"], state["linear.bias"]
    state = {n: t for n, t in state.items() if "num_batches_tracked" not in n}
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(
        ModelError, match=r"linear.weight \(\[10, 64\] float32 there, \[3, 64\] float32 here\)"
    ) as caught:
        bring(tmp_path / "a.pt")
    assert "2 missing" in caught.value.__notes__[0]
    assert not (tmp_path / "new.safetensors").exists()
    report, out = bring(tmp_path / "a.pt", strict=False)
    assert report.missing == ("layer1.0.conv1.weight", "linear.bias")
    assert len(report.mismatched) == 1
    net, _ = load_model(out)
    assert torch.equal(net.get_parameter("conv1.weight"), state["conv1.weight"])
    del state["linear.weight"]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"lacks 3 of the tensors of 'resnet20': layer1.0.conv1.weight"):
        bring(tmp_path / "a.pt")


def test_missing_counters_of_batches_are_let_pass(tmp_path: Path) -> None:
    state = {n: t for n, t in trained().state_dict().items() if "num_batches_tracked" not in n}
    torch.save(state, tmp_path / "a.pt")
    report, out = bring(tmp_path / "a.pt")
    assert report.missing == ()
    assert load_model(out)[0].get_buffer("bn1.num_batches_tracked") == 0


def test_names_in_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    torch.save({**trained().state_dict(), "\x1b[2Jgone": torch.ones(1)}, tmp_path / "a.pt")
    assert "unexpected: ·[2Jgone" in str(bring(tmp_path / "a.pt")[0])


def test_another_network(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.ones(4, 4)}, tmp_path / "a.pt")
    for strict in (True, False):
        with pytest.raises(ModelError, match="it is for another network"):
            bring(tmp_path / "a.pt", strict=strict)
    whole = {n: t.long() for n, t in trained().state_dict().items()}
    torch.save(whole, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"int64 there, .* float32 here"):
        bring(tmp_path / "a.pt")


def test_wrong_paths_and_settings(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        bring(tmp_path / "nothing.pt")
    torch.save(trained().state_dict(), tmp_path / "a.pt")
    with pytest.raises(UsageError, match="divide by 255"):
        bring(tmp_path / "a.pt", mean=[125, 125, 125])
    with pytest.raises(ModelError, match="did you mean 'resnet20'"):
        bring(tmp_path / "a.pt", model="resnet_20")
    for out in ("b.pt", "new.safetensors"):
        (tmp_path / "new.safetensors").touch()
        with pytest.raises(UsageError, match="cannot be the result"):
            convert(tmp_path / "new.safetensors", "resnet20", tmp_path / out, **SETTINGS)


def test_a_process_that_hangs_or_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "a.pt")
    monkeypatch.setattr(module, "BOOTSTRAP", "import time; time.sleep(60)")
    with pytest.raises(ModelError, match=r"was not read after 0\.3 s"):
        read_foreign(tmp_path / "a.pt", timeout=0.3)
    monkeypatch.setattr(module, "BOOTSTRAP", "import os; os.abort()")
    with pytest.raises(ModelError, match="the process that reads it died"):
        read_foreign(tmp_path / "a.pt")
