"""``lenet5 status`` against real servers on this machine, a real git repository and a real DVC checkout."""

import base64
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import Worker, WorkerStatus

from lenet5.cli import status_report
from lenet5.stages.params import load
from lenet5.system import settings
from lenet5.system.state import LocalState
from tests.conftest import Project, free_port


@dataclass
class PrefectApi:
    """A server with the three routes of Prefect's API that ``lenet5 status`` calls."""

    address: str
    pools: dict[str, list[dict[str, Any]]]
    healthy: bool = True
    password: str = ""
    """``user:password`` that a request needs, if any."""
    requests: list[str] = field(default_factory=list)


def worker(status: WorkerStatus, *, seconds_ago: float, interval: int | None = None) -> dict[str, Any]:
    """One worker as Prefect's server sends it."""
    shown = Worker(
        name="some",
        work_pool_id=uuid4(),
        status=status,
        last_heartbeat_time=datetime.now(UTC) - timedelta(seconds=seconds_ago),
        heartbeat_interval_seconds=interval,
    )
    return shown.model_dump(mode="json")


@pytest.fixture
def api() -> Iterator[PrefectApi]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200 if served.healthy else 503, True)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            served.requests.append(self.path)
            expected = f"Basic {base64.b64encode(served.password.encode()).decode()}"
            if served.password and self.headers.get("Authorization") != expected:
                self._send(401, {"exception_message": "Unauthorized"})
            elif self.path == "/api/work_pools/filter":
                self._send(200, [{"name": name, "type": "process"} for name in served.pools])
            else:
                pool = self.path.removeprefix("/api/work_pools/").removesuffix("/workers/filter")
                self._send(200, served.pools[pool])

        def _send(self, code: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = PrefectApi(f"http://127.0.0.1:{server.server_port}/api", {"cpu": [], "gpu": []})
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def checkout(project: Project, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A checkout in which nothing was run, with an empty embedded store."""
    state = LocalState(project.root)
    state.mlflow.mkdir(parents=True)
    shutil.copyfile(empty_database, state.mlflow / empty_database.name)
    for name, value in settings.embedded(project.paths).items():
        monkeypatch.setenv(name, value)
    return project


def report(checkout: Project) -> dict[str, Any]:
    return status_report.report(checkout.paths, load(checkout.paths.params))


def test_a_damaged_store_is_a_fact_and_no_error(checkout: Project) -> None:
    LocalState(checkout.root).mlflow_database.write_bytes(b"no database" * 1000)
    tracking = report(checkout)["tracking"]
    assert tracking["answers"] is False
    assert "lenet5 doctor --repair" in tracking["problem"]


def test_fresh_checkout_has_stages_to_run_and_no_shared_service(checkout: Project) -> None:
    state = report(checkout)
    assert state["project"] == {"folder": str(checkout.root)}
    assert state["stages"]["to run"][0] == "ingest"
    assert state["tracking"]["answers"] is True
    assert state["tracking"]["versions"] == 0
    assert state["champion"] is None
    assert state["prefect"] == {"address": None, "embedded": True}
    assert not {"work pools", "object store", "data remote", "repository"} & state.keys()


def test_services_that_answer(checkout: Project, api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.pools["gpu"] = [
        worker(WorkerStatus.ONLINE, seconds_ago=20),
        worker(WorkerStatus.ONLINE, seconds_ago=100),  # three heartbeats of 30 s are missing
        worker(WorkerStatus.ONLINE, seconds_ago=100, interval=60),
        worker(WorkerStatus.OFFLINE, seconds_ago=1),
    ]
    (checkout.root / "remote").mkdir()
    for name, value in {
        "PREFECT_API_URL": api.address,
        "AWS_ENDPOINT_URL_S3": api.address.replace("http://", "http://key:hidden@"),
        "LENET5_DVC_REMOTE": "remote",
        "LENET5_GIT_URL": str(checkout.root),
    }.items():
        monkeypatch.setenv(name, value)
    state = report(checkout)
    assert state["prefect"] == {"address": api.address, "answers": True}
    assert state["work pools"] == {"cpu": "0 live workers", "gpu": "2 live workers"}
    assert state["object store"]["answers"] is True
    assert "hidden" not in json.dumps(state)
    assert state["data remote"] == {"address": "remote", "answers": True}
    assert state["repository"] == {"address": str(checkout.root), "answers": True}


def test_credentials_are_sent_to_prefect(
    checkout: Project, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.password = "admin:a:secret"  # pragma: allowlist secret
    monkeypatch.setenv("PREFECT_API_URL", api.address)
    assert "401" in report(checkout)["work pools"]["problem"]
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:a:secret")
    assert report(checkout)["work pools"] == {"cpu": "0 live workers", "gpu": "0 live workers"}
    assert api.requests[-1] == "/api/work_pools/gpu/workers/filter"


def test_services_that_do_not_answer_are_facts_and_not_errors(
    checkout: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for name, value in {
        "MLFLOW_TRACKING_URI": nobody,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "PREFECT_API_URL": f"{nobody}/api",
        "AWS_ENDPOINT_URL_S3": nobody,
        "LENET5_DVC_REMOTE": "unknown-protocol://somewhere",
        "LENET5_GIT_URL": str(checkout.root / "no-repository"),
    }.items():
        monkeypatch.setenv(name, value)
    state = report(checkout)
    for service in ("tracking", "prefect", "object store", "data remote", "repository"):
        assert state[service]["answers"] is False, service
        assert state[service]["problem"], service
    assert "Connection" in state["work pools"]["problem"]
    assert "champion" not in state
    assert "unknown-protocol" in state["data remote"]["problem"]
    assert "no-repository" in state["repository"]["problem"]


def test_unhealthy_prefect_server_does_not_count_as_answering(
    checkout: Project, api: PrefectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.healthy = False
    monkeypatch.setenv("PREFECT_API_URL", api.address)
    assert report(checkout)["prefect"] == {"address": api.address, "answers": False}


def test_repository_without_commits_is_a_problem(
    checkout: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(empty)], check=True)
    monkeypatch.setenv("LENET5_GIT_URL", str(empty))
    assert report(checkout)["repository"] == {
        "address": str(empty),
        "answers": False,
        "problem": "it has no commits",
    }


def test_graph_that_dvc_cannot_read_is_a_problem(checkout: Project) -> None:
    checkout.paths.graph.write_text("stages: [nonsense]\n")
    stages = report(checkout)["stages"]
    assert stages["to run"] is None
    assert "dvc.yaml" in stages["problem"]
