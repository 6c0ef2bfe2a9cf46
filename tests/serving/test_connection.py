"""Limits of a connection before the body of a request, with a real server in a thread."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import uvicorn

from lenet5.serving import connection

GET = b"GET / HTTP/1.1\r\nHost: here\r\n"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Serve on a port, with time limits of half a second."""
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.5)
    config = uvicorn.Config(
        _application, http=connection.Connection, loop="uvloop", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def answer(client: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    content = b""
    with suppress(ConnectionError):
        while piece := client.recv(65536):
            content += piece
    return content


def ask(client: socket.socket) -> bytes:
    client.sendall(GET + b"\r\n")
    content = b""
    while not content.endswith(b"ok"):
        piece = client.recv(65536)
        assert piece, content
        content += piece
    return content


def test_requests_on_one_connection_are_answered_after_pauses(port: int) -> None:
    with closing(connect(port)) as client:
        for _ in range(2):
            assert ask(client).startswith(b"HTTP/1.1 200")
            time.sleep(0.7)  # longer than headers may take, shorter than a connection may rest
        client.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 200000\r\n\r\n")
        time.sleep(0.7)  # a slow body is the application's affair
        client.sendall(bytes(200_000))
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("pieces", [[b""], [b"\r\n"], [GET], [GET, b"X-A: b\r\n"]])
def test_headers_that_do_not_end_close_the_connection(port: int, pieces: list[bytes]) -> None:
    with closing(connect(port)) as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.1)
        content = answer(client)
        if b"GET" in b"".join(pieces):
            assert content.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b'"code": "slow_headers"' in content


def test_empty_lines_after_a_request_do_not_keep_a_connection(port: int) -> None:
    with closing(connect(port)) as client:
        ask(client)
        client.sendall(b"\r\n")
        began = time.monotonic()
        answer(client)
        assert time.monotonic() - began < 10  # a connection that rests has 5 seconds more than a slow one


def test_slow_headers_on_a_used_connection_close_it(port: int) -> None:
    with closing(connect(port)) as client:
        ask(client)
        client.sendall(GET)
        assert answer(client).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"X: " + b"a" * 70_000, id="one long header"),
        pytest.param(b"\r\n".join(b"X%d: a" % number for number in range(9000)), id="many headers"),
    ],
)
def test_large_headers_are_refused(port: int, header: bytes) -> None:
    with closing(connect(port)) as client:
        with suppress(ConnectionError):
            client.sendall(GET + header)
        content = answer(client)
        assert content.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n") or content == b""
    with closing(connect(port)) as client:
        assert ask(client)  # the service answers other clients


def test_too_many_connections_are_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 3)
    clients = [connect(port) for _ in range(3)]
    assert all(b"ok" in ask(client) for client in clients)
    with closing(connect(port)) as late:
        content = answer(late)
        assert content.startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
    for client in clients:
        assert b"ok" in ask(client)
        client.close()
    time.sleep(0.2)
    with closing(connect(port)) as client:
        assert b"ok" in ask(client)
