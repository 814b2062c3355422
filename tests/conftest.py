"""Fixtures for all tests: the real pictures, and cache and state folders of the test's own."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

from badserver import BadServer, serving
from commands import Ended, Run
from torchloupe.cli import main

collect_ignore = ["artefacts"]  # what earlier versions wrote, not tests
torch.set_num_threads(1)  # tests run side by side


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TORCHLOUPE_CACHE", str(folder))
    monkeypatch.setenv("TORCHLOUPE_STATE", str(tmp_path.with_name(f"{tmp_path.name}-state")))
    return folder


@pytest.fixture
def wrong_shapes() -> Iterator[None]:
    """Let wrong arguments through to the code that refuses them; else the check of annotations is there first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def real_data() -> Path:
    path = os.environ.get("TORCHLOUPE_DATA")
    if not path:
        if os.environ.get("CI"):
            pytest.fail("CI must set TORCHLOUPE_DATA")
        pytest.skip("needs the real pictures: set TORCHLOUPE_DATA")
    return Path(path)


@pytest.fixture(scope="module", autouse=True)
def no_socket_left_open() -> Iterator[None]:
    yield
    gc.collect()  # one would warn here, and warnings are errors


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        yield server


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCHLOUPE_DATA", raising=False)

    def call(*words: str | Path) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out, err)

    return call
