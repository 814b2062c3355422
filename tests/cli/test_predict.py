"""`torchloupe predict`: what it prints and writes, how it ends, and that nothing printed is lost."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from commands import Run, one_sentence
from torchloupe import load
from torchloupe.data.tensors import to_float
from torchloupe.evaluation.probabilities import Passes

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def forward(self, x):  # brightness of blue says cat, of red says dog
        return torch.stack([x[:, 2].mean((1, 2)), x[:, 0].mean((1, 2))], 1)
"""
MULTILABEL = ("net.py:Net", "--classes", "names.txt", "--normalize", "none", "--multilabel", "--size", "8")
CPU = ("--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of the size that `cifar10` takes, and a net of the user's own."""
    for i in range(12):
        place = tmp_path / "pets" / f"sub{i % 2}" / f"{i:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(place)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    return tmp_path / "pets"


def of_files(folder: Path) -> list[str]:
    return [str(Path("pets") / path.relative_to(folder)) for path in sorted(folder.rglob("*.png"))]


def by_hand(files: list[str]) -> Tensor:
    net = load("cifar10")
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files])
    with torch.no_grad():
        return net(pixels / 255).softmax(1)


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def names(out: str) -> list[str]:
    return [row["file"] for row in json.loads(out)]


def test_json_of_a_folder_is_what_a_plain_loop_gives(run: Run, folder: Path) -> None:
    done = run("predict", "cifar10", "pets", "--json", "--top", "3", "--batch", "5", *CPU)
    assert done.code == 0 and done.err == ""
    rows, files, classes = json.loads(done.out), of_files(folder), load("cifar10").classes
    assert [row["file"] for row in rows] == files
    for row, expected in zip(rows, by_hand(files), strict=True):
        assert row.keys() == {"file", "top"} and len(row["top"]) == 3
        best = expected.argsort(descending=True)[:3]
        assert [each["class"] for each in row["top"]] == [classes[i] for i in best]
        assert [each["probability"] for each in row["top"]] == pytest.approx(expected[best].tolist(), rel=1e-4)
        assert all(each.keys() == {"class", "probability"} for each in row["top"])


def test_csv_and_text_say_the_same(run: Run, folder: Path) -> None:
    rows = json.loads(run("predict", "cifar10", "pets", "--json", "--top", "2", *CPU).out)
    table = list(csv.reader(io.StringIO(run("predict", "cifar10", "pets", "--csv", "--top", "2", *CPU).out)))
    assert table[0] == ["file", "class_1", "probability_1", "class_2", "probability_2"]
    lines = run("predict", "cifar10", "pets", "--top", "2", *CPU).out.splitlines()
    assert len(table) - 1 == len(lines) == len(rows) == 12
    for row, cells, line in zip(rows, table[1:], lines, strict=True):
        first, second = row["top"]
        assert cells[:2] == [row["file"], first["class"]] and float(cells[2]) == first["probability"]
        assert cells[3] == second["class"] and line.split()[0] == row["file"]
        assert line.split("  ")[-1].startswith(f"{first['class']} {first['probability']:.2%}, {second['class']} ")
    few = run("predict", "cifar10", "pets/sub0/00.png", "--top", "2", *CPU).out.splitlines()
    assert few[0] == "pets/sub0/00.png" and few[1].split()[0] == rows[0]["top"][0]["class"] and len(few) == 3


def test_more_classes_than_there_are_is_all_of_them(run: Run, folder: Path) -> None:
    row = json.loads(run("predict", "cifar10", "pets/sub0/00.png", "--top", "99", "--json", *CPU).out)[0]
    assert len(row["top"]) == 10 and sum(each["probability"] for each in row["top"]) == pytest.approx(1, abs=1e-5)


def test_a_multilabel_network(run: Run, folder: Path) -> None:
    done = run("predict", *MULTILABEL, "pets/sub0/00.png", "--json", *CPU)
    assert done.code == 0, done.err
    pixels = np.array(Image.open("pets/sub0/00.png").resize((8, 8), Image.Resampling.BILINEAR)) / 255
    expected = {"cat": 1 / (1 + np.exp(-pixels[..., 2].mean())), "dog": 1 / (1 + np.exp(-pixels[..., 0].mean()))}
    found = {each["class"]: each["probability"] for each in json.loads(done.out)[0]["top"]}
    assert found == pytest.approx(expected, rel=1e-5) and sum(found.values()) > 1


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (["-"], b"pets/sub0/02.png\n\npets/sub0/00.png\r\n"),
        (["--stdin"], b"pets/sub0/02.png\npets/sub0/00.png"),
        (["-0"], b"pets/sub0/02.png\0pets/sub0/00.png\0"),
        (["-", "--null"], b"pets/sub0/02.png\0pets/sub0/00.png"),
    ],
)
def test_paths_on_standard_input(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], data: bytes
) -> None:
    feed(monkeypatch, data)
    done = run("predict", "cifar10", *words, "--json", *CPU)
    assert done.code == 0 and names(done.out) == ["pets/sub0/02.png", "pets/sub0/00.png"]


def test_standard_input_stands_where_it_is_named_and_holds_paths_only(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("samples").mkdir()
    Path("pets/sub0/00.png").rename("samples/0.png")
    feed(monkeypatch, b"samples\n")
    done = run("predict", "cifar10", "samples:1", "-", "pets/sub0/02.png", "--json", *CPU)
    assert names(done.out) == ["samples:1", "samples/0.png", "pets/sub0/02.png"]
    feed(monkeypatch, b"\n\n")
    one_sentence(run("predict", "cifar10", "-", *CPU), 3, "standard input names no pictures")


def test_pictures_of_a_data_set(run: Run) -> None:
    done = run("predict", "cifar10", "test:3,5", "--data", "shapes", "--json", "--quiet", *CPU)
    assert done.code == 0 and names(done.out) == ["test:3", "test:5"]
    one_sentence(run("predict", "cifar10", "test:3", "--quiet", *CPU), 2, "'test:3'", "--data")


def test_the_first_bad_file_ends_it_and_what_came_before_is_printed(run: Run, folder: Path) -> None:
    Path("pets/sub0/05.png").write_bytes(b"no picture")
    done = run("predict", "cifar10", "pets", "--json", *CPU)
    assert done.code == 3 and names(done.out) == [f"pets/sub0/{i:02}.png" for i in (0, 2, 4)]
    lines = done.err.splitlines()
    assert len(lines) == 1 and all(part in lines[0] for part in ("pets/sub0/05.png", "not a JPEG", "--skip-bad"))
    one_sentence(run("predict", "cifar10", "none.png", "--json", *CPU), 3, "'none.png'", "no such file")


def test_bad_files_are_passed_over_and_said(run: Run, folder: Path) -> None:
    Path("pets/sub0/05.png").write_bytes(b"no picture")
    done = run("predict", "cifar10", "pets", "none.png", "--json", "--skip-bad", *CPU)
    rows = json.loads(done.out)
    assert done.code == 0 and len(rows) == 14 and "2 of 14" in done.err
    assert rows[3].keys() == {"file", "error"} and "not a JPEG" in rows[3]["error"]
    assert rows[13] == {"file": "none.png", "error": "no such file or directory"}
    assert all(row.keys() == {"file", "top"} for i, row in enumerate(rows) if i not in (3, 13))
    table = list(csv.DictReader(io.StringIO(run("predict", "cifar10", "pets", "--csv", "--skip-bad", *CPU).out)))
    assert "not a JPEG" in table[3]["error"] and table[3]["class_1"] == "" and table[2]["error"] == ""
    assert "cannot be read: not a JPEG" in run("predict", "cifar10", "pets", "--skip-bad", *CPU).out.splitlines()[3]
    only = run("predict", "cifar10", "none.png", "--json", "--skip-bad", *CPU)
    assert only.code == 0 and names(only.out) == ["none.png"]


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_out_is_what_is_printed_else(run: Run, folder: Path, suffix: str) -> None:
    printed = run("predict", "cifar10", "pets", f"--{suffix}", *CPU).out
    done = run("predict", "cifar10", "pets", "--out", f"new/rows.{suffix}", *CPU)
    assert done.code == 0 and done.out == f"{Path('new') / f'rows.{suffix}'}\n"
    assert Path(f"new/rows.{suffix}").read_text() == printed and len(list(Path("new").iterdir())) == 1


def test_out_has_its_name_only_when_all_is_done(run: Run, folder: Path) -> None:
    Path("rows.csv").write_text("old")
    Path("pets/sub1/03.png").write_bytes(b"")
    one_sentence(run("predict", "cifar10", "pets", "--out", "rows.csv", *CPU), 3, "pets/sub1/03.png", "empty")
    assert Path("rows.csv").read_text() == "old" and not list(Path().glob(".*.part"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["PICTURES"]),
        (["pets", "--csv", "--json"], ["--csv and --json"]),
        (["pets", "--out", "rows.txt"], ["rows.txt", "csv, json"]),
        (["pets", "--out", "rows.csv", "--csv"], ["--out", "--csv"]),
        (["pets", "--top", "0"], ["--top"]),
        (["pets", "--save-inputs", "a.txt"], ["a.txt", "png"]),
        (["-", "-"], ["once"]),
        (["pets", "--classes", "3"], ["--classes"]),
    ],
)
def test_wrong_usage(run: Run, folder: Path, words: list[str], parts: list[str]) -> None:
    one_sentence(run("predict", "cifar10", *words), 2, *parts)


def test_what_a_stranger_named_steers_no_terminal_and_no_spreadsheet(run: Run, folder: Path) -> None:
    evil = "=a\x1b[31m.png"
    Path("pets/sub0/00.png").rename(evil)
    assert json.loads(run("predict", "cifar10", evil, "--json", *CPU).out)[0]["file"] == evil
    for words in ([], ["--csv"], ["--json"]):
        assert "\x1b" not in run("predict", "cifar10", evil, *words, *CPU).out
    table = list(csv.DictReader(io.StringIO(run("predict", "cifar10", evil, "--csv", *CPU).out)))
    assert table[0]["file"] == "'=a·[31m.png"


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes that are no text")
def test_a_name_that_is_no_text(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"caf\xe9.png"
    Path("pets/sub0/00.png").rename(os.fsdecode(raw))
    feed(monkeypatch, raw + b"\n")
    found = json.loads(run("predict", "cifar10", "-", "--json", *CPU).out)[0]["file"]
    assert os.fsencode(found) == raw
    for words in ([], ["--csv"]):
        assert "caf\\udce9.png" in run("predict", "cifar10", os.fsdecode(raw), *words, *CPU).out


def test_save_inputs_draws_what_the_network_gets(run: Run, folder: Path) -> None:
    Path("pets/sub1/03.png").write_bytes(b"")
    done = run("predict", "cifar10", "pets", "--save-inputs", "seen.png", "--json", "--skip-bad", *CPU)
    assert done.code == 0 and "seen.png" in done.err and len(json.loads(done.out)) == 12
    sheet = np.array(Image.open("seen.png").convert("RGB"))
    seen = to_float(torch.from_numpy(np.array(Image.open("pets/sub0/00.png"))).permute(2, 0, 1)[None], 32)
    enlarged = (seen[0] * 255).round().byte().permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1)
    rows, columns = np.nonzero((sheet == enlarged[0, 0]).all(2))
    found = [(y, x) for y, x in zip(rows, columns, strict=True) if same(sheet[y : y + 128, x : x + 128], enlarged)]
    assert found, "the first picture stands in the sheet, pixel by pixel"


def same(a: "np.ndarray[Any, Any]", b: "np.ndarray[Any, Any]") -> bool:
    return a.shape == b.shape and bool((np.abs(a.astype(int) - b.astype(int)) <= 1).all())


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let Ctrl-C come in the pass after so many."""
    passed = 0
    inner = Passes.probabilities

    def probabilities(self: Passes, images: Tensor) -> Tensor:
        nonlocal passed
        passed += 1
        if passed > after:
            signal.raise_signal(signal.SIGINT)
        return inner(self, images)

    monkeypatch.setattr(Passes, "probabilities", probabilities)


def test_ctrl_c_keeps_what_was_printed_and_ends_the_json(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, after=2)
    done = run("predict", "cifar10", "pets", "--json", "--batch", "3", *CPU)
    assert done.code == 130 and done.err.endswith("Stopped.\n") and names(done.out) == of_files(folder)[:6]


def test_ctrl_c_leaves_no_half_file(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, after=2)
    done = run("predict", "cifar10", "pets", "--out", "rows.json", "--batch", "3", *CPU)
    assert done.code == 130 and done.out == "" and not list(Path().glob("*rows*"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_real_ctrl_c(folder: Path) -> None:
    words = ["predict", "cifar10", "-", "--json", "--batch", "1", "--top", "1", *CPU]
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += f"from torchloupe.cli import main; main({words!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"pets/sub0/00.png\n" * 20_000)
        process.stdin.close()
        process.stdin = None
        first = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.endswith(b"Stopped.\n"), err
    assert 2 <= len(json.loads(first + rest)) < 20_000


def test_rows_come_while_it_works(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr("torchloupe.cli.predict.print_result", lambda line: order.append(line.partition(",")[0]))
    inner = Passes.probabilities

    def probabilities(self: Passes, images: Tensor) -> Tensor:
        order.append(f"pass of {len(images)}")
        return inner(self, images)

    monkeypatch.setattr(Passes, "probabilities", probabilities)
    assert run("predict", "cifar10", "pets", "--csv", "--batch", "6", *CPU).code == 0
    files = of_files(folder)
    assert order == ["pass of 6", "file", *files[:6], "pass of 6", *files[6:]]
