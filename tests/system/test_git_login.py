"""User and password of a repository's URL reach its server, and no list of processes shows them."""

import base64
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from lenet5.system import git
from lenet5.system.git import GitFailed

HEADERS: list[str] = []
COMMANDS: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # it has ended, or nobody has waited for it yet
                COMMANDS.append(" ".join(child.cmdline()))
        login = self.headers.get("Authorization")
        if login is None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        else:
            HEADERS.append(login)
            self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    HEADERS.clear()
    COMMANDS.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_login_is_sent_and_not_shown(tmp_path: Path, address: str) -> None:
    url = f"http://me:hid%40den@{address}/repository"  # pragma: allowlist secret
    with pytest.raises(GitFailed) as failed:
        git.run(tmp_path, "ls-remote", url, "HEAD")
    assert base64.b64encode(b"me:hid@den").decode() in HEADERS[-1]
    assert any("git" in command for command in COMMANDS)
    assert not [command for command in COMMANDS if "den" in command]
    assert "den" not in str(failed.value)


def test_a_remote_gets_the_login_of_its_url(tmp_path: Path, address: str) -> None:
    git.run(tmp_path, "init", "--quiet")
    git.run(tmp_path, "remote", "add", "origin", f"http://{address}/repository")
    with pytest.raises(GitFailed):
        git.run(tmp_path, "fetch", "origin", login_of=f"http://me:hidden@{address}/repository")
    assert base64.b64encode(b"me:hidden").decode() in HEADERS[-1]
    assert "hidden" not in (tmp_path / ".git" / "config").read_text()
