"""What is measured of maps alone, each with its chance level; controls; stability and likeness at their ends."""

import pytest
import torch
from torch import Tensor, nn

from torchloupe.attribution.scoring.controls import center, sobel, uniform
from torchloupe.attribution.scoring.localization import pixel_auc, pointing_game, relevance_mass
from torchloupe.attribution.scoring.sanity import cascade_maps, likeness
from torchloupe.attribution.scoring.stability import shift_stability, shifted
from torchloupe.errors import UsageError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masks(n: int = 6) -> Tensor:
    found = torch.rand(n, 7, 9, generator=generator()) < 0.3
    found[:, 0, 0], found[:, -1, -1] = True, False
    return found


def test_a_map_that_is_the_mask_scores_all() -> None:
    mask = masks()
    noisy = mask * (0.5 + torch.rand(mask.shape, generator=generator(1), dtype=torch.float64))
    for measure in (relevance_mass, pointing_game, pixel_auc):
        assert measure(noisy, mask).tolist() == [1] * 6 and measure(1 - mask.double(), mask).tolist() == [0] * 6


def test_a_constant_map_scores_chance() -> None:
    mask = masks()
    area = mask.double().mean((1, 2))
    for value in (1.0, 0.0, -2.0, 1e-300):
        maps = torch.full(mask.shape, value, dtype=torch.float64)
        assert pixel_auc(maps, mask).tolist() == [0.5] * 6, "exactly"
        torch.testing.assert_close(relevance_mass(maps, mask), area)
        torch.testing.assert_close(pointing_game(maps, mask), area)


def test_auc_is_the_share_of_pairs() -> None:
    mask = masks(3)
    maps = torch.randn(mask.shape, generator=generator(2), dtype=torch.float64).mul(2).round()
    for value, where, found in zip(maps, mask, pixel_auc(maps, mask), strict=True):
        inside, outside = value[where], value[~where]
        pairs = (inside[:, None] > outside).double() + 0.5 * (inside[:, None] == outside).double()
        assert found.item() == pytest.approx(pairs.mean().item())
    assert pixel_auc(maps, torch.zeros_like(mask)).isnan().all() and pixel_auc(maps, mask | True).isnan().all()


def test_negative_relevance_has_no_mass() -> None:
    mask = torch.tensor([[[True, False]]])
    assert relevance_mass(torch.tensor([[[3.0, -5.0]]]), mask).item() == 1
    assert relevance_mass(torch.tensor([[[3e38, 3e38]]]), mask).item() == 0.5


def test_controls() -> None:
    images = torch.rand(4, 3, 11, 8, generator=generator(), dtype=torch.float64)
    for make in (uniform, center, sobel):
        found = make(images)
        assert found.shape == (4, 11, 8) and found.dtype == torch.float64 and bool(found.isfinite().all())
    assert (uniform(images) == 1).all()
    blob = center(images[:, :, :, :7])[0]
    assert blob.argmax() == 5 * 7 + 3 and torch.equal(blob, blob.flip(0).flip(1)) and (blob > 0).all()
    assert sobel(torch.full((1, 3, 5, 5), 0.4)).abs().max() < 1e-6
    torch.testing.assert_close(sobel(images.transpose(2, 3)), sobel(images).transpose(1, 2))
    ramp = torch.linspace(0, 0.9, 10, dtype=torch.float64).expand(1, 2, 6, 10)
    torch.testing.assert_close(sobel(ramp)[0, :, 1:-1], torch.full((6, 8), 0.8, dtype=torch.float64))


@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (2, 1), (-3, 4)])
def test_what_goes_with_the_picture_is_stable(shift: tuple[int, int]) -> None:
    images = torch.rand(3, 3, 12, 15, generator=generator(), dtype=torch.float64)
    found = shift_stability(lambda x: x.square().sum(1), images, shifts=[shift])
    torch.testing.assert_close(found, torch.ones(3, dtype=torch.float64))
    assert (shift_stability(center, images, shifts=[shift]) < 0.999).all()
    assert shift_stability(uniform, images, shifts=[shift]).isnan().all()


def test_a_shift_by_hand() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    assert shifted(image, 1, 0)[0, 0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert shifted(image, 0, -2)[0, 0].tolist() == [[2, 2, 2], [5, 5, 5]]
    for shifts in ([], [(2, 0)], [(0, -3)]):
        with pytest.raises(UsageError, match="shifts"):
            shift_stability(lambda x: x[:, 0], image, shifts=shifts)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 25, 4)]
    return nn.Sequential(*layers).double().eval()


def saliency(net: nn.Module, images: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    return found.sum(1)


def test_the_cascade_begins_with_the_map_itself() -> None:
    net, images = small(), torch.rand(6, 3, 9, 9, generator=generator(), dtype=torch.float64)
    own = saliency(net, images)
    every = list(cascade_maps(lambda each: saliency(each, images), net, images, depths=None))
    assert [layer for layer, _ in every] == ["", "5", "2", "0"]
    torch.testing.assert_close(likeness(own, every[0][1]), torch.ones(6, dtype=torch.float64))
    assert likeness(own, every[-1][1]).mean() < 0.5
    two = list(cascade_maps(lambda each: saliency(each, images), net, images, depths=2, trained=False))
    assert [layer for layer, _ in two] == ["5", "0"] and torch.equal(two[-1][1], every[-1][1])
    edges = list(cascade_maps(lambda each: sobel(images), net, images))
    assert all(likeness(sobel(images), maps).min() > 1 - 1e-9 for _, maps in edges)
