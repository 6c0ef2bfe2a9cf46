"""Make Data Docs reproducible (equal data gives equal bytes) and readable without a network."""

import itertools
import re
import shutil
from pathlib import Path

from great_expectations.data_context.store import TupleFilesystemStoreBackend

_STYLE = Path(__file__).with_name("data_docs.css").read_text(encoding="utf-8")

# Pages contain the times of loading and rendering, and the run time in the machine's time zone. All of them
# are replaced by the constant run time.
_TIMES = (
    (re.compile(r"\d{8}T\d{6}\.\d{6}Z"), "19700101T000000.000000Z"),
    (re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(Z| [\w+-]+)"), r"1970-01-01\g<1>00:00:00Z"),
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SortedFolder(TupleFilesystemStoreBackend):
    """A folder of pages whose list is sorted: the order of a folder depends on the file system."""

    def list_keys(self, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return sorted(super().list_keys(prefix))


def make_reproducible(site: Path) -> None:
    """Replace times, time zones and random ids in all pages of a site, and add a style for use offline."""
    # the folder has 4 MB of fonts and pictures; the pages only use the icon of the browser tab
    shutil.rmtree(site / "static")
    for path in site.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        for time, constant in _TIMES:
            page = time.sub(constant, page)
        page = _offline(_number_ids(page), home="../" * (len(path.relative_to(site).parts) - 1))
        path.write_text(page, encoding="utf-8")


def _number_ids(page: str) -> str:
    """Replace each random id by a number in the order of first appearance."""
    count = itertools.count(1)
    numbers: dict[str, str] = {}
    return _UUID.sub(lambda match: numbers.setdefault(match[0], f"id-{next(count)}"), page)


def _offline(page: str, home: str) -> str:
    """Insert a plain style before the one from the network, and a link to the summary."""
    page = page.replace('<meta charset="UTF-8">', f'<meta charset="UTF-8">\n<style>\n{_STYLE}</style>', 1)
    return page.replace("<body>", f'<body>\n<a class="summary" href="{home}summary.html">← summary</a>', 1)
