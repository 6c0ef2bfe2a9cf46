"""Watch the Prefect server of a flow in this process: start an embedded one again, or shorten the wait.

Prefect tries each request six times, with a minute of waiting in all, and a flow makes several requests at
its end. Without this, a flow whose stages are complete runs for five more minutes after its server died.
"""

import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

RESTARTS = 3
"""How often an embedded server is started again in one run."""
PATIENCE_SECONDS = 60.0
"""How long a server may be away before requests are not repeated any more: as long as Prefect repeats one."""
_POLL_SECONDS = 0.5
_PROBE_SECONDS = 5.0
_NOISY = ("prefect.events.clients", "prefect._internal.concurrency")
"""Loggers that report each failed connection, with stack traces."""


class EmbeddedServer:
    """The server of one flow, started again when it dies. It owns the socket, so requests wait meanwhile."""

    def __init__(self, start: Callable[..., "subprocess.Popen[bytes]"], listening: socket.socket) -> None:
        """Start the server and watch it.

        Args:
            start: starts a server process that listens on the socket; ``quiet=True`` hides its output.
            listening: the socket; it is closed at the end.
        """
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        self._start = start
        self._listening = listening
        self._ending = threading.Event()
        # the server ignores Ctrl-C, which reaches the whole process group: it records the end of the flow
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a child inherits the mask
        try:
            self._process = start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._thread = threading.Thread(target=self._watch, name="embedded server", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Return whether the server is gone for good."""
        return self._listening.fileno() < 0

    def stop(self) -> None:
        """End the server."""
        self._ending.set()
        self._thread.join()
        self._listening.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _watch(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        left = RESTARTS
        while not self._ending.wait(_POLL_SECONDS):
            code = self._process.poll()
            if code is None:
                continue
            if not left:
                self._listening.close()  # from now on, requests fail at once
                log.warning("the embedded Prefect server ended with %d, and is not started again", code)
                stop_retries()
                return
            left -= 1
            log.warning("the embedded Prefect server ended with %d, and is started again", code)
            # it may be ended before it has recorded what was waiting, and would report that
            self._process = self._start(quiet=True)


class RemoteServer:
    """The server that PREFECT_API_URL names. Only its answers are watched."""

    def __init__(self, api: str) -> None:
        self._health = f"{api.rstrip('/')}/health"
        self._lost = threading.Event()
        self._ending = threading.Event()
        threading.Thread(target=self._watch, name="Prefect server", daemon=True).start()

    @property
    def lost(self) -> bool:
        """Return whether the server was away for longer than the patience."""
        return self._lost.is_set()

    def stop(self) -> None:
        """End watching; the server is another program's."""
        self._ending.set()

    def _watch(self) -> None:
        last_answer = time.monotonic()
        silent = False
        while not self._ending.wait(_PROBE_SECONDS):
            if self._answers():
                if silent:
                    log.warning("the Prefect server answers again")
                last_answer, silent = time.monotonic(), False
                continue
            if not silent:
                log.warning("the Prefect server does not answer; requests are repeated for a minute")
                _hide_failed_connections()
            silent = True
            if time.monotonic() - last_answer > PATIENCE_SECONDS:
                self._lost.set()
                stop_retries()
                return

    def _answers(self) -> bool:
        import httpx

        try:
            httpx.get(self._health, timeout=_PROBE_SECONDS)
        except httpx.TransportError:
            return False
        return True


def stop_retries() -> None:
    """Let each request to Prefect fail at once from now on, without messages of Prefect about it."""
    from prefect.settings import get_current_settings

    get_current_settings().client.max_retries = 0
    logging.raiseExceptions = False  # Prefect prints each batch of logs that it cannot send
    _hide("prefect", "EventsWorker", "APILogWorker")


def _hide_failed_connections() -> None:
    _hide(*_NOISY)


def _hide(*loggers: str) -> None:
    """Hide warnings and errors of loggers, and of those below them, on the terminal."""

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING or not record.name.startswith(loggers)

    for name in (None, "prefect", "prefect._internal"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(is_shown)
