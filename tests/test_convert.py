"""Foreign checkpoints: every form is read whole, nothing in them runs, and what does not fit is told."""

import argparse
import builtins
import functools
import io
import json
import os
import pickle
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from torchloupe import convert as module
from torchloupe.checkpoint import load_model
from torchloupe.convert import Report, convert, read_foreign
from torchloupe.errors import ModelError, UsageError
from torchloupe.foreign import worker
from torchloupe.foreign.inert import UnreadableError
from torchloupe.models import build

CLASSES = ["cat", "dog", "frog"]
SETTINGS: dict[str, Any] = {"classes": CLASSES, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "size": 32}

State = dict[str, Tensor]


def trained(name: str = "resnet20") -> nn.Module:
    torch.manual_seed(1)
    net = build(name, classes=3).eval()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.1)
    return net


def read(path: Path, folder: Path) -> tuple[State, dict[str, Any]]:
    """Do in this process what the separate one does."""
    said = worker.convert(path, folder)
    return safetensors.torch.load((folder / "tensors.safetensors").read_bytes()), said


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return set(found) == set(wanted) and all(
        found[n].dtype == t.dtype and torch.equal(found[n], t) for n, t in wanted.items()
    )


def bring(path: Path, **changed: Any) -> tuple[Report, Path]:
    out = path.parent / "new.safetensors"
    model = changed.pop("model", "resnet20")
    return convert(path, model, out, **{**SETTINGS, **changed}), out


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A project whose classes exist when the file is written only."""
    project = types.ModuleType("no_such_project")

    def define(name: str, *bases: type) -> type:
        made = type(name, bases, {"__module__": "no_such_project"})
        setattr(project, name, made)
        return made

    for name, bases in {"Settings": (), "AttributeDict": (dict,), "Words": (list,), "Net": (nn.Module,)}.items():
        define(name, *bases)
    monkeypatch.setitem(sys.modules, "no_such_project", project)
    return project


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("pack", "entry"),
    [
        (lambda s: s, ""),
        (OrderedDict, ""),
        (lambda s: {n: nn.Parameter(t) if t.is_floating_point() else t for n, t in s.items()}, ""),
        (
            lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
            "state_dict",
        ),
        (lambda s: {"model": s, "ema": s}, "model"),
        (lambda s: {"model_state_dict": s, "loss": torch.zeros(())}, "model_state_dict"),
        (lambda s: {"net": s, "acc": 93.1, "epoch": np.int64(4)}, "net"),
        (lambda s: {"state_dict": {"model": s}}, "state_dict.model"),
        (lambda s: {"my_weights": s, "epoch": 1}, "my_weights"),
    ],
)
def test_every_container(tmp_path: Path, zipped: bool, pack: Callable[[State], Any], entry: str) -> None:
    state = trained().state_dict()
    torch.save(pack(state), tmp_path / "old.pth", _use_new_zipfile_serialization=zipped)
    found, said = read(tmp_path / "old.pth", tmp_path)
    assert same(found, state)
    assert said["entry"] == entry


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_kind_of_tensor(tmp_path: Path, zipped: bool) -> None:
    base = torch.randn(6, 8)
    state = {
        "transposed": base.t(),
        "strided": base[1::2, 2:7:3],
        "shared": base[2],
        "expanded": torch.randn(3, 1).expand(3, 4),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "double": torch.randn(3).double()[1:],
        "bool": torch.tensor([True, False, True]),
        "byte": torch.arange(7, dtype=torch.uint8),
        "complex": torch.randn(3, dtype=torch.complex64),
    }
    if zipped:
        state |= {"uint16": torch.arange(9).to(torch.uint16)[3:], "float8": torch.ones(3).to(torch.float8_e4m3fn)}
    torch.save({**state, "note": "kept out", "epoch": 4}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found, said = read(tmp_path / "a.pt", tmp_path)
    assert same(found, state)
    assert said["ignored"] == 2


def test_lightning_files_with_unknown_classes(tmp_path: Path, strangers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = trained().state_dict()
    settings = strangers.Settings()
    settings.nested = strangers.AttributeDict(lr=0.1, words=strangers.Words(["a", strangers.Settings()]))
    hyper = {"config": settings, "space": argparse.Namespace(path=Path("x")), "opt": functools.partial(torch.optim.SGD)}
    lightning = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict((f"model.{n}", t) for n, t in state.items()),
        "hyper_parameters": strangers.AttributeDict(hyper),
        "callbacks": {strangers.Settings: {"best": np.float64(0.9), "seen": {1, 2}, "shape": torch.Size([3])}},
        "loops": frozenset([1]),
        "device": torch.device("cpu"),
    }
    lightning["state_dict"]["criterion.weight"] = torch.ones(3)
    torch.save(lightning, tmp_path / "last.ckpt")
    monkeypatch.delitem(sys.modules, "no_such_project")
    report, out = bring(tmp_path / "last.ckpt")
    assert report.prefix == "model."
    assert (report.entry, len(report.matched), report.missing) == ("state_dict", len(state), ())
    assert report.unexpected == ("criterion.weight",)
    assert "no_such_project.Settings" in report.unknown
    assert same(load_model(out)[0].state_dict(), state)


def test_a_whole_module_gives_its_tensors(tmp_path: Path, strangers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = strangers.Net()
    net.body = trained()
    net.register_buffer("passing", torch.ones(2), persistent=False)
    net.scale = nn.Parameter(torch.ones(2))
    torch.save(net, tmp_path / "a.pt")
    torch.save({"model": net, "epoch": 2}, tmp_path / "b.pt")
    monkeypatch.delitem(sys.modules, "no_such_project")
    for file in ("a.pt", "b.pt"):
        found, _ = read(tmp_path / file, tmp_path)
        assert same(found, net.state_dict())


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


def test_the_separate_process_does_not_even_import_torch() -> None:
    code = "import sys, torchloupe.foreign.worker; sys.exit(any(m in sys.modules for m in ('torch', 'safetensors')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def storage(length: int) -> torch.storage.TypedStorage:
    return torch.zeros(length).storage()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (-2,), (1,)), (0, (2,), (-1,)),
     (0, (2,), (2**62,)), (0, (1.5,), (1,)), (0, (2, 2), (1,))],
)  # fmt: skip
def test_a_tensor_beyond_its_data_is_refused(tmp_path: Path, offset: int, size: Any, stride: Any) -> None:
    tensor = Call(torch._utils._rebuild_tensor_v2, storage(4), offset, size, stride, False, OrderedDict())
    torch.save({"w": tensor}, tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError, match="a tensor"):
        read(tmp_path / "a.pt", tmp_path)


def test_a_tensor_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(2**40)}, tmp_path / "a.pt")
    with pytest.raises(UnreadableError, match="would grow to 4096 GiB"):
        read(tmp_path / "a.pt", tmp_path)


def repacked(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    twin = path.with_name("twin.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(twin, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return twin


def broken_files(folder: Path) -> dict[str, Path]:
    good = folder / "good.pt"
    torch.save({"w": torch.zeros(1000)}, good)
    legacy = folder / "legacy.pt"
    torch.save({"w": torch.zeros(1000)}, legacy, _use_new_zipfile_serialization=False)
    (folder / "cut.pt").write_bytes(good.read_bytes()[:3000])
    (folder / "cut_legacy.pt").write_bytes(legacy.read_bytes()[:-100])
    (folder / "text.pt").write_text("not a checkpoint")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "plain.pt").write_bytes(pickle.dumps({"w": [1.0]}))
    with zipfile.ZipFile(folder / "photos.pt", "w") as archive:
        archive.writestr("photo.jpg", b"")
    with zipfile.ZipFile(folder / "script.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/constants.pkl", b"")
    torch.save({"generator": {"w": torch.zeros(2)}, "critic": {"w": torch.zeros(2)}}, folder / "several.pt")
    torch.save({"epoch": 3}, folder / "nothing.pt")
    files = {path.stem: path for path in folder.glob("*.pt")}
    short = repacked(good, lambda n, data: data[:-4] if "/data/" in n else data)
    files["short"] = short.rename(folder / "short.pt")
    big = repacked(good, lambda n, data: b"big" if n.endswith("byteorder") else data)
    files["big"] = big.rename(folder / "big.pt")
    files["deflated"] = repacked(good, lambda _, data: data, zipfile.ZIP_DEFLATED).rename(folder / "deflated.pt")
    return files


def test_broken_and_other_files_are_told_in_one_sentence(tmp_path: Path) -> None:
    said = {
        "cut": "is broken, or not made by torch.save",
        "cut_legacy": "is cut off",
        "text": "is not a PyTorch checkpoint",
        "empty": "is not a PyTorch checkpoint",
        "plain": "is a plain pickle",
        "photos": "is a zip, but not one that torch.save made",
        "script": "is a TorchScript archive",
        "several": "holds several sets of tensors ('generator', 'critic')",
        "nothing": "holds no tensors by name",
        "short": "is cut off",
        "big": "big-endian",
        "deflated": "is compressed",
    }
    files = broken_files(tmp_path)
    for name, cause in said.items():
        with pytest.raises(ModelError) as caught:
            read_foreign(files[name])
        assert cause in str(caught.value)
        assert str(caught.value).startswith(f"'{files[name]}' ")
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.safetensors"))


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
        "std": SETTINGS["std"], "size": 224, "data": None, "training": None,
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


def opcodes(*parts: bytes) -> io.BytesIO:
    return io.BytesIO(b"\x80\x02" + b"".join(parts) + b".")


@pytest.mark.parametrize(
    "program",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}(X\x04\x00\x00\x00makecos\nsystem\nub",  # state for a function
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}X\x04\x00\x00\x00makecos\nsystem\ns\x86b",  # slots of a function
        b"ccollections\nOrderedDict\n}(X\x06\x00\x00\x00valuescos\nsystem\nub",  # attributes of a class
        b"cos\nsystem\n}(X\x08\x00\x00\x00__call__cos\nsystem\nub",  # attributes of the stand-in's class
        b"ctorch\nSize\nK\x03\x85R",  # a stand-in called with nonsense
    ],
)
def test_stand_ins_cannot_be_changed(program: bytes) -> None:
    from torchloupe.foreign import inert

    before = [dict(vars(kind)) for kind in (inert.Inert, inert.Plain, inert.Maker)]
    with pytest.raises((pickle.UnpicklingError, TypeError, AttributeError)):
        inert.InertUnpickler(opcodes(program)).load()
    assert [dict(vars(kind)) for kind in (inert.Inert, inert.Plain, inert.Maker)] == before
