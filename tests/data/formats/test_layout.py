"""Which picture is of which class and split: from names alone."""

from pathlib import Path

import pytest

from pets import Files, as_zip, pets, png
from torchloupe.data import load
from torchloupe.data.formats.layout import plan
from torchloupe.errors import DataError


def test_split_ignores_order_wrapping_and_other_classes() -> None:
    names = list(pets(20))
    drawn = {names[i] for i in plan(names, 3, "x").test}
    turned = names[::-1]
    assert {turned[i] for i in plan(turned, 3, "x").test} == drawn
    more = [f"wrap/{name}" for name in (*names, *pets(7, kinds=("ant",)))]
    assert {more[i].removeprefix("wrap/") for i in plan(more, 3, "x").test if "ant" not in more[i]} == drawn


@pytest.mark.parametrize("word", ["test", "val", "valid", "validation", "Test", "VAL"])
def test_words_for_the_test_split(word: str) -> None:
    made = plan([*pets(2, "Train/"), *pets(1, f"{word}/")], 0, "x")
    assert (len(made.train), len(made.test), made.seeded) == (4, 2, False)


@pytest.mark.parametrize("word", ["val", "valid", "Validation"])
def test_val_beside_train_and_test_is_a_split_of_its_own(word: str) -> None:
    names = [*pets(2, "wrap/train/"), *pets(1, "wrap/test/"), *pets(3, f"wrap/{word}/")]
    made = plan(names, 0, "x")
    for which, split in (("train", made.train), ("test", made.test), (word, made.val)):
        assert {names[i] for i in split} == {name for name in names if name.startswith(f"wrap/{which}/")}
    assert made.notes == () and not made.seeded


def test_val_takes_the_place_of_a_missing_test() -> None:
    made = plan([*pets(2, "train/"), *pets(3, "val/")], 0, "x")
    assert (len(made.train), len(made.test), len(made.val)) == (4, 6, 0)


def test_what_is_in_no_split_is_noted() -> None:
    names = [*pets(2, "train/"), *pets(1, "test/"), *pets(3, "more/")]
    assert "6 pictures outside the class folders left out" in plan(names, 0, "x").notes[0]


def test_classes_of_val_are_those_of_train() -> None:
    names = [*pets(2, "train/"), *pets(1, "test/"), *pets(1, "val/", ("cat",))]
    assert plan(names, 0, "x").notes == ("no val pictures of 'dog'.",)
    with pytest.raises(DataError, match="'zebra' in 'x' has val pictures but no train"):
        plan([*names, "val/zebra/1.png"], 0, "x")


def test_train_alone_is_split() -> None:
    made = plan([*pets(10, "wrap/train/"), "wrap/test/unknown.png"], 0, "x")
    assert (len(made.train), len(made.test), made.seeded, made.classes) == (16, 4, True, ("cat", "dog"))
    assert "wrap/test/unknown.png" in made.notes[0]


def test_a_class_may_be_called_train() -> None:
    assert plan(list(pets(5, kinds=("car", "plane", "train"))), 0, "x").classes == ("car", "plane", "train")


def test_junk_is_ignored_and_folders_within_a_class_are_not() -> None:
    junk = [
        "__MACOSX/pets/cat/._0.png",
        "pets/.DS_Store",
        "pets/cat/Thumbs.db",
        "pets/cat/._0.png",
        "pets/.git/x/1.png",
    ]
    names = [*pets(5, "pets/"), *junk, "pets/cat/more/9.JPG"]
    made = plan(names, 0, "x")
    assert made.classes == ("cat", "dog")
    assert {names[i] for i in (*made.train, *made.test)} == {*pets(5, "pets/"), "pets/cat/more/9.JPG"}


def test_one_class_name_in_two_spellings_of_unicode() -> None:
    composed, by_macos = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    made = plan([*pets(2, "train/", (composed, "dog")), *pets(1, "test/", (by_macos, "dog"))], 0, "x")
    assert made.classes == (composed, "dog")


def test_a_class_without_test_pictures_is_noted() -> None:
    made = plan([*pets(2, "train/"), *pets(1, "test/", ("cat",))], 0, "x")
    assert made.notes == ("no test pictures of 'dog'.",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no pictures in"),
        ({"cat/a.txt": b"", "b": b""}, "none of its 2 files is one"),
        (pets(5, kinds=("cat",)), "only one class, 'cat'"),
        (pets(5, "wrap/train/", kinds=("cat",)), "only one class, 'cat'"),
        ({"1.png": png(), "2.png": png()}, "no class folders"),
        ({**pets(2, "train/"), **pets(1, "test/", ("cat", "zebra"))}, "'zebra' in .* has test pictures but no train"),
        (pets(3, "test/"), "no 'train/'"),
        ({**pets(3), "owl/1.png": png()}, "class 'owl' in .* has one picture"),
    ],
)
def test_refusals(tmp_path: Path, files: Files, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(as_zip(tmp_path / "mine", files))
