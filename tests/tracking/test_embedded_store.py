"""The embedded store survives what happens to files: a kill while it is made, a move, a copy, damage."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lenet5.cli import doctor
from lenet5.core.errors import DataError, Lenet5Error, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.registry import fast_lookup
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import embedded_store, runs, store
from lenet5.tracking.embedded_client import EmbeddedClient

CONNECT = (
    "import os, pathlib, sys; from lenet5.core.paths import Paths; from lenet5.tracking import store\n"
    "store.connect(Paths(pathlib.Path(sys.argv[1])))"
)


def database(paths: Paths) -> Path:
    return LocalState(paths.root).mlflow_database


def change(paths: Paths, statement: str) -> None:
    with closing(sqlite3.connect(database(paths))) as connection, connection:
        connection.execute(statement)


def moved(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Use another folder, as a command that is started there does."""
    for name, value in settings.embedded(paths).items():
        monkeypatch.setenv(name, value)
    return paths


def log_text(paths: Paths, text: str) -> str:
    """Log a run with one artifact, and return the id of the run."""
    client = store.connect(paths)
    with runs.training_run(paths, text.ljust(64, "0"), {}) as on_epoch:
        on_epoch(1, {"loss": 1.0})
    [run] = client.search_runs([store.experiment(client, paths)], order_by=["start_time DESC"], max_results=1)
    client.log_text(run.info.run_id, text, "note.txt")
    return str(run.info.run_id)


def text_of(client: MlflowClient, run_id: str, folder: Path) -> str:
    folder.mkdir(parents=True)
    return Path(client.download_artifacts(run_id, "note.txt", str(folder))).read_text()


SLOWLY = f"from lenet5.system import empty_database; empty_database._FOLDER /= 'none'\n{CONNECT}"
"""With a version of MLflow for which this release has no tables, MLflow migrates an empty database."""


@pytest.mark.integration  # each process imports MLflow and makes a store
@pytest.mark.parametrize(
    "how", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_a_kill_while_the_store_is_made_leaves_none(bare_paths: Paths, how: signal.Signals) -> None:
    folder = LocalState(bare_paths.root).mlflow
    first = subprocess.Popen([sys.executable, "-c", SLOWLY, str(bare_paths.root)], stderr=subprocess.DEVNULL)
    with first:
        # it takes seconds to make, and this looks often enough to see some of the migrations
        while not any(file.stat().st_size > 100_000 for file in folder.glob(".mlflow.db.*.partial")):
            assert first.poll() is None, "it ended before it could be interrupted"
            time.sleep(0.01)
        first.send_signal(how)
        first.wait()
    assert not database(bare_paths).exists()
    assert store.connect(bare_paths).get_experiment("0").name == "Default"
    assert not list(folder.glob(".mlflow.db.*"))


@pytest.mark.parametrize("name", ["other", "my digits (2)", "ä'%20$x", "a#b&c:d"])
def test_a_renamed_checkout_keeps_its_runs_and_writes_into_its_own_folder(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    first = log_text(paths, "a")
    other = moved(Paths(tmp_path / "renamed" / name), monkeypatch)
    shutil.copytree(LocalState(paths.root).mlflow, LocalState(other.root).mlflow)
    shutil.rmtree(LocalState(paths.root).mlflow)

    client = store.connect(other)
    assert text_of(client, first, tmp_path / "downloads/first") == "a"
    second = log_text(other, "b")
    assert text_of(client, second, tmp_path / "downloads/second") == "b"
    assert not LocalState(paths.root).mlflow.exists(), "something was written into the old folder"


def test_a_path_that_no_database_url_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="a path without ?") as refused:
        store.connect(moved(Paths(tmp_path / "what?"), monkeypatch))
    assert "rename the folder" in str(refused.value)


def test_a_copy_never_writes_into_the_original(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = log_text(paths, "a")
    before = sorted(LocalState(paths.root).mlflow.rglob("*"))
    copy = moved(Paths(tmp_path / "copy"), monkeypatch)
    shutil.copytree(LocalState(paths.root).mlflow, LocalState(copy.root).mlflow)
    log_text(copy, "b")
    assert sorted(LocalState(paths.root).mlflow.rglob("*")) == before
    assert len(list(LocalState(copy.root).mlflow_artifacts.glob("*/artifacts/note.txt"))) == 2
    original = store.connect(moved(paths, monkeypatch))
    assert text_of(original, first, tmp_path / "downloads") == "a"


def not_a_database(paths: Paths) -> None:
    database(paths).write_bytes(b"no database" * 1000)


def cut_off(paths: Paths) -> None:
    os.truncate(database(paths), 40_000)


def interrupted(paths: Paths) -> None:
    change(paths, "CREATE TABLE _alembic_tmp_runs (id INTEGER)")


def half_migrated(paths: Paths) -> None:
    change(paths, "DROP TABLE logged_models")


def older_schema(paths: Paths) -> None:
    change(paths, "UPDATE alembic_version SET version_num = '451aebb31d03'")  # pragma: allowlist secret


def newer_schema(paths: Paths) -> None:
    change(paths, "UPDATE alembic_version SET version_num = 'ffffffffffff'")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (not_a_database, "is damaged.*file is not a database.*lenet5 doctor --repair"),
        (cut_off, "is damaged.*malformed.*lenet5 doctor --repair"),
        (interrupted, "is incomplete.*lenet5 doctor --repair"),
        (half_migrated, "is damaged.*lenet5 doctor --repair"),
        (older_schema, "made by another version of MLflow.*mlflow db upgrade"),
        (newer_schema, "made by another version of MLflow.*lenet5 doctor --repair"),
    ],
)
def test_a_damaged_store_is_told_apart_from_one_that_is_down(
    paths: Paths, damage: "object", message: str
) -> None:
    assert callable(damage)
    damage(paths)
    with pytest.raises(DataError, match=f"(?s){message}") as refused, store.reachable(paths):
        store.connect(paths).search_experiments()
    assert str(database(paths)) in str(refused.value)


def test_a_locked_store_is_in_use_and_not_damaged(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_store, "_LOCKED_SECONDS", 0.1)
    with closing(sqlite3.connect(database(paths))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="in use") as refused:
            store.connect(paths)
    assert isinstance(refused.value, Lenet5Error)
    assert store.connect(paths).get_experiment("0")


KILLED_IN_A_TRANSACTION = (
    "import os, signal, sqlite3, sys\n"
    "connection = sqlite3.connect(sys.argv[1])\n"
    "connection.execute('PRAGMA cache_size = 1')  # changed pages go to the file before the commit\n"
    "connection.execute('UPDATE experiments SET name = name || ?', ['x' * 100_000])\n"
    "connection.execute('CREATE TABLE half (value)')\n"
    "os.kill(os.getpid(), signal.SIGKILL)\n"
)


def test_transaction_of_a_killed_process_is_rolled_back_by_the_next_reader(paths: Paths) -> None:
    """A read-only connection cannot do that: SQLite reports "attempt to write a readonly database"."""
    client = store.connect(paths)
    client.create_registered_model("digits")
    client.create_model_version("digits", "file:///nowhere")
    client.set_registered_model_alias("digits", "champion", "1")
    whole = database(paths).read_bytes()
    readers: dict[str, Callable[[], object]] = {
        "store": lambda: store.connect(paths),
        "client": lambda: EmbeddedClient(database(paths), None).read_aliases("digits"),
        "lookup": lambda: fast_lookup.find(settings.load(paths), "digits", "champion"),
        "completion": lambda: fast_lookup.labels(settings.load(paths), "digits").aliases,
        "doctor": lambda: [finding.ok for finding in doctor._databases(paths)] == [True],
    }
    for name, read in readers.items():
        subprocess.run([sys.executable, "-c", KILLED_IN_A_TRANSACTION, str(database(paths))], check=False)
        assert database(paths).read_bytes() != whole, name
        assert read(), name
        assert database(paths).read_bytes() == whole, name
