"""Counts the decoded pictures that are alive at a time: memory without a clock."""

import threading
import weakref
from typing import Any

import numpy as np
import pytest

from torchloupe.data.formats import stream
from torchloupe.data.formats.decode import decode


class Alive:
    """How many decoded pictures there are, and the most there ever were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.most = self.all = 0
        self.lock = threading.Lock()
        monkeypatch.setattr(stream, "decode", self.decode)

    def decode(self, *arguments: Any) -> Any:
        pixels = np.array(decode(*arguments))
        with self.lock:
            self.now, self.all = self.now + 1, self.all + 1
            self.most = max(self.most, self.now)
        weakref.finalize(pixels, self.dead)
        return pixels

    def dead(self) -> None:
        self.now -= 1
