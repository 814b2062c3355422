"""The run folder: names, the newest, what is refused, JSON."""

import os
from pathlib import Path

import pytest
import torch

from torchloupe.errors import ModelError, UsageError
from torchloupe.runs.folder import check_free, new_run, newest_run
from torchloupe.runtime.environment import environment
from torchloupe.runtime.files import read_json, write_json


def make(folder: Path, when: int, ended: int | None = None) -> Path:
    write_json(folder / "config.json", {})
    os.utime(folder / "config.json", (when, when))
    if ended is not None:
        (folder / "model.safetensors").write_bytes(b"")
        os.utime(folder / "model.safetensors", (ended, ended))
    return folder


def test_new_runs_are_numbered_past_what_is_there(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        folder = new_run("loupe", "shapes", tmp_path)
        folder.mkdir()
        names.append(folder.name)
    assert names == ["loupe-shapes-1", "loupe-shapes-2", "loupe-shapes-3"]


@pytest.mark.parametrize("data", ["my cats", "a/b\\c", "..", "x" * 300, "\u202e\n$é", "", "<script>", ":*?|"])
def test_any_name_gives_one_plain_folder_below_the_root(tmp_path: Path, data: str) -> None:
    folder = new_run("nets/mine.py:Net", data, tmp_path)
    assert folder.parent == tmp_path and len(folder.name) < 100
    assert all(letter.isalnum() or letter in "-_." for letter in folder.name)
    folder.mkdir()
    assert list(tmp_path.iterdir()) == [folder]


def test_newest_counts_the_start_and_the_end(tmp_path: Path) -> None:
    early = make(tmp_path / "b", 100, ended=900)
    late = make(tmp_path / "a", 200, ended=300)
    assert newest_run(tmp_path) == early
    os.utime(late / "config.json", (1000, 1000))
    assert newest_run(tmp_path) == late
    (tmp_path / "c").mkdir()  # no run
    (tmp_path / "file").write_text("")
    assert newest_run(tmp_path) == late


def test_no_run_is_told(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(ModelError, match=r"no run .*torchloupe train"):
            newest_run(root)


def test_a_run_is_never_written_over(tmp_path: Path) -> None:
    check_free(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")
    make(tmp_path / "run", 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    for name, say in (("run", "--resume"), ("full", "not an empty folder"), ("file", "not an empty folder")):
        with pytest.raises(UsageError, match=say):
            check_free(tmp_path / name)


def test_json_is_sorted_and_comes_back(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, True], "a": {"é": "\u202e"}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == value
    assert text.index('"a"') < text.index('"b"') and "é" in text and text.endswith("}\n")


def test_damaged_json_is_told_in_one_sentence(tmp_path: Path) -> None:
    for name, data in (("cut", b'{"a": '), ("binary", b"\xff\xfe\x00"), ("none", None)):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=name) as raised:
            read_json(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_environment_says_what_a_run_was_made_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = environment("cpu")
    assert told["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert told["threads"] == torch.get_num_threads() and told["device"] == "cpu"
    assert told["git"] is None and told["device_name"] is None
    write_json(tmp_path / "environment.json", told)
    assert read_json(tmp_path / "environment.json") == told
