"""What a tracking server refuses becomes an error of the right class, with its cause and the fix."""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from lenet5.core.errors import DataError, Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.registry import model_versions
from lenet5.tracking import runs, store


@dataclass
class Answer:
    """What the server sends for every request."""

    status: int = 200
    body: str = "{}"


@pytest.fixture
def answer(bare_paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answer]:
    """A server that gives one answer to everything, and is the configured tracking server."""
    given = Answer()

    class Handler(BaseHTTPRequestHandler):
        def _send(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = given.body.encode()
            self.send_response(given.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _send  # noqa: N815 (the names that the base class calls)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hidden@127.0.0.1:{server.server_port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield given
        server.shutdown()
        thread.join()


def of_mlflow(code: str, message: str) -> str:
    return json.dumps({"error_code": code, "message": message})


CASES = [
    (401, "You are not authenticated", UsageError, "refuses this user.*MLFLOW_TRACKING_USERNAME"),
    (
        403,
        of_mlflow("PERMISSION_DENIED", "no access"),
        UsageError,
        "refuses this user.*ask for access",
    ),
    (403, "<html>a proxy</html>", UsageError, "refuses this user"),
    (404, "<html>Not Found</html>", UsageError, "does not know this request.*the same version of MLflow"),
    (404, of_mlflow("ENDPOINT_NOT_FOUND", "No such API"), UsageError, "does not know this request"),
    (
        400,
        of_mlflow("INVALID_PARAMETER_VALUE", "The experiment 1 must be in the 'active' state."),
        UsageError,
        "holds this as deleted.*mlflow experiments restore",
    ),
    (400, of_mlflow("INVALID_PARAMETER_VALUE", "Out of range"), DataError, "refused a request.*Out of range"),
    (500, of_mlflow("INTERNAL_ERROR", "database is down"), Unavailable, "does not answer"),
    (503, "busy", Unavailable, "does not answer.*start the server"),
    (429, "slow down", Unavailable, "does not answer"),
]


@pytest.mark.parametrize(("status", "body", "kind", "message"), CASES)
def test_a_refusal_is_an_error_of_its_class(
    bare_paths: Paths, answer: Answer, status: int, body: str, kind: type[Lenet5Error], message: str
) -> None:
    answer.status, answer.body = status, body
    with pytest.raises(kind, match=f"(?s){message}") as refused, store.reachable(bare_paths):
        store.connect(bare_paths).search_experiments()
    assert "hidden" not in str(refused.value)
    assert "  fix:" in str(refused.value)


@pytest.mark.parametrize(("status", "body"), [case[:2] for case in CASES])
def test_a_training_goes_on(
    bare_paths: Paths, answer: Answer, caplog: pytest.LogCaptureFixture, status: int, body: str
) -> None:
    logging.getLogger("lenet5").propagate = True
    answer.status, answer.body = status, body
    with runs.training_run(bare_paths, "a" * 64, {}) as on_epoch:
        on_epoch(1, {"loss": 1.0})
    [warning] = [record for record in caplog.records if record.name.startswith("lenet5")]
    assert warning.levelno == logging.WARNING


@pytest.mark.parametrize(("status", "body"), [case[:2] for case in CASES[:3]])
def test_a_refused_download_is_not_taken_for_a_missing_file(
    bare_paths: Paths, answer: Answer, tmp_path: Path, status: int, body: str
) -> None:
    client = store.connect(bare_paths)
    answer.status, answer.body = status, body
    with pytest.raises(UsageError, match="refuses this user"), store.reachable(bare_paths):
        model_versions._fetch(client, "models:/some/1", tmp_path / "downloads")


def test_a_defect_of_this_package_is_no_refusal(bare_paths: Paths) -> None:
    with pytest.raises(KeyError), store.reachable(bare_paths):
        raise KeyError("some")


def test_what_mlflows_client_refuses_itself_is_an_error(bare_paths: Paths) -> None:
    with pytest.raises(DataError, match="refused a request"), store.reachable(bare_paths):
        raise MlflowException("The name of a model must not be empty")
