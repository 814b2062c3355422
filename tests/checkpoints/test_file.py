"""Our checkpoints: what is written comes back, the same bytes each time; what is damaged is told in one sentence."""

import json
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from commands import Run, one_sentence
from torchloupe.checkpoints.file import config_from, load_model, read_tensors, save_model, save_tensors
from torchloupe.errors import ModelError
from torchloupe.models import build
from torchloupe.runs.config import Config, read_config

CONFIG = Config("resnet20", ("Katze", "chien \u202e"), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), 16, data={"name": "é"})


def tensors() -> dict[str, Tensor]:
    grid = torch.arange(24.0).view(1, 2, 3, 4)
    return {
        "float": torch.tensor([1.5, float("nan"), float("inf"), -0.0, 1e-45]),
        "half": torch.tensor([1.5], dtype=torch.float16),
        "brain": torch.tensor([1.5], dtype=torch.bfloat16),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "counter": torch.tensor(7),
        "flag": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "last": grid.to(memory_format=torch.channels_last),
        "view": grid.transpose(1, 3)[:, 1:],
    }


def same(mine: Tensor, other: Tensor) -> bool:
    """Equal in type, shape and every bit, NaN and the sign of zero included."""
    bits = (mine.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))
    return mine.dtype == other.dtype and mine.shape == other.shape and torch.equal(*bits)


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", tensors(), {"step": 3, "text": "\u202eé"})
    back, about = read_tensors(tmp_path / "a.safetensors")
    assert about == {"step": 3, "text": "\u202eé"}
    assert back.keys() == tensors().keys()
    for name, tensor in tensors().items():
        if tensor.numel():
            assert same(back[name].reshape(-1), tensor.reshape(-1)) and back[name].shape == tensor.shape


def test_tensors_that_share_memory_are_written_whole(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    save_tensors(tmp_path / "a.safetensors", {"a": base, "b": base, "c": base[2:]}, {})
    back, _ = read_tensors(tmp_path / "a.safetensors")
    assert torch.equal(back["b"], base) and torch.equal(back["c"], base[2:])


def header(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    parsed: dict[str, Any] = json.loads(raw[8 : 8 + length])
    return parsed


def test_metadata_is_one_key_of_sorted_json(tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", build("resnet20", classes=2), CONFIG)
    (text,) = header(tmp_path / "m.safetensors")["__metadata__"].values()
    assert text == json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
    assert json.loads(text)["classes"] == list(CONFIG.classes)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    net = build("resnet20", classes=2)
    save_model(tmp_path / "a.safetensors", net, CONFIG)
    back, config = load_model(tmp_path / "a.safetensors")
    save_model(tmp_path / "b.safetensors", back.bare, config)
    save_tensors(tmp_path / "c.safetensors", dict(reversed(net.state_dict().items())), asdict(CONFIG))
    first = (tmp_path / "a.safetensors").read_bytes()
    assert (tmp_path / "b.safetensors").read_bytes() == first == (tmp_path / "c.safetensors").read_bytes()


def test_a_checkpoint_alone_rebuilds_its_model(tmp_path: Path) -> None:
    net = build("loupe", classes=2, widths=(4, 6, 8), kernel=3).eval()
    config = replace(CONFIG, model="loupe", arguments={"widths": [4, 6, 8], "kernel": 3})
    save_model(tmp_path / "m.safetensors", net, config)
    network, read = load_model(tmp_path / "m.safetensors")
    images = torch.rand(2, 3, 16, 16)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CONFIG.mean, CONFIG.std))
    assert torch.equal(network(images), net((images - mean) / std))
    assert read == config and network.classes == CONFIG.classes and not network.training


def whole(path: Path) -> bytes:
    save_model(path, build("resnet20", classes=2), CONFIG)
    return path.read_bytes()


def foreign(about: str | None) -> bytes:
    return safetensors.torch.save({"x": torch.ones(2)}, metadata=None if about is None else {"torchloupe": about})


GOOD = json.dumps(asdict(CONFIG))
BROKEN = {
    "cut in the header": lambda data: data[:100],
    "cut in the tensors": lambda data: data[:-100],
    "longer than it says": lambda data: data + b"x",
    "empty": lambda data: b"",
    "a web page": lambda data: b"<!DOCTYPE html>" * 100,
    "a pickle": lambda data: b"\x80\x04K\x01.",
    "a huge header": lambda data: struct.pack("<Q", 2**62) + data[8:],
    "a broken header": lambda data: data[:8] + b"}" + data[9:],
    "someone else's": lambda data: foreign(None),
    "no JSON inside": lambda data: foreign("{"),
    "a list inside": lambda data: foreign("[1]"),
    "a number inside": lambda data: foreign("3"),
    "nothing inside": lambda data: foreign("{}"),
    "a newer schema": lambda data: foreign(GOOD.replace('"schema": 1', '"schema": 2')),
    "a wordy schema": lambda data: foreign(GOOD.replace('"schema": 1', '"schema": "new"')),
    "no classes": lambda data: foreign(GOOD.replace('"classes"', '"klasses"')),
    "one class as a word": lambda data: foreign(json.dumps({**asdict(CONFIG), "classes": "cat"})),
    "another network": lambda data: foreign(GOOD),
    "an unknown network": lambda data: foreign(GOOD.replace("resnet20", "resnet21")),
    "unknown arguments": lambda data: foreign(GOOD.replace('"arguments": {}', '"arguments": {"width": 3}')),
    "wordy arguments": lambda data: foreign(GOOD.replace('"arguments": {}', '"arguments": 3')),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_damaged_and_foreign_files_are_told_in_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(BROKEN[kind](whole(path)))  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError) as raised:
        load_model(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600
    assert raised.value.exit_code == 4


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ModelError, match=f"'{path}'"):
            load_model(path)


def test_what_differs_is_named(tmp_path: Path) -> None:
    net = build("resnet20", classes=2)
    values = net.state_dict()
    values["linear.weight"] = torch.zeros(3, 64)
    values["extra"] = values.pop("linear.bias")
    save_tensors(tmp_path / "m.safetensors", values, asdict(CONFIG))
    with pytest.raises(ModelError) as raised:
        load_model(tmp_path / "m.safetensors")
    for part in ("linear.bias is missing", "extra is not in the network", "[3, 64] instead of [2, 64]", "resnet20"):
        assert part in str(raised.value)


def test_keys_of_later_versions_are_ignored() -> None:
    assert config_from({**json.loads(GOOD), "mood": "good"}, "a.safetensors") == CONFIG


def described(**changed: Any) -> str:
    return json.dumps({**asdict(CONFIG), **changed})


DESCRIPTIONS = {
    "a negative mean": (described(mean=[-1, 0.5, 0.5]), "'mean'"),
    "no number among the means": (described(mean=["x", 0.5, 0.5]), "'mean'"),
    "means that are true": (described(mean=[True, 0.5, 0.5]), "'mean'"),
    "a mean of NaN": (GOOD.replace("[0.4, 0.5, 0.6]", "[NaN, 0.5, 0.6]"), "'mean'"),
    "a mean of 400 digits": (GOOD.replace("[0.4, 0.5, 0.6]", f"[{10**400}, 0.5, 0.6]"), "digits"),
    "a mean without std": (described(std=None), "mean and std"),
    "more means than channels": (described(mean=[0.5] * 5, std=[0.5] * 5), "3 channels"),
    "a std of 0": (described(std=[0, 0.25, 0.25]), "'std'"),
    "two classes of one name": (described(classes=["cat", "cat"]), "'classes'"),
    "a class without a name": (described(classes=["cat", None]), "'classes'"),
    "arguments in a list": (described(arguments=[1]), "'arguments'"),
    "a negative width": (described(model="loupe", arguments={"widths": [8, -8, 8]}), "widths"),
    "widths in a text": (described(model="loupe", arguments={"widths": "8,8,8"}), "widths"),
    "a size of no side": (described(size=0), "'size'"),
    "data that are a text": (described(data="shapes"), "'data'"),
    "a source that is no text": (described(data={"source": 3}), "'data.source'"),
    "settings that are a list": (described(training=[1]), "'training'"),
    "epochs in words": (described(training={"epochs": "many"}), "'training.epochs'"),
    "nested too deep for a stack": (GOOD.replace('"arguments": {}', f'"arguments": {"[" * 10_000}'), "deep"),
    "nested deep": (GOOD.replace('"arguments": {}', f'"arguments": {"[" * 99}{"]" * 99}'), "deep"),
    "half a character": (GOOD.replace("Katze", "\\ud800"), "half a character"),
    "control characters": (described(model="\x1b]0;mine\x07\r\nError: all is well"), "which network"),
    "a long text": (described(model="x" * 10_000), "no model"),
    "an argument of a long name": (described(arguments={"\x1b[2J" * 5000: 1}), "takes no argument"),
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_each_field_is_checked_before_it_is_used(tmp_path: Path, kind: str) -> None:
    """One schema: of a checkpoint as of a run's config.json. What is said is one line that a terminal can show."""
    text, said = DESCRIPTIONS[kind]
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors.torch.save(build("resnet20", classes=2).state_dict(), metadata={"torchloupe": text}))
    with pytest.raises(ModelError) as raised:
        load_model(path)
    message = str(raised.value)
    assert said in message and message.isprintable() and len(message) <= 600
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    if said.startswith("'") or said in ("deep", "digits", "mean and std", "half a character"):
        with pytest.raises(ModelError):
            read_config(tmp_path)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64])
def test_whole_numbers_are_no_weights(tmp_path: Path, kind: torch.dtype) -> None:
    """Another width of floating point is converted, another kind of number is refused, and said."""
    values = build("resnet20", classes=2).state_dict()
    values["conv1.weight"] = values["conv1.weight"].to(kind)
    save_tensors(tmp_path / "m.safetensors", values, asdict(CONFIG))
    with pytest.raises(ModelError, match=rf"conv1.weight is .* {str(kind).removeprefix('torch.')} instead of"):
        load_model(tmp_path / "m.safetensors")
    values["conv1.weight"] = build("resnet20", classes=2).state_dict()["conv1.weight"].half()
    values["bn1.num_batches_tracked"] = torch.tensor(3.0)  # as older files have it
    save_tensors(tmp_path / "m.safetensors", values, asdict(CONFIG))
    load_model(tmp_path / "m.safetensors")


def test_a_damaged_checkpoint_is_told_by_the_command(run: Run, tmp_path: Path) -> None:
    text = described(model="loupe\x1b[31m", arguments={"widths": [8, -8, 8]})
    (tmp_path / "m.safetensors").write_bytes(foreign(text))
    one_sentence(run("layers", "m.safetensors", "--no-data"), 4, "no model")
