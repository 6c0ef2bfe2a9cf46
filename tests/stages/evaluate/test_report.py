"""The report page stands alone, can be read by everybody, and shows the numbers of the stage."""

import itertools
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lenet5.core import dataset
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, EvaluationDetails, Validation
from lenet5.stages.evaluate import pictures, report
from tests.conftest import Project

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, and what a check of its structure needs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text(finished: Project) -> str:
    return finished.paths.report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_page_loads_nothing_and_runs_nothing(page: Page, text: str) -> None:
    for name, attributes in page.elements:
        assert name not in ("script", "iframe", "object", "embed", "form")
        for attribute in ("src", "href", "srcset", "action"):
            value = attributes.get(attribute) or "#"
            assert value.startswith(("data:", "#")), (name, value[:80])
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    [policy] = [meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy["content"])


def test_page_is_small(text: str) -> None:
    assert 50_000 < len(text.encode()) < 3_000_000


def test_every_picture_has_a_text(page: Page) -> None:
    pictures_ = page.all("img")
    assert len(pictures_) > 60
    assert all(len(picture.get("alt") or "") > 15 for picture in pictures_)


def test_structure_serves_keyboard_and_screen_reader(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(name[1]) for name, _ in page.elements if name in ("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(link["href"])[1:] for link in page.all("a")}
    assert targets <= set(ids)
    assert {section["id"] for section in page.all("section")} == targets - {"content"}
    for _, attributes in page.elements:
        for name in str(attributes.get("aria-labelledby") or "").split():
            assert name in ids
    scrollable = [each for each in page.all("div") if each.get("class") == "scroll"]
    assert scrollable
    assert all(each.get("tabindex") == "0" and each.get("aria-label") for each in scrollable)


def test_page_follows_the_colours_of_the_reader(text: str) -> None:
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_page_shows_the_numbers_of_the_stage(finished: Project, page: Page) -> None:
    evaluation = Evaluation.read(finished.paths.evaluation)
    validation = Validation.read(finished.paths.validation)
    for shown in (
        f"{evaluation.accuracy:.2%}".replace("%", " %"),
        f"{evaluation.calibration_error:.4f}",
        f"{evaluation.train_accuracy:.4f}",
        f"{evaluation.mean_corruption_accuracy:.2%}".replace("%", " %"),
        f"{len(validation.checks)} of {len(validation.checks)} checks passed",
        EvaluationDetails.read(finished.paths.evaluation_details).onnx_file,
    ):
        assert shown in page.text, shown


def test_equal_files_give_equal_pages_and_their_texts_are_escaped(
    finished: Project, tmp_path: Path, text: str
) -> None:
    test = dataset.load(finished.paths.raw, ["test"]).splits["test"]
    copy = Paths(tmp_path)
    for folder in ("metrics", "models", "plots", "reports"):
        shutil.copytree(finished.root / folder, tmp_path / folder)
    copy.data_card.parent.mkdir()
    shutil.copyfile(finished.paths.data_card, copy.data_card)
    assert report.build(copy, test) == text
    validation = Validation.read(copy.validation)
    check = validation.checks[0].model_copy(update={"seen": "<script>alert('x')</script>"})
    validation.model_copy(update={"checks": [check]}).write(copy.validation)
    page = report.build(copy, test)
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "<script" not in page


def test_only_the_verdict_is_replaced(text: str) -> None:
    section = r'<section id="verdict">version 7 \1 \g<0></section>'
    changed = report.with_verdict(text, section)
    assert changed.count(section) == 1
    assert "depend on the model registry" not in changed
    before, after = re.split("<!-- verdict -->.*<!-- /verdict -->", text, flags=re.DOTALL)
    assert changed.startswith(before)
    assert changed.endswith(after)
    assert report.with_verdict(changed, "another section").count("another section") == 1


def test_heat_map_has_a_row_for_each_corruption_and_a_gap_where_a_severity_is_missing() -> None:
    table = pd.DataFrame(
        {
            "corruption": ["fog", "fog", "scale"],
            "severity": [1, 3, 3],
            "images": [10, 10, 10],
            "accuracy": [0.9, 0.5, 0.8],
            "low": [0.8, 0.4, 0.7],
            "high": [0.95, 0.6, 0.9],
            "retained": [1.0, 0.6, 0.9],
        }
    )
    heat_map = report.heat_map(table)
    fog, scale = heat_map["rows"]
    assert heat_map["severities"] == [1, 3]
    assert (fog["name"], fog["accuracy"], fog["retained"]) == ("fog", pytest.approx(0.7), pytest.approx(0.8))
    assert scale["cells"][0] is None
    assert [row["name"] for row in report.weakest(heat_map["rows"], 1)] == ["fog"]


def test_pictures_are_deterministic_and_show_the_sign() -> None:
    maps = np.zeros((2, 2, 3), np.float32)
    maps[0, 0] = [-1, 0, 1]
    assert pictures.signed_sheet(maps, 2) == pictures.signed_sheet(maps.copy(), 2)
    assert pictures.signed_sheet(maps, 2) != pictures.signed_sheet(-maps, 2)
    assert pictures.sheet(maps * 0, 2).startswith("data:image/png;base64,")  # no division by zero
