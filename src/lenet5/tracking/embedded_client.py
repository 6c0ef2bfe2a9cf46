"""A client of the embedded store that reads its SQLite file itself, and makes MLflow's client for all else.

Importing MLflow takes more than a second, and most commands only read a few rows. The tables are read only
when their schema is the one that this module knows. In every other case (another schema, a damaged or locked
file, a variable that points MLflow to another registry) the answer of a read is None, and the caller asks
MLflow's client, which also reports the error.
"""

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lenet5.system import sqlite
from lenet5.system.settings import any_variable_matches

if TYPE_CHECKING:
    from mlflow import MlflowClient

    Client: TypeAlias = MlflowClient
else:
    Client = Any
    """The type of a connection, for modules that must not import MLflow."""

OTHER_REGISTRY = re.compile(
    "MLFLOW_(REGISTRY_URI|.*WORKSPACE.*|TRACKING_(AUTH|AWS_SIGV4|INSECURE_TLS|(SERVER|CLIENT)_CERT_PATH))"
)
"""Variables that make MLflow's client use another registry, or connect to this one in another way."""
SCHEMAS = {"3.17.2": "dc11669786a5"}  # pragma: allowlist secret
"""The schema (the last migration) that the queries below were written for, by the version of MLflow."""
LOCKED_SECONDS = 3.0
"""MLflow's client waits longer for a process that writes."""
_SCHEMA = "SELECT version_num FROM alembic_version"
_ALIASES = "SELECT alias, version FROM registered_model_aliases WHERE workspace = 'default' AND name = ?"
_VERSIONS = """
    SELECT version, creation_time, run_id, source FROM model_versions
    WHERE workspace = 'default' AND name = ? AND current_stage != 'Deleted_Internal'
    ORDER BY last_updated_time DESC, version DESC
"""
_VERSION_TAGS = "SELECT version, key, value FROM model_version_tags WHERE workspace = 'default' AND name = ?"
_EXPERIMENT = """
    SELECT experiment_id FROM experiments
    WHERE workspace = 'default' AND name = ? AND lifecycle_stage = 'active'
"""
_RUNS = """
    SELECT r.run_uuid, r.name FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
    WHERE r.experiment_id = ? AND r.lifecycle_stage = 'active' AND t.key = ? AND t.value = ?
    ORDER BY r.start_time DESC, r.run_uuid LIMIT 1000
"""
_TAGS_OF_RUN = "SELECT key, value FROM tags WHERE run_uuid = ?"
_PARAMS_OF_RUN = "SELECT key, value FROM params WHERE run_uuid = ?"


class NeedsMlflowError(Exception):
    """A client that only reads was asked for something else."""


@dataclass(frozen=True)
class StoredVersion:
    """A row of the registry, with the names of MLflow's ``ModelVersion``."""

    name: str
    version: int
    creation_timestamp: int
    """Milliseconds since 1970."""
    run_id: str | None
    source: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class StoredRunInfo:
    """Name and place of a run, with the names of MLflow's ``RunInfo``."""

    run_id: str
    run_name: str
    experiment_id: str


@dataclass(frozen=True)
class StoredRunData:
    """Tags and parameters of a run, with the names of MLflow's ``RunData``."""

    tags: Mapping[str, str]
    params: Mapping[str, str]


@dataclass(frozen=True)
class StoredRun:
    """A run without its metrics, with the names of MLflow's ``Run``."""

    info: StoredRunInfo
    data: StoredRunData


class EmbeddedClient:
    """Reads the embedded store. Every other attribute is that of MLflow's client, which is made then.

    Each read asks the file again. So it sees what MLflow's client, or another process, has written before.
    """

    def __init__(self, database: Path, make: "Callable[[], Client] | None") -> None:
        """Remember the file; nothing is opened.

        Args:
            database: the SQLite file.
            make: returns MLflow's client; None for a client that only reads.
        """
        self._database = database
        self._make = make
        self._client: Client | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._client is None:
            if self._make is None:
                raise NeedsMlflowError(name)
            self._client = self._make()
        return getattr(self._client, name)

    def can_read(self) -> bool:
        """Return whether the file has the schema that is known, and MLflow's client would read it, too."""
        return self._read() is not None

    def read_aliases(self, model: str) -> dict[str, int] | None:
        """Return the version number of each alias of a model; empty when the model is not registered."""
        rows = self._read((_ALIASES, [model]))
        return None if rows is None else {alias: int(number) for alias, number in rows[0]}

    def read_versions(self, model: str) -> list[StoredVersion] | None:
        """Return the versions of a registered model, the last changed first."""
        rows = self._read((_VERSIONS, [model]), (_VERSION_TAGS, [model]))
        if rows is None:
            return None
        versions, tags_of_versions = rows
        tags: dict[int, dict[str, str]] = {}
        for number, key, value in tags_of_versions:
            tags.setdefault(number, {})[key] = value
        return [
            StoredVersion(model, number, created, run_id, source, tags.get(number, {}))
            for number, created, run_id, source in versions
        ]

    def read_experiment(self, name: str) -> str | None:
        """Return the id of an experiment; None also when there is none, or when it is deleted."""
        rows = self._read((_EXPERIMENT, [name]))
        return str(rows[0][0][0]) if rows and rows[0] else None

    def read_runs(self, experiment: str, tag: str, value: str) -> list[StoredRun] | None:
        """Return the runs of an experiment with this value of a tag, the newest first."""
        rows = self._read((_RUNS, [int(experiment), tag, value]))
        if rows is None:
            return None
        runs = []
        for run_id, name in rows[0]:
            details = self._read((_TAGS_OF_RUN, [run_id]), (_PARAMS_OF_RUN, [run_id]))
            if details is None:
                return None
            tags, params = (dict(pairs) for pairs in details)
            runs.append(StoredRun(StoredRunInfo(run_id, name, experiment), StoredRunData(tags, params)))
        return runs

    def _read(self, *queries: tuple[str, Sequence[object]]) -> list[list[tuple[Any, ...]]] | None:
        """Return the rows of each query, all of one moment; None when MLflow's client has to answer."""
        if any_variable_matches(OTHER_REGISTRY):
            return None
        try:
            with closing(sqlite.open_for_reading(self._database, LOCKED_SECONDS)) as connection:
                connection.execute("BEGIN")
                if connection.execute(_SCHEMA).fetchall() != [(SCHEMAS.get(version("mlflow")),)]:
                    return None
                return [connection.execute(query, parameters).fetchall() for query, parameters in queries]
        except (sqlite3.Error, OverflowError):  # locked, damaged, other tables, or too large a number
            return None
