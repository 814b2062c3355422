"""How much a training step multiplies, how fast this machine can, and where the step's time goes."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from torchloupe.data.dataset import Dataset
from torchloupe.models.loupe import Loupe
from torchloupe.runtime.device import autocast, has_bfloat16
from torchloupe.training.config import TrainConfig
from torchloupe.training.journal import Listener
from torchloupe.training.loop import Run
from torchloupe.training.prepare import prepare

CPU = torch.device("cpu")
SIDE = 2048


def gemm_rate(dtype: torch.dtype) -> float:
    """Return the best rate of a large matrix product, in FLOP/s."""
    a, b = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - began)
    return 2 * SIDE**3 / min(seconds)


def peak(amp: str) -> tuple[str, float]:
    """Return the type that training multiplies in, and the rate of its matrix products in FLOP/s."""
    half = amp == "on" or (amp == "auto" and has_bfloat16(CPU))
    dtype = torch.bfloat16 if half else torch.float32
    return str(dtype).removeprefix("torch."), gemm_rate(dtype)


def step_flops(net: nn.Module, side: int, batch: int) -> float:
    """Return the floating-point operations of one forward and backward pass, by torch's counter."""
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(torch.rand(batch, 3, side, side)), torch.zeros(batch, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]
    net.zero_grad()
    return float(counter.get_total_flops())


def training_flops(net: nn.Module, side: int, config: TrainConfig, steps: int) -> float:
    """Return the floating-point operations of a whole training with resolved settings."""
    assert config.batch is not None
    low = round(config.low_until * steps) if config.low_size else 0
    small = step_flops(net, config.low_size, config.batch) if low else 0.0
    return low * small + (steps - low) * step_flops(net, side, config.batch)


def stepper(dataset: Dataset, config: TrainConfig, folder: Path, amp: str) -> tuple[Run, Callable[[], None]]:
    """Return a run and a function that takes its next step; nothing is tested or saved."""
    run = Run(prepare(dataset, config, CPU), folder, CPU, amp, Listener())
    run.journal.open(None)
    run.network.train()
    order = torch.randperm(len(run.labels))

    def step() -> None:
        place = run.step % run.per_epoch
        run._learn(run.network, order[place * run.batch : (place + 1) * run.batch])

    return run, step


def step_seconds(dataset: Dataset, config: TrainConfig, *, amp: str, steps: int, warm: int = 3) -> list[float]:
    """Return the seconds of some steps, after others that are not counted."""
    with tempfile.TemporaryDirectory() as folder:
        _, step = stepper(dataset, config, Path(folder), amp)
        for _ in range(warm):
            step()
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
        return seconds


def split(dataset: Dataset, config: TrainConfig, *, amp: str, steps: int = 20) -> dict[str, float]:
    """Return the mean milliseconds of each part of a step: data, augmentation, forward, backward, optimizer, rest."""
    spent: dict[str, float] = {}

    def clocked(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = call(*args, **kwargs)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - began
            return result

        return inner

    with tempfile.TemporaryDirectory() as folder:
        run, step = stepper(dataset, config, Path(folder), amp)
        for _ in range(3):
            step()
        index = torch.randperm(len(run.labels))[: run.batch]
        gather = clocked("data (gather)", lambda: run.images[index])
        backward = Tensor.backward
        run._augmented = clocked("augmentation", run._augmented)  # type: ignore[method-assign]
        run.network.forward = clocked("forward", run.network.forward)  # type: ignore[method-assign]
        Tensor.backward = clocked("backward", backward)  # type: ignore[method-assign]
        for optimizer in run.optimizers:
            optimizer.step = clocked("optimizer", optimizer.step)  # type: ignore[method-assign]
        try:
            began = time.perf_counter()
            for _ in range(steps):
                step()
            whole = time.perf_counter() - began
        finally:
            Tensor.backward = backward  # type: ignore[method-assign]
        for _ in range(steps):
            gather()
    spent["augmentation"] -= spent["data (gather)"]
    names = ("data (gather)", "augmentation", "forward", "backward", "optimizer")
    parts = {name: spent[name] / steps * 1000 for name in names}
    return {**parts, "rest": whole / steps * 1000 - sum(parts.values()), "step": whole / steps * 1000}


def profiled(dataset: Dataset, config: TrainConfig, *, amp: str, rows: int = 8) -> list[tuple[str, float]]:
    """Return the operators that take most of a step and their milliseconds, by torch's profiler."""
    with tempfile.TemporaryDirectory() as folder, autocast(CPU, "off"):
        _, step = stepper(dataset, config, Path(folder), amp)
        for _ in range(3):
            step()
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in range(5):
                step()
    ranked = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return [(event.key, event.self_cpu_time_total / 5000) for event in ranked[:rows]]


def correlation(filters: Tensor) -> float:
    """Return the correlation of neighbouring pixels over a filter bank `[o, i, h, w]`, the mean of both directions."""
    pairs = [(filters[..., 1:], filters[..., :-1]), (filters[..., 1:, :], filters[..., :-1, :])]
    return float(statistics.mean(((a * b).sum() / (a.norm() * b.norm())).item() for a, b in pairs))


def first_layers() -> dict[str, nn.Module]:
    """Return `loupe` with other first layers: what a learned 5x5 one costs."""
    frozen = Loupe()
    frozen.conv1 = nn.Conv2d(3, 32, 2, bias=False).requires_grad_(False)
    nets = {"5x5, learned": Loupe(), "7x7, learned": Loupe(kernel=7), "3x3, learned": Loupe(kernel=3)}
    return {**nets, "2x2, frozen (as for whitening)": frozen}


def net_seconds(net: nn.Module, side: int, batch: int, amp: str, runs: int = 15) -> list[float]:
    """Return the seconds of forward and backward passes of random pictures."""
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels, seconds = torch.zeros(batch, dtype=torch.long), []
    for _ in range(runs + 3):
        began = time.perf_counter()
        with autocast(CPU, amp):
            logits = net(images)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        seconds.append(time.perf_counter() - began)
    return seconds[3:]


def mean_std(values: list[float]) -> str:
    """Return `mean ± std` of percentages, or the only one."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
