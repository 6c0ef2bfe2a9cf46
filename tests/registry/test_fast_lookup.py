"""The fast lookup of a version: it returns what MLflow's client returns, or nothing."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.registry import fast_lookup, model_versions
from lenet5.registry.fast_lookup import VersionTags
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import tags
from tests.registry.factory import add

DIGEST = "0123456789abcdef" * 4


def find(paths: Paths, name: str, reference: str) -> VersionTags | None:
    return fast_lookup.find(settings.load(paths), name, reference)


def test_lookup_returns_the_current_version_as_mlflows_client_does(
    any_client: MlflowClient, any_paths: Paths, model_name: str
) -> None:
    for _ in range(3):
        add(any_client, any_paths, model_name)
    model_versions.set_alias(any_client, model_name, model_versions.CHAMPION, 1)
    for reference, number in (("1", 1), ("3", 3), ("champion", 1), ("@champion", 1), ("challenger", 3)):
        version = model_versions.find(any_client, model_name, reference)
        assert find(any_paths, model_name, reference) == VersionTags(version.number, version.tags)
        assert version.number == number
    model_versions.set_alias(any_client, model_name, model_versions.CHAMPION, 2)
    assert find(any_paths, model_name, "champion") == VersionTags(
        2, model_versions.find(any_client, model_name, "2").tags
    )

    any_client.delete_model_version(model_name, "3")
    model_versions.set_alias(any_client, model_name, model_versions.CHAMPION, None)
    deleted, invalid = ["3", "challenger", "champion"], ["4", "0", "01", "-1", "latest", "@"]
    for reference in (*deleted, *invalid, "", str(10**30), "9" * 5000, "' OR 1=1 --"):
        assert find(any_paths, model_name, reference) is None, reference
    assert find(any_paths, f"{model_name}.other", "1") is None
    assert find(any_paths, "%", "1") is None


def test_digest_is_the_registered_one_or_none(client: MlflowClient, paths: Paths, model_name: str) -> None:
    version = add(client, paths, model_name)
    looked_up = find(paths, model_name, "1")
    assert looked_up
    registered = json.loads(version.tags[tags.MODEL_FOLDER])[tags.ONNX_FILE]
    assert fast_lookup.onnx_digest(looked_up.tags) == registered
    for digests in ({}, {tags.ONNX_FILE: "../../model"}, {tags.ONNX_FILE: 7}, {tags.KERAS_FILE: DIGEST}):
        assert fast_lookup.onnx_digest({tags.MODEL_FOLDER: json.dumps(digests)}) is None
    assert fast_lookup.onnx_digest({}) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1"),
        ("MLFLOW_WORKSPACE", "team"),
        ("MLFLOW_TRACKING_AUTH", "kubernetes"),
        ("MLFLOW_TRACKING_URI", "sqlite:///{file}?timeout=3"),
        ("MLFLOW_TRACKING_URI", "sqlite:///{file}.gone"),
        ("MLFLOW_TRACKING_URI", "sqlite:///{empty}"),
        ("MLFLOW_TRACKING_URI", "postgresql+psycopg://127.0.0.1:1/mlflow"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:1"),
    ],
)
def test_other_kinds_of_stores_are_left_to_mlflows_client(
    client: MlflowClient,
    paths: Paths,
    model_name: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    add(client, paths, model_name)
    assert find(paths, model_name, "1")
    folder = LocalState(paths.root).mlflow
    (folder / "empty.db").touch()
    before = sorted(folder.iterdir())
    monkeypatch.setenv(variable, value.format(file=folder / "mlflow.db", empty=folder / "empty.db"))
    assert find(paths, model_name, "1") is None
    assert sorted(folder.iterdir()) == before


class Server(BaseHTTPRequestHandler):
    """Sends a fixed response and records the requests."""

    response: ClassVar[tuple[int, bytes]]
    requests: ClassVar[list[tuple[str, dict[str, list[str]], str | None]]]
    """Path, query and header ``Authorization`` of each request."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.requests.append((url.path, parse_qs(url.query), self.headers["Authorization"]))
        status, content = self.response
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    with HTTPServer(("127.0.0.1", 0), Server) as http_server:
        Thread(target=http_server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{http_server.server_port}/prefix/")
        Server.requests = []
        yield Server
        http_server.shutdown()


def version(**other: Any) -> bytes:
    tags = [{"key": "a", "value": "b"}, {"key": "empty"}]
    fields = {"name": "digits", "version": "4", "aliases": ["champion"], "tags": tags, "status": "READY"}
    return json.dumps({"model_version": fields | other}).encode()


def test_login_is_the_same_as_in_mlflows_client(
    server: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path)
    server.response = 200, version()
    expected = VersionTags(4, {"a": "b", "empty": ""})
    assert find(paths, "digits", "@champion") == expected
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-token")
    assert find(paths, "digits", "4") == expected
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pä:ss")
    assert find(paths, "digits", "4") == expected
    basic = base64.b64encode("anna:pä:ss".encode()).decode()
    by_number = ("/prefix/api/2.0/mlflow/model-versions/get", {"name": ["digits"], "version": ["4"]})
    assert server.requests == [
        (
            "/prefix/api/2.0/mlflow/registered-models/alias",
            {"name": ["digits"], "alias": ["champion"]},
            None,
        ),
        (*by_number, "Bearer a-token"),
        (*by_number, f"Basic {basic}"),
    ]


@pytest.mark.parametrize(
    "response",
    [
        (401, version()),
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'),
        (302, version()),
        (200, b"<html>a proxy's greeting</html>"),
        (200, b"[]"),
        (200, b'{"model_version": null}'),
        (200, version(version="four")),
        (200, version(name="Digits")),
        (200, version(aliases=["Champion"])),
        (200, version(tags=["a"])),
    ],
)
def test_unexpected_response_gives_none(
    server: type[Server], tmp_path: Path, response: tuple[int, bytes]
) -> None:
    server.response = response
    assert find(Paths(tmp_path), "digits", "champion") is None
    assert len(server.requests) == 1
