"""`auto` takes the first of: the variable, ./data, the cache, the mirrors, the drawn figures."""

import gc
import hashlib
import socket
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from badserver import BODY, BadServer, serving
from torchloupe.data.auto import find
from torchloupe.data.downloads import mirrors
from torchloupe.data.downloads.web import Patience
from torchloupe.errors import DataError, UsageError

ARCHIVE = "cifar-10-python.tar.gz"
QUICK = Patience(connect=5, silence=0.3, pause=0)


class Home:
    """A cache folder and a working folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.work = folder / "work"
        self.data = self.work / "data"
        self.data.mkdir(parents=True)
        self.said: list[str] = []

    def find(self, word: str, *, offline: bool = False, seconds: float = 2) -> Path | str:
        return find(word, offline=offline, say=self.said.append, cwd=self.work, find_seconds=seconds, patience=QUICK)

    def put(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something")
        return path


@pytest.fixture(scope="module", autouse=True)
def no_socket_left_open() -> Iterator[None]:
    yield
    gc.collect()  # one would warn here, and warnings are errors


@pytest.fixture
def server() -> Iterator[BadServer]:
    with serving() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, server: BadServer, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path)
    small = replace(mirrors.KNOWN["cifar10"], size=len(BODY), sha256=hashlib.sha256(BODY).hexdigest())
    monkeypatch.setitem(mirrors.KNOWN, "cifar10", small)
    for name in ("TORCHLOUPE_DATA", "TORCHLOUPE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCHLOUPE_CACHE", str(home.cache))
    monkeypatch.setenv("TORCHLOUPE_MIRRORS", server.base("good"))
    monkeypatch.setenv("no_proxy", "*")
    return home


def test_the_order_of_auto(home: Home, server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the last to the first: each thing added goes before all that is there already."""
    assert home.find("auto", offline=True) == "shapes"
    downloaded = home.find("auto")
    assert downloaded == home.cache / ARCHIVE
    assert downloaded.read_bytes() == BODY
    downloaded.unlink()
    server.log.clear()

    cached = home.put(home.cache / ARCHIVE)
    assert home.find("auto") == cached
    home.put(home.data / "cat" / "1.png")
    assert home.find("auto") == home.data, "own pictures, though CIFAR-10 was once downloaded"
    own = home.put(home.data / ARCHIVE)
    assert home.find("auto") == own
    mine = home.put(tmp_path / "mine" / "1.png").parent
    monkeypatch.setenv("TORCHLOUPE_DATA", str(mine))
    assert home.find("auto") == mine
    assert server.log == []


def test_the_variable_must_name_what_exists(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.put(home.data / ARCHIVE)
    monkeypatch.setenv("TORCHLOUPE_DATA", "nowhere/at all")
    with pytest.raises(DataError, match="TORCHLOUPE_DATA names 'nowhere/at all'"):
        home.find("auto")
    monkeypatch.setenv("TORCHLOUPE_DATA", "data")
    assert home.find("auto") == home.data
    monkeypatch.setenv("TORCHLOUPE_DATA", "")
    assert home.find("auto") == home.data / ARCHIVE


@pytest.mark.parametrize(
    ("files", "counts"),
    [
        ((), False),
        (("notes.txt", "logo.png"), False),
        (("raw/table.csv",), False),
        ((".git/cat.png",), False),
        (("a.zip", "b.zip"), False),
        (("meta",), False),
        (("README.md", "pets.ZIP"), True),
        (("train/cat/1.jpg",), True),
        (("cat/1.jpeg", "dog/1.jpeg"), True),
    ],
)
def test_what_in_data_counts_as_own_pictures(files: tuple[str, ...], counts: bool, home: Home) -> None:
    for file in files:
        home.put(home.data / file)
    assert home.find("auto", offline=True) == (home.data if counts else "shapes")


def test_data_may_be_an_archive_itself(home: Home) -> None:
    home.data.rmdir()
    assert home.find("auto", offline=True) == "shapes"
    with zipfile.ZipFile(home.data, "w") as archive:
        archive.writestr("cat/1.png", b"")
    assert home.find("auto", offline=True) == home.data
    home.data.write_text("a note")
    assert home.find("auto", offline=True) == "shapes"


def test_unpacked_archives_are_found(home: Home) -> None:
    for folder in (home.data, home.data / "cifar-10-batches-py", home.cache / "cifar-10-batches-py"):
        home.put(folder / "data_batch_1")
        home.put(folder / "test_batch")
        assert home.find("cifar10", offline=True) == folder
    for name in ("meta", "train", "test"):
        home.put(home.data / "cifar-100-python" / name)
    assert home.find("cifar100", offline=True) == home.data / "cifar-100-python"


def test_a_name_is_downloaded_once(home: Home, server: BadServer) -> None:
    seen: list[int] = []
    assert find("cifar10", cwd=home.work, progress=lambda done, _: seen.append(done)) == home.cache / ARCHIVE
    assert seen[-1] == len(BODY)
    assert home.find("cifar10") == home.cache / ARCHIVE
    assert len(server.log) == 1


@pytest.mark.parametrize("variable", [False, True])
def test_offline_asks_nobody(variable: bool, home: Home, server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable:
        monkeypatch.setenv("TORCHLOUPE_OFFLINE", "1")
    with pytest.raises(DataError, match=r"cifar10 is neither in the cache .*torchloupe data get cifar10"):
        home.find("cifar10", offline=not variable)
    assert home.find("auto", offline=not variable) == "shapes"
    assert "offline" in home.said[-1]
    assert server.log == []


def test_offline_zero_is_online(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHLOUPE_OFFLINE", "0")
    assert home.find("cifar10") == home.cache / ARCHIVE


def test_no_answer_leads_to_shapes_in_time(home: Home, server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirrors of every silent kind: one that takes no connection, one that says nothing, one that trickles a header."""
    with socket.create_server(("127.0.0.1", 0)) as blackhole:
        bases = [
            f"http://127.0.0.1:{blackhole.getsockname()[1]}",
            server.base("silent"),
            server.base("trickling-header"),
        ]
        monkeypatch.setenv("TORCHLOUPE_MIRRORS", " ".join(bases))
        began = time.monotonic()
        assert home.find("auto", seconds=0.3) == "shapes"
        assert 0.25 < time.monotonic() - began < 1.5
    assert len(home.said) == 1
    assert "none of the 3 mirrors of CIFAR-10 has it now (asked for 0." in home.said[0]
    lines = home.said[0].splitlines()
    assert "`shapes`" in lines[0]
    assert any("torchloupe data get cifar10" in line for line in lines)
    assert 3 <= len(lines) <= 6
    assert max(map(len, lines)) <= 100


def test_a_refused_connection_is_no_wait(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    monkeypatch.setenv("TORCHLOUPE_MIRRORS", f"http://127.0.0.1:{port}")
    began = time.monotonic()
    assert home.find("auto", seconds=30) == "shapes"
    assert time.monotonic() - began < 5
    with pytest.raises(DataError, match=r"no connection .*--data DIR"):
        home.find("cifar10")


def test_mirrors_that_answer_but_fail_lead_to_shapes(
    home: Home, server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHLOUPE_MIRRORS", server.base("wrong"))
    assert home.find("auto") == "shapes"
    assert "wrong bytes" in home.said[-2]
    assert "no mirror gave the whole of CIFAR-10" in home.said[-1]
    assert not (home.cache / ARCHIVE).exists()


def test_auto_begins_with_the_mirror_that_answers(
    home: Home, server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = ("silent", "html", "good")
    monkeypatch.setenv("TORCHLOUPE_MIRRORS", " ".join(server.base(way) + "/" for way in ways))
    assert home.find("auto") == home.cache / ARCHIVE
    assert server.log[-1] == ("good", "")


def test_another_word(home: Home) -> None:
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        home.find("cifar11")


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHLOUPE_MIRRORS", raising=False)
    for word in mirrors.KNOWN:
        archive = mirrors.known(word)
        assert len(archive.sha256) == 64
        assert len(set(archive.urls)) == len(archive.urls) >= 2
        assert all(url.startswith("https://") and archive.file in url for url in archive.urls)
    monkeypatch.setenv("TORCHLOUPE_MIRRORS", "  ")
    assert len(mirrors.known("cifar10").urls) > 2
    monkeypatch.setenv("TORCHLOUPE_MIRRORS", "http://a/x/ http://b")
    assert mirrors.known("cifar100").urls == (
        "http://a/x/cifar-100-python.tar.gz",
        "http://b/cifar-100-python.tar.gz",
    )
