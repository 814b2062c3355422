"""How much memory is free: of the machine, and of the groups that a container's limits are written in."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pets import as_folder, pets, png
from torchloupe.data import load
from torchloupe.data import memory as memory_module
from torchloupe.data.memory import free_memory
from torchloupe.errors import ResourceError

GB = 1 << 30


def machine(tmp_path: Path, groups: str, files: dict[str, str]) -> dict[str, Path]:
    """Write what a system says of its memory: 64 GB, of which 40 are available."""
    (tmp_path / "meminfo").write_text(
        f"MemTotal: {64 * GB >> 10} kB\nMemFree: 5 kB\nMemAvailable: {40 * GB >> 10} kB\n"
    )
    (tmp_path / "cgroup").write_text(groups)
    as_folder(tmp_path / "fs", {name: text.encode() for name, text in files.items()})
    return {"meminfo": tmp_path / "meminfo", "groups": tmp_path / "cgroup", "root": tmp_path / "fs"}


V2 = {
    "a/memory.max": f"{8 * GB}\n",
    "a/memory.current": f"{6 * GB}\n",
    "a/memory.stat": f"anon {4 * GB}\ninactive_file {1 * GB}\nactive_file 7\n",
    "a/b/memory.max": "max\n",
    "a/b/memory.current": "5\n",
}
V1 = {
    "memory/memory.limit_in_bytes": f"{2**63 - 4096}\n",
    "memory/memory.usage_in_bytes": f"{50 * GB}\n",
    "memory/a/memory.limit_in_bytes": f"{4 * GB}\n",
    "memory/a/memory.usage_in_bytes": f"{3 * GB}\n",
    "memory/a/memory.stat": "cache 5\ninactive_file 3\ntotal_inactive_file 1024\n",
}


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("0::/\n", {}, 40 * GB),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "7\n"}, 40 * GB),
        ("0::/a/b\n", V2, 3 * GB),  # the limit of the group above counts; what is cached of files can go
        ("0::/a/b\n", {**V2, "a/b/memory.max": f"{GB}\n"}, GB - 5),
        ("0::/\n", {"memory.max": f"{GB}\n", "memory.current": f"{2 * GB}\n"}, 0),
        ("9:name=systemd:/\n4:memory:/a\n0::/\n", V1, GB + 1024),
        ("4:cpu,memory:/far/away\n", {f"memory/{name[9:]}": text for name, text in V1.items()}, GB + 1024),
        ("nonsense\n", {"memory.max": "nonsense"}, 40 * GB),
    ],
)
def test_what_is_free(tmp_path: Path, groups: str, files: dict[str, str], free: int) -> None:
    assert free_memory(**machine(tmp_path, groups, files)) == free


def test_a_system_without_such_files(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert (free_memory(meminfo=nowhere, groups=nowhere, root=nowhere) or 1) > 0


def test_a_machine_that_is_full_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "free_memory", lambda: 10_000)
    path = as_folder(tmp_path / "mine", {name: png(3, 100, 100) for name in pets()})
    with pytest.raises(ResourceError, match=r"more than 60% of the .* that are free.*`--size 64`"):
        load(path)


PEAK = """
import sys
from torchloupe.data import load
from torchloupe.data.formats import folder

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10

decode = folder.fill

def fill(*arguments):
    found = decode(*arguments)
    sys.before = peak()
    return found

def after(*arguments):
    sys.after = peak()
    return plain(*arguments)

from torchloupe.data import readers
plain, readers.mean_std = readers.mean_std, after
folder.fill = fill
data = load(sys.argv[1], cache=False, skip_bad=True)
print(sys.after - sys.before, data.train.images.numel() + data.test.images.numel())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak of memory")
def test_leaving_out_bad_pictures_takes_no_second_copy(tmp_path: Path) -> None:
    data = png(3, 256, 256)
    files = {f"{kind}/{i:03}.png": data for kind in ("cat", "dog") for i in range(270)}
    path = as_folder(tmp_path / "mine", {**files, "cat/100.png": b"x"})
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    more, size = map(int, re.findall(r"\d+", done.stdout))
    assert size > 100e6 and more < size / 4, done.stdout
