"""Augmentation on batches, against loops over single pictures in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from torchloupe.data.tensors import crop, to_float
from torchloupe.training.augment import Draws, augment, cut_out, draw
from torchloupe.training.config import TrainConfig

PLAIN = TrainConfig(flip="none", translate=0)
N, H, W = 12, 7, 10  # not square, so that a mixed-up axis shows


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (N, 3, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def place_of(share: Tensor, places: int) -> int:
    """The n-th of so many equally likely places."""
    return int(np.floor(share.item() * places))


def slow(image: Tensor, draws: Draws, i: int, config: TrainConfig, low: bool) -> np.ndarray:
    """One picture [3, h, w], step by step as the docstrings say it."""
    shown = image.numpy()
    if draws.flip[i]:
        shown = shown[:, :, ::-1]
    _, h, w = shown.shape
    y, x = draws.place[i]
    if low:
        side = config.low_size
        top, left = place_of(y, h - side + 1), place_of(x, w - side + 1)
        return shown[:, top : top + side, left : left + side] / np.float32(255)
    reach = config.translate
    if reach:
        padded = np.pad(shown, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
        top, left = place_of(y, 2 * reach + 1), place_of(x, 2 * reach + 1)
        shown = padded[:, top : top + h, left : left + w]
    out = shown / np.float32(255)
    side = config.cutout
    if side:
        middle = place_of(draws.hole[i, 0], h), place_of(draws.hole[i, 1], w)
        for row in range(middle[0] - side // 2, middle[0] - side // 2 + side):
            for column in range(middle[1] - side // 2, middle[1] - side // 2 + side):
                if 0 <= row < h and 0 <= column < w:
                    out[:, row, column] = 0.5
    return out


@pytest.mark.parametrize(
    ("config", "low"),
    [
        (PLAIN, False),
        (TrainConfig(flip="random", translate=0), False),
        (TrainConfig(flip="alternating", translate=0), False),
        (TrainConfig(flip="none", translate=2), False),
        (TrainConfig(flip="none", translate=0, cutout=3), False),
        (TrainConfig(flip="none", translate=0, cutout=4), False),
        (TrainConfig(flip="random", translate=3, cutout=5), False),
        (TrainConfig(flip="random", low_size=4), True),
        (TrainConfig(flip="none", low_size=6), True),
    ],
    ids=["nothing", "random", "alternating", "translate", "cutout odd", "cutout even", "all", "low", "low, no flip"],
)
def test_augment_is_the_slow_loop(images: Tensor, config: TrainConfig, low: bool) -> None:
    for epoch in (0, 1):
        draws = draw(config, N, epoch)
        fast = augment(images, draws, config, low=low)
        for i in range(N):
            np.testing.assert_array_equal(fast[i].numpy(), slow(images[i], draws, i, config, low))


def test_a_picture_becomes_the_same_whatever_its_batch(images: Tensor) -> None:
    config = TrainConfig(cutout=3, translate=2)
    draws, order = draw(config, N, 5), torch.randperm(N, generator=torch.Generator().manual_seed(1))
    whole = augment(images[order], draws.take(order), config)
    parts = [augment(images[part], draws.take(part), config) for part in torch.split(order, 5)]
    assert torch.equal(whole, torch.cat(parts))
    for i in range(N):
        alone = augment(images[i : i + 1], draws.take(torch.tensor([i])), config)
        assert torch.equal(alone[0], whole[order.tolist().index(i)])


def test_draws_belong_to_the_picture_the_epoch_and_the_seed_of_augmentation() -> None:
    def drawn(seed: int, epoch: int, **more: int) -> Draws:
        return draw(TrainConfig(flip="random", seed=seed, **more), 500, epoch)  # type: ignore[arg-type]

    first = drawn(0, 0)
    for other, same in ((drawn(0, 0), True), (drawn(0, 1), False), (drawn(1, 0), False)):
        assert torch.equal(first.place, other.place) == same
        assert torch.equal(first.flip, other.flip) == same
    assert torch.equal(first.hole, drawn(7, 0, seed_augment=0).hole)
    assert not torch.equal(first.place, first.hole)
    for share in (first.place, first.hole):
        assert share.min() >= 0 and share.max() < 1 and abs(share.mean().item() - 0.5) < 0.05


def test_alternating_shows_both_sides_in_each_pair_of_epochs() -> None:
    flips = [draw(TrainConfig(flip="alternating", seed=2), 400, epoch).flip for epoch in range(4)]
    assert 140 < flips[0].sum() < 260
    assert torch.equal(flips[0], ~flips[1]) and torch.equal(flips[0], flips[2]) and torch.equal(flips[1], flips[3])
    random = [draw(TrainConfig(flip="random", seed=2), 400, epoch).flip for epoch in range(3)]
    assert not torch.equal(random[0], ~random[1]) and not torch.equal(random[0], random[2])
    assert not draw(TrainConfig(flip="none"), 400, 0).flip.any()


def test_every_place_of_a_crop_is_reached_and_equally_often() -> None:
    ruler = torch.arange(5 * 4, dtype=torch.uint8).view(1, 1, 5, 4).expand(4000, 1, 5, 4)
    place = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
    corners = crop(ruler, place, (3, 2))[:, 0, 0, 0]
    counts = torch.bincount(corners.long(), minlength=20)
    assert counts.nonzero().flatten().tolist() == [4 * y + x for y in range(3) for x in range(3)]
    assert counts[counts > 0].min() > 350 and counts.max() < 550  # 444 each


def test_the_last_place_before_one_is_inside() -> None:
    last = torch.tensor([[1 - 2**-24, 1 - 2**-24]])
    for side in (2, 3, 4, 5, 8, 9, 16, 17, 33):
        image = torch.zeros(1, 1, side, side, dtype=torch.uint8)
        image[..., -1, -1] = 1
        assert crop(image, last, (1, 1)).item() == 1


def test_cutout_hangs_over_the_border_and_is_grey() -> None:
    images = torch.ones(4, 3, 6, 9)
    corners = torch.tensor([[0.0, 0.0], [0.0, 0.999], [0.999, 0.0], [0.5, 0.5]])
    cut = cut_out(images, corners, 4)
    assert (cut == 0.5).sum((1, 2, 3)).tolist() == [3 * 4, 3 * 6, 3 * 6, 3 * 16]
    assert torch.equal(images, torch.ones_like(images))  # the input stays as it was
    assert set(cut.flatten().tolist()) == {0.5, 1.0}


def test_enlarging_is_plain_bilinear(images: Tensor) -> None:
    wanted = F.interpolate(images.float() / 255, size=(24, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(to_float(images, 24), wanted)


def bilinear(row: np.ndarray, size: int) -> np.ndarray:
    """Bilinear along the last axis, half-pixel centres, border clamped: the textbook formula."""
    n = row.shape[-1]
    at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    left = np.floor(at).astype(int)
    right = np.minimum(left + 1, n - 1)
    share = at - left
    return np.asarray(row[..., left] * (1 - share) + row[..., right] * share)


def test_enlarging_by_the_textbook(images: Tensor) -> None:
    values = images.numpy().astype(np.float64) / 255
    wanted = bilinear(bilinear(values, 24).swapaxes(2, 3), 24).swapaxes(2, 3)
    np.testing.assert_allclose(to_float(images, 24).numpy(), wanted, atol=1e-6)


def test_shrinking_averages_all_pixels() -> None:
    stripes = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    stripes[..., ::2] = 255  # without antialiasing a shrunk picture would be flat black, white or banded
    small = to_float(stripes, 4)
    assert (small - 0.5).abs().max() < 0.1


def test_to_float_keeps_the_range_the_size_and_the_input(images: Tensor) -> None:
    before = images.clone()
    assert torch.equal(to_float(images), images.float() / 255)
    assert to_float(images, 5).shape == (N, 3, 5, 5)
    extreme = torch.randint(0, 2, (4, 3, 9, 9), dtype=torch.uint8) * 255
    for size in (4, 9, 20):
        assert to_float(extreme, size).min() >= 0 and to_float(extreme, size).max() <= 1
    assert torch.equal(before, images)


def test_augment_resizes_before_it_cuts_out(images: Tensor) -> None:
    config = TrainConfig(flip="none", translate=0, cutout=6, size=20)
    cut = augment(images, draw(config, N, 0), config)
    assert cut.shape == (N, 3, 20, 20)
    untouched = to_float(images, 20)
    changed = (cut != untouched).any(1).sum((1, 2))
    assert changed.max() <= 36 and changed.min() >= 9  # of 6 x 6, at least a quarter inside


def test_a_shift_is_never_larger_than_the_picture_allows() -> None:
    tiny = torch.randint(0, 256, (3, 3, 2, 5), dtype=torch.uint8)
    config = TrainConfig(translate=4)
    assert augment(tiny, draw(config, 3, 0), config).shape == (3, 3, 2, 5)


def test_low_crops_as_large_as_the_picture_are_the_picture(images: Tensor) -> None:
    config = TrainConfig(flip="none", translate=0, low_size=H)
    assert torch.equal(augment(images, draw(config, N, 0), config, low=True), images.float() / 255)


def test_low_crops_keep_the_scale_of_enlarged_pictures() -> None:
    config = TrainConfig(size=64, low_size=12, low_until=1.0, flip="none")
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    assert augment(images, draw(config, 2, 0), config, low=True).shape == (2, 3, 48, 48)
