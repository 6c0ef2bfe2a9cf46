"""MLflow, Prefect and TensorBoard for the embedded state, on the loopback interface of this machine."""

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.orchestration import embedded_server
from lenet5.registry import model_versions
from lenet5.system import settings, tensorboard
from lenet5.system.process import environment_for_child
from lenet5.system.state import LocalState
from lenet5.system.terminal import console, print_line
from lenet5.tracking import experiment_page, store
from lenet5.tracking.embedded_client import Client

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 120
_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Server:
    """How to start a server, and how to see that it is ready."""

    name: str
    port: int
    option: str
    """The command line option that sets the port."""
    health: str
    """Path that answers when the server is ready."""
    command: list[str]
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Variables that differ from those of this process; None removes one."""

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"


def serve(paths: Paths, mlflow_port: int, prefect_port: int, tensorboard_port: int) -> None:
    """Start the MLflow UI, the Prefect server and TensorBoard, print their addresses, and run until Ctrl-C.

    Raises:
        UsageError: a port is in use, or the runs are on a tracking server.
        Unavailable: a server exited, or did not answer in time.
    """
    uri = settings.load(paths).mlflow_tracking_uri
    servers = [
        _mlflow(uri, mlflow_port),
        _prefect(paths, prefect_port),
        _tensorboard(paths, tensorboard_port),
    ]
    for server in servers:
        _require_free(server)
    if uri.startswith("http"):
        address = mask_urls(uri, replacement="")
        raise UsageError(
            "The runs are on a tracking server, which has its own UI.",
            expected="the embedded store or a database",
            found=f"MLFLOW_TRACKING_URI={uri}",
            fix=f"open {address}, or unset MLFLOW_TRACKING_URI",
        )
    # created before the server starts, because several server processes must not create the database at once
    client = store.connect(paths)
    experiment = store.described_experiment(client, paths)
    pages = _registry_pages(paths, client)
    mlflow, prefect, tensorboard = servers
    # SIGTERM and SIGHUP stop the servers, as Ctrl-C does
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with running(servers, LocalState(paths.root).folder) as processes:
            with console.status("starting three servers: about 20 seconds"):
                for server, process in zip(servers, processes, strict=True):
                    wait_until_ready(server, process)
            print_line(f"MLflow      {mlflow.address}{experiment_page.runs_link(experiment)}")
            for page in pages:
                print_line(f"            {mlflow.address}{page}")
            print_line(f"Prefect     {prefect.address}/runs")
            print_line(f"TensorBoard {tensorboard.address}")
            print_line("Ctrl-C stops all three.")
            while all(process.poll() is None for process in processes):
                time.sleep(_POLL_SECONDS)
        raise Unavailable(
            "A server exited.", fix=f"read {LocalState(paths.root).folder}/*-ui.log for the reason"
        )
    except KeyboardInterrupt:
        print_line("stopped")


def _registry_pages(paths: Paths, client: Client) -> list[str]:
    """Return links to the registered model and to its champion, from the address of the server on."""
    name = store.model_name(paths)
    champion = model_versions.aliases(client, name).get(model_versions.CHAMPION) if name else None
    pages = [experiment_page.model_link(name)] if name else []
    return [*pages, *([experiment_page.model_link(name, champion)] if name and champion else [])]


def _mlflow(uri: str, port: int) -> Server:
    environment = {
        # it may hold a password, and every user of the machine can read arguments
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it starts seven idle processes, 630 MB
    }
    command = [sys.executable, "-m", "lenet5.tracking.ui_server", "--port", str(port)]
    return Server("MLflow", port, "--mlflow-port", "/health", command, environment)


def _prefect(paths: Paths, port: int) -> Server:
    environment = {
        **settings.for_embedded_server(paths),
        "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_API_URL": None,
    }
    command = embedded_server.command_with_pages(port)
    return Server("Prefect", port, "--prefect-port", "/api/health", command, environment)


def _tensorboard(paths: Paths, port: int) -> Server:
    command = [sys.executable, "-m", tensorboard.__name__]
    command += ["--logdir", str(LocalState(paths.root).tensorboard), "--host", HOST, "--port", str(port)]
    return Server("TensorBoard", port, "--tensorboard-port", "/data/environment", command)


@contextmanager
def running(servers: list[Server], log_folder: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run the servers for the block. Each logs to ``log_folder``; all are stopped at the end of the block."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for server in servers:
            log.info("starting %s: %s", server.name, shlex.join(server.command))
            with (log_folder / f"{server.name.lower()}-ui.log").open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        server.command,
                        env=environment_for_child(server.environment),
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                )
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            process.wait()


def is_in_use(port: int) -> bool:
    """Return whether a server listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _require_free(server: Server) -> None:
    if is_in_use(server.port):
        raise UsageError(
            f"Port {server.port} is in use.",
            expected=f"a free port for {server.name}",
            found=f"a server that listens on {HOST}:{server.port}",
            fix=f"choose another port: `lenet5 ui {server.option} {server.port + 1}`",
        )


def wait_until_ready(server: Server, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers.

    Raises:
        Unavailable: it exited, or did not answer in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(requests.RequestException):
            if requests.get(server.address + server.health, timeout=2).ok:
                return
        time.sleep(_POLL_SECONDS)
    raise Unavailable(
        f"{server.name} did not start.",
        expected=f"an answer within {START_TIMEOUT_SECONDS} seconds",
        found="no answer" if process.poll() is None else f"exit code {process.returncode}",
    )
