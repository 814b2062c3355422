"""Reports of several networks: seconds to make, megabytes, seconds until a browser can use them. Needs chromium.

python bench/report.py RUN [RUN …]
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from common import table, write
from torchloupe.inspection.subject import subject
from torchloupe.reports.report import prepare
from torchloupe.reports.report import write as write_report

OPENINGS = 5


def opening(browser: Any, path: Path) -> float:
    """Return the seconds from asking for a page until its script has drawn it."""
    page = browser.new_page()
    began = time.perf_counter()
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    seconds = time.perf_counter() - began
    page.close()
    return seconds


def main() -> None:
    """Make and open a report of each run."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("models", nargs="+")
    words.add_argument("--budget", type=float, default=600.0)
    words.add_argument("--keep", type=Path, help="folder for the reports, to look at")
    given = words.parse_args()
    from playwright.sync_api import sync_playwright

    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for number, model in enumerate(given.models):
            studied = subject(model)
            planned, samples = prepare(studied, budget=given.budget)
            path = (given.keep or Path(scratch)) / f"{number}.html"
            made = write_report(studied, path, planned, samples, budget=given.budget)
            opened = sorted(opening(browser, made.path) for _ in range(OPENINGS))
            units = sum(len(layer.units) for layer in made.contents.layers)
            rows.append(
                (
                    studied.title,
                    f"{len(planned.layers)}, {units}",
                    f"{planned.seconds:.0f}",
                    f"{made.seconds:.0f}",
                    f"{made.size / 2**20:.1f}",
                    f"{opened[OPENINGS // 2]:.2f} ({opened[0]:.2f} to {opened[-1]:.2f})",
                )
            )
            print(rows[-1], flush=True)
        browser.close()
    head = ("network", "layers, units", "estimated, s", "made in, s", "MB", "usable after, s: median (range)")
    said = f"Budget {given.budget:.0f} s. Usable: opened from disk in headless Chromium, {OPENINGS} times."
    write("report", "Reports", [said, table(head, rows)], "python bench/report.py RUN …")


if __name__ == "__main__":
    main()
