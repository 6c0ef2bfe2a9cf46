"""Run the training flow in this process, with a Prefect server of its own unless one is configured."""

import atexit
import logging
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet5.core import storage
from lenet5.core.errors import Lenet5Error, Refused, Unavailable
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.orchestration import checkout_lock, embedded_server, events, graph
from lenet5.orchestration.server_watch import EmbeddedServer, RemoteServer
from lenet5.system import dvc, settings
from lenet5.system.state import LocalState
from lenet5.system.terminal import console
from lenet5.tracking import store

if TYPE_CHECKING:
    from prefect import Flow

    from lenet5.registry.promotion import Promotion

ENTRY_POINT = "pipelines/training.py:training"
logger = logging.getLogger(__name__)

_API = "PREFECT_API_URL"
_LOGIN = "PREFECT_API_AUTH_STRING"


def run(
    force: Sequence[str] = (),
    everything: bool = False,
    placement: str = "auto",
    *,
    observer: events.StageEvents | None = None,
) -> "Promotion":
    """Run the flow in this process.

    Args:
        force: stages to run even if nothing changed.
        everything: all of them.
        placement: what to do with stages that name a work pool: a value of ``placement.Mode``.
        observer: receives what happens to the stages.

    Raises:
        Lenet5Error: the error of a stage, or the refusal of the gate.
        Unavailable: the Prefect server does not answer, or another run is at work in this checkout.
    """
    paths = Paths.find()
    api = settings.load(paths).prefect_api_url
    # a server of the user's records every run; a forced stage or a required worker asks for a flow
    may_skip = not (api or force or everything or placement == "strict")
    # errors of the graph and of the lock are reported before a server starts
    with checkout_lock.hold(paths):
        nodes, stale = graph.read(paths.root, with_status=may_skip)
        graph.require(force, nodes)
        if stale == [] and (done := _without_flow(paths, nodes, observer)):
            return done
    if observer:
        observer.planned([*(node.name for node in nodes), events.PROMOTION])
    login = f"lenet5:{secrets.token_urlsafe(32)}"
    server = RemoteServer(api) if api else _start_server(paths, login)
    # registered before Prefect is imported, so that it comes after Prefect sent its last logs
    atexit.register(server.stop)
    try:
        training = _load(paths) if isinstance(server, RemoteServer) else _load_beside(server, paths, login)
        _log_to_file(LocalState(paths.root).run_log)
        named = [node.name for node in nodes] if everything else list(force)
        with events.publish_to(observer):
            promoted = training(force=named, placement=placement)
    except Lenet5Error:
        raise
    except Exception as error:
        import httpx

        unreachable = isinstance(error, RuntimeError) and "reach" in str(error).lower()
        if not (server.lost or unreachable or isinstance(error, httpx.HTTPError)):
            raise
        # registered last, so it comes before Prefect waits a minute for a server that is gone
        atexit.register(_exit_without_prefect, server)
        raise _lost(paths, nodes, api, error) from error
    finally:
        # Prefect logs its shutdown after the result of this command
        logging.getLogger("prefect").setLevel(logging.WARNING)
    from lenet5.registry.promotion import Promotion

    assert isinstance(promoted, Promotion)
    return promoted


def _without_flow(
    paths: Paths, nodes: Sequence[graph.Stage], observer: events.StageEvents | None
) -> "Promotion | None":
    """Return the result of a run that has nothing to do; None when the flow has to run.

    Raises:
        Refused: the gate rejected the version or held it back, and nothing has changed since.
    """
    from lenet5.orchestration import up_to_date

    stages = [node.name for node in nodes]
    with events.publish_to(observer):
        try:
            done = up_to_date.find(paths)
        except Refused:
            events.all_cached(stages, refused=True)
            raise
        if done:
            events.all_cached(stages)
    return done


def _log_to_file(path: Path) -> None:
    """Write what Prefect, DVC and the stages log to a file; with ``-v``, the terminal shows it, too.

    At the end, the command itself prints the outcome, an error included.
    """
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("prefect").addHandler(file)
    shown = logger.isEnabledFor(logging.INFO)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            continue
        if shown:
            handler.addFilter(lambda record: "Crash detected!" not in record.getMessage())
        else:
            handler.setLevel(logging.CRITICAL)


def _exit_without_prefect(server: EmbeddedServer | RemoteServer) -> None:
    server.stop()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Unavailable.exit_code)


def _lost(paths: Paths, nodes: Sequence[graph.Stage], api: str | None, error: Exception) -> Lenet5Error:
    """Return the error for a Prefect server that does not answer. It says which stages are done."""
    if not api and (no_room := storage.full(LocalState(paths.root).folder)):
        return no_room  # the embedded server could not write its database
    try:
        stale = dvc.stale_stages(paths.root)
    except Lenet5Error:
        stale = [node.name for node in nodes]
    done = [node.name for node in nodes if node.name not in stale]
    if not stale:
        state = "All stages are done, and dvc.lock records them"
    elif done:
        state = f"Done: {', '.join(done)}. Not done: {', '.join(stale)}"
    else:
        state = "No stage is done"
    mend = "start it, or correct PREFECT_API_URL and PREFECT_API_AUTH_STRING, or unset both; then "
    return Unavailable(
        f"Prefect does not answer. {state}.",
        expected=api or "the embedded server",
        found=str(error).partition("\n")[0] or type(error).__name__,
        fix=f"{mend if api else ''}`lenet5 run` continues: completed stages do not run again",
    )


def _load(paths: Paths) -> "Flow[..., Any]":
    """Load the flow of this checkout from its entry point, as a worker does."""
    with quiet_libraries():
        from prefect.flows import load_flow_from_entrypoint

        flow: Flow[..., Any] = load_flow_from_entrypoint(
            f"{paths.root / ENTRY_POINT}", use_placeholder_flow=False
        )
        # now, while the server starts: the promotion needs them at the end, when nothing else is left to do
        from lenet5.registry import predictions  # noqa: F401

        store.import_mlflow()
        return flow


def _start_server(paths: Paths, login: str) -> EmbeddedServer:
    """Start the server of this run. It asks every request for ``login``, which is new for each run."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)  # early requests wait in it
    server = EmbeddedServer(partial(embedded_server.start, paths, listening, login), listening)
    console.print(
        f"Starting a Prefect server for this run: {server.address} (`lenet5 ui` shows the run after its end)"
    )
    return server


def _load_beside(server: EmbeddedServer, paths: Paths, login: str) -> "Flow[..., Any]":
    """Load the flow while Prefect's server starts; both take seconds.

    Prefect would start the same server by itself, but only after it has imported everything.
    """
    # Prefect reads them when it is imported. Child processes must not: no worker reaches this server.
    before_import = {_API: None, _LOGIN: settings.given([_LOGIN]).get(_LOGIN)}
    settings.set_variables({_API: server.address, _LOGIN: login})
    try:
        training = _load(paths)
    finally:
        settings.set_variables(before_import)
    timeout = float(settings.exports(paths)["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"])
    import httpx

    httpx.get(f"{server.address}/health", timeout=timeout).raise_for_status()
    return training
