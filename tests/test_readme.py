"""What the README tells people to type is true."""

import re
import shlex
from pathlib import Path

import click
import pytest

from torchloupe.cli import COMMANDS, group

README = Path(__file__).parents[1] / "README.md"


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
            assert (tmp_path / "inversion.png").stat().st_size > 1000


def test_every_command_line_has_options_that_exist() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("torchloupe ")]
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = group.get_command(None, words[0])  # type: ignore[arg-type]
        assert command is not None, line
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words[1])
            assert command is not None, line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_every_exit_code_and_command_is_named() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(f"torchloupe {row.name}" in text for row in COMMANDS)
    assert all(f"{code} " in text for code in (0, 2, 3, 4, 5, 6, 130, 143))
