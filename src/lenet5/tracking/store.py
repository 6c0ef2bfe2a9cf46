"""The tracking store: an embedded SQLite file by default, any server by ``MLFLOW_TRACKING_URI``."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from sqlalchemy.exc import DatabaseError

from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.system import settings
from lenet5.system.state import LocalState

Client = MlflowClient
"""For those outside this room who pass one on."""


def connect(paths: Paths) -> MlflowClient:
    """A client of the store in force; the embedded one is made when it is first needed.

    Raises:
        Unavailable: the store does not answer.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    logging.getLogger("alembic").setLevel(logging.WARNING)  # forty lines of migrations on first use
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.model_registry").setLevel(logging.WARNING)  # "Waiting up to 300 seconds"
    if not is_embedded(paths):
        if "://" not in uri:
            raise UsageError(
                "MLFLOW_TRACKING_URI cannot be used.",
                expected="https://…, postgresql+psycopg://… or sqlite:///…; unset, it is embedded",
                found=uri,
            )
        return MlflowClient(uri)
    (LocalState(paths.root).mlflow).mkdir(parents=True, exist_ok=True)
    # several processes that create one SQLite file at the same time leave it broken
    with FileLock(LocalState(paths.root).mlflow / "create.lock"):
        return MlflowClient(uri)


def is_embedded(paths: Paths) -> bool:
    return os.environ["MLFLOW_TRACKING_URI"] == settings.embedded(paths)["MLFLOW_TRACKING_URI"]


def experiment(client: MlflowClient, paths: Paths) -> str:
    """The id of the project's experiment, created when it is not there."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings.EXPERIMENT
    location = (LocalState(paths.root).mlflow / "artifacts").as_uri() if is_embedded(paths) else None
    for _ in range(2):
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            # the UI opens on runs and models, not on traces of language models
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # someone else was faster
                raise
    raise AssertionError(f"experiment {name} both exists and does not")


def run_link(run_id: str) -> str:
    """Where a person sees a run: an address of the server, or what to look for in the local UI."""
    uri = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    if not uri.startswith("http"):
        return f"`{run_id}` (`make ui` shows it)"
    experiment = MlflowClient(uri).get_run(run_id).info.experiment_id
    return f"<{settings.in_urls(uri, shown='')}/#/experiments/{experiment}/runs/{run_id}>"


@contextmanager
def reachable() -> Iterator[None]:
    """Turn the ways in which a store does not answer into one error.

    Raises:
        Unavailable: a connection failed; the store's own answers pass through.
    """
    try:
        yield
    except UnsupportedModelRegistryStoreURIException as error:
        raise UsageError("MLFLOW_TRACKING_URI cannot be used.", found=error) from None
    except (MlflowException, DatabaseError, requests.RequestException) as error:
        if not unanswered(error):
            raise
        raise Unavailable(
            "The tracking store does not answer.",
            expected=f"MLflow at {settings.in_urls(os.environ['MLFLOW_TRACKING_URI'])}",
            found=settings.in_urls(str(error).splitlines()[0]),
            fix="start it, or correct MLFLOW_TRACKING_URI; nothing is lost: `lenet5 register` records the "
            "model from its files",
        ) from error


def unanswered(error: Exception) -> bool:
    """Whether this is no answer of a store, but the lack of one."""
    if isinstance(error, MlflowException):
        return str(error).startswith("API request to")
    return isinstance(error, DatabaseError | requests.RequestException)
