"""What is not needed is not imported: help and `import torchloupe` cost milliseconds."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "matplotlib", "PIL", "rich", "safetensors", "jaxtyping")
IMPORT = "import torchloupe"
MAIN = """
try:
    from torchloupe.cli import main
    main({words!r})
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "code",
    [
        IMPORT,
        "import torchloupe; dir(torchloupe)",
        *(MAIN.format(words=words) for words in (["--help"], ["--version"], ["-h"])),
        *(
            MAIN.format(words=[name, "--help"])
            for name in ("train", "test", "predict", "score", "data", "models", "convert", "tensorboard")
        ),
        MAIN.format(words=["data", "show", "--help"]),
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    ending = f"\nimport sys\nprint('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_the_check_can_fail() -> None:
    code = f"import torchloupe; torchloupe.load\nimport sys\nassert not any(n in sys.modules for n in {HEAVY!r})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 1


def test_public_names_stay_what_they_are_when_their_modules_were_imported_first() -> None:
    code = (
        "import torchloupe, torchloupe.checkpoints.open, torchloupe.models.network, torchloupe.training.loop\n"
        "assert all(callable(getattr(torchloupe, name)) for name in ('load', 'wrap', 'Network'))\n"
        "assert torchloupe.data.load and torchloupe.models.build"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
