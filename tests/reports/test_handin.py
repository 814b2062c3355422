"""Figures to hand in: what is in the .zip, that names do no harm, and that the same network gives the same bytes."""

import re
import zipfile
from pathlib import Path

import pytest

from commands import Run
from reporting import CLASSES, hostile_run, own_cache
from torchloupe.reports.paper.escape import in_latex, in_markdown


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("handin")
    with own_cache(home):
        return hostile_run(home)


@pytest.mark.parametrize(("kind", "main", "suffix"), [("latex", "report.tex", "pdf"), ("markdown", "report.md", "png")])
def test_the_zip_has_all_that_its_text_names(run: Run, run_folder: Path, kind: str, main: str, suffix: str) -> None:
    ended = run("report", run_folder, "--as", kind, "--out", "hand.zip", "--quiet")
    assert ended.code == 0 and ended.out == "hand.zip\n", ended
    with zipfile.ZipFile("hand.zip") as archive:
        names = archive.namelist()
        text = archive.read(main).decode()
        figures = [name for name in names if name.endswith(suffix)]
        assert names[:2] == [main, "references.bib"] and len(figures) >= 10
        for name in figures:
            assert archive.read(name).startswith(b"%PDF" if suffix == "pdf" else b"\x89PNG")
    named = re.findall(
        r"includegraphics\[[^]]*\]\{\{([^}]*)\}\.pdf\}" if kind == "latex" else r"\]\(([^)]*)\.png\)", text
    )
    assert [f"{name}.{suffix}" for name in named] == figures
    assert [int(name.split("-")[1]) for name in named] == sorted(int(name.split("-")[1]) for name in named)
    if kind == "latex":
        cited = set(re.findall(r"\\cite\{([^}]*)\}", text))
        with zipfile.ZipFile("hand.zip") as archive:
            known = set(re.findall(r"@\w+\{(\w+),", archive.read("references.bib").decode()))
        assert cited and cited <= known
        assert all(in_latex(name) in text for name in CLASSES) and "<img" not in text
    else:
        assert all(in_markdown(name) in text for name in CLASSES) and "<img" not in text and "<script" not in text
    before = Path("hand.zip").read_bytes()
    assert run("report", run_folder, "--as", kind, "--out", "hand.zip", "--quiet").code == 0
    assert Path("hand.zip").read_bytes() == before


def test_another_suffix_is_refused(run: Run, run_folder: Path) -> None:
    ended = run("report", run_folder, "--as", "latex", "--out", "hand.pdf")
    assert ended.code == 2 and "writes a .zip" in ended.err


def test_latex_runs_nothing_of_a_name() -> None:
    assert in_latex(r"\input{/etc/passwd} $x$ a_b 50% #1 ~ ^ & {}") == (
        r"\textbackslash{}input\{/etc/passwd\} \$x\$ a\_b 50\% \#1 \textasciitilde{} \textasciicircum{} \& \{\}"
    )
    assert in_latex("Ünïcode 漢 \u202e é") == "Ünïcode ? ? é" and in_latex(3) == 3
