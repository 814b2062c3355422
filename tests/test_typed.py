"""The types of the public API are true: the stub says what the functions take and give, and a typed program runs."""

import ast
import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest

import torchloupe
from contract import FAST, LOOKED_AT, images, net, split
from stub import STUB, Stub, fields_of, result_of
from torchloupe.inspection.catalog import ATTRIBUTIONS, METHODS, Method
from torchloupe.inspection.result import Result
from torchloupe.inspection.signatures import TAKES

ROWS = pytest.mark.parametrize("row", LOOKED_AT, ids=[row.name for row in LOOKED_AT])
GIVEN = {"nothing": None, "pictures": images, "start": images, "dataset": split}


def meaning(text: str) -> tuple[set[str], list[str]]:
    """Imports and all else of a stub, whatever its layout."""
    tree = ast.parse(text)
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module} {alias.name}" for alias in node.names}
    for part in ast.walk(tree):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            part.value = inspect.cleandoc(part.value).strip()  # a formatter may move the lines of a docstring
    return found, [ast.dump(node) for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]


def test_the_stub_is_that_of_the_methods_as_they_are() -> None:
    assert meaning(STUB.read_text(encoding="utf-8")) == meaning(Stub().text()), "run: make stub"


def test_the_stub_offers_what_the_package_offers() -> None:
    stub = {name.rpartition(" ")[2] for name in offered(ast.parse(STUB.read_text(encoding="utf-8")))}
    assert stub == {*torchloupe.__all__, *(row.function for row in (*METHODS, *ATTRIBUTIONS)), "__version__"}
    assert all(hasattr(torchloupe, name) for name in stub)


def offered(tree: ast.Module) -> set[str]:
    """What type checkers let others import: definitions, and imports of the form `a as a`."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if name == "__version__" or not name.startswith("_")}


@ROWS
def test_a_method_takes_all_that_its_signature_says_and_gives_its_fields(row: Method) -> None:
    """Every parameter by name, at the default that the signature tells (or a faster one)."""
    function = getattr(torchloupe, row.function)
    parameters = inspect.signature(function).parameters
    given: dict[str, Any] = {
        name: parameter.default for name, parameter in parameters.items() if parameter.default is not parameter.empty
    }
    channels = {"channels": [0]} if row.channels or not row.explains else {}
    given |= {**channels, **FAST.get(row.name, {})}
    make = GIVEN[row.takes]
    if third := TAKES[row.takes]:
        assert make is not None
        given[third] = make()
    assert given.keys() == parameters.keys() - {"model"}
    found = function(net(), **given)
    assert isinstance(found, Result) and isinstance(found.result, result_of(row))
    for name, _ in fields_of(result_of(row)):
        assert name not in vars(found) and not hasattr(Result, name), f"{name} of Result hides that of {row.name}"
        assert getattr(found, name) is not None or getattr(found.result, name) is None
    layer = [] if row.explains else [row.layer]
    positional = function(net(), *layer, *([make()] if make else []), **channels, **FAST.get(row.name, {}))
    assert positional.layer == found.layer


@ROWS
def test_what_a_signature_does_not_say_is_refused(row: Method) -> None:
    with pytest.raises(torchloupe.errors.UsageError, match="no setting 'stepz'"):
        getattr(torchloupe, row.function)(net(), stepz=3)


def test_the_typed_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = runpy.run_path(str(Path(__file__).with_name("typed_program.py")))
    monkeypatch.chdir(tmp_path)
    program["main"](tmp_path)
