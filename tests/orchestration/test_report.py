"""What Prefect's pages show of a flow run: its name and its report."""

import base64
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.orchestration import report
from lenet5.registry import model_versions, promotion
from lenet5.tracking import tags
from tests.conftest import REPOSITORY
from tests.registry.factory import add, params
from tests.tracking.conftest import bare_paths, client, paths

__all__ = ["bare_paths", "client", "paths"]

MODEL = "digits"


def test_a_report_has_verdict_error_rate_picture_and_links(client: MlflowClient, paths: Paths) -> None:
    of_version = {tags.RAW_DATA: "e" * 64, tags.WEIGHTS: "f" * 64, tags.ACCURACY: "0.96"}
    add(client, paths, MODEL, wrong=range(40), extra_tags=of_version)
    paths.figures.mkdir(parents=True)
    (paths.figures / "confusion.png").write_bytes(b"picture")
    promoted = promotion.promote(paths, params(MODEL), "1")
    text = report.markdown(paths, promoted)
    assert text.startswith("## digits version 1: promoted to champion")
    assert "**error rate on the test images** | **4.00 %**" in text
    assert f"data:image/png;base64,{base64.b64encode(b'picture').decode()}" in text
    assert "Calibration](" not in text, "there is no such figure"
    links = re.findall(r"\[([^\]]+)\]\((http://127\.0\.0\.1:5000/#/[^)]+)\)", text)
    assert [title for title, _ in links] == ["version 1", "report page", "run"]
    assert "while `lenet5 ui` runs" in text
    assert report.line(promoted) == "version 1: promoted to champion"
    assert report.artifact_key(promoted) == "promotion-digits"


def test_the_verdict_is_on_the_run_and_in_the_first_line_of_the_version(
    client: MlflowClient, paths: Paths
) -> None:
    add(client, paths, MODEL, wrong=range(40))
    promotion.promote(paths, params(MODEL), "1")
    worse = add(client, paths, MODEL, wrong=range(90))
    for _ in range(2):  # the second answer replaces the first one
        promotion.promote(paths, params(MODEL), "2")
    [version, _] = model_versions.versions(client, MODEL)
    decision = version.tags[tags.DECISION]
    assert decision.startswith("reject against version 1: ")
    assert client.get_run(worse.run_id).data.tags[tags.DECISION] == decision
    description = client.get_model_version(MODEL, "2").description
    assert description.startswith(f"Gate: {decision}\n\n")
    assert description.count("Gate: ") == 1


def test_a_flow_run_is_named_after_parameters_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    name = report.flow_run_name({"force": ["train"], "new_data": True})
    assert re.fullmatch(r"new data, default parameters at [0-9a-f]{8}( with changes)? \(train forced\)", name)


def test_a_flow_run_that_cannot_be_named_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("train: [\n")
    monkeypatch.chdir(tmp_path)
    assert report.flow_run_name({}) == "training"
