"""The embedded tracking store: one SQLite file and one folder of artifacts, both in the checkout."""

import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from lenet5.core import files, storage
from lenet5.core.errors import DataError, StorageError, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.system import empty_database, sqlite
from lenet5.system.state import LocalState

_LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Columns of MLflow's tables that hold absolute addresses of artifacts, by table."""
_UNFINISHED = "SELECT count(*) FROM sqlite_master WHERE name LIKE '\\_alembic\\_tmp\\_%' ESCAPE '\\'"
"""Counts the tables that an interrupted migration leaves behind."""
_APPLIED = "SELECT count(*) FROM alembic_version"
_DEFAULT_EXPERIMENT = """
    INSERT INTO experiments (
        experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace
    ) VALUES (
        0, 'Default', :folder, 'active', unixepoch() * 1000, unixepoch() * 1000, 'default'
    )
"""
"""The experiment that MLflow makes in a new database; its other commands expect it."""
_LOCKED_SECONDS = 20.0
"""How long to wait for a process that writes; MLflow's own limit."""
_REPAIR = "`lenet5 doctor --repair` moves it away and records the model again from DVC's files"


def prepare(paths: Paths) -> None:
    """Make the embedded store, or let the one that is there follow its checkout.

    Raises:
        UsageError: the path of the checkout cannot be part of a database URL.
        DataError: the database is damaged.
        Unavailable: another process has locked it.
    """
    state = LocalState(paths.root)
    if "?" in str(state.mlflow_database):
        raise UsageError(
            "The embedded tracking store cannot be used in this folder.",
            expected="a path without ?, which begins the options of a database URL",
            found=paths.root,
            fix="rename the folder, or set MLFLOW_TRACKING_URI to a server",
        )
    state.mlflow.mkdir(parents=True, exist_ok=True)
    with FileLock(state.mlflow / "create.lock"):  # one process makes or changes the file
        if not state.mlflow_database.exists():
            _create(state)
            return
        try:
            require_sound(paths)
            _follow_checkout(state)
        except sqlite3.Error as error:
            raise failure(paths, error) from None


def require_sound(paths: Paths) -> None:
    """Require that no migration was interrupted in the database.

    Raises:
        DataError: the database is incomplete.
        sqlite3.Error: the file cannot be read.
    """
    database = LocalState(paths.root).mlflow_database
    with closing(sqlite.open_for_reading(database, _LOCKED_SECONDS)) as connection:
        unfinished, applied = (connection.execute(query).fetchone()[0] for query in (_UNFINISHED, _APPLIED))
    if unfinished or not applied:
        raise DataError(
            "The embedded tracking store is incomplete: making it was interrupted.",
            found=database,
            fix=_REPAIR,
        )


def failure(paths: Paths, error: Exception) -> DataError | StorageError | Unavailable:
    """Return the error for a question that the embedded store did not answer."""
    database = LocalState(paths.root).mlflow_database
    if no_room := storage.failure(error, database, exact=True):
        return no_room
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    if "locked" in reason or "busy" in reason:
        return Unavailable(
            "The embedded tracking store is in use.", found=f"{database}: {reason}", fix="try again"
        )
    if "out-of-date database schema" in reason:
        return DataError(
            "The embedded tracking store was made by another version of MLflow.",
            expected=f"the schema of MLflow {version('mlflow')}",
            found=f"{database}: {reason.partition('(')[2].partition(')')[0]}",
            fix=f"an older schema: copy the file, then `mlflow db upgrade sqlite:///{database}`; a newer "
            f"one: install the MLflow that made it, or {_REPAIR}",
        )
    return DataError("The embedded tracking store is damaged.", found=f"{database}: {reason}", fix=_REPAIR)


def _create(state: LocalState) -> None:
    """Make the database aside, since a kill would leave half of it."""
    for leftover in state.mlflow.glob(f".{state.mlflow_database.name}.*.partial-journal"):
        leftover.unlink()
    for kind in ("journal", "wal", "shm"):  # SQLite would apply a journal of a lost database to the new one
        Path(f"{state.mlflow_database}-{kind}").unlink(missing_ok=True)
    with files.replacing(state.mlflow_database) as partial:
        if empty_database.fill("mlflow", partial):
            with closing(sqlite3.connect(partial)) as database, database:
                database.execute(_DEFAULT_EXPERIMENT, {"folder": f"{state.mlflow_artifacts.as_uri()}/0"})
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore(f"sqlite:///{partial}", state.mlflow_artifacts.as_uri())
        store.engine.dispose()


def _follow_checkout(state: LocalState) -> None:
    """Replace the addresses of artifacts when the checkout was moved or copied.

    MLflow stores absolute addresses. Without this, runs of a copied checkout would write into the original.

    Raises:
        sqlite3.Error: the file cannot be read or written.
    """
    with closing(sqlite3.connect(state.mlflow_database, timeout=_LOCKED_SECONDS)) as database:
        suffix = "/" + state.mlflow_artifacts.relative_to(state.folder.parent).as_posix()
        current = state.folder.parent.as_uri()
        locations = database.execute(
            "SELECT artifact_location FROM experiments WHERE artifact_location LIKE ?", [f"file:%{suffix}%"]
        )
        roots = {location[: location.rindex(suffix)] for (location,) in locations} - {current}
        with database:  # one transaction
            for root in roots:
                length = len(root) + 1
                for table, column in _LOCATIONS.items():
                    moved = f"SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                    database.execute(f"UPDATE {table} {moved}", [current, length, length, f"{root}/"])
