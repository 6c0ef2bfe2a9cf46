"""A Prefect process worker that runs each flow run of a work pool in a workspace of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

import psutil

from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.system import settings
from lenet5.system.process import environment_for_child
from lenet5.system.settings import Settings
from lenet5.system.terminal import console

DRAIN_SECONDS = 45.0
"""How long a flow run that is terminated may take to report its end to the server."""
_FLOW_RUNS = ("prefect.engine", "lenet5.orchestration.workspace")


def work(paths: Paths, pool: str, *, limit: int | None, name: str | None) -> None:
    """Run a Prefect process worker until SIGTERM or Ctrl-C, then end its flow runs in order.

    Raises:
        UsageError: a setting is missing.
        Unavailable: the worker ended by itself.
    """
    _require(settings.load(paths))
    command = [
        *(sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"),
        *("--name", name or f"{socket.gethostname()}-{os.getpid()}"),
        *("--install-policy", "never", "--with-healthcheck"),
        *(("--limit", str(limit)) if limit else ()),
    ]
    environment = environment_for_child(
        {
            "LENET5_HOME": str(paths.root),
            "PREFECT_WORKER_WEBSERVER_HOST": settings.exports(paths)["PREFECT_WORKER_WEBSERVER_HOST"],
        }
    )
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ending, stop)
    # a process group of its own: Ctrl-C reaches only this process, which then ends the others in order
    process = subprocess.Popen(command, env=environment, cwd=paths.root, start_new_session=True)
    while process.poll() is None and not stopped:
        time.sleep(0.2)
    if stopped:
        console.print(f"stopping: flow runs have {DRAIN_SECONDS:g} seconds to report their end")
        _drain(process)
        return
    raise Unavailable(
        "The worker ended by itself.", expected="a running worker", found=f"exit code {process.returncode}"
    )


def _require(configured: Settings) -> None:
    wanted = {
        "PREFECT_API_URL": configured.prefect_api_url,
        "LENET5_GIT_URL": configured.lenet5_git_url,
        "LENET5_DVC_REMOTE": configured.lenet5_dvc_remote,
    }
    missing = [name for name, value in wanted.items() if not value]
    if configured.mlflow_tracking_uri.startswith("sqlite:"):
        missing.append("MLFLOW_TRACKING_URI")
    if missing:
        raise UsageError(
            "A worker lacks settings.",
            expected="the servers, the repository and the DVC remote that all machines share",
            found=f"nothing, or a local default, in {', '.join(missing)}",
            fix="set them in the environment or in .env (`.env.example` tells of each)",
        )


def _drain(process: "subprocess.Popen[bytes]") -> None:
    """End the flow runs, so that each reports it and runs again elsewhere; then end the worker."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGSTOP)  # or else it would take its own flow runs again
    descendants = psutil.Process(process.pid).children(recursive=True)
    flow_runs = [each for each in descendants if _is_flow_run(each)]
    for each in flow_runs:
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    psutil.wait_procs(flow_runs, timeout=DRAIN_SECONDS)
    process.terminate()
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for each in descendants:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def _is_flow_run(process: psutil.Process) -> bool:
    try:
        return any(name in process.cmdline() for name in _FLOW_RUNS)
    except psutil.NoSuchProcess:
        return False
