"""Run the training flow in this process, with a Prefect server of its own unless one is configured."""

import atexit
import logging
import secrets
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpx

from lenet5.core.errors import Unavailable
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.orchestration import checkout_lock, embedded_server, graph
from lenet5.system import settings
from lenet5.system.terminal import console

if TYPE_CHECKING:
    from prefect import Flow

    from lenet5.registry.promotion import Promotion

ENTRY_POINT = "pipelines/training.py:training"
_API = "PREFECT_API_URL"
_LOGIN = "PREFECT_API_AUTH_STRING"


def run(force: Sequence[str] = (), everything: bool = False, placement: str = "auto") -> "Promotion":
    """Run the flow in this process.

    Args:
        force: stages to run even if nothing changed.
        everything: all of them.
        placement: what to do with stages that name a work pool: a value of ``placement.Mode``.

    Raises:
        Lenet5Error: the error of a stage, or the refusal of the gate.
        Unavailable: the Prefect server does not answer, or another run is at work in this checkout.
    """
    paths = Paths.find()
    # errors of the graph and of the lock are reported before a server starts
    nodes = graph.stages(paths.root)
    graph.require(force, nodes)
    with checkout_lock.hold(paths):
        pass
    # ended by SIGTERM, this process still ends its stages and its server
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    api = settings.load(paths).prefect_api_url
    try:
        training = _load(paths) if api else _load_beside_server(paths)
        named = [node.name for node in nodes] if everything else list(force)
        promoted = training(force=named, placement=placement)
    except (httpx.HTTPError, RuntimeError) as error:
        if not isinstance(error, httpx.HTTPError) and "reach" not in str(error).lower():
            raise
        raise Unavailable(
            "Prefect does not answer.",
            expected=settings.mask_urls(api or "the embedded server"),
            found=str(error).partition("\n")[0] or type(error).__name__,
            fix="start it, or correct PREFECT_API_URL and PREFECT_API_AUTH_STRING, or unset both",
        ) from error
    finally:
        # Prefect logs its shutdown after the result of this command
        logging.getLogger("prefect").setLevel(logging.WARNING)
    from lenet5.registry.promotion import Promotion

    assert isinstance(promoted, Promotion)
    return promoted


def _load(paths: Paths) -> "Flow[..., Any]":
    """Load the flow of this checkout from its entry point, as a worker does."""
    with quiet_libraries():
        from prefect.flows import load_flow_from_entrypoint

        return load_flow_from_entrypoint(f"{paths.root / ENTRY_POINT}", use_placeholder_flow=False)


def _load_beside_server(paths: Paths) -> "Flow[..., Any]":
    """Load the flow while Prefect's server starts; both take seconds.

    Prefect would start the same server by itself, but only after it has imported everything. The server gets
    a new random password.
    """
    login = f"lenet5:{secrets.token_urlsafe(32)}"
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:  # early requests wait for it
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        console.print(f"Starting a Prefect server for this run: {address}")
        # the server ignores Ctrl-C, which reaches the whole process group: it records the end of the flow
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a child inherits the mask
        try:
            server = embedded_server.start(paths, listening, login)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    # registered before Prefect is imported, so that it comes after Prefect sent its last logs
    atexit.register(_stop, server)
    # Prefect reads them when it is imported. Child processes must not: no worker reaches this server.
    before_import = {_API: None, _LOGIN: settings.given([_LOGIN]).get(_LOGIN)}
    settings.set_variables({_API: address, _LOGIN: login})
    try:
        training = _load(paths)
    finally:
        settings.set_variables(before_import)
    timeout = float(settings.exports(paths)["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"])
    httpx.get(f"{address}/health", timeout=timeout).raise_for_status()
    return training


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
