"""Check pages with axe-core in a headless Chromium."""

import time
from dataclasses import dataclass
from pathlib import Path

from tools.browser import Page

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
PHONE, DESKTOP = 390, 1280
"""Widths in CSS pixels."""


@dataclass(frozen=True)
class Finding:
    """A rule of axe-core that a page breaks."""

    rule: str
    impact: str
    """``minor``, ``moderate``, ``serious`` or ``critical``."""
    places: tuple[str, ...]
    """What breaks it: the elements and why, at most three."""


def show(browser: Page, page: Path, *, width: int, dark: bool = False) -> None:
    """Open a page from a file, as a reader with this width and this colour scheme sees it."""
    address = page.absolute().as_uri()
    browser.resize(width, 844, dark=dark, mobile=width < 600).open(address)
    deadline = time.monotonic() + 60
    while browser.evaluate("[location.href, document.readyState]") != [address, "complete"]:
        assert time.monotonic() < deadline, f"{page} is not loaded"
        time.sleep(0.05)


def findings(browser: Page) -> list[Finding]:
    """Return what axe-core finds in the open page, with all its details unfolded."""
    browser.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    browser.evaluate(f"{AXE}; undefined")
    found = browser.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)"
    )
    return [
        Finding(
            each["id"],
            each["impact"],
            tuple(f"{node['html'][:200]}: {node['failureSummary']}" for node in each["nodes"][:3]),
        )
        for each in found
    ]
