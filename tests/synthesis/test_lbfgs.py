"""L-BFGS for many at once: the minima that linear algebra gives, and samples that do not see each other."""

import torch

from torchloupe.synthesis.lbfgs import lbfgs


def quadratics(n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(n, d, d, generator=generator, dtype=torch.float64)
    scale = torch.logspace(-3, 3, n, dtype=torch.float64).view(n, 1, 1)  # each has a scale of its own
    return scale * (factor @ factor.mT + torch.eye(d)), torch.randn(n, d, generator=generator, dtype=torch.float64)


def test_it_solves_convex_quadratics_of_several_samples() -> None:
    matrix, right = quadratics(5, 7)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.einsum("ni,nij,nj->n", x, matrix, x) - (right * x).sum(1)

    found = lbfgs(loss, torch.zeros_like(right), steps=150)
    exact = torch.linalg.solve(matrix, right)
    assert ((found - exact).norm(dim=1) < 1e-6 * exact.norm(dim=1)).all()


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def starts() -> torch.Tensor:
    return torch.tensor([[-1.2, 1.0], [0.0, 0.0], [2.0, -1.0], [1.0, 1.0]], dtype=torch.float64)


def test_rosenbrock() -> None:
    found = lbfgs(rosenbrock, starts(), steps=120)
    assert torch.allclose(found, torch.ones_like(found), atol=1e-6)


def test_no_loss_ever_rises_and_every_pass_is_told() -> None:
    told: list[torch.Tensor] = []
    lbfgs(rosenbrock, starts(), steps=60, memory=3, first=10.0, on_step=lambda step, losses: told.append(losses))
    history = torch.stack(told)
    assert history.shape == (60, 4)
    assert (history.diff(dim=0) <= 0).all()
    assert (history[0] <= rosenbrock(starts())).all()


def test_a_batch_is_its_singles() -> None:
    together = lbfgs(rosenbrock, starts(), steps=25)
    for one, expected in zip(starts(), together, strict=True):
        assert torch.allclose(lbfgs(rosenbrock, one[None], steps=25)[0], expected, rtol=1e-9, atol=1e-12)


def test_one_call_of_the_loss_per_step_whatever_fails() -> None:
    calls = []

    def loss(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return rosenbrock(x)

    lbfgs(loss, starts(), steps=40, first=100.0)
    assert len(calls) == 41


def test_a_cliff_of_nan_is_backed_away_from() -> None:
    start = torch.tensor([[4.0], [0.5]], dtype=torch.float64)
    found = lbfgs(lambda x: (x - x.log()).sum(1), start, steps=40, first=10.0)  # NaN for x < 0, least at 1
    assert torch.allclose(found, torch.ones_like(found), atol=1e-6)


def test_a_flat_start_stays() -> None:
    start = torch.full((2, 3, 2, 2), 0.5)
    assert torch.equal(lbfgs(lambda x: 0 * x.flatten(1).sum(1), start, steps=5), start)
