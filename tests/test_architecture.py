"""The house rules that the source itself can be asked about."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import torchloupe

ROOT = Path(torchloupe.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}

FLOORS = (
    "errors",
    "runtime",
    "models",
    "data",
    "figures",
    "features",
    "attribution",
    "synthesis",
    "evaluation",
    "runs",
    "checkpoints",
    "training",
    "inspection",
    "reports",
    "pipeline",
    "cli",
)
"""From the ground up: each may import only what stands before it in this list."""
METHODS = ("features", "attribution", "synthesis")
"""Where methods live: tensors in, tensors out. No drawing, no paths, no printing."""
MAY_WRITE = {
    "runtime/files.py": "the one way to a final name",
    "runs/metrics.py": "logs that are appended to",
    "data/downloads/partfile.py": "a download under way",
    "checkpoints/exported.py": "a program into memory",
    "checkpoints/foreign/worker.py": "a temporary folder, in a process of its own",
    "reports/html/sprites.py": "pictures into memory",
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


def room(file: str) -> str:
    """The folder (or the file at the root) that a file stands in."""
    return file.partition("/")[0].removesuffix(".py")


def rooms(tree: ast.AST) -> set[str]:
    """The rooms that a file imports from."""
    parts = [name.split(".") for name in imports(tree) if name.split(".")[0] == "torchloupe"]
    return {part[1] for part in parts if len(part) > 1 and part[1] in FLOORS}


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 30 and "training/loop.py" in FILES and "cli/train.py" in FILES
    assert uses(FILES["cli/train.py"], "click") and "checkpoints" in rooms(FILES["training/loop.py"])
    assert {room(file) for file in FILES} - {"__init__", "__main__"} == set(FLOORS)


def test_imports_only_point_down() -> None:
    """Late imports count as well."""
    floor = {name: number for number, name in enumerate(FLOORS)}
    up = [
        f"{file} imports from {other}/"
        for file, tree in FILES.items()
        for other in rooms(tree)
        if room(file) in floor and floor[other] > floor[room(file)]
    ]
    assert not up, "\n".join(up)


def test_the_files_of_a_folder_know_no_circle() -> None:
    names = {"torchloupe" + ("." + file[:-3].replace("/", ".")).removesuffix(".__init__"): file for file in FILES}
    graph = {
        name: {known for node in FILES[file].body for known in imports(node) if known in names and known != name}
        for name, file in names.items()
    }
    graph = {name: {other for other in there if not name.startswith(f"{other}.")} for name, there in graph.items()}
    while leaves := [name for name, there in graph.items() if not there]:
        graph = {name: there - set(leaves) for name, there in graph.items() if name not in leaves}
    assert not graph


def test_only_the_command_line_knows_the_command_line() -> None:
    knows = [file for file, tree in FILES.items() if uses(tree, "click")]
    assert all(file.startswith("cli/") for file in knows)


def test_networks_are_plain() -> None:
    """A network's file knows torch, and at most other networks."""
    helpers = {"__init__", "blank", "forward", "network", "outputs", "reference", "trust", "user"}
    for file, tree in FILES.items():
        if room(file) == "models" and Path(file).stem not in helpers:
            assert {name.split(".")[0] for name in imports(tree)} <= {"torch", "jaxtyping", "torchloupe", "math"}, file
            assert rooms(tree) <= {"models"}, file


def test_methods_know_tensors_only() -> None:
    """No drawing, no paths, no printing; methods do not know one another."""
    from torchloupe.inspection.catalog import ATTRIBUTIONS
    from torchloupe.inspection.catalog import METHODS as ROWS

    of_rows = {row.compute.partition(":")[0] for row in (*ROWS, *ATTRIBUTIONS)}
    for file, tree in FILES.items():
        if room(file) not in METHODS:
            continue
        assert not uses(tree, "PIL", "pathlib", "matplotlib") and not rooms(tree) & {"figures", "inspection"}, file
        own = "torchloupe." + file[:-3].replace("/", ".")
        assert not (of_rows - {own}) & set(imports(tree)) or own not in of_rows, file
        called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
        assert not called & {"print", "open"}, file


def test_one_place_prints() -> None:
    """What a file says may steer a terminal: `runtime/console.py` makes it visible, for results and for messages."""
    for file, tree in FILES.items():
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = {func.id for func in calls if isinstance(func, ast.Name)}
        parts = {func.attr for func in calls if isinstance(func, ast.Attribute)}
        assert "print" not in names or file == "runtime/console.py", file
        assert not parts & {"echo", "secho"} or file == "cli/__init__.py", file


def test_figures_know_no_method() -> None:
    for file, tree in FILES.items():
        if room(file) == "figures":
            assert rooms(tree) <= {"errors", "runtime", "figures"}, file


def test_what_help_needs_is_light() -> None:
    for file in (
        "__init__.py",
        "errors.py",
        "runtime/console.py",
        "figures/style.py",
        "training/config.py",
        "models/__init__.py",
        "inspection/catalog.py",
        "cli/options.py",
    ):
        top = [node for node in FILES[file].body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any(uses(node, "torch", "numpy", "matplotlib", "PIL", "rich") for node in top), file


def test_hooks_live_in_hooks_py() -> None:
    for file, tree in FILES.items():
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        hooks = {name for name in called if name.startswith("register_") and name.endswith("_hook")}
        assert file == "features/hooks.py" or not hooks, file


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


def test_only_atomic_write_reaches_a_final_name() -> None:
    found = {file for file, tree in FILES.items() if any(map(writes, ast.walk(tree)))}
    assert found == MAY_WRITE.keys()


def test_the_search_for_writes_finds_them() -> None:
    hits = ["p.open('w')", "open(p, 'ab')", "p.write_text('')", "torch.save(x, p)", "im.save(p)", "p.open(mode='w')"]
    for code in hits:
        assert any(writes(node) for node in ast.walk(ast.parse(code))), code
    for code in ("p.open('rb')", "open(p)", "safetensors.torch.save(x)"):
        assert not any(writes(node) for node in ast.walk(ast.parse(code))), code


def strings(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_string_that_names_a_module_names_one() -> None:
    """The catalog, the commands, the bootstrap of `convert`, what tests patch, `-m torchloupe`: all break silently."""
    trees = [*FILES.values()]
    for folder in ("tests", "bench"):
        paths = sorted((ROOT.parents[1] / folder).rglob("*.py"))
        trees += [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    word = re.compile(r"\btorchloupe(?:\.[a-z_]\w*)*(?:\.[A-Za-z_]\w*)*(?::[A-Za-z_]\w*)?")
    names = {
        match[0]
        for tree in trees
        for text in strings(tree)
        for match in word.finditer(text)
        if re.match(r"torchloupe\.\w", match[0])
    }
    assert "torchloupe.checkpoints.foreign.worker" in names and "torchloupe.cli.run:run" in names
    wrong = [name for name in sorted(names) if not exists(name) and name not in NO_MODULES]
    assert not wrong, wrong


NO_MODULES = {"torchloupe.no_such_part", "torchloupe.git", "torchloupe.zip"}


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.replace(":", ".").split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_every_public_function_and_class_says_what_it_is() -> None:
    for file, tree in FILES.items():
        assert file == "__main__.py" or ast.get_docstring(tree), file
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{file}:{node.name}"
