"""Fixtures for all tests: the real pictures, and a cache folder of the test's own."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tests run side by side


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TORCHLOUPE_CACHE", str(folder))
    return folder


@pytest.fixture
def real_data() -> Path:
    path = os.environ.get("TORCHLOUPE_DATA")
    if not path:
        if os.environ.get("CI"):
            pytest.fail("CI must set TORCHLOUPE_DATA")
        pytest.skip("needs the real pictures: set TORCHLOUPE_DATA")
    return Path(path)
