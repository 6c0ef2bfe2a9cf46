"""A project and real servers on this machine: PostgreSQL, MLflow and Prefect."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from lenet5.system.state import LocalState
from tests.conftest import Project, clone, free_port, serve_mlflow, servers, until
from tests.postgres import NewDatabase


@dataclass(frozen=True)
class Reported:
    """A project after a flow run that reported to servers."""

    project: Project
    mlflow: str
    prefect: str
    output: str
    """What the command printed."""

    @property
    def environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self.mlflow, "PREFECT_API_URL": f"{self.prefect}/api"}

    def prefect_objects(self, kind: str) -> list[dict[str, Any]]:
        """Every object of one kind that Prefect's server has."""
        return list(requests.post(f"{self.prefect}/api/{kind}/filter", json={}, timeout=30).json())


@pytest.fixture(scope="module")
def reported(
    finished: Project, tmp_path_factory: pytest.TempPathFactory, postgres: NewDatabase
) -> Iterator[Reported]:
    """``lenet5 run`` in a project that is up to date, with servers that are empty."""
    folder = tmp_path_factory.mktemp("reported")
    (folder / "prefect").mkdir()
    port = free_port()
    with servers(folder) as start:
        prefect = start(
            *("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
            port=port,
            probe="/api/health",
            environment={
                "PREFECT_HOME": str(folder / "prefect"),
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            },
        )
        mlflow = serve_mlflow(start, postgres(), folder / "artifacts")
        reported = Reported(finished.copy(folder), mlflow, prefect, "")
        output = reported.project.run("lenet5", "run", environment=reported.environment)
        yield replace(reported, output=output)


@pytest.mark.xdist_group("servers")
def test_a_flow_reports_to_servers_and_fills_an_empty_store(reported: Reported) -> None:
    project, mlflow, prefect = reported.project, reported.mlflow, reported.prefect
    assert "champion" in reported.output

    [version] = json.loads(project.run("lenet5", "versions", "--json", environment=reported.environment))
    assert version["aliases"] == ["champion"]
    run = requests.get(f"{mlflow}/api/2.0/mlflow/runs/get", {"run_id": version["run_id"]}, timeout=30).json()
    metrics = {metric["key"]: metric["value"] for metric in run["run"]["data"]["metrics"]}
    assert metrics["evaluate.accuracy"] == version["accuracy"]
    # the flow trained nothing, so what the server knows of the epochs came from files
    assert "train.val_loss" in metrics
    assert run["run"]["info"]["artifact_uri"].startswith("mlflow-artifacts:/")

    [flow_run] = reported.prefect_objects("flow_runs")
    assert flow_run["state_type"] == "COMPLETED"
    tasks = reported.prefect_objects("task_runs")
    names = [task["name"] for task in sorted(tasks, key=lambda task: task["start_time"])]
    assert names == ["ingest", "validate", "preprocess", "train", "evaluate", "register", "promote"]
    [artifact] = reported.prefect_objects("artifacts")
    assert f"{mlflow}/#/experiments/" in artifact["data"]
    assert "promoted to champion" in artifact["data"]

    def logged(part: str) -> bool:
        return any(part in log["message"] for log in reported.prefect_objects("logs"))

    until(lambda: logged("didn't change, skipping"), 30, "the logs, which are sent in batches")
    reason = "data is kept on this machine (LENET5_DVC_REMOTE is not set)"
    here = f"train runs here and not on work pool gpu: {reason}"
    assert logged(here)

    status = json.loads(project.run("lenet5", "status", "--json", environment=reported.environment))
    assert status["prefect"] == {"address": f"{prefect}/api", "answers": True}
    assert status["tracking"]["answers"]


@pytest.mark.long  # in one checkout, without servers: test_reproduce.py
@pytest.mark.xdist_group("servers")
def test_another_machine_makes_the_same_model_again(
    reported: Reported, finished: Project, tmp_path: Path
) -> None:
    """It has the repository and the addresses of the servers, but no cache and no outputs."""
    servers = reported.environment
    elsewhere = clone(finished, tmp_path / "elsewhere")
    told = elsewhere.run("lenet5", "reproduce", "@champion", "--record", environment=servers)
    assert "version 1 is bit-identical" in told
    assert told.count("✓") == 8
    assert "✗" not in told
    assert "warning" not in told
    # it trained, and took nothing from a cache
    assert told.count("Running stage") == 5
    assert "epoch 2/2" in told
    # nothing is left over
    assert not (LocalState(elsewhere.paths.root).folder / "reproduce/lenet5-mnist-1").exists()
    assert len(elsewhere.git("worktree", "list").splitlines()) == 1
    assert elsewhere.git("status", "--porcelain") == ""
    assert not LocalState(elsewhere.paths.root).mlflow.exists()
    lineage = json.loads(elsewhere.run("lenet5", "lineage", "1", "--json", environment=servers))
    assert lineage["reproduced"].startswith("yes, 20")
    assert lineage["run"]["prefect"] == reported.prefect_objects("flow_runs")[0]["id"]


@pytest.mark.integration
def test_servers_that_do_not_answer_are_a_clear_error(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path)
    nowhere = f"http://127.0.0.1:{free_port()}"
    quick = {"MLFLOW_TRACKING_URI": nowhere, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    refused = project.command("lenet5", "versions", environment=quick)
    assert refused.returncode == 6
    assert f"MLflow at {nowhere}" in refused.stderr
    assert "Traceback" not in refused.stderr

    refused = project.command("lenet5", "run", environment={"PREFECT_API_URL": f"{nowhere}/api"})
    assert refused.returncode == 6
    assert "Prefect does not answer." in refused.stderr
    assert "Traceback" not in refused.stderr

    status = project.run("lenet5", "status", environment=quick | {"PREFECT_API_URL": f"{nowhere}/api"})
    assert status.count("answers no") == 2


@pytest.mark.long
def test_a_source_that_does_not_answer_is_an_error_after_two_retries(project: Project) -> None:
    project.set_params(**{"ingest.source": f"http://127.0.0.1:{free_port()}/mnist", "ingest.attempts": 1})
    done = project.command("lenet5", "run")
    assert done.returncode == 6
    log = done.stdout + done.stderr
    assert "Retry 1/2" in log
    assert "Retry 2/2" in log
    assert "Traceback" not in log
    assert "stage ingest failed" in done.stderr[done.stderr.rindex("error: ") :]


@pytest.mark.long
def test_training_goes_on_without_the_store_and_registering_fills_it(
    finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path)
    away = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    }
    project.set_params(**{"train.seed": 7})
    trained = project.command("dvc", "repro", "evaluate", environment=away)
    assert trained.returncode == 0
    assert trained.stderr.count("warning: The tracking store does not answer.") == 1
    assert "version 2" in project.run("lenet5", "register")
