"""Connection to the MLflow store: an embedded SQLite file, or the server in ``MLFLOW_TRACKING_URI``."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import cast

from lenet5.core import files
from lenet5.core.errors import DataError, Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import embedded_store, experiment_page
from lenet5.tracking.embedded_client import Client, EmbeddedClient, NeedsMlflowError

_BUSY = {429, 500, 502, 503, 504}
"""HTTP status of a server that may answer later."""
DEFAULT_EXPERIMENT = "lenet5"
UI_PORT = 5000
"""Where `lenet5 ui` serves the pages, unless another port is chosen."""


def connect(paths: Paths) -> Client:
    """Return a client of the configured store. Creates the embedded store on first use.

    That of the embedded store imports MLflow when it is asked for more than it can read itself.

    Raises:
        UsageError: ``MLFLOW_TRACKING_URI`` is not a URI.
        DataError: the database of the embedded store is damaged, or made by another version of MLflow.
        Unavailable: another process has locked that database.
    """
    uri = settings.load(paths).mlflow_tracking_uri
    logging.getLogger("alembic").setLevel(logging.WARNING)  # forty lines of migrations on first use
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs what it also raises
    logging.getLogger("mlflow.store.model_registry").setLevel(logging.WARNING)  # "Waiting up to 300 seconds"
    if not is_embedded(paths, uri):
        if "://" not in uri:
            raise UsageError(
                "MLFLOW_TRACKING_URI cannot be used.",
                expected="https://…, postgresql+psycopg://… or sqlite:///…; unset: the embedded store",
                found=uri,
            )
        from mlflow import MlflowClient

        return MlflowClient(uri)
    embedded_store.prepare(paths)
    client = EmbeddedClient(LocalState(paths.root).mlflow_database, lambda: _mlflow_client(paths, uri))
    if not client.can_read():
        return _mlflow_client(paths, uri)
    return cast("Client", client)


def import_mlflow() -> None:
    """Import MLflow now, for a process that needs it later and has time before."""
    import mlflow  # noqa: F401


def connect_read_only(paths: Paths) -> Client | None:
    """Return a client that raises ``NeedsMlflowError`` for all but a few reads; None when it could not read.

    It makes and changes nothing, and does not import MLflow. There is one for the embedded store alone.
    """
    if not is_embedded(paths, settings.load(paths).mlflow_tracking_uri):
        return None
    client = EmbeddedClient(LocalState(paths.root).mlflow_database, make=None)
    return cast("Client", client) if client.can_read() else None


def _mlflow_client(paths: Paths, uri: str) -> Client:
    """Return MLflow's client of the embedded store."""
    from alembic.util import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return MlflowClient(uri)
    except (MlflowException, SQLAlchemyError, CommandError) as error:
        raise embedded_store.failure(paths, error) from error


def experiment(client: Client, paths: Paths) -> str:
    """Return the id of the experiment. Creates the experiment when the store has none."""
    if isinstance(client, EmbeddedClient) and (known := client.read_experiment(experiment_name(paths))):
        return known
    from mlflow.exceptions import MlflowException

    current = settings.load(paths)
    name = experiment_name(paths)
    location = None
    if is_embedded(paths, current.mlflow_tracking_uri):
        location = LocalState(paths.root).mlflow_artifacts.as_uri()
    for _ in range(2):
        if existing := client.get_experiment_by_name(name):
            return str(existing.experiment_id)
        try:
            # with this tag the UI opens on runs and models, not on traces of language models
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process created it meanwhile
                raise
    raise AssertionError(f"experiment {name} both exists and does not exist")


def described_experiment(client: Client, paths: Paths) -> str:
    """Return the id of the experiment, and give its page the columns, charts and note of this release."""
    identifier = experiment(client, paths)
    experiment_page.describe(client, client.get_experiment(identifier))
    return identifier


def experiment_name(paths: Paths) -> str:
    """Return the name of the experiment: that of the setting, or else that of the registered model.

    A folder without ``params.yaml`` has neither.
    """
    return settings.load(paths).mlflow_experiment_name or model_name(paths) or DEFAULT_EXPERIMENT


def model_name(paths: Paths) -> str | None:
    """Return the name of the registered model; None in a folder without ``params.yaml``."""
    if not paths.params.exists():
        return None
    # not through the schema: the parameters can be those of another release
    return str(files.read_yaml(paths.params, fix="`git checkout params.yaml`")["register"]["model_name"])


def pages(paths: Paths) -> tuple[str, str]:
    """Return the address of MLflow's pages, and a note that says when it answers; empty for a server."""
    uri = settings.load(paths).mlflow_tracking_uri.rstrip("/")
    if uri.startswith("http"):
        return mask_urls(uri, replacement=""), ""
    return f"http://127.0.0.1:{UI_PORT}", " (on this machine, while `lenet5 ui` runs)"


def experiment_of(paths: Paths, run_id: str) -> str:
    """Return the id of the experiment of a run.

    Raises:
        Unavailable: the store does not answer.
        DataError: it has no such run.
    """
    with reachable(paths):
        return str(connect(paths).get_run(run_id).info.experiment_id)


@contextmanager
def reachable(paths: Paths) -> Iterator[None]:
    """Convert every refusal of the store in the block into an error that names it, its cause and the fix.

    Raises:
        Unavailable: the store does not answer, or another process has locked the embedded one.
        DataError: the database of the embedded store is damaged, or the store refuses what it is asked.
        UsageError: a setting is wrong: address, log-in, experiment, or the version of the server.
    """
    try:
        yield
    except (Lenet5Error, NeedsMlflowError):
        raise
    except Exception as error:
        # imported for an error alone, because MLflow takes more than a second
        import requests
        from mlflow.exceptions import MlflowException
        from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
        from sqlalchemy.exc import DatabaseError

        if isinstance(error, UnsupportedModelRegistryStoreURIException):
            raise UsageError("MLFLOW_TRACKING_URI cannot be used.", found=error) from None
        if not isinstance(error, MlflowException | DatabaseError | requests.RequestException):
            raise
        raise _translated(paths, error) from error


def is_connection_error(error: Exception) -> bool:
    """Return whether the store did not answer, as opposed to an error that the store reported."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    if isinstance(error, MlflowException):
        status = _status(error)
        return str(error).startswith("API request to") if status is None else status in _BUSY
    return isinstance(error, DatabaseError | requests.RequestException)


def is_refused(error: Exception) -> bool:
    """Return whether the store answered that this user may not ask."""
    import requests

    return _status(error) in (requests.codes.unauthorized, requests.codes.forbidden)


def _status(error: Exception) -> int | None:
    """Return the HTTP status of a server's answer; None when there was none."""
    from mlflow.exceptions import RestException

    if match := re.search(r"^API request to .* failed with error code (\d{3})", str(error)):
        return int(match[1])  # an answer without MLflow's own JSON, such as that of a proxy
    return int(error.get_http_status_code()) if isinstance(error, RestException) else None


def _translated(paths: Paths, error: Exception) -> Lenet5Error:
    """Return the error for a request that the store did not answer, or refused."""
    import requests
    from sqlalchemy.exc import DatabaseError

    uri = settings.load(paths).mlflow_tracking_uri
    address = f"MLflow at {uri}"
    found = str(error).partition("\n")[0]
    if is_embedded(paths, uri) and (isinstance(error, DatabaseError) or "sqlite3." in str(error)):
        return embedded_store.failure(paths, error)
    if is_connection_error(error):
        return Unavailable(
            "The tracking store does not answer.",
            expected=address,
            found=found,
            fix="start the server, or correct MLFLOW_TRACKING_URI; `lenet5 register` then records the model "
            "from its files",
        )
    if "must be in the 'active' state" in found or "deleted" in found:
        return UsageError(
            "The tracking store holds this as deleted.",
            found=found,
            fix="restore it (`mlflow experiments restore`), or choose another MLFLOW_EXPERIMENT_NAME",
        )
    if is_refused(error):
        return UsageError(
            "The tracking store refuses this user.",
            expected=f"a user who may read and write at {address}",
            found=found,
            fix="correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ask for access",
        )
    if _status(error) == requests.codes.not_found and "RESOURCE_DOES_NOT_EXIST" not in str(error):
        return UsageError(
            "The tracking server does not know this request.",
            expected=f"MLflow {version('mlflow')} at MLFLOW_TRACKING_URI",
            found=found,
            fix="correct MLFLOW_TRACKING_URI, or run the same version of MLflow on both sides",
        )
    return DataError(
        "The tracking store refused a request.",
        expected=address,
        found=found,
        fix="`lenet5 doctor` checks the store and its version",
    )


def is_embedded(paths: Paths, uri: str) -> bool:
    """Return whether a URI is the SQLite file of this checkout."""
    return uri == settings.embedded(paths)["MLFLOW_TRACKING_URI"]
