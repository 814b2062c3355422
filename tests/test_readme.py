"""What the README tells people to type is true."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

import torchloupe
from torchloupe.cli import COMMANDS, group

HOME = Path(__file__).parents[1]
README = HOME / "README.md"
PAGES = [README, *sorted((HOME / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("python")
    assert code
    for block in code:
        names: dict[str, object] = {}
        exec(compile(block, str(README), "exec"), names)
        if "logits" in names:
            assert tuple(names["logits"].shape) == (8, 10)  # type: ignore[attr-defined]
        else:
            for name in ("filters.png", "units.png", "inversion.png", "report.html"):
                assert (tmp_path / name).stat().st_size > 500, name


OTHERS = ("lightning", "transformers")
"""Packages that are not needed, and that an example may be about."""


def test_the_example_of_a_recorded_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = HOME / "docs" / "recording.md"
    code = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    own = [block for block in code if not any(f"from {other}" in block for other in OTHERS)]
    assert len(own) == 1 and len(code) == 3
    names: dict[str, Any] = {}
    exec(compile(own[0], str(page), "exec"), names)
    made = names["made"]
    assert made.path == Path("runs", "mine", "report.html") and not made.refused
    assert [moment.epoch for moment in made.contents.film.moments] == [0, 1, 2, 3]
    accuracies = [moment.accuracy for moment in made.contents.film.moments]
    assert accuracies[-1] > accuracies[0]  # it learned something, and what is shown is that
    for block in code:  # the others at least say what exists
        tree = ast.parse(block)
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
        for call in calls:
            if ast.unparse(call.func).startswith("torchloupe."):
                assert hasattr(torchloupe, call.func.attr), call.func.attr  # type: ignore[attr-defined]


def commands(page: Path) -> list[str]:
    """Every command line of a page: whole lines of it, or what stands between backticks."""
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    fenced = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    plain = re.findall(r"`(torchloupe show [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*(line for line in fenced if line.startswith("torchloupe ")), *plain]


def test_each_picture_is_made_by_the_command_beside_it() -> None:
    made = (HOME / "docs" / "pictures" / "make.sh").read_text(encoding="utf-8")
    for page in PAGES:
        shown = re.findall(
            r"(?:!\[.*?\]\(|srcset=\"|src=\")((?:docs/)?pictures/[^)\"]+)", page.read_text(encoding="utf-8")
        )
        said = [line for line in commands(page) if f"{line} --out" in made]
        for place in shown:
            assert (page.parent / place).is_file(), place
            name = Path(place).name
            assert name.startswith("report-") or any(f"{line} --out {name}\n" in made for line in said), (page, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_has_options_that_exist(page: Path) -> None:
    lines = commands(page)
    assert len(lines) >= 2
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = group.get_command(None, words[0])  # type: ignore[arg-type]
        assert command is not None, line
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words[1])
            assert command is not None, line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_every_exit_code_and_command_is_named() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(f"torchloupe {row.name}" in text for row in COMMANDS)
    assert all(f"{code} " in text for code in (0, 2, 3, 4, 5, 6, 130, 143))
