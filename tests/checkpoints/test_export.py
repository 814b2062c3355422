"""Exports: another program, onnxruntime or torch alone, gives the network's answers from the file."""

import io
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import torchloupe
from torchloupe.checkpoints import onnx_file
from torchloupe.checkpoints.export import Exported, compare, export
from torchloupe.checkpoints.exported import ABOUT, Program
from torchloupe.errors import ModelError, UsageError
from torchloupe.models import build
from torchloupe.models.network import Network

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def body(out: int, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(8, out, 3)
    )


def pooled(out: int, *ending: nn.Module, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(*body(out, channels), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *ending)


class Segmenter(nn.Module):
    """Gives what segmentation networks of the field give: a dict of class maps at the picture's own size."""

    def __init__(self) -> None:
        super().__init__()
        self.net = body(4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = nn.functional.interpolate(self.net(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return {"aux": maps.sum(1, keepdim=True), "out": maps}


def made(name: str) -> Network:
    torch.manual_seed(0)
    if name in ("loupe", "resnet20"):
        net = build(name, classes=5)
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean = torch.randn(part.num_features) * 0.1
        return torchloupe.wrap(net, mean=MEAN, std=STD, size=32, classes=list("abcde"))
    plain: dict[str, Any] = {"mean": MEAN, "std": STD, "size": 12}
    networks = {
        "bfloat16": lambda: torchloupe.wrap(pooled(3).bfloat16(), **plain, classes=3),
        "float64": lambda: torchloupe.wrap(pooled(3).double(), **plain, classes=3),
        "one logit": lambda: torchloupe.wrap(pooled(1), **plain, classes=["no", "yes"]),
        "one sigmoid, squeezed": lambda: torchloupe.wrap(
            pooled(1, nn.Sigmoid(), nn.Flatten(0)), **plain, classes=["no", "yes"]
        ),
        "softmax": lambda: torchloupe.wrap(pooled(3, nn.Softmax(1)), **plain, classes=3),
        "segmentation": lambda: torchloupe.wrap(Segmenter(), **plain, classes=4, output="out"),
        "multilabel": lambda: torchloupe.wrap(pooled(3), **plain, classes=3, multilabel=True),
        "grey": lambda: torchloupe.wrap(pooled(3, channels=1), mean=None, std=None, classes=3),
    }
    return networks[name]()


NETS = (
    "loupe",
    "resnet20",
    "bfloat16",
    "float64",
    "one logit",
    "one sigmoid, squeezed",
    "softmax",
    "segmentation",
    "multilabel",
    "grey",
)


def pictures(network: Network, count: int = 16, seed: int = 1) -> Tensor:
    height, width = (9, 10) if network.size is None else (network.size, network.size)
    shape = count, 1 if network.mean is None else 3, height, width
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def answers(path: Path, images: Tensor) -> Tensor:
    """What a program without torchloupe makes of the file."""
    if path.suffix == ".pt2":
        found: Tensor = torch.export.load(path).module()(images)
        return found
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


def by_hand(network: Network, images: Tensor) -> Tensor:
    """The logits in float64, by nothing of `Network`: (x - mean) / std, the layers, the mean over positions."""
    x = images.double()
    if network.mean is not None:
        mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (network.mean, network.std))
        x = (x - mean) / std
    layers = network.bare.double()
    if isinstance(layers, nn.Sequential):
        layers = nn.Sequential(*[m for m in layers if not isinstance(m, nn.Sigmoid | nn.Softmax)])
    with torch.no_grad():
        given = layers(x)
    out: Tensor = given["out"].mean((2, 3)) if isinstance(given, dict) else given
    if len(network.classes) == 2:
        z = out.reshape(-1, 1)
        return torch.cat([-z / 2, z / 2], 1)
    return out


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("name", NETS)
def test_another_program_gives_the_same_answers_for_any_number_of_pictures(
    tmp_path: Path, name: str, suffix: str
) -> None:
    network = made(name)
    done = export(network, tmp_path / f"net{suffix}", pictures(network), weights="0123", title=name)
    assert done.path.stat().st_size == done.size and done.images == 16
    assert done.difference <= 1e-4 * done.largest
    for count in (1, 7, 16):
        images = pictures(network, count, seed=count)
        wanted = by_hand(network, images)
        found = answers(done.path, images).double()
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_an_onnx_says_what_it_is_and_passes_the_checker(tmp_path: Path) -> None:
    network = made("loupe")
    images = pictures(network)
    export(network, tmp_path / "net.onnx", images, weights="abcd")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    (entry,) = model.metadata_props
    about = json.loads(entry.value)
    assert entry.key == "torchloupe" and about["torchloupe"] == torchloupe.__version__
    assert (about["classes"], about["size"], about["weights"]) == (list("abcde"), 32, "abcd")
    assert (tuple(about["mean"]), tuple(about["std"]), about["multilabel"]) == (MEAN, STD, False)
    (given,), (got,) = model.graph.input, model.graph.output
    axes = [[axis.dim_param or axis.dim_value for axis in v.type.tensor_type.shape.dim] for v in (given, got)]
    assert (given.name, got.name, axes) == ("pictures", "logits", [["batch", 3, 32, 32], ["batch", 5]])
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


def test_a_pt2_says_what_it_is(tmp_path: Path) -> None:
    export(made("multilabel"), tmp_path / "net.pt2", pictures(made("multilabel")), weights="abcd")
    said = {ABOUT: ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=said)
    about = json.loads(said[ABOUT])
    assert about["multilabel"] and about["classes"] == ["0", "1", "2"] and "sigmoid" in about["output"]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_nothing_of_this_machine_or_of_the_pictures_goes_along(tmp_path: Path, suffix: str) -> None:
    network = made("segmentation")
    images = pictures(network)
    export(network, tmp_path / f"net{suffix}", images)
    data = (tmp_path / f"net{suffix}").read_bytes()
    if suffix == ".pt2":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = b"".join(archive.read(name) for name in archive.namelist())
    for path in (Path(__file__).parent, Path(torchloupe.__file__).parent, Path(torch.__file__).parent, tmp_path):
        assert str(path).encode() not in data
    assert images.numpy().tobytes()[:64] not in data


def test_it_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = made("bfloat16")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export(network, tmp_path / "net.onnx", pictures(network))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.requires_grad and p.dtype == torch.bfloat16 for p in network.parameters())


def test_without_onnxruntime_onnx_itself_runs_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    network = made("one logit")
    done = export(network, tmp_path / "net.onnx", pictures(network))
    assert done.by == "onnx.reference" and done.difference < 1e-5


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.mean() > 0.5 else x.amax((2, 3))


class Cropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : int(x.sum().item()) % 5 + 1].mean((2, 3))


class Mixing(nn.Module):
    """The answer to one picture depends on the others of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) - x.mean()


class Strange(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.svdvals(x)
        return values[:, :, 0]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("net", [Deciding(), Cropping()], ids=["Deciding", "Cropping"])
def test_a_forward_that_decides_by_values_is_refused_with_torchs_cause(
    tmp_path: Path, net: nn.Module, suffix: str
) -> None:
    network = torchloupe.wrap(net, mean=None, std=None, classes=3)
    with pytest.raises(ModelError, match=r"mine cannot be exported: .*data-dependent.*keep it as") as error:
        export(network, tmp_path / f"net{suffix}", torch.rand(4, 3, 8, 8), title="mine")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_one_picture_is_compared_with_one_picture(tmp_path: Path, suffix: str) -> None:
    network = torchloupe.wrap(Mixing(), mean=None, std=None, classes=3)
    assert export(network, tmp_path / f"net{suffix}", torch.rand(4, 3, 8, 8)).difference < 1e-6


def test_an_operator_that_onnx_does_not_know_is_named(tmp_path: Path) -> None:
    network = torchloupe.wrap(Strange(), mean=None, std=None, classes=3)
    with pytest.raises(ModelError, match=r"mine cannot be exported to ONNX: .*svd.*Try a \.pt2") as error:
        export(network, tmp_path / "net.onnx", torch.rand(4, 3, 8, 8), title="mine")
    assert "\x1b" not in str(error.value) and not list(tmp_path.iterdir())
    assert export(network, tmp_path / "net.pt2", torch.rand(4, 3, 8, 8)).difference < 1e-5


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_other_answers_are_refused_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    network = made("one logit")
    (tmp_path / f"net{suffix}").write_bytes(b"old")
    plain = Program.forward
    monkeypatch.setattr(Program, "forward", lambda self, pictures: 1.001 * plain(self, pictures))
    with pytest.raises(ModelError, match=r"gives other answers: they differ by .*0\.0001 of that is the limit"):
        export(network, tmp_path / f"net{suffix}", pictures(network))
    assert (tmp_path / f"net{suffix}").read_bytes() == b"old"


def test_what_is_no_number_or_of_another_shape_is_no_answer() -> None:
    images, wanted = torch.zeros(4, 3, 2, 2), [torch.ones(4, 2), torch.ones(1, 2)]
    with pytest.raises(ModelError, match="other answers"):
        compare(wanted, lambda images: torch.full((len(images), 2), float("nan")), images, "mine")
    with pytest.raises(ModelError, match="other answers"):  # only where it is alone
        compare(wanted, lambda images: torch.full((len(images), 2), 2.0 - (len(images) > 1)), images, "mine")
    with pytest.raises(ModelError, match=r"shape \[4, 3\], the network \[4, 2\]"):
        compare(wanted, lambda images: torch.ones(len(images), 3), images, "mine")

    def fails(images: Tensor) -> Tensor:
        raise RuntimeError("no such kernel\nmore")

    with pytest.raises(ModelError, match=r"does not run: no such kernel\. Nothing"):
        compare(wanted, fails, images, "mine")


def test_what_is_not_installed_is_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    network = made("one logit")
    with pytest.raises(UsageError, match=r"onnx and onnxscript: run `pip install 'torchloupe\[export\]'`"):
        export(network, tmp_path / "net.onnx", pictures(network))
    assert isinstance(export(network, tmp_path / "net.pt2", pictures(network)), Exported)


def test_weights_beyond_one_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 100)
    with pytest.raises(ModelError, match=r"GB of weights, and one ONNX file takes 2: write a \.pt2"):
        export(made("one logit"), tmp_path / "net.onnx", pictures(made("one logit")))


OTHERS = [("a.safetensors", None), ("a.pt2", "onnx"), ("a.onnx", "exported"), ("a", None)]


@pytest.mark.parametrize(("name", "kind"), OTHERS)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, kind: Any) -> None:
    with pytest.raises(UsageError, match=r"cannot be the result: name a file ending in \."):
        export(made("one logit"), tmp_path / name, torch.rand(1, 3, 12, 12), kind=kind)
    with pytest.raises(UsageError, match="give some"):
        export(made("one logit"), tmp_path / "a.pt2", torch.rand(0, 3, 12, 12))
    assert not list(tmp_path.iterdir())
