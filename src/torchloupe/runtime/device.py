"""Which device to use, with how many bits, and settings of the process that hold for a while."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from torchloupe.errors import UsageError


def pick_device(word: str = "auto") -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    Raises:
        UsageError: the device is unknown or absent.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if word == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(word)
    except RuntimeError:
        raise UsageError(f"no device {word!r}. It is auto, cpu, cuda, cuda:N or mps.") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise UsageError(f"device {word!r} is not there (torch {torch.__version__} sees none). Use --device auto.")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 by itself, about twice as fast as float32.

    CUDA since Ampere; x86 with AVX512-BF16 or AMX (AMD since Zen 4, Intel since Cooper Lake). Processors that only
    emulate it are slower with it than without.

    >>> has_bfloat16(torch.device("meta"))
    False
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, amp: str) -> AbstractContextManager[object]:
    """Return a context that computes in bfloat16 where the device has it (`auto`), always (`on`) or never (`off`).

    >>> with autocast(torch.device("cpu"), "off"):
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.float32
    """
    if precision(device, amp) == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def precision(device: torch.device, amp: str) -> str:
    """Return the type in which `autocast` lets a device multiply.

    >>> precision(torch.device("cpu"), "on")
    'bfloat16'
    """
    return "bfloat16" if amp == "on" or (amp == "auto" and has_bfloat16(device)) else "float32"


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half precision as float32, and everything else as it is.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def flushes_denormals() -> bool:
    """Tell whether this thread takes numbers too small for full precision as zero.

    >>> flushes_denormals()
    False
    """
    smallest = torch.tensor(torch.finfo(torch.float64).tiny, dtype=torch.float64)
    return (smallest / 2).item() == 0.0


@contextmanager
def process_settings(*, threads: int | None = None, flush_denormal: bool | None = None) -> Iterator[None]:
    """Compute with so many threads, and denormal numbers as zero or not; then all is as it was (None: untouched).

    >>> with process_settings(threads=1, flush_denormal=True):
    ...     torch.get_num_threads(), flushes_denormals()
    (1, True)
    >>> flushes_denormals()
    False
    """
    before = torch.get_num_threads(), flushes_denormals()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        if flush_denormal is not None:
            torch.set_flush_denormal(flush_denormal)
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before[0])
        if flush_denormal is not None:
            torch.set_flush_denormal(before[1])
