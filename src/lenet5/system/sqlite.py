"""Ask SQLite databases that other processes write, and that a killed process may have left half written."""

import sqlite3
from pathlib import Path


def open_for_reading(path: Path, timeout: float) -> sqlite3.Connection:
    """Open a database for queries, without transactions of Python's own.

    A connection that may only read fails after a writer was killed, since it cannot roll back the unfinished
    transaction ("attempt to write a readonly database"). So this one opens the file for writing, where the
    disk allows that, and then refuses every statement that changes data.

    Args:
        path: the database; a missing one is not created.
        timeout: seconds to wait for a process that writes.

    Raises:
        sqlite3.Error: there is no such file, or it cannot be opened.
    """
    address = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection
