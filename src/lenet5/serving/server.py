"""Run the HTTP application in one worker process, or in several that share a port."""

import logging
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from lenet5.core.errors import Unavailable, UsageError
from lenet5.serving import http_app
from lenet5.serving.connection import Connection, allow_connections
from lenet5.serving.service import ServiceOptions
from lenet5.system import logs, parent_watch, settings

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 20
"""Time limit of running requests after SIGTERM."""
_BACKLOG = 2048
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


def run(
    options: ServiceOptions,
    host: str,
    port: int,
    workers: int,
    *,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM; running requests are answered before the end.

    Args:
        options: what a worker process needs to know.
        host: the address to listen on.
        port: the port; 0 chooses a free one.
        workers: processes.
        on_listening: called as soon as clients can connect.

    Raises:
        UsageError: the address cannot be used, or the port is in use.
        Unavailable: the application failed to start.
    """
    with _listening(host, port) as listener, tempfile.TemporaryDirectory(prefix="lenet5-metrics-") as folder:
        on_listening()
        if workers > 1:
            settings.set_variables({_MULTIPROCESS: folder, **parent_watch.env_for_child()})
            options = replace(options, metrics_folder=Path(folder))
        config = uvicorn.Config(
            partial(_worker, options, *logs.in_force()),
            factory=True,
            workers=workers,
            loop="uvloop",
            http=Connection,
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        if workers > 1:
            several = _Workers(config, [listener])
            several.run()
            started = all(worker.exitcode != STARTUP_FAILURE for worker in several.processes)
        else:
            server = uvicorn.Server(config)
            for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn begins to listen to them a moment later
                signal.signal(number, server.handle_exit)
            started = _run_to_its_end(server, listener)
    if not started:
        raise Unavailable(
            "The service could not start.", found="the error above", fix="`lenet5 doctor` looks for causes"
        )


def _run_to_its_end(server: uvicorn.Server, listener: socket.socket) -> bool:
    """Serve, and return False if the application failed to start. Its exit code has another meaning here."""
    try:
        server.run(sockets=[listener])
    except SystemExit as end:
        if end.code != STARTUP_FAILURE:
            raise
        return False
    return True


class _Workers(Multiprocess):
    """Worker processes. Ctrl-C, which reaches them too, waits until they can handle it."""

    def init_processes(self) -> None:
        """Start the workers."""
        with _interrupts_wait():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        """Start another worker where one has died."""
        with _interrupts_wait():
            super().keep_subprocess_alive()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Block SIGINT during the block, and in child processes until they unblock it."""
    resource_tracker.ensure_running()  # the first worker starts this process, which unblocks SIGINT here
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker(options: ServiceOptions, verbose: int, log_format: logs.Format) -> ASGIApp:
    """Return the application of a worker process, which may be a new interpreter."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # uvicorn's handler is in place
    logs.configure(verbose=verbose, log_format=log_format, also=["uvicorn.error"])
    allow_connections()
    if options.metrics_folder:  # one of several, which end when their parent is killed
        parent_watch.exit_with_parent()
    return http_app.create(options)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that is bound to an address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UsageError(
            f"The service cannot listen on {host}:{port}.",
            expected="an address of this machine and a free port",
            found=error.strerror or error,
            fix="choose another port: `lenet5 serve --port PORT`",
        ) from None
    with listener:
        listener.listen(_BACKLOG)
        listener.set_inheritable(True)
        yield listener
