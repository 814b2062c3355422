"""Whatever the mirrors do, the final file is right or absent; what came is never fetched anew."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import torchloupe
from badserver import BODY, CUT, WAYS, BadServer
from torchloupe.data.downloads.fetch import BLOCK, download
from torchloupe.data.downloads.web import Patience
from torchloupe.errors import DataError, ResourceError

SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(connect=5, silence=0.3, pause=0)  # a loaded machine is not quick to answer
BRIEF = Patience(connect=0.3, silence=0.3, slow_window=0.05, slow_rate=5e6, pause=0)
DELIVERS = {"good", "ignores-range", "truncates-once", "truncates", "stalls", "trickles"}
DELIVERS |= {"longer-no-length", "redirects"}
SLOW = {"stalls", "trickles", "silent", "trickling-header"}
PARTS = {
    "none": None,
    "empty": b"",
    "begun": BODY[:50_000],
    "begun wrong": bytes(50_000),
    "whole": BODY,
    "whole but wrong": bytes(len(BODY)),
    "too long": BODY + b"more",
}


def fetch(server: BadServer, folder: Path, *ways: str, **more: object) -> Path:
    settings: dict[str, object] = {"bytes_expected": len(BODY), "sha256": SHA, "patience": QUICK, **more}
    return download([server.url(way) for way in ways], folder / "file", **settings)  # type: ignore[arg-type]


def right_or_absent(folder: Path) -> bool:
    """Tell which of the two; fail if neither, or if the part file grew too long."""
    part = folder / "file.part"
    assert not part.exists() or part.stat().st_size <= len(BODY)
    if not (folder / "file").exists():
        return False
    assert (folder / "file").read_bytes() == BODY
    assert not part.exists()
    return True


@pytest.mark.parametrize("way", WAYS)
def test_each_way_alone_whatever_came_before(way: str, server: BadServer, tmp_path: Path) -> None:
    patience = BRIEF if way in SLOW else QUICK
    for name, before in PARTS.items():
        if way in SLOW and name not in ("none", "begun"):
            continue
        folder = tmp_path / name
        folder.mkdir()
        server.counts.clear()
        if before is not None:
            (folder / "file.part").write_bytes(before)
        if way in DELIVERS or name == "whole":
            fetch(server, folder, way, patience=patience)
            assert right_or_absent(folder)
        else:
            with pytest.raises(DataError, match=r"cannot download .*127\.0\.0\.1.*--data DIR"):
                fetch(server, folder, way, patience=patience)
            assert not right_or_absent(folder)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_before_a_good_mirror(way: str, server: BadServer, tmp_path: Path) -> None:
    fetch(server, tmp_path, way, "good", patience=BRIEF if way in SLOW else QUICK)
    assert right_or_absent(tmp_path)


def test_a_break_is_resumed_where_it_was(server: BadServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetch(server, tmp_path, "truncates-once", "good", progress=lambda done, total: seen.append((done, total)))
    assert server.log == [("truncates-once", ""), ("truncates-once", f"bytes={CUT}-")]
    done = [at for at, _ in seen]
    assert done == sorted(set(done))
    assert seen[-1] == (len(BODY), len(BODY))


def test_a_second_break_leads_to_the_next_mirror(server: BadServer, tmp_path: Path) -> None:
    said: list[str] = []
    fetch(server, tmp_path, "truncates", "good", say=said.append)
    assert server.log == [("truncates", ""), ("truncates", f"bytes={CUT}-"), ("good", f"bytes={2 * CUT}-")]
    assert len(said) == 2
    assert f"broke off at byte {CUT}" in said[0]


def test_a_later_run_resumes(server: BadServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"The first {CUT} bytes are kept"):
        fetch(server, tmp_path, "truncates-then-missing")
    fetch(server, tmp_path, "good")
    assert server.log[-1] == ("good", f"bytes={CUT}-")
    assert right_or_absent(tmp_path)


def test_silent_and_slow_mirrors_are_left_and_nothing_is_lost(server: BadServer, tmp_path: Path) -> None:
    said: list[str] = []
    fetch(server, tmp_path, "stalls", "trickles", "good", say=said.append, patience=BRIEF)
    assert [way for way, _ in server.log] == ["stalls", "trickles", "good"]
    assert "silent for 0.3 s" in said[0]
    assert "slow (" in said[1]
    starts = [int(span.strip("bytes=-") or 0) for _, span in server.log]
    assert starts[1] == CUT
    assert starts[2] > CUT
    assert right_or_absent(tmp_path)


def test_the_last_mirror_may_be_slow(server: BadServer, tmp_path: Path) -> None:
    fetch(server, tmp_path, "missing", "trickles", patience=BRIEF)
    assert [way for way, _ in server.log] == ["missing", "trickles"]


def test_an_innocent_mirror_gets_a_go_from_the_start(server: BadServer, tmp_path: Path) -> None:
    """The first one's bytes were wrong and cut off: the second's are blamed for it only if they fail alone."""
    fetch(server, tmp_path, "wrong-truncates", "good")
    assert server.log[-2:] == [("good", f"bytes={2 * CUT}-"), ("good", "")]
    assert right_or_absent(tmp_path)


def test_two_wrong_mirrors_that_break_off_come_to_an_end(server: BadServer, tmp_path: Path) -> None:
    ways = [server.url("wrong-truncates"), server.url("wrong-truncates") + "?again"]
    with pytest.raises(DataError, match="wrong bytes"):
        download(ways, tmp_path / "file", bytes_expected=len(BODY), sha256=SHA, patience=QUICK)
    assert len(server.log) < 20
    assert not right_or_absent(tmp_path)


REASONS = {
    "html": "a web page instead of the file",
    "missing": "status 404",
    "busy": "status 503",
    "wrong": "wrong bytes",
    "shorter": "bytes instead of",
    "loop": "redirected in a circle",
    "wrong-total": "other bytes than asked for",
    "redirects-to-ftp": "redirected to an unsafe address",
}


@pytest.mark.parametrize("ways", [list(REASONS)[:4], list(REASONS)[4:]], ids=["first", "others"])
def test_all_failed_names_every_reason(server: BadServer, tmp_path: Path, ways: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        fetch(server, tmp_path, *ways, patience=Patience(connect=30, silence=30, pause=0))
    for way in ways:
        assert REASONS[way] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_mirror_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no mirror is known"):
        download([], tmp_path / "file", bytes_expected=1, sha256=SHA)


def test_what_is_there_already(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BODY)
    fetch(server, tmp_path, "good")
    assert server.log == []
    assert right_or_absent(tmp_path)
    (tmp_path / "file").write_bytes(b"the user's own")
    with pytest.raises(DataError):
        fetch(server, tmp_path, "missing")
    assert (tmp_path / "file").read_bytes() == b"the user's own"
    fetch(server, tmp_path, "good")
    assert right_or_absent(tmp_path)


def test_ctrl_c_keeps_what_came(server: BadServer, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 2 * BLOCK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, "good", progress=interrupt)
    came = (tmp_path / "file.part").stat().st_size
    assert came >= 2 * BLOCK
    assert not right_or_absent(tmp_path)
    fetch(server, tmp_path, "good")
    assert server.log[-1] == ("good", f"bytes={came}-")
    assert right_or_absent(tmp_path)


KILLED = """
import sys, types
package = types.ModuleType("torchloupe.data")  # without its __init__, which imports torch: seconds
package.__path__ = [sys.argv[1] + "/data"]
sys.modules["torchloupe.data"] = package
from pathlib import Path
from torchloupe.data.downloads.fetch import download
show = lambda done, total: print(done, flush=True)
download([sys.argv[2]], Path(sys.argv[3]), bytes_expected=int(sys.argv[4]), sha256=sys.argv[5], progress=show)
"""


def test_kill_9_in_the_midst(server: BadServer, tmp_path: Path) -> None:
    package = Path(torchloupe.__file__).parent
    arguments = [str(package), server.url("stalls"), str(tmp_path / "file"), str(len(BODY)), SHA]
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-W", "error", "-c", KILLED, *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < CUT:
            pass
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "file.part").read_bytes() == BODY[:CUT]
    assert not right_or_absent(tmp_path)
    fetch(server, tmp_path, "good")
    assert server.log[-1] == ("good", f"bytes={CUT}-")
    assert right_or_absent(tmp_path)


def test_two_at_once_fetch_it_once(server: BadServer, tmp_path: Path) -> None:
    said: list[str] = []
    threads = [
        threading.Thread(target=fetch, args=(server, tmp_path, "trickles"), kwargs={"say": said.append})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.log == [("trickles", "")]
    assert said == ["another process is fetching file: waiting for it"]
    assert right_or_absent(tmp_path)


def test_a_full_disk(server: BadServer, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the system's own "File too large", at this byte
    try:
        with pytest.raises(ResourceError, match=r"the disk is full .*TORCHLOUPE_CACHE"):
            fetch(server, tmp_path, "good")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not right_or_absent(tmp_path)
    fetch(server, tmp_path, "good")
    assert server.log[-1] == ("good", "bytes=100000-")
    assert right_or_absent(tmp_path)


def test_a_folder_that_cannot_be(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ResourceError, match="cannot be written"):
        fetch(server, tmp_path / "taken", "good")
    assert server.log == []
