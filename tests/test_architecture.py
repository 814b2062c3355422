"""The house rules that the source itself can be asked about."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import torchloupe

ROOT = Path(torchloupe.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}
LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 60

MAY_WRITE = {
    "files.py": "the one way to a final name",
    "metrics.py": "a log that is appended to",
    "journal.py": "a log that is appended to",
    "data/partfile.py": "a download under way",
    "foreign/worker.py": "a temporary folder, in a process of its own",
    "reports/sprites.py": "pictures into memory",
}
VIEWS = [path.stem for path in (ROOT / "views").glob("*.py") if path.stem not in ("__init__", "common")]
NO_EXAMPLE = {
    "cli/__init__.py:main": "ends the process",
    "cli/options.py:stack": "its examples are the commands",
    "cli/options.py:of_config": "its examples are the commands",
    "cli/options.py:open_named": "its examples are the commands",
    "cli/options.py:load_data": "its examples are the commands",
    "cli/train.py:teller": "what it returns prints",
    "data/archive.py:zip_source": "needs an archive; folder_source shows it",
    "data/archive.py:tar_source": "needs an archive; folder_source shows it",
    "data/archive.py:tar_members": "needs an archive",
    "data/cache.py:lookup": "needs a cache; load shows it",
    "data/cache.py:keep": "needs a cache; load shows it",
    "data/cifar.py:read": "needs an archive",
    "data/folder.py:read": "needs pictures; load shows it",
    "data/source.py:check_size": "returns nothing",
    "data/unpickle.py:plain": "needs a pickle",
    "foreign/worker.py:main": "a process of its own",
    "foreign/worker.py:convert": "a process of its own",
    "journal.py:nothing": "does nothing",
    "cli/train.py:given": "needs a click context",
    "cli/train.py:stopping": "takes over signals",
    "cli/test.py:folder_for": "needs a loaded run",
    "cli/report.py:place": "needs a run",
    "cli/report.py:make": "needs a run",
    "distributed.py:group": "needs processes",
    "finish.py:finish": "needs a run",
    "prepare.py:prepare": "needs a run's settings; train shows it",
    "prepare.py:describe": "train shows it",
    "prepare.py:fill_body": "needs a checkpoint",
    "prepare.py:try_out": "train shows it",
    "checkpoint.py:load_model": "save_model shows it",
    "checkpoint.py:read_tensors": "save_tensors shows it",
    "checkpoint.py:fill": "load_model shows it",
    "state.py:save_state": "needs a training",
    "state.py:load_state": "needs a training",
    "runs.py:read_json": "write_json shows it",
    "runs.py:newest_run": "needs runs",
    "runs.py:check_free": "returns nothing",
    "loading.py:find_weights": "needs runs",
    "loading.py:read_weights": "needs a file",
    "reports/__init__.py:write": "report calls it",
    "cli/train.py:old_run": "needs a run that was begun",
    "reports/__init__.py:contents_of": "report shows it",
    "reports/units.py:maximised": "report shows it",
    "reports/units.py:driven": "report shows it",
    "reports/units.py:mapped": "report shows it",
    "reports/units.py:ablated": "report shows it",
    "reports/layers.py:all_layers": "report shows it",
    "reports/layers.py:sample_names": "report shows it",
    "reports/learned.py:learned": "needs the snapshots of a run",
    "reports/outside.py:outside": "needs a network and its data",
    "reports/page.py:whole": "report shows it",
    "reports/page.py:parts": "report shows it",
    "reports/handin.py:hand_in": "writes a file",
    "verdict.py:write_predictions": "writes files",
    "verdict.py:write_confusion": "writes files",
    "verdict.py:write_verdict": "writes files",
    "render.py:style": "changes nothing to be seen",
    "again.py:again": "needs a saved picture",
    "cli/show.py:tell": "prints",
    "hooks.py:watching": "trace shows it",
    "inputs.py:from_words": "needs a data set; from_split shows it",
    "optimize.py:ignore": "does nothing",
    "study_set.py:make": "writes a folder of pictures",
    "subject.py:keep_statistics": "needs a run; measure shows it",
    **{f"views/{name}.py:view": "draws; Shown.figure shows it" for name in VIEWS},
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports, wherever in it; `from a import b` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses(tree: ast.AST, *modules: str) -> set[str]:
    return {name for name in imports(tree) for module in modules if name == module or name.startswith(f"{module}.")}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 30 and "train.py" in FILES and "cli/train.py" in FILES
    assert uses(FILES["cli/train.py"], "click") and uses(FILES["train.py"], "torchloupe.checkpoint")


@pytest.mark.parametrize("file", FILES)
def test_only_the_command_line_knows_the_command_line(file: str) -> None:
    if not file.startswith("cli/") and file != "__main__.py":
        assert not uses(FILES[file], "torchloupe.cli", "click")


BELOW = ("train", "journal", "prepare", "finish", "render", "verdict", "cli", "console")


@pytest.mark.parametrize(
    "file", [f for f in FILES if f.startswith(("data/", "models/", "foreign/")) or f == "network.py"]
)
def test_data_models_and_network_stand_below_training_and_drawing(file: str) -> None:
    assert not uses(FILES[file], *(f"torchloupe.{module}" for module in BELOW), "matplotlib", "rich")


@pytest.mark.parametrize(
    ("file", "banned"),
    [
        ("train.py", ("render", "verdict", "finish", "cli", "console")),
        ("evaluate.py", ("train", "render", "verdict", "runs", "checkpoint", "cli")),
        ("augment.py", ("train", "data", "models", "network", "render", "cli")),
        ("optim.py", ("train", "data", "models", "network", "render", "cli")),
        ("checkpoint.py", ("train", "data", "render", "runs", "load", "cli")),
        ("loading.py", ("train", "data", "render", "cli")),
        ("render.py", ("train", "data", "models", "evaluate", "runs", "cli")),
        ("config.py", ("train", "data", "models", "network", "render", "cli")),
    ],
)
def test_imports_point_one_way(file: str, banned: tuple[str, ...]) -> None:
    assert not uses(FILES[file], *(f"torchloupe.{module}" for module in banned))


METHODS = [f for f in FILES if f.startswith("methods/") and not f.endswith("__init__.py")]
DRAWING = (
    "render",
    "contact",
    "views",
    "tint",
    "look",
    "api",
    "shown",
    "inputs",
    "subject",
    "catalog",
    "console",
    "cli",
)


@pytest.mark.parametrize(
    "file", [*METHODS, "hooks.py", "rules.py", "backward.py", "optimize.py", "lbfgs.py", "survey.py", "receptive.py"]
)
def test_methods_and_what_they_stand_on_know_tensors_only(file: str) -> None:
    """No drawing, no paths, no printing; methods do not know one another."""
    assert not uses(FILES[file], *(f"torchloupe.{module}" for module in DRAWING), "PIL", "pathlib", "matplotlib")
    others = {f"torchloupe.{other[:-3].replace('/', '.')}" for other in METHODS if other != file}
    assert not uses(FILES[file], *others)
    called = {node.func.id for node in ast.walk(FILES[file]) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
    assert not called & {"print", "open"}


@pytest.mark.parametrize("file", [f for f in FILES if f.startswith(("views/", "scores/"))])
def test_views_and_scores_stand_below_the_entry(file: str) -> None:
    above = ("api", "shown", "subject", "inputs", "catalog", "cli", "train")
    assert not uses(FILES[file], *(f"torchloupe.{module}" for module in above))


def test_config_and_errors_are_light() -> None:
    for file in (
        "catalog.py",
        "look.py",
        "config.py",
        "errors.py",
        "console.py",
        "__init__.py",
        "models/__init__.py",
        "cli/options.py",
    ):
        top = [node for node in FILES[file].body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any(uses(node, "torch", "numpy", "matplotlib", "PIL", "rich") for node in top)


def test_the_modules_know_no_circle() -> None:
    """Top-level imports between the files make no circle."""
    names = {"torchloupe" + ("." + file[:-3].replace("/", ".")).removesuffix(".__init__"): file for file in FILES}
    graph = {
        name: {known for node in FILES[file].body for known in imports(node) if known in names and known != name}
        for name, file in names.items()
    }
    graph = {name: {other for other in there if not name.startswith(f"{other}.")} for name, there in graph.items()}
    while leaves := [name for name, there in graph.items() if not there]:
        graph = {name: there - set(leaves) for name, there in graph.items() if name not in leaves}
    assert not graph


@pytest.mark.parametrize("file", [f for f in FILES if f.startswith("models/")])
def test_networks_are_plain(file: str) -> None:
    if Path(file).name in ("__init__.py", "blank.py", "reference.py", "trust.py", "user.py"):
        return
    roots = {name.split(".")[0] for name in imports(FILES[file])}
    assert roots <= {"torch", "jaxtyping", "torchloupe", "math", "collections"}
    ours = uses(FILES[file], "torchloupe")
    assert all(name.startswith("torchloupe.models") for name in ours)


@pytest.mark.parametrize("file", FILES)
def test_hooks_live_in_hooks_py(file: str) -> None:
    called = {node.attr for node in ast.walk(FILES[file]) if isinstance(node, ast.Attribute)}
    hooks = {name for name in called if name.startswith("register_") and name.endswith("_hook")}
    assert file == "hooks.py" or not hooks


SAVES_ATOMICALLY = ("safetensors.torch", "shown", "made")  # the first gives bytes; the others are a method's result


def writes(node: ast.AST) -> str | None:
    """What a call writes with, if it opens or saves a file by name."""
    if not isinstance(node, ast.Call):
        return None
    method = node.func.attr if isinstance(node.func, ast.Attribute) else None
    function = node.func.id if isinstance(node.func, ast.Name) else method
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    if method in ("write_bytes", "write_text", "save_file", "savetxt", "tofile", "symlink_to", "copyfile", "move"):
        return method
    if (method == "save" and owner not in SAVES_ATOMICALLY) or (owner, method) == ("os", "open"):
        return (
            f"{owner}.{method}" if "O_RDONLY" not in ast.unparse(node) and "devnull" not in ast.unparse(node) else None
        )
    if function in ("open", "fdopen"):
        values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        modes = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
        return next((f"open {mode}" for mode in modes if len(mode) <= 3 and set(mode) & set("wax+")), None)
    return None


@pytest.mark.parametrize("file", FILES)
def test_only_atomic_write_reaches_a_final_name(file: str) -> None:
    found = {word for node in ast.walk(FILES[file]) if (word := writes(node))}
    assert file in MAY_WRITE or not found


def test_the_search_for_writes_finds_them() -> None:
    hits = ["p.open('w')", "open(p, 'ab')", "p.write_text('')", "torch.save(x, p)", "im.save(p)", "p.open(mode='w')"]
    for code in hits:
        assert any(writes(node) for node in ast.walk(ast.parse(code))), code
    for code in ("p.open('rb')", "open(p)", "safetensors.torch.save(x)", "p.open('rb', encoding='w')"):
        if "encoding" not in code:
            assert not any(writes(node) for node in ast.walk(ast.parse(code))), code
    assert all(file in FILES for file in MAY_WRITE)
    assert [file for file in MAY_WRITE if not any(map(writes, ast.walk(FILES[file])))] == []


@pytest.mark.parametrize("file", FILES)
def test_files_and_functions_are_short(file: str) -> None:
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_FILE
    lengths = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions(FILES[file])}
    assert not {name: length for name, length in lengths.items() if length > LINES_OF_A_FUNCTION}


DRAWN = "data/figures.py"  # figures and textures: their examples are pictures, `torchloupe data show shapes`


def public_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for file, tree in FILES.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                command = any(
                    "command" in ast.unparse(each) or "group" in ast.unparse(each) for each in node.decorator_list
                )
                if not command:
                    yield f"{file}:{node.name}", node


def test_every_public_function_shows_an_example() -> None:
    plain = {name for name, node in public_functions() if ">>>" not in (ast.get_docstring(node) or "")}
    plain = {name for name in plain if not name.startswith(DRAWN)}
    assert plain - NO_EXAMPLE.keys() == set()
    assert NO_EXAMPLE.keys() - plain == set(), "has an example or is gone: take it off the list"


def test_every_public_function_and_class_says_what_it_is() -> None:
    for file, tree in FILES.items():
        assert file == "__main__.py" or ast.get_docstring(tree), file
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{file}:{node.name}"
