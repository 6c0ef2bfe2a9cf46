"""Data Docs made fit to be kept: the same bytes for the same data, and legible without a network."""

import itertools
import re
import shutil
from pathlib import Path

_STYLE = Path(__file__).with_name("data_docs.css").read_text(encoding="utf-8")

# Pages tell when the data was loaded and when they were made, and the run time in the machine's time zone.
# All become the one run time, which never changes.
_CLOCKS = (
    (re.compile(r"\d{8}T\d{6}\.\d{6}Z"), "19700101T000000.000000Z"),
    (re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(Z| [\w+-]+)"), r"1970-01-01\g<1>00:00:00Z"),
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def settle(site: Path) -> None:
    """Take the clock, the time zone and random ids out of a site, and let it stand on its own offline."""
    # 4 MB of fonts and pictures, of which the pages use an icon for the browser's tab
    shutil.rmtree(site / "static")
    for path in site.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        for clock, epoch in _CLOCKS:
            page = clock.sub(epoch, page)
        page = _offline(_numbered(page), home="../" * (len(path.relative_to(site).parts) - 1))
        path.write_text(page, encoding="utf-8")


def _numbered(page: str) -> str:
    """Replace every random id by its place in the order in which they appear."""
    count = itertools.count(1)
    known: dict[str, str] = {}
    return _UUID.sub(lambda match: known.setdefault(match[0], f"id-{next(count)}"), page)


def _offline(page: str, home: str) -> str:
    """Put a plain style before the one that comes from the network, and a way back to the summary.

    Where Bootstrap does load it comes later in the page, and wins.
    """
    page = page.replace('<meta charset="UTF-8">', f'<meta charset="UTF-8">\n<style>\n{_STYLE}</style>', 1)
    return page.replace("<body>", f'<body>\n<a class="summary" href="{home}summary.html">← summary</a>', 1)
