"""A Prefect server that dies while a flow runs: it is started again, or the flow ends soon and quietly."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from lenet5.core.paths import Paths
from lenet5.orchestration import embedded_server, server_watch
from lenet5.orchestration.server_watch import RESTARTS, EmbeddedServer, RemoteServer
from lenet5.system import settings
from tests.conftest import Project, free_port, until

pytestmark = pytest.mark.integration


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path)
    settings.apply(paths)
    return paths


@pytest.fixture(autouse=True)
def prefect_as_before() -> Iterator[None]:
    """Restore what the end of retries changes in this process."""
    from prefect.settings import get_current_settings

    client, raising = get_current_settings().client, logging.raiseExceptions
    retries = client.max_retries
    kept = [
        (handler, list(handler.filters))
        for name in (None, "prefect", "prefect._internal")
        for handler in logging.getLogger(name).handlers
    ]
    yield
    client.max_retries, logging.raiseExceptions = retries, raising
    for handler, filters in kept:
        handler.filters = filters


def _answers(address: str) -> bool:
    return httpx.get(f"{address}/health", timeout=120).status_code == 200


def test_an_embedded_server_that_is_killed_is_started_again(paths: Paths) -> None:
    listening = socket.create_server((embedded_server.HOST, 0), backlog=128)
    server = EmbeddedServer(partial(embedded_server.start, paths, listening, "lenet5:secret"), listening)
    try:
        assert _answers(server.address)
        first = server._process
        first.kill()
        until(lambda: server._process is not first, 10, "another server process")
        assert _answers(server.address)  # the request waits for the server
        version = f"{server.address}/admin/version"
        assert httpx.get(version, auth=("lenet5", "secret")).status_code == 200  # the log-in stays the same
        assert httpx.get(version).status_code == 401
        assert not server.lost
    finally:
        server.stop()
    assert server._process.poll() is not None


def test_a_server_that_dies_again_and_again_ends_the_retries(paths: Paths) -> None:
    from prefect.settings import get_current_settings

    starts: list[int] = []

    def start(*, quiet: bool = False) -> "subprocess.Popen[bytes]":
        starts.append(quiet)
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    server = EmbeddedServer(start, socket.create_server((embedded_server.HOST, 0)))
    until(lambda: server.lost, 30, "the server is given up")
    server.stop()
    assert len(starts) == 1 + RESTARTS
    assert get_current_settings().client.max_retries == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.address}/health")


def test_a_remote_server_that_stays_away_ends_the_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watch, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(server_watch, "_PROBE_SECONDS", 0.3)
    server = RemoteServer(f"http://me:hidden@127.0.0.1:{free_port()}/api")
    until(lambda: server.lost, 20, "the server is given up")
    server.stop()


@pytest.mark.long
@pytest.mark.parametrize("kills", [1, RESTARTS + 1])
def test_a_run_outlives_its_server_or_says_what_is_done(
    finished: Project, tmp_path: Path, kills: int
) -> None:
    """With a server for each kill the run succeeds; after the last one it says that all stages are done."""
    import psutil

    project = finished.copy(tmp_path)
    with subprocess.Popen(
        ["lenet5", "-v", "run", "--force-stage", "ingest"],  # or nothing would be to do
        cwd=project.root,
        env=project.environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        assert run.stdout is not None
        lines = []
        for line in run.stdout:
            lines.append(line)
            if "Finished in state Completed" in line and kills:
                kills -= 1
                for child in psutil.Process(run.pid).children():
                    if embedded_server.__name__ in child.cmdline():
                        os.kill(child.pid, 9)
    output = "".join(lines)
    assert "Traceback" not in output
    assert output.count("is started again") == min(RESTARTS, output.count("ended with -9"))
    if "is not started again" in output:
        assert run.returncode == 6
        assert "All stages are done, and dvc.lock records them" in output
    else:
        assert run.returncode == 0, output
