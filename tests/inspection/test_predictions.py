"""`predict` is what a plain loop over the pictures gives, whatever they are given as, and holds few of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import torchloupe
from alive import Alive
from pets import as_folder, png
from torchloupe import load, predict, wrap
from torchloupe.data.drawn.shapes import shapes
from torchloupe.errors import DataError, ModelError, UsageError
from torchloupe.inspection.inputs import from_words
from torchloupe.inspection.predictions import answered, plan
from torchloupe.inspection.subject import Subject
from torchloupe.models.network import Network


def bare(channels: int = 3, classes: int = 4) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)
    )


def network(size: int | None = 8, channels: int = 3) -> Network:
    return wrap(bare(channels), mean=[0.4] * channels, std=[0.1] * channels, size=size, classes=list("abcd"))


def drawn(i: int, width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several sizes, in folders below one another."""
    for i in range(23):
        place = tmp_path / "f" / f"sub{i % 3}" / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        drawn(i, 9 + i % 4, 8 + i % 5).save(place)
    (tmp_path / "f" / "notes.txt").write_text("no picture")
    return tmp_path / "f"


def plain_loop(net: Network, files: list[Path], side: int) -> Tensor:
    """The probabilities by Pillow and the bare network alone."""
    found = []
    for file in files:
        image = Image.open(file).convert("RGB")
        short = min(image.size)
        left, top = (image.width - short) / 2, (image.height - short) / 2
        box = (left, top, left + short, top + short)
        pixels = np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box))
        x = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.4) / 0.1
        with torch.no_grad():
            found.append(net.bare(x).softmax(1))
    return torch.cat(found)


@pytest.mark.parametrize("batch", [1, 5, 500])
def test_a_folder_is_what_a_plain_loop_gives(folder: Path, batch: int) -> None:
    net, files = network(), sorted(folder.rglob("*.png"))
    found = predict(net, folder, batch=batch, top=2)
    assert found.files == tuple(map(str, files)) and found.classes == ("a", "b", "c", "d") and found.bad == {}
    expected = plain_loop(net, files, 8)
    torch.testing.assert_close(found.probabilities, expected, rtol=1e-5, atol=1e-6)
    for row, each in zip(found.top, expected, strict=True):
        best = each.argsort(descending=True)[:2]
        assert [name for name, _ in row] == [found.classes[i] for i in best]
        assert [p for _, p in row] == pytest.approx(each[best].tolist(), rel=1e-4)


def test_it_takes_whatever_images_come_as(folder: Path) -> None:
    net, file = network(), folder / "sub0" / "0.png"
    expected = predict(net, file).probabilities
    image = Image.open(file)
    square = np.array(image.resize((8, 8), Image.Resampling.BILINEAR, box=(0.5, 0, 8.5, 8)))
    tensor = torch.from_numpy(square).permute(2, 0, 1) / 255
    for given in (str(file), [file, str(file)], image, square, square[None], tensor, tensor[None], [image, tensor]):
        found = predict(net, given)
        torch.testing.assert_close(found.probabilities, expected.expand(len(found.files), -1))
        assert len(found.top) == len(found.files) == len(found.probabilities)
    assert predict(net, [image, tensor]).files == ("picture", "picture 0")
    with pytest.raises(DataError, match="already normalised"):
        predict(net, tensor * 3)


def test_words_name_pictures_of_data_and_mix_with_files(folder: Path) -> None:
    data, file = shapes(train=10, test=20, size=8), folder / "sub0" / "0.png"
    net = network()
    found = predict(net, ["samples:3-4", file, "test:5,7"], data=data, batch=1)
    assert found.files == ("samples:3", "samples:4", str(file), "test:5", "test:7")
    assert data.test is not None
    torch.testing.assert_close(found.probabilities[3:], net(data.test.images[[5, 7]] / 255).softmax(1).detach())
    torch.testing.assert_close(
        found.probabilities[:2], net(from_words(["samples:3-4"], None, 8).images).softmax(1).detach()
    )
    assert len(predict(net, "test", data=data).files) == 20
    for word in ("test:20", "top:3", "test:3-1"):
        with pytest.raises(UsageError):
            predict(net, word, data=data)
    with pytest.raises(UsageError, match="no pictures 'test:0'"):
        predict(net, "test:0")


def test_a_folder_named_test_is_that_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    folder.rename("test")
    assert len(predict(network(), "test").files) == 23


def test_a_multilabel_network_has_a_sigmoid_each(folder: Path) -> None:
    plain = network()
    net = wrap(bare(), mean=plain.mean, std=plain.std, size=8, classes=list("abcd"), multilabel=True)
    files = [folder / "sub0" / "0.png", folder / "sub1" / "1.png"]
    given = torch.cat([from_words([str(file)], None, 8).images for file in files])
    torch.testing.assert_close(predict(net, files).probabilities, net(given).sigmoid().detach())


def test_a_bare_network_has_its_classes_by_number_and_keeps_its_mode(folder: Path) -> None:
    net = bare().train()
    tensor = torch.rand(2, 3, 8, 8)
    found = predict(net, tensor)
    assert found.classes == ("0", "1", "2", "3") and net.training and all(part.training for part in net)  # type: ignore[attr-defined]
    torch.testing.assert_close(found.probabilities, net(tensor).softmax(1).detach())
    one = bare(classes=1)
    torch.testing.assert_close(predict(one, tensor).probabilities[:, 1:], one(tensor).sigmoid().detach())
    assert len(predict(net, sorted(folder.rglob("*.png"))).files) == 23  # each at its own size


def test_a_network_of_one_channel_gets_grey_pictures(folder: Path) -> None:
    net, file = network(channels=1), folder / "sub0" / "0.png"
    grey = from_words([str(file)], None, 8).images.mean(1, keepdim=True)
    torch.testing.assert_close(predict(net, file).probabilities, net(grey).softmax(1).detach())


def test_deep_pictures_of_a_folder_share_one_range(tmp_path: Path) -> None:
    for i, most in enumerate((100, 4000)):
        Image.fromarray(np.full((8, 8), most, np.uint16)).save(tmp_path / f"{i}.png")
    Image.new("L", (8, 8), 9).save(tmp_path / "2.png")
    net = network()
    expected = net(from_words([str(tmp_path)], None, 8).images).softmax(1).detach()
    torch.testing.assert_close(predict(net, tmp_path).probabilities, expected)
    assert not torch.allclose(predict(net, tmp_path / "0.png").probabilities, expected[:1])  # alone, by itself


def test_a_bad_file_is_named_or_left_out(folder: Path) -> None:
    (folder / "sub1" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot read the picture '.*bad\.png': not a JPEG.*--skip-bad"):
        predict(network(), folder)
    found = predict(network(), [folder, folder / "none.png"], skip_bad=True)
    assert len(found.files) == 23 and len(found.probabilities) == 23
    assert [Path(name).name for name in found.bad] == ["bad.png", "none.png"]
    with pytest.raises(DataError, match="none of the pictures"):
        predict(network(), folder / "none.png", skip_bad=True)
    (folder / "x").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        predict(network(), folder / "x")


def test_numbers_that_are_none_are_refused() -> None:
    net = bare()
    with torch.no_grad():
        next(net.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match=r"NaN.*'picture 0'"):
        predict(net, torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("batch", [4, 16])
def test_no_more_than_two_batches_of_decoded_pictures_are_alive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch: int
) -> None:
    as_folder(tmp_path / "f", {f"{i:03}.png": png(i, 12, 9) for i in range(200)})
    alive = Alive(monkeypatch)
    studied = Subject(network())
    seen = 0
    for each in answered(studied, plan(studied, [tmp_path / "f"]), batch=batch):
        seen += len(each.files)
    assert seen == alive.all == 200 and alive.now == 0 and alive.most <= 2 * batch + 1


def test_what_comes_back_is_short_to_look_at() -> None:
    found = predict(load("cifar10"), "samples:0-9")
    assert repr(found).startswith("Predictions(b=10, k=10: airplane ") and len(repr(found)) < 100
    assert torchloupe.predict is predict


def test_progress_counts_every_picture(folder: Path) -> None:
    told: list[Any] = []
    predict(network(), folder, batch=10, progress=lambda done, total: told.append((done, total)))
    assert told == [(10, 23), (20, 23), (23, 23)]


def test_pictures_too_many_for_memory_go_through_in_smaller_batches(folder: Path) -> None:
    class Tight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = bare()

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 5:
                raise RuntimeError("out of memory")
            found: Tensor = self.inner(x)
            return found

    net = wrap(Tight(), mean=[0.4] * 3, std=[0.1] * 3, size=8, classes=list("abcd"))
    with pytest.warns(torchloupe.errors.SmallerBatchWarning) as said:
        found = predict(net, folder, batch=12)
    assert len(said) == 2  # of the first batch alone
    torch.testing.assert_close(found.probabilities, predict(network(), folder).probabilities)
