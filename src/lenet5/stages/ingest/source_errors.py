"""What a failed read means: the file is not there, the next try may succeed, or no try will."""

import aiohttp

from lenet5.core.errors import Unavailable

_TOO_BUSY = {408, 425, 429}


class AbsentError(Exception):
    """There is no such file, or it is not shown to us: another name may do."""


class Interrupted(Unavailable):
    """The next try may succeed."""


def meaning(error: Exception, file: str) -> AbsentError | Interrupted | Unavailable:
    """Sort what a driver of fsspec raised; each has kinds of its own, few of them documented."""
    status = getattr(error, "status", None)  # of an HTTP response
    if isinstance(error, FileNotFoundError) or status == 410:
        return AbsentError("not there")
    # object stores answer so for a file that is not there, when we may not list the folder
    if isinstance(error, PermissionError) or status in (401, 403):
        return AbsentError("access denied")
    return (Interrupted if _may_pass(error, status) else Unavailable)(
        f"{file} cannot be read.",
        found=f"{type(error).__name__}: {error}",
        fix="check ingest.source in params.yaml, the network and the credentials, then run it again",
    )


def _may_pass(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status >= 500 or status in _TOO_BUSY
    if isinstance(error, IsADirectoryError | NotADirectoryError | aiohttp.InvalidURL):
        return False
    return isinstance(error, OSError | aiohttp.ClientError)
