"""In a real browser, no page has a serious finding of axe-core, and each fits the width of a phone."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Arrays, Project
from tests.pages.axe_core import DESKTOP, PHONE, findings, show
from tools.browser import Page

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("models")]
Pages = Mapping[str, Path]
PAGES = ["champion", "candidate", "comparison", "explanation", "stage", "validation"]
GOOD = """<!DOCTYPE html><html lang="en"><head><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root { color-scheme: light dark; } body { background: #fff; color: #222; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee; } }</style></head>
<body><main><h1>A page</h1><p>Text.</p></main></body></html>"""


@pytest.fixture(scope="module")
def pages(rejected: tuple[Project, str], digits: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """Every kind of page that the product writes for people."""
    project, _ = rejected
    folder = tmp_path_factory.mktemp("pages")
    picture = folder / "digit.png"
    Image.fromarray(digits["test_images"][0]).save(picture)
    for name, words in {
        "champion": ("report",),
        "candidate": ("report", "2"),
        "comparison": ("compare", "1", "2"),
        "explanation": ("explain", str(picture)),
    }.items():
        project.run("lenet5", *words, "--output", str(folder / f"{name}.html"))
    written = {file.stem: file for file in folder.glob("*.html")}
    return written | {"stage": project.paths.report, "validation": project.paths.data_docs / "summary.html"}


@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (DESKTOP, False)], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_serious_finding(pages: Pages, browser: Page, name: str, width: int, dark: bool) -> None:
    """A check takes seconds, so each width has one colour scheme."""
    show(browser, pages[name], width=width, dark=dark)
    assert browser.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    assert [each for each in findings(browser) if each.impact in ("serious", "critical")] == []


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_the_width(pages: Pages, browser: Page, name: str) -> None:
    for width in (PHONE, DESKTOP):
        show(browser, pages[name], width=width)
        browser.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("color-contrast", lambda page: page.replace("<p>", '<p style="color: #999; background: #aaa">')),
        ("image-alt", lambda page: page.replace("<p>", '<p><img src="data:,">')),
        ("html-has-lang", lambda page: page.replace(' lang="en"', "")),
        (
            "color-contrast",  # in dark mode alone
            lambda page: page.replace("background: #111; color: #eee", "background: #111; color: #333"),
        ),
    ],
)
def test_check_reports_a_page_with_a_defect(
    browser: Page, tmp_path: Path, rule: str, damage: Callable[[str], str]
) -> None:
    found = {}
    for name, text in {"good": GOOD, "damaged": damage(GOOD)}.items():
        page = tmp_path / f"{name}.html"
        page.write_text(text, encoding="utf-8")
        for dark in (False, True):
            show(browser, page, width=PHONE, dark=dark)
            found[name, dark] = {
                each.rule for each in findings(browser) if each.impact in ("serious", "critical")
            }
    assert found["good", False] == found["good", True] == set()
    assert found["damaged", True] == {rule}
    only_dark = "#111; color: #333" in damage(GOOD)
    assert found["damaged", False] == (set() if only_dark else {rule})


def test_page_that_is_too_wide_for_a_phone_is_seen(browser: Page, tmp_path: Path) -> None:
    page = tmp_path / "wide.html"
    page.write_text(GOOD.replace("<p>", '<p style="width: 700px">'), encoding="utf-8")
    show(browser, page, width=PHONE)
    assert browser.evaluate("document.documentElement.scrollWidth") > PHONE
