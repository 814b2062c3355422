"""The short version of `fuzz_data`; the long one is run from the command line."""

import sys

import pytest

from torture.fuzz_data import KINDS, tried

COUNTS = {"pictures": 200, "tars": 12, "zips": 12, "pickles": 100}


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process as Linux does")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_broken_or_means_harm_is_survived(kind: str) -> None:
    tally = tried(kind, COUNTS[kind], seed=1)
    assert tally.survived == tally.tried == COUNTS[kind], tally.failures[:5]
