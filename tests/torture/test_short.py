"""A short run of each long torture that forks: `make torture` is the long one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
COUNTS = {"crash": 2, "faults": 3, "download": 5}


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and lets a disk fail as Linux does")
@pytest.mark.parametrize("part", COUNTS)
def test_what_is_tried_survives(part: str) -> None:
    words = [sys.executable, "-m", "torture", part, "--count", str(COUNTS[part])]
    ended = subprocess.run(words, cwd=TESTS, capture_output=True, text=True, check=False)
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| (\d+) \|$", ended.stdout, re.MULTILINE)
    assert ended.returncode == 0 and rows and all(tried == survived for tried, survived in rows), ended
