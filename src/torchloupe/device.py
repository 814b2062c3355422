"""Which device to use, and with how many bits."""

from contextlib import AbstractContextManager, nullcontext

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


def autocast(device: torch.device, amp: str) -> AbstractContextManager[object]:
    """Return a context that computes in bfloat16 where that is faster: on CUDA that has it, unless `amp` is off.

    On the CPUs measured so far bfloat16 is slower than float32, so `auto` leaves it off there; `on` forces it.

    >>> with autocast(torch.device("cpu"), "auto"):
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.float32
    """
    faster = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if amp == "on" or (amp == "auto" and faster):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half precision as float32, and everything else as it is.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
