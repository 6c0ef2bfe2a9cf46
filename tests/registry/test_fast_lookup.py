"""A version asked of the store directly: what the full client would say, or nothing."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient

from lenet5.core.paths import Paths
from lenet5.registry import fast_lookup, model_versions
from lenet5.registry.fast_lookup import Found
from lenet5.system.state import LocalState
from lenet5.tracking import tags
from tests.registry.factory import add

DIGEST = "0123456789abcdef" * 4


def test_it_finds_what_the_full_client_finds_at_every_moment(
    any_client: MlflowClient, any_paths: Paths, model_name: str
) -> None:
    for _ in range(3):
        add(any_client, any_paths, model_name)
    model_versions.set_alias(any_client, model_name, model_versions.CHAMPION, 1)
    for wanted, number in (("1", 1), ("3", 3), ("champion", 1), ("@champion", 1), ("challenger", 3)):
        theirs = model_versions.find(any_client, model_name, wanted)
        assert fast_lookup.find(model_name, wanted) == Found(theirs.number, theirs.tags)
        assert theirs.number == number
    model_versions.set_alias(any_client, model_name, model_versions.CHAMPION, 2)
    assert fast_lookup.find(model_name, "champion") == Found(
        2, model_versions.find(any_client, model_name, "2").tags
    )

    any_client.delete_model_version(model_name, "3")
    model_versions.set_alias(any_client, model_name, model_versions.CHAMPION, None)
    gone, odd = ["3", "challenger", "champion"], ["4", "0", "01", "-1", "latest", "@"]
    for wanted in (*gone, *odd, "", str(10**30), "' OR 1=1 --"):
        assert fast_lookup.find(model_name, wanted) is None, wanted
    assert fast_lookup.find(f"{model_name}.other", "1") is None
    assert fast_lookup.find("%", "1") is None


def test_the_digest_is_the_registered_one_or_none(
    client: MlflowClient, paths: Paths, model_name: str
) -> None:
    version = add(client, paths, model_name)
    found = fast_lookup.find(model_name, "1")
    assert found
    assert fast_lookup.onnx_digest(found.tags) == json.loads(version.tags[tags.MODEL_FOLDER])[tags.ONNX_FILE]
    for said in ({}, {tags.ONNX_FILE: "../../model"}, {tags.ONNX_FILE: 7}, {tags.KERAS_FILE: DIGEST}):
        assert fast_lookup.onnx_digest({tags.MODEL_FOLDER: json.dumps(said)}) is None
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
def test_another_kind_of_store_is_left_to_the_full_client(
    client: MlflowClient,
    paths: Paths,
    model_name: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    add(client, paths, model_name)
    assert fast_lookup.find(model_name, "1")
    folder = LocalState(paths.root).mlflow
    (folder / "empty.db").touch()
    before = sorted(folder.iterdir())
    monkeypatch.setenv(variable, value.format(file=folder / "mlflow.db", empty=folder / "empty.db"))
    assert fast_lookup.find(model_name, "1") is None
    assert sorted(folder.iterdir()) == before


class Server(BaseHTTPRequestHandler):
    """Says what it is told to, and remembers what it was asked."""

    answer: ClassVar[tuple[int, bytes]]
    asked: ClassVar[list[tuple[str, dict[str, list[str]], str | None]]]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.asked.append((url.path, parse_qs(url.query), self.headers["Authorization"]))
        status, content = self.answer
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    with HTTPServer(("127.0.0.1", 0), Server) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{served.server_port}/prefix/")
        Server.asked = []
        yield Server
        served.shutdown()


def version(**other: Any) -> bytes:
    tags = [{"key": "a", "value": "b"}, {"key": "empty"}]
    said = {"name": "digits", "version": "4", "aliases": ["champion"], "tags": tags, "status": "READY"}
    return json.dumps({"model_version": said | other}).encode()


def test_it_logs_in_as_mlflow_does(server: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = 200, version()
    expected = Found(4, {"a": "b", "empty": ""})
    assert fast_lookup.find("digits", "@champion") == expected
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-token")
    assert fast_lookup.find("digits", "4") == expected
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pä:ss")
    assert fast_lookup.find("digits", "4") == expected
    basic = base64.b64encode("anna:pä:ss".encode()).decode()
    by_number = ("/prefix/api/2.0/mlflow/model-versions/get", {"name": ["digits"], "version": ["4"]})
    assert server.asked == [
        (
            "/prefix/api/2.0/mlflow/registered-models/alias",
            {"name": ["digits"], "alias": ["champion"]},
            None,
        ),
        (*by_number, "Bearer a-token"),
        (*by_number, f"Basic {basic}"),
    ]


@pytest.mark.parametrize(
    "answer",
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
def test_an_unexpected_answer_is_none(server: type[Server], answer: tuple[int, bytes]) -> None:
    server.answer = answer
    assert fast_lookup.find("digits", "champion") is None
    assert len(server.asked) == 1
