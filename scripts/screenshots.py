"""Make the pictures of docs/ from a build with two runs or more and a trace, with a headless Chromium.

The page is the build's report.html. A picture of more than 200 kB, or without what it should show, is an error:
python scripts/screenshots.py build/demo
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Page, chromium, find_chromium  # noqa: E402 - the tests are no package

DOCS = ROOT / "docs"
LARGEST = 200_000
"""Bytes of a picture at most: a page of the documentation loads all that it shows."""
WIDTH = 1200
"""Pixels of every picture; at this width no table of the page is cut."""


class Shot(NamedTuple):
    """A picture: its file in docs/, its height, and JavaScript that brings the page to the place, true if it could."""

    name: str
    height: int
    script: str


def at(selector: str) -> str:
    """Return JavaScript that puts the element of a CSS selector at the top of the window, true if it is there then."""
    moved = "e.scrollIntoView({behavior: 'instant'}), e.getBoundingClientRect().top < 100"
    return f"(e => e ? ({moved}) : false)(document.querySelector('{selector}'))"


OPENED = "document.querySelectorAll('section[aria-labelledby=runs] details').forEach(e => e.open = true)"
SHOTS = (
    Shot("report.png", 900, "window.scrollTo(0, 0), true"),
    Shot("report-comparison.png", 620, f"{OPENED}, {at('#runs')}"),
    Shot("report-trace.png", 900, at("#trace-1")),
)


def take(page: Page, shot: Shot) -> None:
    """Take a picture of the page that is open. Raises SystemExit if it has no such place or the file is too large."""
    page.size(WIDTH, shot.height)
    if page.run(shot.script) is not True:
        raise SystemExit(f"{shot.name}: the page has no such place; expected a build with two runs and a trace")
    path = DOCS / shot.name
    page.shoot(path)
    size = path.stat().st_size
    if size >= LARGEST:
        raise SystemExit(f"{path}: {size:,} bytes; expected fewer than {LARGEST:,}")
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")


def main() -> None:
    """Read the command line and take every picture."""
    given = argparse.ArgumentParser(description="Make the pictures of docs/ from a build.")
    given.add_argument("build", type=Path, help="a build with report.html, two runs or more, and a trace")
    report = given.parse_args().build.resolve() / "report.html"
    if find_chromium() is None or not report.is_file():
        raise SystemExit(f"expected Chromium on the path, and the page {report}")
    with tempfile.TemporaryDirectory(prefix="cfbuild-") as profile, chromium(Path(profile)) as browser:
        page = Page(browser)
        page.scheme("light")
        page.open(report)
        for shot in SHOTS:
            take(page, shot)


if __name__ == "__main__":
    main()
