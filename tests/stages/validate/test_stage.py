"""The stage writes reproducible results and pages, and failing rows if a check fails."""

import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lenet5.core import dataset
from lenet5.core.errors import DataError
from lenet5.core.paths import Paths
from lenet5.stages.validate import report, stage
from lenet5.stages.validate.params import Validate
from lenet5.stages.validate.reference import classifier_path
from tests.conftest import BIN
from tests.stages.validate.conftest import CHECKOUT, Splits, copy

# a run takes seconds, so the tests share one on bad and one on good data
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("validate-stage")]

RESULTS = ("reports", "data/quarantine")
"""Folders with the outputs of the stage."""


def results(paths: Paths) -> dict[str, bytes]:
    """Return the content of every file that the stage wrote, by its path in the checkout."""
    return {
        str(path.relative_to(paths.root)): path.read_bytes()
        for name in RESULTS
        for path in (paths.root / name).rglob("*")
        if path.is_file()
    }


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


class Failed(NamedTuple):
    paths: Paths
    error: stage.ValidationFailed
    log: str
    """What was logged at the level of warnings and above."""


class Passed(NamedTuple):
    paths: Paths
    summary: str
    connections: list[object]
    """Addresses of all attempts to open a connection; every attempt failed."""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory, sampled: Splits, params: Validate) -> Failed:
    """A project after a run on bad data, in the time zone UTC. It is shared: read it, or work in a copy."""
    splits = copy(sampled)
    keep = splits["test"].labels != 9
    splits["test"] = dataset.Split(splits["test"].images[keep], splits["test"].labels[keep])
    leaked = np.flatnonzero(splits["train"].labels != 9)[100:400]
    splits["test"].images[:300] = splits["train"].images[leaked]
    splits["test"].labels[:300] = splits["train"].labels[leaked]
    splits["train"].images[5] = 0
    paths = Paths(tmp_path_factory.mktemp("failed") / "project")
    dataset.save(paths.raw, splits)
    for file in (CHECKOUT.reference, classifier_path(CHECKOUT.reference), CHECKOUT.graph, CHECKOUT.params):
        copied = paths.root / file.relative_to(CHECKOUT.root)
        copied.parent.mkdir(exist_ok=True)
        shutil.copy(file, copied)

    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        with time_zone("UTC"), pytest.raises(stage.ValidationFailed) as refusal:
            stage.run(paths, params)
    finally:
        logging.getLogger().removeHandler(handler)
    return Failed(paths, refusal.value, log.getvalue())


@pytest.fixture(scope="module")
def passed(
    tmp_path_factory: pytest.TempPathFactory, failed: Failed, sampled: Splits, params: Validate
) -> Passed:
    """A copy of ``failed`` after a run on good data. It is shared as well."""
    paths = Paths(tmp_path_factory.mktemp("passed") / "project")
    shutil.copytree(failed.paths.root, paths.root)
    dataset.save(paths.raw, sampled)
    connections: list[object] = []

    def refuse(_: socket.socket, address: object) -> None:
        connections.append(address)
        raise OSError("no network in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        summary = stage.run(paths, params)
    return Passed(paths, summary, connections)


@contextmanager
def time_zone(name: str) -> Iterator[None]:
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TZ", name)
            time.tzset()
            yield
    finally:
        time.tzset()


def test_good_data(passed: Passed) -> None:
    result = validation(passed.paths)
    assert result["success"] is True
    assert result["data_digest"] == dataset.load_manifest(passed.paths.raw).digest
    assert result["images"] == {"train": 3000, "test": 2000}
    assert len(result["checks"]) == 26
    assert all(check["success"] for check in result["checks"])
    assert all(0 <= nats < 0.02 for nats in result["drift"].values())
    assert not passed.paths.quarantine.exists()
    assert not passed.connections
    assert "26 checks passed on 3,000 train and 2,000 test images" in passed.summary


@pytest.mark.integration
def test_equal_data_gives_equal_bytes_in_any_process_time_zone_and_folder(
    failed: Failed, tmp_path: Path
) -> None:
    """Pages about bad data have more content than those about good data."""
    checkout, home = Paths(tmp_path / "checkout"), tmp_path / "home"
    shutil.copytree(failed.paths.root, checkout.root)
    for name in RESULTS:
        shutil.rmtree(checkout.root / name)
    home.mkdir()
    ended = subprocess.run(
        [str(BIN / "lenet5"), "validate"],
        cwd=checkout.root,
        env=os.environ | {"HOME": str(home), "TZ": "Asia/Kathmandu"},
        check=False,
    )
    assert ended.returncode == DataError.exit_code
    assert not list(home.iterdir())  # Great Expectations writes no file to the home folder
    outputs = results(checkout)
    assert outputs == results(failed.paths)
    assert len(outputs) == 10  # validation.json, rows.csv, summary, index, and two pages for each table


def test_bad_data(failed: Failed) -> None:
    project = failed.paths
    assert "docs rendering" not in failed.log  # Great Expectations logs a page that it cannot render

    checks = {check["name"]: check for check in validation(project)["checks"] if not check["success"]}
    assert validation(project)["success"] is False
    assert set(checks) == {
        "ink_share",
        "test_in_train",
        "class_drift_test",
        "class_present",
        "class_share",
    }
    assert (
        checks["test_in_train"]["failed_rows"] == 300
    )  # Great Expectations lists only the first 200 by default
    assert checks["class_drift_test"]["failed_rows"] == 0

    rows = pd.read_csv(project.quarantine / "rows.csv")
    assert rows["failed"].value_counts().to_dict() == {"test_in_train": 300, "ink_share": 1}
    output = io.StringIO()
    Console(file=output, width=200).print(report.table(failed.error.failed))
    printed, message = output.getvalue(), str(failed.error)
    for name, check in checks.items():
        assert name in printed
        assert f"{name}: expected {check['expected']}; seen {check['seen']}" in message
    assert str(project.quarantine / "rows.csv") in message
    assert str(project.data_docs / "summary.html") in message
    page = (project.data_docs / "summary.html").read_text()
    assert page.count('<tr class="bad">') == len(checks)
    assert "<b>train 5</b>" in page  # the blank image
    assert page.count("<figcaption>") > 50
    assert len(page) < 1_000_000


def test_results_of_an_earlier_run_are_removed_first(
    failed: Failed, passed: Passed, params: Validate, tmp_path: Path
) -> None:
    assert (failed.paths.quarantine / "rows.csv").exists()
    assert not passed.paths.quarantine.exists()

    paths = Paths(tmp_path / "project")
    shutil.copytree(passed.paths.root, paths.root)
    paths.reference.unlink()
    with pytest.raises(DataError, match="reference profile"):
        stage.run(paths, params)
    assert not paths.validation.exists()
    assert not paths.data_docs.exists()


def test_pages_link_to_each_other_and_hold_no_time(passed: Passed) -> None:
    pages = list(passed.paths.data_docs.rglob("*.html"))
    assert len(pages) == 8
    for page in pages:
        targets = Links(page).targets
        assert targets
        assert [target for target in targets if not target.exists()] == []
        text = page.read_text()
        assert set(re.findall(r"\b(\d{4})-?\d\d-?\d\d[T ]\d", text)) <= {"1970"}
        assert str(passed.paths.root) not in text


def test_summary_is_self_contained(passed: Passed) -> None:
    summary = (passed.paths.data_docs / "summary.html").read_text()
    assert "http" not in summary
    assert "<script" not in summary
    assert summary.count('<tr class="good">') == 26
    assert dataset.load_manifest(passed.paths.raw).digest in summary
