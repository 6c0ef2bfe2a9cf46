"""The stage writes reproducible results and pages, and failing rows if a check fails."""

import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import report, stage
from lenet5.stages.validate.params import Validate
from tests.conftest import BIN
from tests.stages.validate.conftest import CHECKOUT, Splits


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def validation(paths: Paths) -> Any:
    return json.loads(paths.validation.read_text())


class Links(HTMLParser):
    """Collects the links of a page to other files of its site."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[Path] = []
        self._page = page
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href") or ""
        if tag == "a" and not target.startswith(("http", "#")):
            self.targets.append((self._page.parent / target.partition("?")[0]).resolve())


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Addresses of all attempts to open a connection; every attempt fails."""
    addresses: list[object] = []

    def refuse(_: socket.socket, address: object) -> None:
        addresses.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return addresses


def test_good_data(project: Paths, params: Validate, connections: list[object]) -> None:
    summary = stage.run(project, params)
    result = validation(project)
    assert result["success"] is True
    assert result["data_digest"] == dataset.load_manifest(project.raw).digest
    assert result["images"] == {"train": 3000, "test": 2000}
    assert len(result["checks"]) == 16
    assert all(check["success"] for check in result["checks"])
    assert all(0 <= nats < 0.02 for nats in result["drift"].values())
    assert not project.quarantine.exists()
    assert not connections
    assert "16 checks passed on 3,000 train and 2,000 test images" in summary


def test_equal_data_gives_equal_bytes_in_any_process_time_zone_and_folder(
    project: Paths, splits: Splits, tmp_path: Path
) -> None:
    splits["train"].labels[7] = 10  # pages about bad data have more content
    dataset.save(project.raw, splits)
    for file in (CHECKOUT.graph, CHECKOUT.params):
        shutil.copy(file, project.root)
    outputs = []
    for zone in ("UTC", "Asia/Kathmandu"):
        checkout, home = tmp_path / zone / "checkout", tmp_path / zone / "home"
        shutil.copytree(project.root, checkout)
        home.mkdir()
        command = [str(BIN / "lenet5"), "validate"]
        ended = subprocess.run(
            command, cwd=checkout, env=os.environ | {"HOME": str(home), "TZ": zone}, check=False
        )
        assert ended.returncode == DataError.exit_code
        assert not list(home.iterdir())  # Great Expectations writes no file to the home folder
        outputs.append(
            tree(checkout / "reports") | tree(checkout / "metrics") | tree(checkout / "data" / "quarantine")
        )
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 8  # validation.json, rows.csv, summary, index, and two pages for each table


def test_bad_data(
    project: Paths,
    splits: Splits,
    params: Validate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keep = splits["test"].labels != 9
    splits["test"] = dataset.Split(splits["test"].images[keep], splits["test"].labels[keep])
    splits["test"].images[:300] = splits["train"].images[100:400]
    splits["train"].images[5] = 0
    dataset.save(project.raw, splits)
    with caplog.at_level(logging.WARNING), pytest.raises(stage.ValidationFailed) as refusal:
        stage.run(project, params)
    assert "docs rendering" not in caplog.text  # Great Expectations logs a page that it cannot render

    failed = {check["name"]: check for check in validation(project)["checks"] if not check["success"]}
    assert validation(project)["success"] is False
    assert set(failed) == {
        "ink_share",
        "test_in_train",
        "class_drift_test",
        "class_present",
        "class_share",
    }
    assert (
        failed["test_in_train"]["failed_rows"] == 300
    )  # Great Expectations lists only the first 200 by default
    assert failed["class_drift_test"]["failed_rows"] == 0

    rows = pd.read_csv(project.quarantine / "rows.csv")
    assert rows["failed"].value_counts().to_dict() == {"test_in_train": 300, "ink_share": 1}
    output = io.StringIO()
    Console(file=output, width=200).print(report.table(refusal.value.failed))
    printed, message = output.getvalue(), str(refusal.value)
    for name, check in failed.items():
        assert name in printed
        assert f"{name}: expected {check['expected']}; seen {check['seen']}" in message
    assert str(project.quarantine / "rows.csv") in message
    assert str(project.data_docs / "summary.html") in message
    assert (project.data_docs / "summary.html").read_text().count('<tr class="bad">') == len(failed)


def test_results_of_an_earlier_run_are_removed_first(
    project: Paths, splits: Splits, params: Validate
) -> None:
    good = splits["train"].labels.copy()
    splits["train"].labels[0] = 10
    dataset.save(project.raw, splits)
    with pytest.raises(DataError):
        stage.run(project, params)
    assert len(pd.read_csv(project.quarantine / "rows.csv")) == 1

    splits["train"].labels[:] = good
    dataset.save(project.raw, splits)
    stage.run(project, params)
    assert not project.quarantine.exists()

    project.reference.unlink()
    with pytest.raises(DataError, match="reference profile"):
        stage.run(project, params)
    assert not project.validation.exists()
    assert not project.data_docs.exists()


def test_pages_link_to_each_other_and_hold_no_time(project: Paths, params: Validate) -> None:
    stage.run(project, params)
    pages = list(project.data_docs.rglob("*.html"))
    assert len(pages) == 6
    for page in pages:
        targets = Links(page).targets
        assert targets
        assert [target for target in targets if not target.exists()] == []
        text = page.read_text()
        assert set(re.findall(r"\b(\d{4})-?\d\d-?\d\d[T ]\d", text)) <= {"1970"}
        assert str(project.root) not in text


def test_summary_is_self_contained(project: Paths, params: Validate) -> None:
    stage.run(project, params)
    summary = (project.data_docs / "summary.html").read_text()
    assert "http" not in summary
    assert "<script" not in summary
    assert summary.count('<tr class="good">') == 16
    assert dataset.load_manifest(project.raw).digest in summary
