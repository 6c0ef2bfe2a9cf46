"""The tables that this release holds are those that the locked versions of MLflow and Prefect make."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lenet5.system import empty_database
from tools import empty_databases


def described(database: sqlite3.Connection) -> dict[tuple[str, str], list[object]]:
    """Return the words, the columns and the rows of every table and index.

    Migrations write the constraints of a table in an order that changes from one process to the next.
    """
    entries = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {
        (kind, name): [
            sorted(re.findall(r"[^\s,()]+", sql or "")),
            database.execute(f"PRAGMA table_info({name!r})").fetchall(),
            database.execute(f"SELECT * FROM {name!r}").fetchall() if kind == "table" else [],
        ]
        for kind, name, sql in entries
    }


@pytest.mark.integration  # the migrations take ten seconds
@pytest.mark.parametrize(("package", "table"), [("mlflow", "model_versions"), ("prefect", "flow_run")])
def test_the_tables_are_those_that_the_migrations_make(tmp_path: Path, package: str, table: str) -> None:
    assert empty_database.fill(package, tmp_path / "new.db"), "`python -m tools.empty_databases` makes them"
    with (
        closing(sqlite3.connect(tmp_path / "new.db")) as ours,
        closing(sqlite3.connect(":memory:")) as theirs,
    ):
        theirs.executescript(empty_databases.migrated(package))
        assert ("table", table) in described(ours)
        assert described(ours) == described(theirs)


def test_another_version_of_a_package_makes_its_own_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(empty_database, "version", lambda _: "0.0.1")
    assert not empty_database.fill("mlflow", tmp_path / "new.db")
    assert not list(tmp_path.iterdir())
