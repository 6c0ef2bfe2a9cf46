"""A promoter in a process of its own, which can be held or killed before any of its writes to the registry.

The process is a fork of the server of ``multiprocessing``. That server has imported MLflow and has no
connection to a store. A new interpreter would spend five seconds on the imports.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from lenet5.core.errors import Lenet5Error
from lenet5.core.paths import Paths
from lenet5.registry import promotion
from tests.conftest import REPOSITORY
from tests.registry import factory

WRITES = (
    "create_registered_model",
    "create_model_version",
    "set_model_version_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
)
PRELOADED = [
    __name__,
    # the first promotion of a process imports these modules
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "pyarrow.parquet",
    "sklearn.metrics",
    "sqlalchemy.dialects.sqlite",
]
SECONDS = 60

_context = multiprocessing.get_context("forkserver")


class Promoter:
    """A process that promotes one version by force.

    Args:
        root: The checkout.
        model: Name of the registered model.
        version: Number of the version.
        hold: The process waits before its first call of this method of ``MlflowClient``.
        die_after: Number of writes after which the process kills itself; None for a process that ends.
    """

    def __init__(
        self, root: Path, model: str, version: int, *, hold: str = "", die_after: int | None = None
    ) -> None:
        _context.set_forkserver_preload(PRELOADED)
        with contextlib.chdir(REPOSITORY):  # the server can import `tests` only from here
            forkserver.ensure_running()
        self._connection, connection_of_process = _context.Pipe()
        self._process = _context.Process(
            target=_promote,
            args=(connection_of_process, dict(os.environ), root, model, version, hold, die_after),
            daemon=True,
        )
        self._process.start()
        connection_of_process.close()

    def wait_until_held(self) -> None:
        """Wait until the process is held.

        Raises:
            AssertionError: the process has ended, or it is not held within a minute.
        """
        assert self._read() == "held"

    def go_on(self) -> None:
        """Let a process that is held continue."""
        self._connection.send("go on")

    def wait(self) -> tuple[int, str]:
        """Wait for the end of the process; return its exit code and its error message.

        Raises:
            AssertionError: the process does not end within a minute.
        """
        message = self._read()
        self._process.join(SECONDS)
        assert self._process.exitcode is not None, "the promoter does not end"
        return self._process.exitcode, message

    def kill(self) -> None:
        """Kill the process with SIGKILL, unless it has ended, and wait for its end."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _read(self) -> str:
        """Return the next message of the process; an empty text when the process has ended."""
        assert self._connection.poll(SECONDS), "the promoter does not answer"
        try:
            return str(self._connection.recv())
        except EOFError:
            return ""


def stop_server() -> None:
    """Stop the server if it runs, and wait for its end. All promoters must have ended."""
    # there is no public call; without this one, the server would end a second after pytest
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def _promote(
    connection: Connection,
    environment: dict[str, str],
    root: Path,
    model: str,
    version: int,
    hold: str,
    die_after: int | None,
) -> None:
    os.environ.clear()  # the server has the environment of the test that started it
    os.environ.update(environment)
    writes = 0
    held = False

    def intercepted(name: str) -> Any:
        real = getattr(MlflowClient, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal writes, held
            if writes == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            writes += 1
            if name == hold and not held:
                held = True
                connection.send("held")
                connection.recv()
            return real(*arguments, **named)

        return call

    for name in WRITES:
        setattr(MlflowClient, name, intercepted(name))
    try:
        promotion.promote(Paths(root), factory.params(model), str(version), force=True, reason="a test")
    except Lenet5Error as error:
        connection.send(str(error))
        sys.exit(error.exit_code)
