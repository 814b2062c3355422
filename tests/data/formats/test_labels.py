"""Files of labels: what a CSV or a JSON says is what is loaded; what does not fit is named in one sentence."""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pets import Files, as_folder, as_tar, as_zip, each_kind, pets, png
from torchloupe.data import Dataset, load
from torchloupe.data.formats import labelled, tables
from torchloupe.data.formats.labels import label_rows
from torchloupe.data.formats.layout import plan
from torchloupe.data.formats.parts import LabelsFile
from torchloupe.errors import DataError, LoupeError, ResourceError, UsageError

Pack = Callable[[Path, Files], Path]


def flat(count: int = 5, kinds: tuple[str, ...] = ("cat", "dog")) -> tuple[Files, dict[str, str]]:
    """The pictures of `pets` in one folder, and the class of each."""
    files = {name.replace("/", "-"): data for name, data in pets(count, kinds=kinds).items()}
    return files, {name: name.partition("-")[0] for name in files}


def as_csv(classes: dict[str, str], head: tuple[str, ...] = ("file", "class"), delimiter: str = ",") -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerows([head] if head else [])
    writer.writerows(classes.items())
    return stream.getvalue().encode()


def told(data: Dataset) -> dict[str, str]:
    """Name -> class of each picture that was loaded."""
    splits = [split for split in (data.train, data.test, data.val) if split is not None]
    return {
        n.rpartition("/")[2]: data.classes[k] for s in splits for n, k in zip(s.names, s.labels.tolist(), strict=True)
    }


def same(one: Dataset, other: Dataset) -> None:
    for a, b in ((one.train, other.train), (one.test, other.test)):
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    assert (one.classes, one.mean, one.std) == (other.classes, other.mean, other.std)


@each_kind
def test_a_flat_folder_with_labels_equals_class_folders_bit_for_bit(tmp_path: Path, make: Pack) -> None:
    files, classes = flat(10)
    beside = load(make(tmp_path / "flat", {**files, "labels.csv": as_csv(classes)}), cache=False)
    same(beside, load(make(tmp_path / "folders", pets(10)), cache=False))
    assert told(beside) == classes and [n.replace("-", "/") for n in beside.test.names] == [
        list(pets(10))[i] for i in plan(list(pets(10)), 0, "").test
    ]


def test_labels_in_every_order_draw_the_same_test_split(tmp_path: Path) -> None:
    files, classes = flat(20)
    folder = as_folder(tmp_path / "flat", files)
    turned = dict(sorted(classes.items(), key=lambda pair: pair[0][::-1], reverse=True))
    for name, rows in (("a.csv", classes), ("b.csv", turned)):
        (tmp_path / name).write_bytes(as_csv(rows))
    one, other = (load(folder, labels=tmp_path / name, seed=3, cache=False) for name in ("a.csv", "b.csv"))
    same(one, other)
    assert one.test.names == other.test.names != load(folder, labels=tmp_path / "a.csv", seed=4, cache=False).test.names


WRITINGS: dict[str, Callable[[dict[str, str]], tuple[str, bytes]]] = {
    "comma": lambda c: ("l.csv", as_csv(c)),
    "no head": lambda c: ("l.csv", as_csv(c, ())),
    "turned, no head": lambda c: ("l.csv", "\n".join(f"{k},{f}" for f, k in c.items()).encode()),
    "semicolon": lambda c: ("l.csv", as_csv(c, ("Image", "Label"), ";")),
    "tab, BOM": lambda c: ("l.tsv", b"\xef\xbb\xbf" + as_csv(c, ("filename", "category"), "\t")),
    "utf-16": lambda c: ("l.csv", as_csv(c, delimiter="\t").decode().encode("utf-16")),
    "heads nobody knows": lambda c: ("l.csv", as_csv(c, ("beast", "breed"))),
    "without suffixes": lambda c: ("l.csv", as_csv({f.removesuffix(".png"): k for f, k in c.items()}, ("id", "breed"))),
    "other columns": lambda c: (
        "l.csv",
        ("age,file,x,class\n" + "".join(f"7,{f},,{k}\n" for f, k in c.items())).encode(),
    ),
    "a column a class": lambda c: (
        "l.csv",
        ("image,cat,dog\n" + "".join(f"{f},{int(k == 'cat')},{float(k == 'dog')}\n" for f, k in c.items())).encode(),
    ),
    "blanks and ./": lambda c: ("l.csv", "\r\n\r\n".join(f" ./{f} , {k} " for f, k in c.items()).encode()),
    "backslashes": lambda c: ("l.csv", as_csv({f".\\{f}": k for f, k in c.items()})),
    "json": lambda c: ("l.json", json.dumps(c).encode()),
    "json of lists": lambda c: ("l.json", json.dumps({f: [k] for f, k in c.items()}).encode()),
    "json of objects": lambda c: ("l.JSON", json.dumps([{"file": f, "class": k} for f, k in c.items()]).encode()),
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_every_way_to_write_them_says_the_same(tmp_path: Path, writing: str) -> None:
    files, classes = flat()
    name, data = WRITINGS[writing](classes)
    (tmp_path / name).write_bytes(data)
    assert told(load(as_folder(tmp_path / "flat", files), labels=tmp_path / name, cache=False)) == classes


def test_names_relative_to_the_one_folder_of_pictures_or_to_the_labels(tmp_path: Path) -> None:
    files, classes = flat()
    inner = {f"pets/images/{name}": data for name, data in files.items()}
    for where, prefix in (("pets/", ""), ("pets/", "images/"), ("", "pets/images/"), ("pets/images/", "")):
        labels = as_csv({prefix + name: kind for name, kind in classes.items()})
        data = load(as_zip(tmp_path / "z", {**inner, f"{where}labels.csv": labels}), cache=False)
        assert told(data) == classes


def test_names_in_either_spelling_of_unicode_and_numbers_as_classes(tmp_path: Path) -> None:
    files = {f"e\u0301{i}.png": png(i) for i in range(10)}
    (tmp_path / "l.json").write_text(json.dumps({f"\u00e9{i}": i % 2 for i in range(10)}))
    data = load(as_folder(tmp_path / "flat", files), labels=tmp_path / "l.json", cache=False)
    assert data.classes == ("0", "1") and len(data.train) + len(data.test) == 10


def test_class_folders_stay_what_they_are_beside_a_file_of_labels(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "pets", {**pets(), "labels.csv": b"nonsense"})
    assert load(folder, cache=False).classes == ("cat", "dog")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_column_of_splits(tmp_path: Path, kind: str) -> None:
    files, classes = flat(6)
    words = {name: ("train", "Training", "TRAIN", "valid", "val", "test")[int(name[4])] for name in files}
    rows = [{"file": name, "split": words[name], "label": classes[name]} for name in files]
    text = (
        json.dumps(rows) if kind == "json" else "\n".join(["file,split,label", *(",".join(r.values()) for r in rows)])
    )
    (tmp_path / f"l.{kind}").write_text(text)
    data = load(as_folder(tmp_path / "flat", files), labels=tmp_path / f"l.{kind}", cache=False)
    assert data.val is not None and told(data) == classes
    for split, word in ((data.train, "train"), (data.val, "val"), (data.test, "test")):
        assert set(split.names) == {name for name in files if words[name].lower().startswith(word)}


def test_val_takes_the_place_of_a_missing_test_and_there_must_be_a_train(tmp_path: Path) -> None:
    files, classes = flat(4)
    folder = as_folder(tmp_path / "flat", files)
    rows = {name: f"{kind},{'val' if '3' in name else 'train'}" for name, kind in classes.items()}
    (tmp_path / "l.csv").write_text("file,class,split\n" + "\n".join(map(",".join, rows.items())))
    data = load(folder, labels=tmp_path / "l.csv", cache=False)
    assert (len(data.train), len(data.test), data.val) == (6, 2, None)
    (tmp_path / "l.csv").write_text("file,class,split\n" + "\n".join(f"{n},{k},test" for n, k in classes.items()))
    with pytest.raises(DataError, match="no row of the split 'train'"):
        load(folder, labels=tmp_path / "l.csv", cache=False)


@pytest.mark.parametrize("kind", ["csv", "json", "column a class"])
def test_several_classes_a_picture_are_a_table(tmp_path: Path, kind: str) -> None:
    truth = {f"{i}.png": [name for bit, name in enumerate(("cat", "dog", "owl")) if i >> bit & 1] for i in range(8)}
    if kind == "csv":
        del truth["0.png"]  # an empty cell says nothing
        text = "file,labels\n" + "\n".join(f"{name},{'|'.join(found)}" for name, found in truth.items())
    elif kind == "json":
        text = json.dumps(truth)
    else:
        text = "id,cat,dog,owl\n" + "\n".join(f"{i},{i & 1},{i >> 1 & 1},{i >> 2 & 1}" for i in range(8))
    held = round(0.2 * len(truth))
    path = tmp_path / ("l.json" if kind == "json" else "l.csv")
    path.write_text(text)
    folder = as_folder(tmp_path / "flat", {name: png(int(name[0])) for name in truth})
    for data in (load(folder, labels=path), load(folder, labels=path)):  # from the cache too
        assert data.is_multilabel and data.classes == ("cat", "dog", "owl")
        assert data.train.labels.dtype == torch.bool and (len(data.train), len(data.test)) == (len(truth) - held, held)
        for split in (data.train, data.test):
            for name, row in zip(split.names, split.labels.tolist(), strict=True):
                assert [kind for kind, is_so in zip(data.classes, row, strict=True) if is_so] == truth[name]


BAD = [
    ("gone.png,cat", r"'gone\.png' \(line 12: no such picture\)"),
    ("../cat-1.png,cat", "leads out of the folder"),
    ("/cat-1.png,cat", "leads out of the folder"),
    ("..\\cat-1.png,cat", "leads out of the folder"),
    (",cat", "line 12: no file"),
    ("cat-0.png,owl", r"named at line 2 too.*'cat\|owl'"),
]


@pytest.mark.parametrize(("row", "why"), BAD, ids=[row for row, _ in BAD])
def test_a_row_that_cannot_be_used_is_named_or_skipped(tmp_path: Path, row: str, why: str) -> None:
    files, classes = flat()
    folder = as_folder(tmp_path / "pets" / "flat", files)
    (folder.parent / "cat-1.png").write_bytes(png())
    path = tmp_path / "l.csv"
    path.write_bytes(as_csv(classes) + row.encode())
    with pytest.raises(DataError, match=f"1 row of 11 in .*{why}.*--skip-bad") as error:
        load(folder, labels=path)
    assert "no label" not in str(error.value)
    data = load(folder, labels=path, skip_bad=True)
    torn = {"cat-0.png"} if "owl" in row else set()
    assert told(data) == {name: kind for name, kind in classes.items() if name not in torn}
    assert any("Left out" in note for note in data.notes)
    with pytest.raises(DataError, match="--skip-bad"):
        load(folder, labels=path)  # what was skipped lies in the cache
    same(load(folder, labels=path, skip_bad=True), data)


def test_pictures_without_a_label_and_rows_without_a_class_or_split(tmp_path: Path) -> None:
    files, classes = flat()
    folder = as_folder(tmp_path / "flat", files)
    path = tmp_path / "l.csv"
    path.write_bytes(as_csv({name: kind for name, kind in classes.items() if name != "dog-1.png"}))
    with pytest.raises(DataError, match=r"1 picture of 10 in '.*flat' has no label: 'dog-1\.png'\. .*--skip-bad"):
        load(folder, labels=path, cache=False)
    assert "dog-1.png" not in told(load(folder, labels=path, cache=False, skip_bad=True))
    path.write_bytes(as_csv({**classes, "dog-1.png": " | "}))
    with pytest.raises(DataError, match=r"'dog-1\.png' \(line 8: no class\)\. Correct"):
        load(folder, labels=path, cache=False)
    path.write_text(
        "file,class,split\n"
        + "\n".join(
            f"{n},{k},{'' if '1' in n else 'trian' if '2' in n else 'test' if '3' in n else 'train'}"
            for n, k in classes.items()
        )
    )
    with pytest.raises(
        DataError, match=r"4 rows of 10 .*line 3: no split.*line 4: the split 'trian' is not train, val"
    ):
        load(folder, labels=path, cache=False)


def test_the_same_said_twice_is_said_once_and_a_stem_of_two_files_is_not_clear(tmp_path: Path) -> None:
    files, classes = flat()
    folder = as_folder(tmp_path / "flat", files)
    path = tmp_path / "l.csv"
    path.write_bytes(as_csv(classes) + as_csv(classes, ()))
    assert told(load(folder, labels=path, cache=False)) == classes
    (folder / "cat-0.gif").write_bytes(png())
    path.write_bytes(as_csv({name.removesuffix(".png"): kind for name, kind in classes.items()}))
    with pytest.raises(DataError, match=r"'cat-0' \(line 2: several pictures have that name\)"):
        load(folder, labels=path, cache=False)


WRONG: list[tuple[str, bytes, str]] = [
    ("l.csv", b"", "is empty"),
    ("l.csv", b"\n \n", "is empty"),
    ("l.json", b"{}", "is empty"),
    ("l.csv", b"\xff\xfec", "not text in UTF-16"),
    ("l.csv", b"file,class\ncaf\xe9.png,cat", r"not text in UTF-8 \(byte 15\)"),
    ("l.csv", b"a\0b", "holds zero bytes"),
    ("l.csv", b'"' + b"x" * 200_000, "is no CSV: field larger"),
    ("l.csv", b"file,class\n9.png,cat\n", r"no row of .* fits .*; the first is '9\.png' \(line 2: no such picture\)"),
    ("l.csv", b"0.png,cat,7\n", "3 columns and no row that names them"),
    ("l.csv", b"0.png\n", "1 column and no row that names them"),
    ("l.csv", b"x,y,z\n0.png,cat,7\n", r"columns 'x', 'y', 'z': which is the file and class\?"),
    ("l.csv", b"file,y,z\n0.png,cat,7\n", r"columns 'file', 'y', 'z': which is the class\?"),
    ("l.csv", b"file,class\n0.png,cat\n1.png,cat\n", "only one class, 'cat'"),
    ("l.csv", b"file,class\n0.png,cat\n1.png,dog\n", "class 'cat' in .* has one picture"),
    ("l.csv", b"file,class,split\n0.png,cat,train\n1.png,dog,test", "'dog' in .* has test pictures but no train"),
    ("l.json", b"[", "no JSON"),
    ("l.json", b"[" * 100_000, "nested too deep"),
    ("l.json", b'{"0.png": "cat", "0.png": "dog"}', r"'0\.png' stands in it twice"),
    ("l.json", b'"cat"', "takes {file: class}"),
    ("l.json", b'["cat"]', "takes {file: class}"),
    ("l.json", b'{"0.png": true, "1.png": null}', r"entry 1: no class"),
    ("l.json", b'[{"class": "cat"}, {"file": 7}]', "entry 1: no file"),
]


@pytest.mark.parametrize(("name", "data", "why"), WRONG, ids=[f"{name} {data[:20]!r}" for name, data, _ in WRONG])
def test_what_is_no_file_of_labels_is_told_in_a_sentence(tmp_path: Path, name: str, data: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(data)
    folder = as_folder(tmp_path / "flat", {f"{i}.png": png(i) for i in range(2)})
    with pytest.raises(DataError, match=why):
        load(folder, labels=tmp_path / name, cache=False, skip_bad="no JSON" not in why and "entry" not in why)


def test_labels_that_cannot_be_read_are_too_large_or_stand_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, classes = flat()
    folder = as_folder(tmp_path / "flat", files)
    with pytest.raises(DataError, match=r"cannot read .*no such file or directory\. Check --labels"):
        load(folder, labels=tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"cannot read .*a folder, not a file"):
        load(folder, labels=folder)
    as_folder(folder, {"labels.csv": as_csv(classes), "labels.json": b"{}"})
    with pytest.raises(DataError, match=r"labels in 'labels\.csv', 'labels\.json'.*--labels"):
        load(folder, cache=False)
    assert told(load(folder, labels=folder / "labels.csv", cache=False)) == classes
    monkeypatch.setattr(tables, "LARGEST", 10)
    with pytest.raises(DataError, match="is larger than"):
        load(folder, labels=folder / "labels.csv", cache=False)
    monkeypatch.undo()
    monkeypatch.setattr(tables, "MOST_ROWS", 5)
    with pytest.raises(DataError, match="more than 5 rows"):
        load(folder, labels=folder / "labels.csv", cache=False)


def test_a_broken_link_in_place_of_the_labels_is_named(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "flat", flat()[0])
    (folder / "labels.csv").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"cannot read the labels in 'labels\.csv': a link to nothing"):
        load(folder, cache=False)


def test_links_to_nothing_in_a_labelled_folder_are_named_and_skipped(tmp_path: Path) -> None:
    files, classes = flat()
    folder = as_folder(tmp_path / "flat", {**files, "labels.csv": as_csv({**classes, "gone.png": "cat"})})
    (folder / "gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"gone\.png \(a link to nothing\).*--skip-bad"):
        load(folder, cache=False)
    assert told(load(folder, cache=False, skip_bad=True)) == classes


def test_data_that_know_their_classes_take_no_labels(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("file,class\n")
    with pytest.raises(UsageError, match="leave --labels and --class-names out"):
        load("shapes", labels=tmp_path / "l.csv")


def test_a_table_of_labels_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "l.json").write_text('{"0": ["a", "b"], "1": []}')
    folder = as_folder(tmp_path / "flat", {f"{i}.png": png(i) for i in range(2)})
    monkeypatch.setattr("torchloupe.data.formats.folder.fits", lambda needed: needed != 4)
    with pytest.raises(ResourceError, match="a table of 2 pictures and 2 classes"):
        load(folder, labels=tmp_path / "l.json", cache=False)


def test_other_labels_of_the_same_pictures_are_not_those_in_the_cache(tmp_path: Path) -> None:
    files, classes = flat()
    folder = as_folder(tmp_path / "flat", {**files, "labels.csv": as_csv(classes)})
    turned = {name: "dog" if kind == "cat" else "cat" for name, kind in classes.items()}
    (tmp_path / "l.csv").write_bytes(as_csv(turned))
    for _ in range(2):
        assert told(load(folder)) == classes
        assert told(load(folder, labels=tmp_path / "l.csv")) == turned
    (tmp_path / "l.csv").write_bytes(as_csv(classes))
    assert told(load(folder, labels=tmp_path / "l.csv")) == classes
    (folder / "labels.csv").write_bytes(as_csv(turned))
    assert told(load(folder)) == turned


def test_whatever_stands_in_it_ends_in_rows_or_in_a_sentence(tmp_path: Path) -> None:
    dice = random.Random(0)
    seeds = [
        as_csv(flat()[1]),
        as_csv(flat()[1], ("a", "b"), ";"),
        json.dumps(flat()[1]).encode(),
        b"id,cat,dog\ncat-0,1,0",
    ]
    names = list(flat()[0])
    index = labelled.Names.of({i: (name,) for i, name in enumerate(names)}, "")
    for number in range(3000):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(data) + 1)
            piece = bytes(dice.choice(b',;\t"|\n\r\0\\/.{}[]:0a\xff\xc3\xa9\x1b') for _ in range(dice.randrange(4)))
            data[at : at + dice.randrange(4)] = piece
        labels = LabelsFile("l.json" if dice.random() < 0.3 else "l.csv", bytes(data))
        try:
            rows = label_rows(labels, lambda word: index.find(word) is not None)
            made = labelled.plan(names, labels, 0, "pets", skip_bad=True)
        except LoupeError as error:
            assert str(error).isprintable()
            continue
        assert rows and set(made.wanted) <= set(range(len(names))) and made.train and made.test
        assert len(set(made.wanted)) == len(made.wanted)
        assert all(note.isprintable() for note in made.notes)


def test_tar_with_labels_inside_needs_no_option(tmp_path: Path) -> None:
    files, classes = flat()
    data = load(
        as_tar("gz")(tmp_path / "flat", {f"./{n}": d for n, d in {**files, "labels.csv": as_csv(classes)}.items()})
    )
    assert told(data) == classes and data.labels_file is None
