"""Archives: hostile members, damage, one archive in a folder; and paths that are nothing of the kind."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pets import KINDS, Files, as_folder, as_tar, as_zip, pets, png
from torchloupe.data import load
from torchloupe.errors import DataError, UsageError


def test_hostile_members_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    outside.write_bytes(png(99))
    hostile = {"../evil.png": png(), "/cat/evil.png": png(), "cat/../../evil.png": png()}
    names = {"cat", "dog"}
    path = as_tar("")(tmp_path / "mine", {**pets(20), **hostile})
    with tarfile.open(path, "a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            link = tarfile.TarInfo(f"cat/link{kind.decode()}.png")
            link.type, link.linkname = kind, str(outside)
            archive.addfile(link)
    packed = as_zip(tmp_path / "mine", {**pets(20), **hostile})
    with zipfile.ZipFile(packed, "a") as archive:
        info = zipfile.ZipInfo("cat/link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, str(outside))
    before = sorted(tmp_path.rglob("*"))
    for place in (path, packed):
        with pytest.raises(DataError, match=r"link.*leads out of the archive"):
            load(place, cache=False)
        data = load(place, cache=False, skip_bad=True)
        assert set(data.classes) == names
        assert {*data.train.names, *data.test.names} == set(pets(20))
        assert "3 pictures left out, whose names lead out of the archive" in data.notes[0]
    assert sorted(tmp_path.rglob("*")) == before  # nothing was extracted


def test_a_member_beyond_the_limit_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("archive", "source"):
        monkeypatch.setattr(f"torchloupe.data.formats.{module}.MAX_BYTES", 1000)
    files = {**pets(), "cat/zeros.png": bytes(100_000)}
    for make in KINDS:
        with pytest.raises(DataError, match=r"cat/zeros.png \(larger than"):
            load(make(tmp_path / "mine", files))


def test_names_of_tars_made_in_place_and_of_windows_zips(tmp_path: Path) -> None:
    data = load(as_tar("")(tmp_path / "dot", {f"./{name}": png() for name in pets()}))
    assert data.classes == ("cat", "dog")
    data = load(as_zip(tmp_path / "windows", {name.replace("/", "\\"): png() for name in pets(5, "pets/")}))
    assert data.classes == ("cat", "dog")


def test_the_later_of_two_members_with_one_name(tmp_path: Path) -> None:
    path = as_tar("gz")(tmp_path / "old", pets())
    twice = tmp_path / "twice.tar"
    with tarfile.open(path) as old, tarfile.open(twice, "w") as new:
        first = tarfile.TarInfo("cat/0.png")
        first.size = len(png(222))
        new.addfile(first, io.BytesIO(png(222)))
        for member in old:
            new.addfile(member, old.extractfile(member))
    data = load(twice)
    assert int(torch.cat([data.train.images, data.test.images]).amax((1, 2, 3)).min()) > 0
    assert 222 not in torch.cat([data.train.images, data.test.images])[:, 0]


def test_links_in_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    store = as_folder(tmp_path / "store", pets())
    (tmp_path / "mine").mkdir()
    for kind in ("cat", "dog"):
        (tmp_path / "mine" / kind).symlink_to(store / kind)
    (store / "cat" / "loop").symlink_to(store)
    data = load(tmp_path / "mine", cache=False)
    assert data.classes == ("cat", "dog")


@pytest.mark.parametrize("beside", [{}, {"README.md": b"hello"}, {"docs/readme.txt": b"", ".hidden/x.zip": b""}])
def test_a_folder_with_one_archive_counts_as_that(tmp_path: Path, beside: Files) -> None:
    folder = as_folder(tmp_path / "data", beside)
    folder.mkdir(exist_ok=True)
    as_zip(folder / "pets", pets())
    data = load(folder)
    assert data.name == "pets" and data.source == str(folder / "pets.zip")


def test_a_folder_with_two_archives(tmp_path: Path) -> None:
    as_zip(tmp_path / "a", pets())
    as_tar("gz")(tmp_path / "b", pets())
    with pytest.raises(DataError, match=r"holds 2 archives: .*a\.zip.*b\.tar\.gz"):
        load(tmp_path)


def test_a_folder_with_pictures_and_an_archive_is_a_folder(tmp_path: Path) -> None:
    as_folder(tmp_path / "mine", pets())
    as_zip(tmp_path / "mine" / "old", pets(kinds=("x", "y")))
    assert load(tmp_path / "mine").classes == ("cat", "dog")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set 'cifar1O'.*did you mean 'cifar10'"):
        load("cifar1O")
    with pytest.raises(DataError, match="there is no such path"):
        load(tmp_path / "no")
    with pytest.raises(UsageError, match="size 0"):
        load(tmp_path, 0)


@pytest.mark.parametrize("make", [as_zip, as_tar("gz"), as_tar("")])
def test_an_archive_cut_short(tmp_path: Path, make: Callable[[Path, Files], Path]) -> None:
    path = make(tmp_path / "mine", {**pets(30), "cat/noise.png": np.random.default_rng(0).bytes(5000)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="cut short"):
        load(path)


def test_a_tar_with_a_broken_header_does_not_end_there(tmp_path: Path) -> None:
    path = as_tar("")(tmp_path / "mine", pets())
    data = bytearray(path.read_bytes())
    place = data.find(b"dog/2.png")
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged or cut short \(bad checksum\)"):
        load(path)


def test_a_file_that_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match="it is none of"):
        load(tmp_path / "a.txt")


def test_a_locked_zip_names_its_pictures(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "mine", pets())
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(mark, start + 1)) >= 0:
            data[start + place] |= 1  # "encrypted"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"10 pictures of 10 .*locked by a password"):
        load(path)
