"""The two UIs on this machine's loopback, over the embedded state."""

import os
import signal
import socket
import subprocess
import sys
import time

import requests

from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.system.state import LocalState
from lenet5.system.terminal import console
from lenet5.tracking import store

HOST = "127.0.0.1"
PATIENCE_SECONDS = 120


def serve(paths: Paths, mlflow_port: int, prefect_port: int) -> None:
    """Start the MLflow UI and the Prefect server, wait until both answer, run until Ctrl-C.

    Raises:
        UsageError: a port is taken.
        Unavailable: a server ends by itself, or does not answer in time.
    """
    for port, option in ((mlflow_port, "--mlflow-port"), (prefect_port, "--prefect-port")):
        _require_free(port, option)
    if (uri := os.environ["MLFLOW_TRACKING_URI"]).startswith("http"):
        raise UsageError(
            "The runs are on a server, which has a UI of its own.",
            found=f"MLFLOW_TRACKING_URI={uri}",
            fix=f"open {uri}, or unset MLFLOW_TRACKING_URI",
        )
    # made here, because several server workers must not make the database at once
    experiment = store.experiment(store.connect(paths), paths)
    mlflow, prefect = f"http://{HOST}:{mlflow_port}", f"http://{HOST}:{prefect_port}"
    python = [sys.executable, "-m"]
    where = ["--host", HOST, "--port"]
    database = ["--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"], "--workers", "1"]
    servers = {
        "MLflow": (mlflow, "/health", [*python, "mlflow", "server", *where, str(mlflow_port), *database]),
        "Prefect": (
            prefect,
            "/api/health",
            [*python, "prefect", "server", "start", *where, str(prefect_port)],
        ),
    }
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven idle processes, 630 MB
        "PREFECT_UI_API_URL": f"{prefect}/api",
    }
    environment.pop("PREFECT_API_URL", None)
    # whoever ends this process, in whatever way that can be noticed, ends both servers
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, (_, _, command) in servers.items():
            with (LocalState(paths.root).folder / f"{name.lower()}-ui.log").open("wb") as log:
                running[name] = subprocess.Popen(
                    command, env=environment, stdout=log, stderr=log, start_new_session=True
                )
        with console.status("starting two servers: about 20 seconds"):
            for name, (address, probe, _) in servers.items():
                _wait(name, address + probe, running[name])
        console.print(f"MLflow   {mlflow}/#/experiments/{experiment}/runs")
        console.print(f"         {mlflow}/#/models")
        console.print(f"Prefect  {prefect}/runs")
        console.print("Ctrl-C stops both.")
        while all(process.poll() is None for process in running.values()):
            time.sleep(0.5)
        raise Unavailable("A server ended by itself.", fix=f"read {LocalState(paths.root).folder}/*-ui.log")
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        for process in running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in running.values():
            process.wait()


def _require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise UsageError(
                f"Port {port} is taken.",
                expected="a free port",
                found="something listens there",
                fix=f"choose another: `lenet5 ui {option} {port + 1}`",
            )


def _wait(name: str, probe: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(probe, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.3)
    raise Unavailable(f"{name} did not start.", expected=f"an answer within {PATIENCE_SECONDS} seconds")
