"""Links in archives and folders: what they mean inside is read, what leads out or nowhere is named."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pets import Files, as_folder, pets, png
from torchloupe.data import Dataset, load
from torchloupe.data.formats import tree
from torchloupe.errors import DataError

Links = dict[str, str]
Packer = Callable[[Path, Files, Links], Path]


def tar_of(path: Path, files: Files, links: Links, hard: bool = False) -> Path:
    """Pack files, then links: symbolic ones, or hard ones."""
    with tarfile.open(path.with_suffix(".tar.gz"), "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, target
            archive.addfile(info)
    return path.with_suffix(".tar.gz")


def zip_of(path: Path, files: Files, links: Links) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path.with_suffix(".zip")


def folder_of(path: Path, files: Files, links: Links) -> Path:
    as_folder(path, files)
    for name, target in links.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).symlink_to(target)
    return path


PACKERS: list[Packer] = [tar_of, zip_of, folder_of]
each_packer = pytest.mark.parametrize("pack", PACKERS, ids=["tar", "zip", "folder"])


def pixels(data: Dataset) -> dict[str, list[int]]:
    """Name -> colour of each picture."""
    images = torch.cat([data.train.images, data.test.images])
    return dict(zip(data.train.names + data.test.names, images[:, :, 0, 0].tolist(), strict=True))


def color(value: int) -> list[int]:
    return [value, value // 2, 255 - value]


def test_hard_links_of_a_folder_packed_by_tar(tmp_path: Path) -> None:
    files = pets(5)
    as_folder(tmp_path / "mine", files)
    for kind in ("owl", "fox"):
        (tmp_path / "mine" / kind).mkdir()
        for i in range(5):
            (tmp_path / "mine" / kind / f"{i}.png").hardlink_to(tmp_path / "mine" / "cat" / f"{i}.png")
    with tarfile.open(tmp_path / "mine.tar", "w") as archive:
        archive.add(tmp_path / "mine", "mine")
        assert sum(info.islnk() for info in archive.getmembers()) == 10
    data = load(tmp_path / "mine.tar", cache=False)
    assert data.classes == ("cat", "dog", "fox", "owl") and len(data.train) + len(data.test) == 20
    found = pixels(data)
    assert all(found[f"mine/{kind}/{i}.png"] == color(10 * i) for kind in ("cat", "owl", "fox") for i in range(5))


def test_hard_links_in_a_chain_and_to_the_version_before_them(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "mine", pets(3), {"owl/0.png": "cat/1.png", "owl/1.png": "./owl/0.png"}, hard=True)
    plain = tmp_path / "grown.tar"
    with tarfile.open(path) as old, tarfile.open(plain, "w") as new:
        for member in old:
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
        later = tarfile.TarInfo("cat/1.png")
        later.size = len(png(200))
        new.addfile(later, io.BytesIO(png(200)))  # as `tar rf` appends a newer version
    found = pixels(load(plain, cache=False))
    assert found["cat/1.png"] == color(200) and found["owl/0.png"] == found["owl/1.png"] == color(10)


@each_packer
def test_symbolic_links_to_files_and_folders_relative_and_in_chains(tmp_path: Path, pack: Packer) -> None:
    store = {f"store/a/{i}.blob": png(10 * i) for i in range(3)} | {f"store/b/{i}.png": png(100 + i) for i in range(3)}
    links = {f"all/cat/{i}.png": f"../../store/a/{i}.blob" for i in range(3)}
    links |= {"all/dog": "../alias", "alias": "./store/./b", "all/owl": "dog"}
    data = load(pack(tmp_path / "mine", store, links) / ("all" if pack is folder_of else ""), cache=False)
    top = "" if pack is folder_of else "all/"
    found = {name.removeprefix(top): value for name, value in pixels(data).items()}
    wanted = {f"cat/{i}.png": color(10 * i) for i in range(3)}
    wanted |= {f"{kind}/{i}.png": color(100 + i) for kind in ("dog", "owl") for i in range(3)}
    if pack is folder_of:
        assert found == wanted
    else:  # the store itself is in the archive too
        assert wanted.items() <= found.items()


@each_packer
def test_a_link_that_leads_out_or_nowhere_is_named(tmp_path: Path, pack: Packer) -> None:
    secret = tmp_path / "secret.png"
    links = {"cat/gone.png": "nowhere.png", "cat/ring.png": "../dog/ring.png", "dog/ring.png": "../cat/ring.png"}
    if pack is not folder_of:
        secret.write_bytes(png(99))
        links |= {"cat/out.png": "../../secret.png", "cat/abs.png": str(secret), "dog/deep.png": "/".join([".."] * 50)}
    path = pack(tmp_path / "mine", pets(20), links)
    with pytest.raises(DataError, match=rf"{len(links)} pictures of {40 + len(links)} .*--skip-bad") as error:
        load(path)
    assert all(name in str(error.value) for name in links) and "Traceback" not in str(error.value)
    data = load(path, skip_bad=True, cache=False)
    assert set(pixels(data)) == set(pets(20)) and any("cat/gone.png" in note for note in data.notes)
    assert load(path, skip_bad=True).notes == load(path, skip_bad=True).notes == data.notes, "from the cache too"


@each_packer
def test_a_link_that_may_be_a_whole_class_is_named(tmp_path: Path, pack: Packer) -> None:
    path = pack(tmp_path / "mine", pets(), {"owl": "/no/such/folder"})
    data = load(path, cache=False)
    assert any("owl" in note and "link" in note for note in data.notes)
    alone = pack(tmp_path / "alone", pets(kinds=("cat",)), {"owl": "/no/such/folder"})
    with pytest.raises(DataError, match=r"only one class.*owl"):
        load(alone)


@each_packer
def test_loops_of_folders_end(tmp_path: Path, pack: Packer) -> None:
    path = pack(tmp_path / "mine", pets(), {"cat/up": "..", "dog/self": ".", "dog/other": "../cat"})
    found = pixels(load(path, cache=False))
    assert set(pets()) <= set(found) and len(found) < 100


@each_packer
def test_links_that_multiply_are_refused(tmp_path: Path, pack: Packer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_LINKED", 1000)
    monkeypatch.setattr("torchloupe.data.formats.source.MOST_LINKED", 1000)
    links = {f"d{i}/{word}": f"../d{i + 1}" for i in range(40) for word in "ab"}
    path = pack(tmp_path / "mine", {**pets(), "d40/x.png": png()}, links)
    with pytest.raises(DataError, match=r"links.*more than 1,000"):
        load(path)


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"])
def test_a_member_that_is_no_file_is_named(tmp_path: Path, kind: bytes) -> None:
    path = tar_of(tmp_path / "mine", pets(), {})
    with tarfile.open(path) as old, tarfile.open(tmp_path / "odd.tar", "w") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        odd = tarfile.TarInfo("cat/odd.png")
        odd.type = kind
        new.addfile(odd)
    with pytest.raises(DataError, match=r"cat/odd.png \("):
        load(tmp_path / "odd.tar")
    assert set(pixels(load(tmp_path / "odd.tar", skip_bad=True, cache=False))) == set(pets())


@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
def test_names_that_lead_out_of_the_archive_are_noted(tmp_path: Path, pack: Packer) -> None:
    path = pack(tmp_path / "mine", {**pets(), "../evil.png": png(), "/cat/evil.png": png(), "cat/../x.png": png()}, {})
    data = load(path, cache=False)
    assert set(pixels(data)) == set(pets())
    assert any("3 pictures" in note and "../evil.png" in note for note in data.notes)


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_folder(tmp_path / "mine", pets(kinds=("cat", "dog", "owl")))
    scan = os.scandir

    def refused(place: str) -> object:
        if str(place).endswith("owl"):
            raise PermissionError(13, "Permission denied", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", refused)
    data = load(path, cache=False)
    assert data.classes == ("cat", "dog") and any("owl" in n and "permission denied" in n for n in data.notes)
