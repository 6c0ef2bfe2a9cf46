"""A source is read from every protocol, transient errors are retried, and errors name the file."""

import gzip
import importlib.util
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lenet5.core.errors import DataError, Unavailable, UsageError
from lenet5.stages.ingest.source import Source
from lenet5.system.terminal import byte_progress
from tests.stages.ingest.conftest import Server

LIMIT = 1_000_000
LABELS = "t10k-labels-idx1-ubyte"
IMAGES = "t10k-images-idx3-ubyte.gz"


def fetch(url: str, *names: str, root: Path = Path("/"), limit: int = LIMIT) -> tuple[str, bytes]:
    file = io.BytesIO()
    with byte_progress() as progress:
        name = Source(url, root, limit=limit, attempts=4).fetch(names, file, progress)
    return name, file.read()


@pytest.fixture
def memory(files: dict[str, bytes]) -> Iterator[str]:
    """The URL of an object store with uncompressed IDX files."""
    store = fsspec.filesystem("memory")
    for name, content in files.items():
        store.pipe(f"/mnist/{name}", content)
    yield "memory://mnist"
    store.rm("/mnist", recursive=True)


def test_path_is_relative_to_the_root(source: Path, files: dict[str, bytes]) -> None:
    name, content = fetch("source", f"{LABELS}.gz", root=source.parent)
    assert (name, gzip.decompress(content)) == (f"{LABELS}.gz", files[LABELS])


@pytest.mark.parametrize("url", ["{}", "{}/", "file://{}"])
def test_path_can_be_absolute_or_a_url(source: Path, url: str) -> None:
    assert fetch(url.format(source), IMAGES)[1] == (source / IMAGES).read_bytes()


def test_object_store_is_read(memory: str, files: dict[str, bytes]) -> None:
    assert fetch(memory, f"{LABELS}.gz", LABELS) == (LABELS, files[LABELS])


def test_web_server_is_read_without_a_listing(server: Server, files: dict[str, bytes]) -> None:
    server.files = files
    assert fetch(server.url, f"{LABELS}.gz", LABELS) == (LABELS, files[LABELS])
    assert server.requests == {f"{LABELS}.gz": 1, LABELS: 1}


def test_url_can_name_one_archive(server: Server) -> None:
    server.files["digits.npz?token=a"] = b"PK"
    source = Source(f"{server.url}/digits.npz?token=a", Path("/"), limit=LIMIT, attempts=1)
    assert source.archive == "digits.npz"
    file = io.BytesIO()
    with byte_progress() as progress:
        source.fetch([source.archive], file, progress)
    assert file.read() == b"PK"


@pytest.mark.parametrize("fault", [500, 503, 429, "cut off"])
def test_transient_error_is_retried_after_growing_pauses(
    server: Server, waits: list[float], fault: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults[IMAGES] = [fault, fault, fault]
    assert fetch(server.url, IMAGES) == (IMAGES, server.files[IMAGES])
    assert server.requests[IMAGES] == 4
    assert 1 <= waits[0] <= 2 <= waits[1] <= 3 <= waits[2]
    assert "attempt 3 of 4 failed" in caplog.text


def test_content_of_an_earlier_attempt_is_removed(source: Path) -> None:
    file = io.BytesIO(bytes(100_000))
    with byte_progress() as progress:
        Source(str(source), Path("/"), limit=LIMIT, attempts=1).fetch([IMAGES], file, progress)
    assert file.getvalue() == (source / IMAGES).read_bytes()


def test_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    assert fetch("http://elsewhere.invalid/mnist", IMAGES)[1] == server.files[IMAGES]


@pytest.mark.parametrize("fault", [500, "cut off"])
def test_lasting_error_ends_after_the_last_attempt(
    server: Server, waits: list[float], fault: int | str
) -> None:
    server.faults[IMAGES] = [fault] * 9
    with pytest.raises(Unavailable, match=f"{IMAGES} from {server.url} cannot be read"):
        fetch(server.url, IMAGES)
    assert server.requests[IMAGES] == 4
    assert len(waits) == 3


def test_bad_request_is_not_retried(server: Server, waits: list[float]) -> None:
    server.faults[IMAGES] = [400]
    with pytest.raises(Unavailable, match="400"):
        fetch(server.url, IMAGES)
    assert server.requests[IMAGES] == 1
    assert not waits


def test_server_that_does_not_answer_is_an_error(waits: list[float]) -> None:
    with socket.socket() as taken:  # a bound port without a listener refuses every connection
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="Cannot connect"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}", IMAGES)
    assert len(waits) == 3


def test_missing_file_is_not_retried(server: Server, waits: list[float]) -> None:
    server.faults["mnist.npz"] = [403]  # object stores answer so for a missing file
    with pytest.raises(DataError) as caught:
        fetch(server.url, "digits.gz", "mnist.npz")
    assert "expected: digits.gz or mnist.npz" in str(caught.value)
    assert "found:    digits.gz: no such file; mnist.npz: access denied" in str(caught.value)
    assert server.requests == {"digits.gz": 1, "mnist.npz": 1}
    assert not waits


@pytest.mark.parametrize("url", ["nowhere", "memory://nowhere"])
def test_missing_folder_is_an_error_with_its_full_path(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match=f"missing from {url if '://' in url else tmp_path / url}"):
        fetch(url, IMAGES, root=tmp_path)


def test_folder_in_place_of_a_file_is_not_retried(tmp_path: Path, waits: list[float]) -> None:
    (tmp_path / IMAGES).mkdir()
    with pytest.raises(DataError, match="a folder"):
        fetch(str(tmp_path), IMAGES)
    assert not waits


@pytest.mark.timeout(30)
def test_pipe_in_place_of_a_file_is_an_error_at_once(tmp_path: Path, waits: list[float]) -> None:
    os.mkfifo(tmp_path / IMAGES)
    for url in (str(tmp_path), f"file://{tmp_path}"):
        with pytest.raises(DataError, match="a named pipe") as refused:
            fetch(url, IMAGES)
        assert "network" not in str(refused.value)
    assert not waits


def test_file_in_place_of_the_folder_is_an_error_at_once(tmp_path: Path, waits: list[float]) -> None:
    (tmp_path / "mnist").touch()
    with pytest.raises(DataError, match="mnist cannot be used"):
        fetch(str(tmp_path / "mnist"), IMAGES)
    assert not waits


def test_file_above_the_limit_is_not_copied_completely(server: Server, waits: list[float]) -> None:
    server.files[IMAGES] = bytes(30_000_000)
    file = io.BytesIO()
    source = Source(server.url, Path("/"), limit=LIMIT, attempts=4)
    with byte_progress() as progress, pytest.raises(DataError, match=f"{IMAGES} is larger"):
        source.fetch([IMAGES], file, progress)
    assert len(file.getvalue()) <= LIMIT
    assert not waits


class FullDisk(io.BytesIO):
    def write(self, _: object) -> int:
        raise OSError(28, "No space left on device")


def test_full_disk_is_not_retried(server: Server, waits: list[float]) -> None:
    with byte_progress() as progress, pytest.raises(OSError, match="No space"):
        Source(server.url, Path("/"), limit=LIMIT, attempts=4).fetch([IMAGES], FullDisk(), progress)
    assert not waits


def test_unknown_protocol_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="Protocol not known: gopher"):
        Source("gopher://host/mnist", Path("/"), limit=LIMIT, attempts=1)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="the driver is installed")
def test_missing_driver_is_an_error_with_the_install_command() -> None:
    with pytest.raises(UsageError, match="pip install gcsfs"):
        Source("gs://bucket/mnist", Path("/"), limit=LIMIT, attempts=1)
