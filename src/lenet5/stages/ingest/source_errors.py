"""Classify a failed read: the file is absent, the next attempt may succeed, or no attempt can succeed."""

from pathlib import Path

import aiohttp

from lenet5.core import storage
from lenet5.core.errors import DataError, StorageError, Unavailable

_BUSY = {408, 425, 429}
"""HTTP status codes below 500 after which a client should try again."""


class AbsentError(Exception):
    """The file does not exist or cannot be accessed; a file with another name may exist."""


class TransientError(Unavailable):
    """The read failed, and the next attempt may succeed."""


def classify(
    error: Exception, file: str, *, local: bool = False
) -> AbsentError | TransientError | Unavailable | StorageError | DataError:
    """Return the exception of this package for an exception of an fsspec driver.

    Each driver raises its own exceptions, and few are documented.

    Args:
        error: the exception of the driver.
        file: the file and its source, for the message.
        local: the file is on this machine. Then the network is no cause, and another attempt cannot help.
    """
    if isinstance(error, OSError) and (broken := storage.failure(error, Path(file), exact=True)):
        return broken
    status = getattr(error, "status", None)  # the status code, if the error is an HTTP response
    if isinstance(error, FileNotFoundError) or status == 410:
        return AbsentError("no such file")
    # an object store answers "access denied" for an absent file if the user may not list the folder
    if isinstance(error, PermissionError) or status in (401, 403):
        return AbsentError("access denied")
    if local:
        return DataError(
            f"{file} cannot be read.",
            expected="a file that this user may read",
            found=f"{type(error).__name__}: {error}",
            fix="check ingest.source in params.yaml, and the file",
        )
    return (TransientError if _is_transient(error, status) else Unavailable)(
        f"{file} cannot be read.",
        found=f"{type(error).__name__}: {error}",
        fix="check ingest.source in params.yaml, the network and the credentials, then run the stage again",
    )


def _is_transient(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status >= 500 or status in _BUSY
    if isinstance(error, IsADirectoryError | NotADirectoryError | aiohttp.InvalidURL):
        return False
    return isinstance(error, OSError | aiohttp.ClientError)
