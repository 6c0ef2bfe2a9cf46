"""Fixtures: a few real digits in every container, and a web server that can fail."""

import gzip
import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

from lenet5.stages.ingest import idx
from lenet5.stages.ingest.inspection import Found, inspect
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.stages.ingest.params import Checksums, Ingest
from lenet5.stages.params import load
from tests.conftest import REPOSITORY, Project, make_project

# no limit of 200 ms for one example: a busy machine stops for longer
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

MNIST = REPOSITORY / "data" / "mnist"

Digits = dict[str, NDArray[np.uint8]]


def look(root: Path, source: str = "source") -> Found:
    """Inspect a source below ``root``."""
    return inspect(source, root, max_megabytes=10, attempts=4, scratch=root / "scratch")


def _first(file: str, amount: int, dimensions: int) -> NDArray[np.uint8]:
    content = gzip.decompress((MNIST / f"{file}.gz").read_bytes())
    return idx.decode(content, file, dimensions)[:amount]


@pytest.fixture(scope="session")
def digits() -> Digits:
    """Real digits by the keys of ``MNIST_FILES``: 30 of train, 20 of test."""
    amounts = {"train": 30, "test": 20}
    return {i.key: _first(i.file, amounts[i.key.partition("_")[0]], i.dimensions) for i in MNIST_FILES}


@pytest.fixture
def project(tmp_path: Path, digits: Digits) -> Project:
    """A new checkout whose source has these digits."""
    return make_project(tmp_path, digits)


@pytest.fixture(scope="session")
def files(digits: Digits) -> dict[str, bytes]:
    """The same digits as uncompressed IDX files, by file name."""
    return {item.file: idx.encode(digits[item.key]) for item in MNIST_FILES}


@pytest.fixture(scope="session")
def params(digits: Digits) -> Ingest:
    pins = {key: hashlib.sha256(idx.encode(array)).hexdigest() for key, array in digits.items()}
    values = {"source": "source", "sha256": Checksums(**pins), "max_megabytes": 1}
    return load(REPOSITORY / "params.yaml").ingest.model_copy(update=values)


@pytest.fixture
def source(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """The folder that ``params`` names, with compressed IDX files."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each pause between attempts; the test does not sleep."""
    seconds: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", seconds.append)
    return seconds


@dataclass
class Server:
    """Serves ``files`` by name. Each entry of ``faults`` makes one request of its name fail in that way."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.rpartition("/")[2]
        self.requests[name] += 1
        fault = self.faults[name].pop(0) if self.faults.get(name) else None
        content = self.files.get(name)
        status = fault if isinstance(fault, int) else 404 if content is None else 200
        body = content if status == 200 and content is not None else b""
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        if fault == "unzipped on the way":
            request.send_header("Content-Encoding", "gzip")
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if fault == "cut off" else body)


@pytest.fixture
def server(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The files of ``source`` over HTTP, without a proxy."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server(files={path.name: path.read_bytes() for path in source.iterdir()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client may close the connection early
                super().handle()

        def log_message(self, *_: object) -> None:
            """Print nothing; the tests count requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        served.url = f"http://127.0.0.1:{http.server_port}/mnist"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        http.shutdown()
        thread.join()
