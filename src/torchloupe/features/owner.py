"""One thread at a time in a network, and one at a time at the global random generators.

A method switches the network's modules to eval mode, freezes its parameters and hooks its layers. All of that is shared
by every thread that holds the network, so that a server's requests must not do it at once.
"""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from torchloupe.models.network import Network

_LOCKS: "WeakKeyDictionary[nn.Module, threading.RLock]" = WeakKeyDictionary()
"""Beside the networks, not in them: a lock can be neither copied nor pickled."""
_REGISTER = threading.RLock()


@contextmanager
def exclusive(model: nn.Module) -> Iterator[None]:
    """Let only this thread switch and hook a network; others wait. May be entered again inside.

    A `Network` and the bare network in it have one owner. Plain predictions do not wait. Whoever enters two networks
    enters them in the same order in every thread.

    >>> net = nn.Sequential(nn.ReLU())
    >>> with exclusive(net), exclusive(net):
    ...     net.training
    True
    """
    bare = model.bare if isinstance(model, Network) else model
    with _REGISTER:
        lock = _LOCKS.setdefault(bare, threading.RLock())
    with lock:
        yield


CHANCE = 0x6C6F757065
"""What the chance in a network (dropout that stays on, say) starts from in every pass of a method."""

_States = tuple[tuple[Tensor, ...], Any, Any]
"""Of torch's generators (CPU, then each GPU), of Python's and of NumPy's."""


class _Inside:
    """The threads inside `random_state_restored`, and the states that the first of them found."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.threads: Counter[int] = Counter()
        self.found: _States = ((), None, None)


_INSIDE = _Inside()


@contextmanager
def random_state_restored() -> Iterator[None]:
    """Put the global generators of torch (CPU and CUDA), Python and NumPy back at the end.

    Where several threads are inside at once, the last one to leave puts back what the first one found: each by itself
    would put back what another had drawn from meanwhile.

    >>> before = torch.get_rng_state()
    >>> with random_state_restored():
    ...     _ = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    me = threading.get_ident()
    with _INSIDE.lock:
        found = _states()
        if not _INSIDE.threads:
            _INSIDE.found = found
        _INSIDE.threads[me] += 1
    try:
        yield
    finally:
        with _INSIDE.lock:
            _INSIDE.threads[me] -= 1
            if not _INSIDE.threads[me]:
                del _INSIDE.threads[me]
            if not _INSIDE.threads:
                _restore(_INSIDE.found)
            elif _INSIDE.threads.keys() == {me}:
                _restore(found)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside and put them back at the end; other threads wait for their turn.

    For code that takes no generator, such as `reset_parameters`. Keep it short.

    >>> with seeded(0):
    ...     first = torch.rand(1)
    >>> with seeded(0):
    ...     bool(first == torch.rand(1))
    True
    """
    with _INSIDE.lock:
        found = _states()
        try:
            torch.manual_seed(seed)
            yield
        finally:
            _restore(found)


def reseed() -> None:
    """Begin the global generators of torch, Python and NumPy anew, as every pass of a method does.

    >>> with random_state_restored():
    ...     reseed()
    ...     first = torch.rand(1)
    ...     reseed()
    ...     bool(first == torch.rand(1))
    True
    """
    with _INSIDE.lock:  # not while another thread draws from a seed
        torch.manual_seed(CHANCE)
        random.seed(CHANCE)
        np.random.seed(CHANCE & 0xFFFFFFFF)


def _states() -> _States:
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    drawn = (torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices))
    return drawn, random.getstate(), np.random.get_state()


def _restore(states: _States) -> None:
    drawn, plain, numpys = states
    torch.set_rng_state(drawn[0])
    for device, state in enumerate(drawn[1:]):
        torch.cuda.set_rng_state(state, device)
    random.setstate(plain)
    np.random.set_state(numpys)
