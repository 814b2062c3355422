"""Where results go: each kind, weights and data have a place of their own, and nothing is written into the package."""

from pathlib import Path

import pytest

from torchloupe.checkpoints.open import SHIPPED
from torchloupe.errors import UsageError
from torchloupe.inspection import places
from torchloupe.inspection.places import caches, image_file, images_folder, report_file, results_folder

FINAL, EARLY, LATER = "", "snapshots/epoch-0.25.safetensors", "snapshots/epoch-1.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def every_place(run: Path, word: str) -> list[Path]:
    """The place of every kind of result of some weights of a run."""
    title = "run" if word == str(run) else f"run@{word}"
    tests = [
        results_folder(run, word, title, split=split, other=other) / "test.json"
        for split in ("test", "train")
        for other in ("", "pets", "birds")
    ]
    images = [image_file(None, method, layer, run=run, word=word) for method in "ab" for layer in ("1", "1.0")]
    return [*tests, *images, report_file(run, word, title)]


def test_no_two_results_share_a_place(folder: Path) -> None:
    found = [path for name in (FINAL, EARLY, LATER) for path in every_place(folder, str(folder / name))]
    assert len(set(found)) == len(found) and all(path.is_relative_to(folder) for path in found)
    assert results_folder(folder, str(folder), "run") == folder
    assert report_file(folder, str(folder), "run") == folder / "report.html"
    early = str(folder / EARLY)
    assert report_file(folder, early, "") == folder / "snapshots" / "report-epoch-0.25.html"
    assert results_folder(folder, early, "") == folder / "snapshots" / "test-0.25"
    assert images_folder(folder, early, "") == folder / "snapshots" / "pictures-0.25"


def test_nothing_goes_into_the_package_or_where_nothing_can_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = SHIPPED["cifar10"].parent
    shipped = every_place(home, "cifar10")
    assert all(not path.is_absolute() for path in shipped)
    assert caches(home, "cifar10")[0] != home and home in caches(home, "cifar10")
    monkeypatch.setattr(places, "is_writable", lambda folder: False)
    assert all(not path.is_absolute() for path in every_place(folder, str(folder)))
    assert caches(folder, str(folder))[0] != folder and folder in caches(folder, str(folder)), "it is still read"


def test_only_what_is_the_runs_own_is_stored_in_the_run(folder: Path, cache_folder: Path) -> None:
    shared = cache_folder / "models"
    assert caches(folder, str(folder)) == (folder, shared)
    for word, given in ((str(folder), True), (str(folder / EARLY), False)):
        assert caches(folder, word, given=given) == (shared, folder)
    assert caches() == (shared,)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("nets/mine.py:Net", "Net"),
        ("run@0.25", "run@0.25"),
        ("run/best", "run-best"),
        ("../..", "model"),
        ("", "model"),
    ],
)
def test_a_title_is_a_name_for_files(title: str, name: str) -> None:
    assert places.file_name(title) == name
    assert images_folder(None, "", title) == Path(name) / "pictures"


def test_out_is_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.b").mkdir()
    (tmp_path / "taken").write_text("")
    assert image_file(tmp_path / "a.b", "invert", "1.0") == tmp_path / "a.b" / "invert-1-0.png"
    assert image_file(tmp_path / "new", "invert", "1.0") == tmp_path / "new" / "invert-1-0.png"
    assert image_file(tmp_path / "x.svg", "invert", "1.0") == tmp_path / "x.svg"
    with pytest.raises(UsageError, match="taken"):
        image_file(tmp_path / "taken", "invert", "1.0")
