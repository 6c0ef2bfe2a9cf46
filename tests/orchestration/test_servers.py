"""The same project against servers: a real MLflow and a real Prefect on this machine."""

import json
import time
from pathlib import Path

import requests

from lenet5.system.state import LocalState
from tests.conftest import Project, Serve, clone, free_port, serve_mlflow
from tests.postgres import NewDatabase


def test_a_flow_reports_to_servers_and_fills_an_empty_store(
    finished: Project, tmp_path: Path, serve: Serve, postgres: NewDatabase
) -> None:
    project = finished.copy(tmp_path)
    mlflow = serve_mlflow(serve, postgres(), tmp_path / "artifacts")
    prefect_port = free_port()
    prefect = serve(
        *("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)),
        port=prefect_port,
        probe="/api/health",
        environment={
            "PREFECT_HOME": str(_made(tmp_path / "prefect")),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        },
    )
    servers = {"MLFLOW_TRACKING_URI": mlflow, "PREFECT_API_URL": f"{prefect}/api"}
    told = project.run("lenet5", "run", environment=servers)
    assert "champion" in told

    [version] = json.loads(project.run("lenet5", "versions", "--json", environment=servers))
    assert version["aliases"] == ["champion"]
    run = requests.get(f"{mlflow}/api/2.0/mlflow/runs/get", {"run_id": version["run_id"]}, timeout=30).json()
    metrics = {metric["key"]: metric["value"] for metric in run["run"]["data"]["metrics"]}
    assert metrics["evaluate.accuracy"] == version["accuracy"]
    # the flow trained nothing, so what the server knows of the epochs came from files
    assert "train.val_loss" in metrics
    assert run["run"]["info"]["artifact_uri"].startswith("mlflow-artifacts:/")

    [flow_run] = requests.post(f"{prefect}/api/flow_runs/filter", json={}, timeout=30).json()
    assert flow_run["state_type"] == "COMPLETED"
    tasks = requests.post(f"{prefect}/api/task_runs/filter", json={}, timeout=30).json()
    names = [task["name"] for task in sorted(tasks, key=lambda task: task["start_time"])]
    assert names == ["ingest", "validate", "preprocess", "train", "evaluate", "register", "promote"]
    [artifact] = requests.post(f"{prefect}/api/artifacts/filter", json={}, timeout=30).json()
    assert f"{mlflow}/#/experiments/" in artifact["data"]
    assert "promoted to champion" in artifact["data"]
    time.sleep(2)  # logs are sent in batches
    logs = requests.post(f"{prefect}/api/logs/filter", json={}, timeout=30).json()
    assert any("didn't change, skipping" in log["message"] for log in logs)
    reason = "data is kept on this machine (LENET5_DVC_REMOTE is not set)"
    here = f"train runs here and not on work pool gpu: {reason}"
    assert any(log["message"] == here for log in logs)

    status = json.loads(project.run("lenet5", "status", "--json", environment=servers))
    assert status["prefect"] == {"address": f"{prefect}/api", "answers": True}
    assert status["tracking"]["answers"]

    # from another machine, which has the repository and the server's address: no cache, no outputs
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
    assert lineage["run"]["prefect"] == flow_run["id"]


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


def test_a_source_that_does_not_answer_is_tried_again_and_then_told(project: Project) -> None:
    project.set_params(**{"ingest.source": f"http://127.0.0.1:{free_port()}/mnist", "ingest.attempts": 1})
    done = project.command("lenet5", "run")
    assert done.returncode == 6
    log = done.stdout + done.stderr
    assert "Retry 1/2" in log
    assert "Retry 2/2" in log
    assert "Traceback" not in log
    assert "stage ingest failed" in done.stderr[done.stderr.rindex("error: ") :]


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


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
