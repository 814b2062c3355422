"""Every form of foreign checkpoint is read whole, and nothing in one runs."""

import argparse
import functools
import io
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
from torch import Tensor, nn

from torchloupe.checkpoints.convert import read_foreign
from torchloupe.checkpoints.foreign import inert, worker
from torchloupe.checkpoints.foreign.inert import UnreadableError
from torchloupe.errors import ModelError
from torchloupe.models import build

State = dict[str, Tensor]


def weights() -> State:
    torch.manual_seed(1)
    return build("resnet20", classes=3).state_dict()


def read(path: Path, folder: Path) -> tuple[State, dict[str, Any]]:
    """Do in this process what the separate one does."""
    said = worker.convert(path, folder)
    return safetensors.torch.load((folder / "tensors.safetensors").read_bytes()), said


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return set(found) == set(wanted) and all(
        found[n].dtype == t.dtype and torch.equal(found[n], t) for n, t in wanted.items()
    )


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
    state = weights()
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
    state = weights()
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
    found, said = read(tmp_path / "last.ckpt", tmp_path)
    assert same(found, lightning["state_dict"])
    assert said["entry"] == "state_dict"
    assert {"no_such_project.Settings", "no_such_project.AttributeDict"} <= set(said["unknown"])
    assert "no_such_project" not in sys.modules


def test_a_whole_module_gives_its_tensors(tmp_path: Path, strangers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = strangers.Net()
    net.body = build("resnet20")
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


def test_the_separate_process_does_not_even_import_torch() -> None:
    check = "sys.exit(any(m in sys.modules for m in ('torch', 'safetensors')))"
    code = f"import sys, torchloupe.checkpoints.foreign.worker; {check}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def storage(length: int) -> object:
    data = torch.zeros(length).untyped_storage()
    return torch.storage.TypedStorage(wrap_storage=data, dtype=torch.float32, _internal=True)  # type: ignore[no-untyped-call]


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
    with pytest.raises(UnreadableError, match="would grow to 4,194,304 MiB"):
        read(tmp_path / "a.pt", tmp_path)


def opcodes(*parts: bytes) -> io.BytesIO:
    return io.BytesIO(b"\x80\x02" + b"".join(parts) + b".")


@pytest.mark.parametrize(
    "program",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}(X\x04\x00\x00\x00makecos\nsystem\nub",  # state for a function
        b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x04\x00\x00\x00makecos\nsystem\ns\x86b",  # slots of a function
        b"ccollections\nOrderedDict\n}(X\x06\x00\x00\x00valuescos\nsystem\nub",  # attributes of a class
        b"cos\nsystem\n}(X\x08\x00\x00\x00__call__cos\nsystem\nub",  # attributes of the stand-in's class
        b"]r\xff\xff\xff\x7f0h\x00",  # a far place in the memo, which must not be set aside, then one never filled
        b"ctorch\nSize\nK\x03\x85R",  # a stand-in called with nonsense
    ],
)
def test_stand_ins_cannot_be_changed(program: bytes) -> None:
    before = [dict(vars(kind)) for kind in (inert.Inert, inert.Plain, inert.Maker)]
    with pytest.raises((pickle.UnpicklingError, TypeError, AttributeError)):
        inert.InertUnpickler(opcodes(program)).load()
    assert [dict(vars(kind)) for kind in (inert.Inert, inert.Plain, inert.Maker)] == before


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
