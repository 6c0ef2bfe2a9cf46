"""An embedded store that a test can empty, and whose state can be saved and restored."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from lenet5.core.paths import Paths
from lenet5.system.state import LocalState

DATABASE = "mlflow.db"


class EmbeddedStore:
    """The embedded store of one checkout.

    The tests of one process share it, because a new store costs processor time: MLflow reads all its
    migrations, and SQLAlchemy compiles every statement again. A restored store has exactly the saved rows and
    files.
    """

    def __init__(self, root: Path, empty_database: Path) -> None:
        self.paths = Paths(root)
        self._folder = LocalState(root).mlflow
        self._folder.mkdir(parents=True)
        self._empty_database = empty_database

    def clear(self) -> None:
        """Delete all rows, and all files of the checkout."""
        self._delete_files()
        _copy(self._empty_database, self._folder / DATABASE)

    def save(self, folder: Path) -> None:
        """Copy the store into a new folder."""
        shutil.copytree(self._folder, folder)

    def restore(self, saved: Path) -> None:
        """Replace the store by the one that was saved in a folder."""
        self._delete_files()
        shutil.copytree(saved, self._folder, ignore=shutil.ignore_patterns(DATABASE), dirs_exist_ok=True)
        _copy(saved / DATABASE, self._folder / DATABASE)

    def _delete_files(self) -> None:
        database = self._folder / DATABASE
        kept = {database, *database.parents}
        for path in sorted(self.paths.root.rglob("*"), reverse=True):  # a folder after its files
            if path not in kept:
                path.rmdir() if path.is_dir() else path.unlink()


def _copy(source: Path, target: Path) -> None:
    """Replace the content of a database. This is a transaction, so the target may have open connections."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
