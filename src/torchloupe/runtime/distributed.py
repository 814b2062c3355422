"""Several processes as one training (`torchrun`): gloo on CPUs, NCCL on GPUs. Alone, everything here does nothing.

BatchNorm keeps its statistics per rank (SyncBatchNorm refuses CPU tensors): two ranks are equal to one only
for networks without it. What is tested and saved are rank 0's statistics.
"""

import copy
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """Return this process's number, 0 alone.

    >>> rank()
    0
    """
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return the number of processes, 1 alone.

    >>> world()
    1
    """
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did; yields this rank's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    # Imported once a group exists, this module keeps it for good as a default argument: its threads then outlive
    # `destroy_process_group`, and one that frees a tensor while Python shuts down aborts the process.
    from torch.distributed.nn import functional as _  # noqa: F401

    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
        dist.barrier()  # a rank that leaves early takes its connections from those that still talk
    finally:
        dist.destroy_process_group()


def add_up(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks.

    >>> add_up(torch.ones(2))
    tensor([1., 1.])
    """
    if world() > 1:
        dist.all_reduce(values)
    return values


def from_first(value: float, device: torch.device) -> float:
    """Return what rank 0 has; until every rank is here, none goes on.

    >>> from_first(3.0, torch.device("cpu"))
    3.0
    """
    mine = float(value) if rank() == 0 else 0.0
    return add_up(torch.tensor(mine, device=device)).item()


def share_buffers(net: nn.Module) -> None:
    """Give every rank the buffers (BatchNorm statistics) of rank 0, in place.

    >>> share_buffers(nn.BatchNorm2d(2))
    """
    if world() > 1:
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)


def in_parallel(net: nn.Module, images: Tensor) -> nn.Module:
    """Wrap a network so that its gradients are averaged over the ranks; unused parameters are frozen first.

    >>> net = nn.Linear(2, 2)
    >>> in_parallel(net, torch.zeros(1, 2)) is net
    True
    """
    if world() == 1:
        return net
    unused = unused_parameters(net, images)
    for name, parameter in net.named_parameters():
        if name in unused:
            parameter.requires_grad_(False)
    ids = [images.device.index] if images.device.type == "cuda" else None
    known = inspect.signature(DistributedDataParallel).parameters
    unsynced = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
    return DistributedDataParallel(net, device_ids=ids, **{unsynced: False})  # type: ignore[arg-type]


def unused_parameters(net: nn.Module, images: Tensor) -> set[str]:
    """Return the names of trainable parameters that get no gradient from these pictures (net stays as it is).

    >>> class Net(nn.Linear):
    ...     forward = lambda self, x: x @ self.weight.T
    >>> unused_parameters(Net(2, 2), torch.zeros(1, 2))
    {'bias'}
    """
    twin = copy.deepcopy(net)
    names = [name for name, parameter in twin.named_parameters() if parameter.requires_grad]
    parameters = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(twin(images).sum(), parameters, allow_unused=True)
    return {name for name, gradient in zip(names, gradients, strict=True) if gradient is None}
