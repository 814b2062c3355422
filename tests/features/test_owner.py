"""A network that many threads ask about at once: each gets what it would get alone, and nothing is left behind."""

import copy
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contract import images, net, split
from nets import hooks_of
from torchloupe.attribution.backprop import deconvnet, gradient
from torchloupe.features.feature_maps import feature_maps
from torchloupe.features.hooks import capture, frozen_eval, intervene, observe
from torchloupe.features.random_control import randomize
from torchloupe.features.top_examples import top_examples
from torchloupe.inspection.result import tensors_of
from torchloupe.synthesis.dream import dream
from torchloupe.synthesis.invert import invert
from torchloupe.synthesis.maximize import maximize

THREADS = 8


@pytest.fixture(autouse=True)
def threads_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Run jobs in threads that begin together; an error in one is raised here."""
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        start.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(timeout=120) for future in [pool.submit(run, job) for job in jobs]]


def jobs_on(model: nn.Module) -> list[Callable[[], Any]]:
    x = images(2)
    return [
        lambda: feature_maps(model, "last", x),
        lambda: deconvnet(model, "layer2.0", x, channels=[0, 3]),
        lambda: gradient(model, "layer3.0", x, channels=[1]),
        lambda: invert(model, "layer1.0", x, steps=3),
        lambda: maximize(model, "layer2.0", channels=[0], steps=3, copies=1),
        lambda: dream(model, "layer2.0", x[:1], steps=2, octaves=1),
        lambda: top_examples(model, "layer2.0", split(6), channels=[0, 1], count=2),
        lambda: feature_maps(model, "conv1", x),
    ]


def bits(result: Any) -> dict[str, bytes]:
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in tensors_of(result)}


@pytest.mark.parametrize("training", [True, False])
def test_methods_on_one_network_from_many_threads_give_what_they_give_alone(training: bool) -> None:
    model = net().train(training)
    model.get_submodule("conv1").requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    alone = [bits(job()) for job in jobs_on(model)]
    assert len(alone) == THREADS
    for _ in range(2):
        together = [bits(result) for result in at_once(jobs_on(model))]
        assert together == alone
        assert all(module.training is training for module in model.modules())
        assert flags == [parameter.requires_grad for parameter in model.parameters()]
        assert model.check and not hooks_of(model)


def test_a_wrapper_and_its_bare_network_have_one_owner() -> None:
    model, entered = net(), threading.Event()

    def other() -> None:
        with frozen_eval(model.bare):
            entered.set()

    thread = threading.Thread(target=other)
    with frozen_eval(model), frozen_eval(model.bare):
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(60)
    thread.join()


@pytest.mark.parametrize(
    "hooked",
    [
        lambda model: capture(model, "conv1"),
        lambda model: observe(model, lambda *_: None),
        lambda model: intervene(model, "conv1", lambda output, module: output),
    ],
    ids=["capture", "observe", "intervene"],
)
def test_hooks_wait_for_the_owner(hooked: Callable[[nn.Module], Any]) -> None:
    model, entered = net(), threading.Event()

    def other() -> None:
        with hooked(model):
            entered.set()

    thread = threading.Thread(target=other)
    with frozen_eval(model):
        own = hooks_of(model)
        thread.start()
        assert not entered.wait(0.2) and hooks_of(model) == own
    assert entered.wait(60)
    thread.join()


def test_random_controls_of_different_networks_drawn_at_once_are_those_drawn_alone() -> None:
    models = [net(seed=seed) for seed in range(THREADS)]

    def drawn(model: nn.Module) -> list[bytes]:
        return [p.detach().numpy().tobytes() for seed in range(5) for p in randomize(model, seed).parameters()]

    def job(model: nn.Module) -> Callable[[], list[bytes]]:
        def call() -> list[bytes]:
            with frozen_eval(model):
                pass
            return drawn(model)

        return call

    before = torch.get_rng_state()
    alone = [drawn(model) for model in models]
    assert at_once([job(model) for model in models]) == alone
    assert torch.equal(before, torch.get_rng_state())


def test_random_states_are_put_back_when_the_last_one_leaves() -> None:
    """The first to enter leaves first; both have drawn."""
    first, second = net(seed=0), net(seed=1)
    entered, left = threading.Event(), threading.Event()
    before = torch.get_rng_state()

    def other() -> None:
        with frozen_eval(second):
            torch.rand(3)
            entered.set()
            assert left.wait(60)

    thread = threading.Thread(target=other)
    with frozen_eval(first):
        torch.rand(3)
        thread.start()
        assert entered.wait(60)
    left.set()
    thread.join()
    assert torch.equal(before, torch.get_rng_state())


def test_predictions_beside_a_method_are_neither_seen_nor_stopped_nor_changed() -> None:
    model, x = net(), images(2)
    expected = model(x)
    inside, done = threading.Event(), threading.Event()
    found: list[Tensor] = []

    def predict() -> None:
        assert inside.wait(60)
        try:
            found.append(model(x))
        finally:
            done.set()

    thread = threading.Thread(target=predict)
    thread.start()
    noted: list[str] = []
    with (
        frozen_eval(model),
        intervene(model, "layer1.0", lambda output, module: 0 * output),
        observe(model, lambda name, *rest: noted.append(name)),
        capture(model, "layer2.0") as seen,
    ):
        inside.set()
        done.wait(60)
    thread.join()
    assert found and torch.equal(found[0], expected)
    assert not seen and not noted


def test_different_networks_do_not_wait_for_each_other() -> None:
    one, other, met = net(seed=0), net(seed=1), threading.Barrier(2)

    def enter(model: nn.Module) -> Callable[[], None]:
        def call() -> None:
            with frozen_eval(model):
                met.wait(60)  # both are inside at once, or this breaks

        return call

    at_once([enter(one), enter(other)])


def test_an_owner_leaves_no_trace_in_a_network() -> None:
    model = net()
    with frozen_eval(model):
        pass
    assert list(model.state_dict()) == list(net().state_dict())
    assert "lock" not in str(sorted(vars(model.bare))).lower()
    assert torch.equal(copy.deepcopy(model)(images(1)), model(images(1)))
    pickle.loads(pickle.dumps(model.bare))
