"""What class folders are shown as: their pictures, labels and order stay."""

import json
from pathlib import Path

import pytest
import torch

from pets import as_folder, pets
from torchloupe.data import load
from torchloupe.errors import DataError

WNIDS = ("n01440764", "n02012849", "n03126707")
NAMES = {"n01440764": "tench, Tinca tinca", "n02012849": "crane", "n03126707": "crane", "n99": "elsewhere"}
SHOWN = ("tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)")
FORMS = {
    "map.txt": "".join(f"{folder} {name}\n" for folder, name in NAMES.items()),
    "tabs.txt": "".join(f"{folder}\t{name}\r\n" for folder, name in NAMES.items()),
    "map.csv": "\ufefffolder;name\n" + "".join(f"{folder};{name}\n" for folder, name in NAMES.items()),
    "map.tsv": "".join(f'{folder}\t"{name}"\n' for folder, name in NAMES.items()),
    "map.json": json.dumps(NAMES),
    "class_index.json": json.dumps({str(k): pair for k, pair in enumerate(NAMES.items())}),
}


@pytest.mark.parametrize("name", FORMS)
def test_folders_are_shown_by_the_names_of_the_map_in_their_own_order(tmp_path: Path, name: str) -> None:
    folder = as_folder(tmp_path / "pets", pets(5, kinds=WNIDS))
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8")
    plain = load(folder)
    for data in (load(folder, class_names=tmp_path / name), load(str(folder), class_names=str(tmp_path / name))):
        assert plain.classes == WNIDS and data.classes == SHOWN and data.notes == plain.notes
        assert torch.equal(data.train.images, plain.train.images) and torch.equal(data.train.labels, plain.train.labels)
    assert load(folder).classes == WNIDS, "the cache knows nothing of it"


def test_names_go_with_labels_and_those_without_one_are_noted(tmp_path: Path) -> None:
    files = {name.replace("/", "-"): data for name, data in pets().items()}
    rows = "".join(f"{name},{name[:3]}\n" for name in files).encode()
    (tmp_path / "map.csv").write_text("cat,Felis catus\n")
    data = load(
        as_folder(tmp_path / "flat", {**files, "labels.csv": rows}), class_names=tmp_path / "map.csv", cache=False
    )
    assert data.classes == ("Felis catus", "dog") and "1 class without a name" in data.notes[-1]
    assert "'dog'" in data.notes[-1]


WRONG = [
    ("map.txt", "", "is empty"),
    ("map.txt", "cat\n", "row 1 of .* has no name"),
    ("map.csv", "cat,a,b\n", "row 1 of .* has 3 cells"),
    ("map.csv", "cat,\n", "row 1 of .* has no name"),
    ("map.txt", "cat a\ncat b\n", "two names for 'cat'"),
    ("map.txt", "cow a\n", "names none of the classes, such as 'cat'"),
    ("map.txt", "cat " + "x" * 201, "more than 200 letters"),
    ("map.json", '["cat"]', "takes {folder: name}"),
    ("map.json", '{"cat": 7}', "takes {folder: name}"),
    ("map.json", '{"cat": ["a", "b", "c"]}', "takes {folder: name}"),
    ("map.json", "{", "no JSON"),
]


@pytest.mark.parametrize(("name", "text", "why"), WRONG, ids=[f"{name} {text[:16]!r}" for name, text, _ in WRONG])
def test_what_is_no_map_is_told_in_a_sentence(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    folder = as_folder(tmp_path / "pets", pets())
    with pytest.raises(DataError, match=why):
        load(folder, class_names=tmp_path / name, cache=False)


def test_two_classes_never_get_one_name(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("cat dog\n")  # the other has that name already
    folder = as_folder(tmp_path / "pets", pets())
    assert load(folder, class_names=tmp_path / "map.txt", cache=False).classes == ("dog (cat)", "dog")
    (tmp_path / "map.txt").write_text("cat dog\nowl dog (cat)\n")
    as_folder(folder, pets(kinds=("owl",)))
    with pytest.raises(DataError, match="gives several classes one name"):
        load(folder, class_names=tmp_path / "map.txt", cache=False)
