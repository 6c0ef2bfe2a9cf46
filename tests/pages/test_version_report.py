"""The pages of registered versions: the gate's verdict, and two versions side by side."""

import json
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5.core import files
from lenet5.system import settings
from lenet5.tracking import tags
from tests.conftest import Project
from tests.stages.evaluate.test_report import Page

MODEL = "lenet5-mnist"

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("models")]


def test_report_of_the_champion_is_its_page_with_the_verdict(finished: Project) -> None:
    said = finished.run("lenet5", "report")
    written = finished.root / f".lenet5/reports/{MODEL}-1.html"
    assert str(written) in said.replace("\n", "")
    text, logged = written.read_text(encoding="utf-8"), finished.paths.report.read_text(encoding="utf-8")
    assert text.split("<!-- verdict -->")[0] == logged.split("<!-- verdict -->")[0]
    assert text.split("<!-- /verdict -->")[1] == logged.split("<!-- /verdict -->")[1]
    page = Page(text)
    assert "version 1 (champion)" in page.text
    assert "Without a champion to compare with, the gate decides: promote" in page.text
    assert "floor of accuracy" in page.text
    assert finished.git("rev-parse", "HEAD").strip() in page.text
    assert "train.learning_rate" in page.text


def test_page_that_was_changed_in_the_store_is_refused(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = finished.copy(tmp_path)
    [page] = (project.root / ".lenet5").rglob("results/report.html")
    page.write_text(page.read_text(encoding="utf-8").replace("Accuracy", "Perfection"), encoding="utf-8")
    done = project.command("lenet5", "report", "1")
    assert done.returncode == 4
    assert "is not the one that was registered" in done.stderr
    # a version of an earlier release has no page
    client = MlflowClient(settings.embedded(project.paths)["MLFLOW_TRACKING_URI"])
    digests = json.loads(client.get_model_version(MODEL, "1").tags[tags.ARTIFACTS])
    assert digests.pop("results/report.html") == files.sha256(finished.paths.report)
    client.set_model_version_tag(MODEL, "1", tags.ARTIFACTS, json.dumps(digests))
    done = project.command("lenet5", "report", "1")
    assert done.returncode == 4
    assert re.search("Version 1 has no report page(.|\n)*fix:", done.stderr)
