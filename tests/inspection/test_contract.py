"""What every method of the catalog owes: the same promises, checked on every row."""

import ast
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchloupe
from contract import FAST, LOOKED_AT, net, split
from contract import images as batch
from torchloupe.data.dataset import Split
from torchloupe.errors import LayerError, LoupeError
from torchloupe.inspection.catalog import METHODS, Method, load_function
from torchloupe.inspection.result import tensors_of
from torchloupe.inspection.run import run
from torchloupe.models.network import Network, wrap

ROWS = pytest.mark.parametrize("row", LOOKED_AT, ids=[row.name for row in LOOKED_AT])


def looked(row: Method, model: nn.Module, images: Tensor | None = None, **more: Any) -> Any:
    given: Any = None
    if row.takes == "pictures":
        given = batch() if images is None else images
    elif row.takes == "start":
        given = images
    elif row.takes == "dataset":
        given = split()
    channels = {"channels": [0, 3]} if row.channels else {}
    return run(row.name, model, None, given, **{**channels, **FAST.get(row.name, {}), **more}).result


def floats(result: Any) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in tensors_of(result) if tensor.is_floating_point())


def state(model: nn.Module) -> list[Any]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [module.training for module in model.modules()],
        [(name, p.requires_grad, p.grad) for name, p in model.named_parameters()],
        [len(getattr(module, hook)) for module in model.modules() for hook in hooks],
        torch.get_rng_state(),
        torch.is_grad_enabled(),
    ]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return bool(torch.equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@ROWS
def test_results_are_small_frozen_dataclasses_of_finite_tensors(row: Method) -> None:
    result: Any = looked(row, net())
    assert dataclasses.is_dataclass(type(result)) and result.layer
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.layer = "other"
    found = dict(tensors_of(result))
    assert found
    for name, tensor in floats(result):
        allowed_nan = name.rpartition(".")[2] in ("spread", "best")  # one copy, no data
        assert allowed_nan or tensor.isfinite().all(), name
        assert not tensor.requires_grad, name


@ROWS
def test_nothing_is_left_behind(row: Method) -> None:
    model = net()
    model.train()
    model.get_submodule("bn1").eval()
    next(model.parameters()).requires_grad_(False)
    before = state(model)
    looked(row, model)
    assert same(before, state(model))


@ROWS
def test_nothing_is_left_behind_after_an_error(row: Method) -> None:
    if row.name == "filters":
        pytest.skip("runs no picture through the network")
    model = net()
    model.train()
    calls = 0

    def fail(module: nn.Module, inputs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise RuntimeError("in the middle")

    handle = model.get_submodule("layer2.0.conv").register_forward_pre_hook(fail)
    before = state(model)
    with pytest.raises(RuntimeError, match="in the middle"):
        for _ in range(3):
            looked(row, model)
    assert same(before, state(model))
    handle.remove()


@ROWS
def test_deterministic_by_seed(row: Method) -> None:
    one, again = (
        (dict(tensors_of(looked(row, net(), seed=3))) for _ in range(2))
        if row.seeded
        else (dict(tensors_of(looked(row, net()))) for _ in range(2))
    )
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, again[name], rtol=0, atol=0, equal_nan=True)
    if row.name == "maximize":
        other = dict(tensors_of(looked(row, net(), seed=4)))
        assert not torch.equal(one["pictures"], other["pictures"])


@ROWS
def test_works_where_gradients_are_off(row: Method) -> None:
    expected = dict(floats(looked(row, net())))
    for off in (torch.no_grad, torch.inference_mode):
        model = net()
        with off():
            images = batch()
            result = dict(floats(looked(row, model, images if row.takes == "pictures" else None)))
        for name, tensor in expected.items():
            torch.testing.assert_close(result[name], tensor, equal_nan=True)


@pytest.mark.parametrize(
    "row", [row for row in METHODS if row.takes in ("pictures", "start")], ids=lambda row: row.name
)
def test_a_batch_equals_singles(row: Method) -> None:
    images = batch(3)
    whole = looked(row, net(), images)
    name = {"feature-maps": "maps"}.get(row.name, "signal" if hasattr(whole, "signal") else "pictures")
    together = getattr(whole, name)
    singles = [getattr(looked(row, net(), images[i : i + 1]), name) for i in range(3)]
    if row.takes == "start":  # photographs by channels (by copies)
        order = torch.cat([torch.nonzero(whole.image == i).flatten() for i in range(3)])
        together = together[order]
    torch.testing.assert_close(together, torch.cat(singles), rtol=1e-6, atol=1e-8)


@ROWS
def test_float32_is_close_to_float64(row: Method) -> None:
    more: dict[str, Any] = {"steps": 1} if row.name in ("maximize", "dream", "invert") else {}
    exact = dict(floats(looked(row, net(), **more)))
    images = batch(dtype=torch.float32) if row.takes == "pictures" else None
    rough = dict(floats(looked(row, net(torch.float32), images, **more)))
    for name, tensor in exact.items():
        if tensor.isnan().all() or name == "pca" or name.startswith("randomized."):  # other random numbers in float32
            continue
        scale = tensor[tensor.isfinite()].abs().max().clamp(min=1e-6)
        torch.testing.assert_close(
            rough[name].double() / scale, tensor.double() / scale, rtol=0, atol=2e-3, equal_nan=True
        )


def plain(colors: int = 3, classes: int = 4, side: int = 19) -> Network:
    """A network for images of any size and number of colors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [nn.Conv2d(colors, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()]
        bare = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
    return wrap(bare, mean=[0.5] * colors, std=[0.25] * colors, size=side, classes=classes)


def some(n: int, colors: int, height: int, width: int) -> Tensor:
    return torch.rand(n, colors, height, width, generator=torch.Generator().manual_seed(3))


def changed(change: Callable[[nn.Module], object]) -> Network:
    model = net(torch.float32)
    with torch.no_grad():
        change(model)
    return model


def silence(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.bias, -1)


def poison(value: float) -> Callable[[nn.Module], object]:
    return lambda model: model.get_parameter("conv1.weight").view(-1)[:1].fill_(value)


def stretch(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.mul_(1e20)


ODD: dict[str, tuple[Callable[[], Network], Tensor]] = {
    "black": (lambda: net(torch.float32), torch.zeros(2, 3, 19, 19)),
    "white": (lambda: net(torch.float32), torch.ones(2, 3, 19, 19)),
    "gray, as it begins": (lambda: net(torch.float32), torch.full((2, 3, 19, 19), 0.5)),
    "dead layers": (lambda: changed(silence), some(2, 3, 19, 19)),
    "one image": (lambda: net(torch.float32), some(1, 3, 19, 19)),
    "one class": (lambda: plain(classes=1), some(2, 3, 19, 19)),
    "one pixel": (lambda: plain(side=1), some(2, 3, 1, 1)),
    "one pixel, with pooling": (lambda: net(torch.float32), some(2, 3, 1, 1)),
    "one line": (plain, some(2, 3, 1, 19)),
    "large and oblong": (lambda: plain(side=160), some(1, 3, 160, 121)),
    "1 color": (lambda: plain(1), some(2, 1, 19, 19)),
    "5 colors": (lambda: plain(5), some(2, 5, 19, 19)),
}
"""What is odd and has an answer: a network, and images for it."""
FOURTH = torch.tensor([4])
REFUSED: dict[str, tuple[Callable[[], Network], Tensor, str]] = {
    "NaN in an image": (
        lambda: net(torch.float32),
        some(2, 3, 19, 19).index_fill(3, torch.tensor([4]), torch.nan),
        "NaN",
    ),
    "infinity in an image": (
        lambda: net(torch.float32),
        some(2, 3, 19, 19).index_fill(3, torch.tensor([4]), torch.inf),
        "inf",
    ),
    "no image": (lambda: net(torch.float32), some(0, 3, 19, 19), "no pictures|has none"),
    "NaN among the weights": (lambda: changed(poison(torch.nan)), some(2, 3, 19, 19), "conv1.weight' hold NaN"),
    "infinity among the weights": (lambda: changed(poison(torch.inf)), some(2, 3, 19, 19), "conv1.weight' hold NaN"),
    "weights that overflow": (lambda: changed(stretch), some(2, 3, 19, 19), "become NaN or infinite"),
}
"""What has none, and what is said."""


def given(row: Method, images: Tensor) -> Any:
    if row.takes != "dataset":
        return images if row.takes in ("pictures", "start") else None
    pixels = (255 * images.nan_to_num(posinf=1)).to(torch.uint8)
    return Split(pixels, torch.zeros(len(images), dtype=torch.int64), tuple(f"{i}.png" for i in range(len(images))))


@pytest.mark.parametrize("case", ODD)
@ROWS
def test_odd_images_and_networks_have_an_answer(row: Method, case: str) -> None:
    """Finite, and it can be drawn; where a number has no meaning it is NaN, and the result's class says so."""
    make, images = ODD[case]
    one = {"channels": [0]} if row.channels else {}
    made = run(row.name, make(), None, given(row, images), **{**one, **FAST.get(row.name, {})})
    assert made.sheets()
    for name, tensor in floats(made.result):
        meaningless = name.rpartition(".")[2] in ("spread", "best", "ratio", "error", "psnr")
        assert meaningless or tensor.isfinite().all(), name


@pytest.mark.parametrize("case", REFUSED)
@ROWS
def test_what_has_no_answer_is_told_in_one_sentence(row: Method, case: str) -> None:
    make, images, said = REFUSED[case]
    if row.takes == "nothing" and "image" in case:
        pytest.skip("looks at no image")
    if row.takes == "dataset" and case in ("NaN in an image", "infinity in an image"):
        pytest.skip("images of bytes hold neither")
    one = {"channels": [0]} if row.channels else {}
    with pytest.raises(LoupeError, match=said) as raised:
        run(row.name, make(), None, given(row, images), **{**one, **FAST.get(row.name, {})})
    assert str(raised.value).isprintable() and len(str(raised.value)) < 300


@pytest.mark.parametrize("row", [row for row in LOOKED_AT if row.layered], ids=lambda row: row.name)
def test_a_wrong_layer_is_told_with_the_nearest(row: Method) -> None:
    given: Any = batch() if row.takes == "pictures" else split() if row.takes == "dataset" else None
    with pytest.raises(LayerError, match=r"no layer 'layer9'; did you mean"):
        run(row.name, net(), "layer9", given)


@ROWS
def test_the_row_says_what_the_function_takes(row: Method) -> None:
    function = load_function(row.compute)
    assert function.__name__ == row.function
    assert (inspect.getdoc(function) or "").splitlines()[0] == row.summary
    parameters = inspect.signature(function).parameters
    beside = {"channels", "seed", "progress", "statistics", "best", "control"}
    beside |= {"layer", "baselines"} if row.explains else set()  # pictures, which no option can name
    assert row.explains == (list(parameters)[:2] == ["model", "images"]) and row.layered == ("layer" in parameters)
    settings = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY and n not in beside}
    assert {setting.name: setting.default for setting in row.settings} == settings
    assert ("channels" in parameters, "seed" in parameters) == (row.channels, row.seeded)
    assert set(row.needs) == {"statistics", "best", "control"} & set(parameters)
    if "layer" in parameters and parameters["layer"].default is not inspect.Parameter.empty:
        assert parameters["layer"].default == row.layer


def test_every_method_has_one_row() -> None:
    """A method is a public function of (model, layer, …) in a file of its own name, or one of those in backprop.py."""
    package, found = Path(torchloupe.__file__).parent, set()
    for path in (path for room in ("features", "attribution", "synthesis") for path in (package / room).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            takes = [argument.arg for argument in node.args.args[:2]]
            if path.stem in (node.name, "backprop") and takes == ["model", "layer"]:
                found.add(node.name)
    assert found == {row.function for row in METHODS}
    assert len({row.name for row in METHODS}) == len(METHODS)
    assert all(callable(getattr(torchloupe, row.function)) for row in METHODS)
