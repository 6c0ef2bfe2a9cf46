"""The tables of a new database of MLflow and of Prefect, as their migrations leave them.

Both make a new database by a hundred migrations, which take ten seconds of processor time. This release
holds the result as SQL, for the versions in ``requirements.lock``. Other versions run their migrations.
``python -m tools.empty_databases`` writes the files.
"""

import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

_FOLDER = Path(__file__).parent / "schemas"


def schema(package: str) -> Path:
    """Return the file with the tables of the installed version of a package. It can be missing."""
    return _FOLDER / f"{package}-{version(package)}.sql"


def fill(package: str, database: Path) -> bool:
    """Make the tables of a package in a new SQLite file.

    Returns:
        False, and no file, when this release has no tables for the installed version of the package.
    """
    file = schema(package)
    if not file.exists():
        return False
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(file.read_text(encoding="utf-8"))
    return True
