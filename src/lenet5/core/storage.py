"""Recognize failures of storage, whatever library reports them: full, over quota, read-only, broken.

Python raises an ``OSError`` with an error number. Libraries in C report the same failure in their own words:
HDF5 with a text, Arrow with another one, SQLite without a path.
"""

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lenet5.core.errors import StorageError

_FREE = "free some space: `dvc gc --workspace` removes results that no file of this checkout needs"
_FIXES = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: f"ask for a larger quota, or {_FREE}",
    errno.EIO: "read the log of the kernel (`dmesg`), and replace the disk or mount it again",
    errno.EROFS: "mount it for writing, or work in another folder",
    errno.EFBIG: "raise the limit (`ulimit -f unlimited`)",
}
"""What the user can do, by error number."""
_EXPECTED = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "room to write")
_WHAT = {
    errno.ENOSPC: "There is no space left for {}.",
    errno.EDQUOT: "The disk quota is used up: no room for {}.",
    errno.EIO: "The disk failed to read or write {}.",
    errno.EROFS: "The file system is read-only: {} cannot be written.",
    errno.EFBIG: "The limit of the size of a file leaves no room for {}.",
}
_TEXTS = {os.strerror(number): number for number in _WHAT} | {
    "No usable temporary directory": errno.ENOSPC,
}
_SQLITE_TEXTS = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "readonly database": errno.EROFS,
}
_SQLITE_CANNOT_OPEN = "unable to open database file"
_HDF5 = re.compile(r"errno = (\d+)")
_HDF5_FILE = re.compile(r"(?:filename|name) = '([^']+)'")
_FOLDERS = ("data", "models", "metrics", "plots", "reports", ".lenet5", ".dvc", ".dvc/cache")
"""Folders of a checkout that can be file systems of their own."""
_LEAST_BYTES = 256_000
"""With less, a file system counts as full: SQLite needs some pages for its journal."""
_PLENTY_BYTES = 2_000_000_000
"""A file system with more is not the one that was full: a training writes 0.4 GB."""


@contextmanager
def failures_named(root: Path) -> Iterator[None]:
    """Convert each failure of storage in the block.

    Args:
        root: the checkout, for a failure that names no file.

    Raises:
        StorageError: what could not be written, where, and how much is free.
    """
    try:
        yield
    except Exception as error:
        found = failure(error, root)
        if found is None or found is error:
            raise
        raise found from error


def failure(error: BaseException, place: Path, *, exact: bool = False) -> StorageError | None:
    """Return the failure of storage that caused an exception; None for another cause.

    Args:
        error: the exception; its causes and contexts are searched, too.
        place: the checkout, for an exception that names no file.
        exact: ``place`` is the file that was to be written.
    """
    for cause in _chain(error):
        if isinstance(cause, StorageError):
            return cause
        number = _number(cause, place)
        if number is None:
            continue
        if named := place if exact else _file(cause):
            return describe(number, named, cause)
        return describe(*_located(number, place), cause)
    return None


def failure_in_text(lines: Sequence[str], root: Path) -> StorageError | None:
    """Return the failure of storage that the output of another program names; None for none."""
    for line in lines:
        for text, number in {**_TEXTS, **_SQLITE_TEXTS}.items():
            if text in line:
                return describe(*_located(number, root), line.strip())
    return None


def full(folder: Path) -> StorageError | None:
    """Return the error for a file system that is full or read-only; None for another one."""
    existing = _existing(folder)
    if _is_read_only(existing):
        return describe(errno.EROFS, folder, os.strerror(errno.EROFS))
    if _lacks_room(existing):
        return describe(errno.ENOSPC, folder, os.strerror(errno.ENOSPC))
    return None


def describe(number: int, path: Path | None, cause: object) -> StorageError:
    """Return the error for an error number and the file or folder that could not be written.

    Args:
        number: the error number.
        path: the file or folder; None when it is none of the checkout.
        cause: what reported the failure.
    """
    reason = str(cause).partition("\n")[0] or type(cause).__name__
    return StorageError(
        _WHAT[number].format(path or "the output of this command"),
        expected=_EXPECTED.get(number, "a disk that works"),
        found=f"{_free(_existing(path))} ({reason})" if path else reason,
        fix=f"{_FIXES[number]}; then run the command again: what was finished before is unchanged",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and everything that led to it, nearest first."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
        near = (current.__cause__, current.__context__, getattr(current, "orig", None))
        waiting += [each for each in near if isinstance(each, BaseException)]


def _number(error: BaseException, place: Path) -> int | None:
    """Return the error number of one exception; None for a failure of another kind."""
    text = str(error)
    if isinstance(error, sqlite3.Error):
        if _SQLITE_CANNOT_OPEN in text:  # also the failure to make a journal
            return errno.ENOSPC if _lacks_room(_existing(place)) else None
        return _in(_SQLITE_TEXTS, text)
    if not isinstance(error, OSError | RuntimeError):
        return None
    if isinstance(error, OSError) and error.errno in _WHAT:
        # drivers of object stores raise EIO with a text of their own
        genuine = error.errno != errno.EIO or os.strerror(errno.EIO) in text
        return error.errno if genuine else None
    if match := _HDF5.search(text):
        return int(match[1]) if int(match[1]) in _WHAT else None
    return _in(_TEXTS, text)


def _in(texts: dict[str, int], text: str) -> int | None:
    return next((number for part, number in texts.items() if part in text), None)


def _file(error: BaseException) -> Path | None:
    """Return the file that an exception names."""
    names = [getattr(error, "filename2", None), getattr(error, "filename", None)]
    if match := _HDF5_FILE.search(str(error)):
        names.append(match[1])
    return next((Path(os.fsdecode(name)) for name in names if isinstance(name, str | bytes)), None)


def _located(number: int, place: Path) -> tuple[int, Path | None]:
    """Return the failure and the folder of a checkout whose file system fits it; None when none fits."""
    existing = [folder for folder in (place, *(place / name for name in _FOLDERS)) if folder.exists()]
    with suppress(FileNotFoundError):  # no folder for temporary files is usable
        existing.append(Path(tempfile.gettempdir()))
    if number == errno.EROFS:
        return number, next((folder for folder in existing if _is_read_only(folder)), place)
    # SQLite reports an I/O error when a full disk keeps it from making its journal
    full_ones = [folder for folder in existing if _lacks_room(folder)]
    if number in (errno.ENOSPC, errno.EIO) and full_ones:
        return errno.ENOSPC, full_ones[0]
    if number == errno.ENOSPC:
        # what a failed command wrote is removed already, so the file system need not be full any more
        fullest = min(existing, key=lambda each: shutil.disk_usage(each).free, default=place)
        return number, fullest if shutil.disk_usage(_existing(fullest)).free < _PLENTY_BYTES else None
    return number, place


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each)), Path.cwd())


def _is_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _lacks_room(folder: Path) -> bool:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize < _LEAST_BYTES or (state.f_files > 0 and state.f_favail == 0)


def _free(path: Path) -> str:
    """Describe how much room the file system of a path has."""
    state = os.statvfs(path)
    bytes_free, bytes_all = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
    files = ", no room for another file name" if state.f_files > 0 and state.f_favail == 0 else ""
    return f"{_size(bytes_free)} of {_size(bytes_all)} free{files}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
