"""The one type of what is told while something works: (done, total)."""

from collections.abc import Callable

Progress = Callable[[int, int], object]
"""Called with how much is done and how much there is in all; what it returns is ignored."""
