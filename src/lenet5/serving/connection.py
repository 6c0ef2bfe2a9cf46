"""What a client must do before a request begins: send its headers soon, and not too many of them.

uvicorn bounds the time between two requests, but neither the time nor the size of the headers, so a client
could hold thousands of connections open with one byte each, or fill the memory with headers.
"""

import asyncio
import http
import json
import resource

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lenet5.serving.access import BODY_IS_COMPLETE
from lenet5.serving.errors import RequestError

HEADER_SECONDS = 10.0
"""Time limit from the start of a connection, or of a later request on it, to the end of the headers."""
MAX_HEADER_BYTES = 65_536
"""Size limit of the request line and all headers together."""
MAX_CONNECTIONS = 10_000
"""Limit of open connections in one worker process."""
_SPARE_FILES = 256
"""Open files that are no connections: the log, the model, the listener."""


def allow_connections() -> None:
    """Let this process open as many files as it may, so that each accepted connection has one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_connections() -> int:
    """Return how many connections this process holds at the same time."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, soft - _SPARE_FILES))


class Connection(HttpToolsProtocol):
    """One connection of a client: uvicorn's protocol, with limits for what comes before the body."""

    _waiting = False
    """Whether the headers of a request are expected, and not complete."""
    _bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > max_connections():
            self._refuse(
                RequestError(
                    503,
                    "busy",
                    "The service has as many connections as it can hold.",
                    headers={"Retry-After": "1"},
                )
            )
            return
        self._waiting = True
        self._timer = self.loop.call_later(HEADER_SECONDS, self._on_time_out)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and start the clock if it ends within headers."""
        if self.transport.is_closing():
            return
        if self._waiting:
            self._bytes += len(data)
        super().data_received(data)
        # empty lines between two requests begin none, and would keep the connection open
        self._waiting = self._waiting or self.cycle is None or self.cycle.response_complete
        if self._waiting and self._bytes > MAX_HEADER_BYTES:
            self._refuse(
                RequestError(
                    431,
                    "headers_too_large",
                    "The headers are too large.",
                    expected=f"at most {MAX_HEADER_BYTES:,} bytes",
                )
            )
        elif self._waiting and self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._on_time_out)

    def on_message_begin(self) -> None:
        """Expect headers."""
        super().on_message_begin()
        self._waiting = True
        self._bytes += 1  # a request has begun, also one whose first bytes came with the last body

    def on_headers_complete(self) -> None:
        """Pass the request to the application."""
        self._waiting, self._bytes = False, 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the application needs no timer for the body."""
        self.scope[BODY_IS_COMPLETE] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time_out(self) -> None:
        self._timer = None
        if self._bytes:
            self._refuse(
                RequestError(
                    408,
                    "slow_headers",
                    "The headers did not arrive in time.",
                    expected=f"all of them within {HEADER_SECONDS:g} seconds",
                    found=f"{self._bytes:,} bytes",
                )
            )
        else:
            self.transport.close()

    def _refuse(self, error: RequestError) -> None:
        """Answer without the application, and close the connection."""
        self._stop_timer()
        body = json.dumps({"error": error.as_json()}).encode()
        headers = {
            **error.headers,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        self.transport.close()
