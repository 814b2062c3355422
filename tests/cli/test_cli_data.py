"""What the commands make of three splits and of windows."""

from pathlib import Path

from commands import Run
from pets import as_folder, pets


def test_three_splits_in_every_command(tmp_path: Path, run: Run) -> None:
    data = as_folder(tmp_path / "mine", {**pets(8, "train/"), **pets(3, "val/"), **pets(2, "test/")})
    shown = run("data", "show", str(data), "--out", str(tmp_path / "sheet.png"))
    assert shown.code == 0 and [line.split() for line in shown.out.splitlines()[:4]] == [
        ["class", "train", "val", "test"],
        ["cat", "8", "3", "2"],
        ["dog", "8", "3", "2"],
        ["all", "16", "6", "4"],
    ]
    out = tmp_path / "run"
    trained = run("train", "--data", str(data), "--steps", "2", "--size", "8", "--device", "cpu", "--out", str(out))
    assert trained.code == 0 and "16 train, 6 val and 4 test pictures" in trained.err and "   val " in trained.err
    for split, folder in (("test", out), ("val", out / "val-split"), ("train", out / "train-split")):
        assert run("test", str(out), "--split", split).code == 0
        assert (folder / "predictions.csv").read_text().count(f"{split}/") == {"test": 4, "val": 6, "train": 16}[split]
