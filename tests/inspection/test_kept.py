"""Measured once: what is stored is found again for the same weights and data, and for no others."""

from pathlib import Path

import pytest
import torch

from torchloupe.inspection.kept import About, Tensors, once, store

ABOUT = {"layer": "1", "seed": 0}


def made(value: float) -> Tensors:
    return {"a": torch.tensor([value]), "of": torch.tensor([value])}


class Measure:
    """Gives a value and counts how often it was asked."""

    def __init__(self, value: float | None) -> None:
        self.value, self.asked = value, 0

    def __call__(self) -> Tensors | None:
        self.asked += 1
        return None if self.value is None else made(self.value)


def value(found: tuple[Tensors, About] | None) -> float | None:
    return None if found is None else float(found[0]["a"])


def test_it_is_measured_once_for_weights_data_and_settings(tmp_path: Path) -> None:
    first, second, third = Measure(1), Measure(2), Measure(3)
    assert value(once("x", first, ABOUT, weights="w", crc="c", folders=[tmp_path])) == 1
    assert value(once("x", second, ABOUT, weights="w", crc="c", folders=[tmp_path])) == 1 and not second.asked
    for weights, crc, about in (("v", "c", ABOUT), ("w", "d", ABOUT), ("w", "c", {**ABOUT, "seed": 1})):
        (folder := tmp_path / f"{weights}{crc}{about['seed']}").mkdir()
        store(folder / f"x-{weights}.safetensors", made(1), {**ABOUT, "weights": "w", "crc32": "c"})
        assert value(once("x", third, about, weights=weights, crc=crc, folders=[folder])) == 3
    assert third.asked == 3


def test_all_folders_are_read_and_the_first_is_written_to(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    once("x", Measure(1), ABOUT, weights="w", crc="c", folders=[b])
    assert value(once("x", Measure(2), ABOUT, weights="w", crc="c", folders=[a, b])) == 1 and not a.exists()
    assert value(once("y", Measure(2), ABOUT, weights="w", crc="c", folders=[a, b])) == 2
    assert [path.name for path in a.iterdir()] == ["y-w.safetensors"] and len(list(b.iterdir())) == 1


@pytest.mark.parametrize(("own", "expected"), [(None, 1), ("c", 1), ("d", None)])
def test_without_data_what_is_of_the_runs_own_holds(tmp_path: Path, own: str | None, expected: float | None) -> None:
    once("x", Measure(1), ABOUT, weights="w", crc="c", folders=[tmp_path])
    found = once("x", Measure(None), {**ABOUT, "seed": 9}, weights="w", crc=None, own=own, folders=[tmp_path])
    assert value(found) == expected and (found is None or found[1]["seed"] == 0), "and it says what it is of"


def test_what_cannot_be_made_any_more_is_taken_without_what_is_of_other_data(tmp_path: Path) -> None:
    once("x", Measure(1), ABOUT, weights="w", crc="c", folders=[tmp_path])
    other = {"seed": 9}
    assert once("x", Measure(None), other, weights="w", crc="d", folders=[tmp_path]) is None
    found = once("x", Measure(None), other, weights="w", crc="d", folders=[tmp_path], of_data=["of"])
    assert found is not None and set(found[0]) == {"a"}
    same = once("x", Measure(None), other, weights="w", crc="c", folders=[tmp_path], of_data=["of"])
    assert same is not None and set(same[0]) == {"a", "of"}
    assert value(once("x", Measure(2), other, weights="w", crc="d", folders=[tmp_path], of_data=["of"])) == 2


def test_what_is_damaged_is_measured_again(tmp_path: Path) -> None:
    once("x", Measure(1), ABOUT, weights="w", crc="c", folders=[tmp_path])
    file = tmp_path / "x-w.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    assert value(once("x", Measure(2), ABOUT, weights="w", crc="c", folders=[tmp_path])) == 2
