"""Memory that runs out: half as many images at a time, the same result, one line; and no more where one is too many."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contract import FAST, split
from contract import images as batch
from contract import net as small
from torchloupe.errors import ResourceError, SmallerBatchWarning
from torchloupe.evaluation.accuracy import predict
from torchloupe.inspection.catalog import METHODS, Method
from torchloupe.inspection.result import tensors_of
from torchloupe.inspection.run import run
from torchloupe.runtime.memory import halving, is_out_of_memory, smaller

ERRORS: list[Callable[[], Exception]] = [
    MemoryError,
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: you tried"),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
]


@contextmanager
def scarce(most: int) -> Iterator[list[int]]:
    """Let every convolution fail that is given more than so many images at once; yields how many each was given."""
    seen: list[int] = []
    forward = nn.Conv2d.forward

    def short(self: nn.Conv2d, x: Tensor) -> Tensor:
        seen.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", short)
        yield seen


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_memory_are_known(error: Callable[[], Exception]) -> None:
    assert is_out_of_memory(error())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_numbers_are_halved_until_it_fits() -> None:
    tried: list[int] = []

    def work() -> int:
        tried.append(smaller(40))
        if tried[-1] > 5:
            raise MemoryError
        return tried[-1]

    with pytest.warns(SmallerBatchWarning) as noted:
        assert halving(work, "a pass") == 5
    assert tried == [40, 20, 10, 5] and len(noted) == 3
    assert str(noted[0].message) == "memory ran out: a pass goes on with 20 pictures at a time."
    assert smaller(40) == 40, "what comes afterwards begins anew"


def test_where_one_is_too_many_it_is_said() -> None:
    def work() -> None:
        smaller(3)
        raise MemoryError

    with pytest.raises(ResourceError, match="even one picture"), pytest.warns(SmallerBatchWarning):
        halving(work, "a pass")
    with pytest.raises(ValueError, match="other"):
        halving(lambda: int("other"), "a pass")


def test_a_test_goes_on_and_says_the_same() -> None:
    net, images = small(torch.float32), torch.randint(0, 256, (37, 3, 16, 16), dtype=torch.uint8)
    expected = predict(net, images)
    with scarce(8) as seen, pytest.warns(SmallerBatchWarning, match="the test"):
        found = predict(net, images)
    assert max(seen) > 8 and max(seen[-4:]) <= 8
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("row", [row for row in METHODS if row.name != "filters"], ids=lambda row: row.name)
def test_every_method_goes_on_and_finds_the_same(row: Method) -> None:
    given: Any = batch(6) if row.takes == "pictures" else split() if row.takes == "dataset" else None
    more: dict[str, Any] = FAST.get(row.name, {})
    if row.name == "maximize":
        more = {**more, "copies": 1, "channels": [0, 1, 2, 3]}
    expected = dict(tensors_of(run(row.name, small(), None, given, **more).result))
    with scarce(2) as seen, pytest.warns(SmallerBatchWarning, match=row.name):
        found = dict(tensors_of(run(row.name, small(), None, given, **more).result))
    assert max(seen) > 2 and max(seen[-3:]) <= 2
    for name, tensor in expected.items():
        if name.startswith("random"):  # BatchNorm of the control is measured on fewer images then
            assert found[name].shape == tensor.shape and bool(found[name].isfinite().all())
            continue
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-8, equal_nan=True)
