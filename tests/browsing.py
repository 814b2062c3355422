"""A real Chromium for tests, headless; where there is none they skip, and fail in CI."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def _without(what: str) -> Any:
    if os.environ.get("CI"):
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"needs {what}")


def needed(module: str) -> Any:
    """A module that tests in a browser need."""
    try:
        return import_module(module)
    except ImportError:
        _without(module)


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _without("playwright")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        _without("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page with all that it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def clean(self) -> None:
        """No message in the console, no error, no request, no dialog."""
        assert (self.said, self.asked, self.dialogs) == ([], [], [])


@contextmanager
def opened(browser: Any, file: Path, at: str = "", **context: Any) -> Iterator[Watched]:
    """A file opened from disk, everything that happens noted."""
    own = browser.new_context(accept_downloads=True, **context)
    page = own.new_page()
    watched = Watched(page)
    page.on("console", lambda message: watched.said.append(message.text))
    page.on("pageerror", lambda error: watched.said.append(str(error)))

    def dialog(found: Any) -> None:
        watched.dialogs.append(found.message)
        found.dismiss()

    page.on("dialog", dialog)

    def asked(request: Any) -> None:
        if not request.url.startswith(("data:", "blob:")) and request.resource_type != "document":
            watched.asked.append(request.url)

    page.on("request", asked)
    try:
        page.goto(file.resolve().as_uri() + at)
        page.wait_for_selector("html[data-ready=yes]", timeout=30_000)
        yield watched
    finally:
        own.close()


def painted(page: Any, selector: str) -> int:
    """Count the canvases that show something."""
    code = """nodes => nodes.filter(c => {
        if (!c.width) return false;
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return d.some((v, i) => i % 4 === 3 && v > 0);
    }).length"""
    return int(page.eval_on_selector_all(selector, code))
