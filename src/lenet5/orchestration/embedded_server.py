"""Prefect's server for one machine: without pages for one flow, or with pages and the scheduler on a port.

It listens on the loopback interface. Every web page that is open in a browser of this machine can reach that,
too. So it answers only requests for an address of this machine, and none that a page of another origin sent.
The server of one flow also asks for a log-in that only this flow knows, so it refuses the other users of this
machine. The server with pages asks for none, because Prefect's pages would ask the user to type it.
"""

import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from lenet5.core import files
from lenet5.core.paths import Paths
from lenet5.system import empty_database, logs, parent_watch, process, settings

HOST = "127.0.0.1"
HOSTS = {HOST, "localhost", "::1"}

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_Receive = Callable[[], Awaitable[_Message]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def start(
    paths: Paths, listening: socket.socket, login: str, *, quiet: bool = False
) -> "subprocess.Popen[bytes]":
    """Start the server of one flow.

    Args:
        paths: the checkout whose Prefect home it uses.
        listening: a socket of the loopback interface; early requests wait in it.
        login: the ``user:password`` that every request must send, except the health check. It reaches the
            server in its environment, because every user of this machine can read arguments.
        quiet: hide its output.
    """
    environment = {
        **settings.for_embedded_server(paths),
        "PREFECT_SERVER_API_AUTH_STRING": login,
        # the flow uses no block; the server with pages registers them, unless Prefect notes that they are
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    }
    output = subprocess.DEVNULL if quiet else None
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(listening.fileno())],
        pass_fds=[listening.fileno()],
        env=process.environment_for_child(environment),
        stdout=output,
        stderr=output,
    )


def command_with_pages(port: int) -> list[str]:
    """Return the command of a server with pages and scheduler, on a port of the loopback interface."""
    return [sys.executable, "-m", __name__, "--port", str(port)]


class SameMachine:
    """ASGI middleware that refuses requests for other hosts, and requests that pages of other origins sent.

    A page sends the first when its name was made to point to this machine (DNS rebinding), the second from a
    form or a script. The answer is 403.
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._is_local(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the request to connect
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = b'{"detail": "Only this machine may use this server."}'
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    @staticmethod
    def _is_local(scope: _Message) -> bool:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            host = urlsplit(f"//{headers.get(b'host', '')}")
            origin = urlsplit(headers.get(b"origin", f"http://{host.netloc}"))
            ports = {host.port, origin.port}
        except ValueError:  # no address at all
            return False
        # a page of this server may be open under another name of this machine
        return {host.hostname, origin.hostname} <= HOSTS and origin.scheme == "http" and len(ports) == 1


def main() -> None:
    """Serve until SIGTERM, or until the parent process ends.

    The arguments are ``DESCRIPTOR`` of a socket that listens, or ``--port PORT``.
    """
    logs.configure()
    parent_watch.exit_with_parent()
    _make_database()
    import uvicorn
    from prefect.server.api.server import create_app

    with_pages = sys.argv[1] == "--port"
    number = int(sys.argv[-1])
    listening = socket.create_server((HOST, number)) if with_pages else socket.socket(fileno=number)
    app = SameMachine(create_app(ephemeral=not with_pages, final=True))
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


def _make_database() -> None:
    """Make the database of a new checkout. Prefect's server would migrate it from nothing."""
    home = settings.given(["PREFECT_HOME"]).get("PREFECT_HOME")
    if not home:
        return
    database = Path(home).expanduser() / "prefect.db"
    if not database.parent.is_dir():
        return
    with FileLock(database.with_name("create.lock")):  # two servers may start at once
        # SQLite would apply a leftover journal to the new database
        if any(database.parent.glob(f"{database.name}*")):
            return
        with files.replacing(database) as partial:
            if not empty_database.fill("prefect", partial):
                partial.touch()  # Prefect migrates an empty file


if __name__ == "__main__":
    main()
