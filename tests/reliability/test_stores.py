"""Tracking servers that refuse, hang, break off or answer nonsense: a message, and nothing is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lenet5.core import files
from tests.conftest import Project
from tests.reliability import harness

pytestmark = pytest.mark.integration

Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"{}") -> Answer:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return send


def break_off(request: BaseHTTPRequestHandler) -> None:
    """Announce more bytes than are sent."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"experiment": {')
    request.close_connection = True


def close(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True


def hang(_: BaseHTTPRequestHandler) -> None:
    time.sleep(5)


ANSWERS: dict[str, Answer] = {
    "401": status(401),
    "404": status(404),
    "500": status(500),
    "503": status(503),
    "page": status(200, b"<html>Welcome to the hotel's network</html>"),
    "empty": status(200, b""),
    "breaks-off": break_off,
    "closes": close,
    "hangs": hang,
}
SHORT = ("page",)


@dataclass
class Server:
    answer: Answer = close
    requests: int = 0
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
        }


@pytest.fixture
def server() -> Iterator[Server]:
    """An HTTP server whose every answer a test chooses."""
    chosen = Server()

    class Handler(BaseHTTPRequestHandler):
        def _send(self) -> None:
            with chosen.lock:
                chosen.requests += 1
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chosen.answer(self)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _send  # noqa: N815 (the base class calls these names)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        chosen.address = f"http://127.0.0.1:{http.server_port}"
        yield chosen
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "kind", [kind if kind in SHORT else pytest.param(kind, marks=pytest.mark.long) for kind in ANSWERS]
)
def test_registering_ends_with_a_message(copy: Project, server: Server, kind: str) -> None:
    before = harness.state(copy)
    server.answer = ANSWERS[kind]
    refused = harness.complete(copy, "lenet5", "register", environment=server.environment)
    assert server.requests, "the server was not asked"
    harness.require_no_trace(refused.output)
    assert refused.code in {2, 4, 6}, refused.output
    assert "fix:" in refused.output
    assert harness.complete(copy, "lenet5", "register").code == 0
    assert harness.state(copy) == before


@pytest.mark.long
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_training_goes_on(copy: Project, server: Server, kind: str) -> None:
    before = files.sha256(copy.paths.model)
    server.answer = ANSWERS[kind]
    trained = harness.complete(copy, "lenet5", "train", environment=server.environment)
    assert server.requests, "the server was not asked"
    harness.require_no_trace(trained.output)
    assert trained.code == 0, trained.output
    assert "warning:" in trained.output
    assert files.sha256(copy.paths.model) == before
