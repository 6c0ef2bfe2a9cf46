"""Write the tables of new databases of MLflow and Prefect: `python -m tools.empty_databases`.

Needed after another version of one of the two was locked. Without the file of a version everything works, but
a first run takes ten seconds longer.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from lenet5.system import empty_database

_MLFLOW = """
import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore(f"sqlite:///{sys.argv[1]}", "file:///nowhere").engine.dispose()
"""
_PREFECT = """
import asyncio, sys
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""
_REVISION = 'INSERT INTO "alembic_version"'
"""The last migration is hexadecimal, as some keys are."""
_LEFT_OUT = 'INSERT INTO "experiments"'
"""The experiment "Default" of MLflow holds a path and a clock."""


def migrated(package: str) -> str:
    """Return the SQL of a database that the installed version of a package has made, without clocks.

    Args:
        package: ``mlflow`` or ``prefect``.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{package}.db"
        environment = os.environ | {"PREFECT_HOME": folder, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{file}"
        code = {"mlflow": _MLFLOW, "prefect": _PREFECT}[package]
        subprocess.run([sys.executable, "-c", code, str(file)], env=environment, cwd=folder, check=True)
        with closing(sqlite3.connect(file)) as database:
            lines = [
                f"{line}  -- pragma: allowlist secret" if line.startswith(_REVISION) else line
                for line in database.iterdump()
                if not line.startswith(_LEFT_OUT)
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the files of the installed versions, and remove those of other ones."""
    for package in ("mlflow", "prefect"):
        file = empty_database.schema(package)
        text = migrated(package)
        for old in file.parent.glob(f"{package}-*.sql"):
            old.unlink()
        file.write_text(text, encoding="utf-8")
        print(f"{file.name}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
