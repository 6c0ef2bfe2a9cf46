"""The embedded Prefect server answers this machine, and no web page that merely runs on it."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import requests

from lenet5.core.paths import Paths
from lenet5.orchestration import embedded_server
from lenet5.system import empty_database, settings
from tests.conftest import free_port, servers

pytestmark = pytest.mark.integration
LOGIN = ("lenet5", "only-this-flow")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with pages, in whose environment a real server's settings are."""
    folder, port = tmp_path_factory.mktemp("embedded"), free_port()
    foreign = {
        "PREFECT_SERVER_API_AUTH_STRING": "me:secret",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://127.0.0.1:9/live",
    }
    with pytest.MonkeyPatch.context() as environment, servers(folder) as start:
        for name, value in foreign.items():
            environment.setenv(name, value)
        changes = settings.embedded(Paths(folder)) | settings.for_embedded_server(Paths(folder))
        for name in foreign:
            assert changes.pop(name) is None
            environment.delenv(name)
        (folder / ".lenet5/prefect").mkdir(parents=True)
        yield start(
            *("python", *embedded_server.command_with_pages(port)[1:]),
            port=port,
            probe="/api/health",
            environment={name: value for name, value in changes.items() if value is not None},
        )


def create_variable(address: str, name: str, **headers: str) -> int:
    url = f"{address}/api/variables/"
    return requests.post(url, json={"name": name, "value": 1}, headers=headers, timeout=30).status_code


def test_programs_and_pages_of_this_machine_are_answered(address: str) -> None:
    assert create_variable(address, "program") == 201
    assert create_variable(address, "page", Origin=address) == 201
    assert create_variable(address, "alias", Origin=address.replace("127.0.0.1", "localhost")) == 201
    assert "<html" in requests.get(address, timeout=30).text.lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "127.0.0.1:x"},
        {"Origin": "http://127.0.0.1:x"},
    ],
    ids=str,
)
def test_other_web_pages_are_refused(address: str, headers: dict[str, str]) -> None:
    assert create_variable(address, "stolen", **headers) == 403
    read = requests.get(f"{address}/api/admin/settings", headers=headers, timeout=30)
    assert read.status_code == 403
    assert "access-control-allow-origin" not in read.headers
    names = [
        each["name"] for each in requests.post(f"{address}/api/variables/filter", json={}, timeout=30).json()
    ]
    assert "stolen" not in names


def test_a_preflight_of_another_page_is_refused(address: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert requests.options(f"{address}/api/variables/", headers=headers, timeout=30).status_code == 403


@pytest.fixture(scope="module")
def of_a_flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Address and PID of the server of one flow, which asks for ``LOGIN``."""
    paths = Paths(tmp_path_factory.mktemp("flow"))
    (paths.root / ".lenet5/prefect").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as environment, socket.create_server(("127.0.0.1", 0)) as listening:
        for name, value in settings.embedded(paths).items():
            environment.setenv(name, value)
        environment.setenv("PREFECT_SERVER_API_AUTH_STRING", ":".join(["another", "server"]))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = embedded_server.start(paths, listening, ":".join(LOGIN))
        try:
            # the health check needs no log-in, because it only says that the server has started
            assert requests.get(f"{address}/api/health", timeout=120).ok
            yield address, server.pid
        finally:
            server.terminate()
            server.wait()


@pytest.mark.parametrize("login", [None, ("lenet5", "guess"), ("another", "server")], ids=str)
def test_the_server_of_a_flow_refuses_who_does_not_know_its_login(
    of_a_flow: tuple[str, int], login: tuple[str, str] | None
) -> None:
    address, _ = of_a_flow
    for path in ("admin/settings", "admin/version"):
        assert requests.get(f"{address}/api/{path}", auth=login, timeout=30).status_code == 401
    url = f"{address}/api/variables/"
    stolen = requests.post(url, json={"name": "stolen", "value": 1}, auth=login, timeout=30)
    assert stolen.status_code == 401
    filtered = requests.post(f"{url}filter", json={}, auth=LOGIN, timeout=30)
    assert filtered.json() == []


def test_the_login_of_a_flow_is_no_argument_of_its_server(of_a_flow: tuple[str, int]) -> None:
    address, number = of_a_flow
    assert requests.get(f"{address}/api/admin/version", auth=LOGIN, timeout=30).ok
    assert LOGIN[1] not in " ".join(psutil.Process(number).cmdline())


def test_the_server_with_pages_has_the_blocks_of_prefect(address: str) -> None:
    found = requests.post(f"{address}/api/block_types/filter", json={}, timeout=30).json()
    assert "local-file-system" in {each["slug"] for each in found}


def test_a_database_or_its_journal_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for name in ("prefect.db-wal", "prefect.db"):
        (tmp_path / name).write_bytes(b"another")
        embedded_server._make_database()
        assert (tmp_path / name).read_bytes() == b"another"
        (tmp_path / name).unlink()
    embedded_server._make_database()
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)


def test_another_prefect_makes_its_own_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(empty_database, "version", lambda _: "0.0.1")
    embedded_server._make_database()
    assert (tmp_path / "prefect.db").read_bytes() == b""
