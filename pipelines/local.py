"""A flow run in this process: Prefect's server beside it where there is none, the same state either way."""

import atexit
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import httpx

from lenet5 import settings, supervision
from lenet5.errors import Unavailable
from lenet5.paths import Paths
from lenet5.terminal import console, quiet_libraries
from pipelines import graph, occupancy

if TYPE_CHECKING:
    from lenet5.promotion import Promotion

_API = "PREFECT_API_URL"


def run(force: Sequence[str] = (), everything: bool = False, placement: str = "auto") -> "Promotion":
    """Run the flow in this process.

    Args:
        force: stages to run even if nothing changed.
        everything: all of them.
        placement: what to do with stages that name a work pool, as in ``placement.Mode``.

    Raises:
        Lenet5Error: what a stage or the gate said.
        Unavailable: the Prefect server does not answer, or another run is at work in this checkout.
    """
    paths = Paths.find()
    # what is wrong with the graph, or with the lock, is better said before a server starts
    nodes = graph.stages(paths.root)
    graph.require(force, nodes)
    with occupancy.only_one(paths):
        pass
    # ended by SIGTERM, this process still ends its stages and its server
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    api = os.environ.get(_API)
    try:
        flow = _import() if api else _import_beside_server()
        named = [node.name for node in nodes] if everything else list(force)
        promoted = flow.training(force=named, placement=flow.Mode(placement))
    except (httpx.HTTPError, RuntimeError) as error:
        if not isinstance(error, httpx.HTTPError) and "reach" not in str(error).lower():
            raise
        raise Unavailable(
            "Prefect does not answer.",
            expected=settings.in_urls(api or "the embedded server"),
            found=str(error).partition("\n")[0] or type(error).__name__,
            do="start it, or correct PREFECT_API_URL and PREFECT_API_AUTH_STRING, or unset both",
        ) from error
    finally:
        # the last word is ours, not that of Prefect's shutdown
        logging.getLogger("prefect").setLevel(logging.WARNING)
    assert isinstance(promoted, flow.promotion.Promotion)
    return promoted


def _import() -> ModuleType:
    with quiet_libraries():
        return importlib.import_module("pipelines.flow")


def _import_beside_server() -> ModuleType:
    """The flow's module, imported while Prefect's server starts; both take seconds.

    Prefect would start the same server by itself, but later, and only once it has imported all of it.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:  # early requests wait for it
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        console.print(f"Starting a Prefect server for this run: {address}")
        # deaf to Ctrl-C, which reaches the whole group: it has to outlive the flow to hear how that ended
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a child inherits the mask
        try:
            server = subprocess.Popen(
                [sys.executable, "-m", "pipelines.local", str(listening.fileno())],
                pass_fds=[listening.fileno()],
                env=os.environ | supervision.offer(),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    # registered before Prefect is imported, so that it comes after Prefect sent its last logs
    atexit.register(_stop, server)
    # Prefect reads it when it is imported. Others shall not: nobody else's worker can reach this server.
    os.environ[_API] = address
    try:
        flow = _import()
    finally:
        del os.environ[_API]
    patience = float(os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"])
    httpx.get(f"{address}/health", timeout=patience).raise_for_status()
    return flow


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _serve(descriptor: int) -> None:
    """Be the server, on a socket that listens already."""
    import uvicorn
    from prefect.server.api.server import create_app

    supervision.accept()  # a flow that is killed leaves no server behind
    app = create_app(ephemeral=True, final=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
