"""The servers behind ``lenet5 ui``: refused ports, servers that exit, and the end of both.

``test_cli.py`` runs the command as a whole.
"""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lenet5.cli import ui_servers
from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from tests.conftest import Serve, free_port, until


def web_server(port: int, *, health: str = "/") -> ui_servers.Server:
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    return ui_servers.Server("Prefect", port, "--prefect-port", health, command)


def test_port_in_use_is_an_error_before_anything_starts(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    serve(
        "python", "-m", "http.server", "--bind", "127.0.0.1", str(port), port=port, probe="/", environment={}
    )
    with pytest.raises(UsageError, match=f"Port {port} is in use.") as refused:
        ui_servers.serve(Paths(tmp_path), free_port(), port, free_port())
    assert f"fix:      choose another port: `lenet5 ui --prefect-port {port + 1}`" in str(refused.value)
    assert not (tmp_path / ".lenet5").exists()


def test_runs_on_a_tracking_server_have_no_ui_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hidden@mlflow.example.org")
    with pytest.raises(UsageError, match="its own UI") as refused:
        ui_servers.serve(Paths(tmp_path), free_port(), free_port(), free_port())
    assert "hidden" not in str(refused.value)
    assert "fix:      open https://mlflow.example.org, or unset MLFLOW_TRACKING_URI" in str(refused.value)


def test_servers_run_until_the_end_of_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server = web_server(free_port())
    with ui_servers.running([server], tmp_path) as [process]:
        ui_servers.wait_until_ready(server, process)
        child = psutil.Process(process.pid)
        assert child.is_running()
    assert not psutil.pid_exists(process.pid)
    assert "GET / HTTP/1.1" in (tmp_path / "prefect-ui.log").read_text()


def test_servers_are_stopped_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError), ui_servers.running([web_server(free_port())], tmp_path) as started:
        _ = 1 / 0
    assert not psutil.pid_exists(started[0].pid)


def test_server_that_exits_is_reported_at_once(tmp_path: Path) -> None:
    server = web_server(free_port())
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        until(lambda: process.poll() is not None, 30, "exit")
        with pytest.raises(Unavailable, match="Prefect did not start") as failed:
            ui_servers.wait_until_ready(server, process)
    assert "found:    exit code 3" in str(failed.value)


def test_server_that_is_not_healthy_in_time_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ui_servers, "START_TIMEOUT_SECONDS", 2)
    server = web_server(free_port(), health="/not-there")  # the server answers 404
    with ui_servers.running([server], tmp_path) as [process], pytest.raises(Unavailable) as failed:
        ui_servers.wait_until_ready(server, process)
    assert "expected: an answer within 2 seconds" in str(failed.value)
    assert "found:    no answer" in str(failed.value)


def test_no_argument_of_a_server_holds_a_password() -> None:
    uri = "postgresql+psycopg://me:hidden@db.example/mlflow"
    server = ui_servers._mlflow(uri, 5000)
    assert not [word for word in server.command if "hidden" in word]
    assert server.environment["MLFLOW_BACKEND_STORE_URI"] == uri
