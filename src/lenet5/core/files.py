"""Write files atomically: to a temporary name, flushed to the disk, then renamed. Read regular files only."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet5.core import storage
from lenet5.core.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_FILE_TYPE_ERRORS = {
    errno.EISDIR: "a folder",
    errno.ENOTDIR: "a file where a folder is needed",
    errno.EEXIST: "something else of this name",
    errno.ELOOP: "a loop of symbolic links",
    errno.ENXIO: "a socket",
}
"""What is in the place of a file or a folder, by the error number of opening it."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Replace a file or a folder atomically.

    The caller writes a file or a folder at the yielded path, which is beside ``target``. At the end of the
    block it is flushed to the disk and renamed to ``target``. After an exception or a kill, ``target`` is
    unchanged. A folder needs two renames; a kill between them leaves no ``target``. Files that a killed
    writer of the same target left behind are removed first.

    Yields:
        The temporary path, which does not exist yet.

    Raises:
        StorageError: the disk is full, over its quota, read-only or broken.
    """
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    old = target.parent / f".{target.name}.{os.getpid()}.old.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f".{target.name}.[0-9]*.partial"):
            _remove(leftover)
        yield partial
        for path in [partial, *sorted(partial.rglob("*"))]:
            _flush(path)
        if target.is_dir():  # a folder cannot be renamed to one that has files in it
            target.replace(old)
        partial.replace(target)
        _flush(target.parent)
    except Exception as error:  # libraries that write the file raise many kinds
        if failure := storage.failure(error, target, exact=True):
            raise failure from error
        raise
    finally:
        _remove(partial)
        _remove(old)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(target: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(target) as partial:
        partial.write_bytes(content)


def write_json(target: Path, value: object) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    write_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_csv(target: Path, frame: "pd.DataFrame") -> None:
    """Write the columns of any table, without its index, with the same line ends on every system."""
    write_text(target, frame.to_csv(index=False, lineterminator="\n"))


def write_parquet(target: Path, frame: "pd.DataFrame") -> None:
    """Write the columns of any table, without its index, as a Parquet file."""
    with replacing(target) as partial:
        frame.to_parquet(partial, index=False)


def regular(path: Path) -> Path:
    """Return a path that can be read at once: a regular file, a link to one, or nothing.

    Call it before a file is opened: opening a pipe would wait for its other end, and a device has no end.
    Whoever opens the file reports that it is missing.

    Raises:
        DataError: a folder, a pipe, a socket, a device or a loop of links is in the place of the file.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return path
    except OSError as error:
        if found := wrong_kind(error, path):
            raise found from None
        raise
    if kind != stat.S_IFREG:
        raise _not_regular(path, _KINDS.get(kind, "no file"))
    return path


def wrong_kind(error: OSError, path: Path) -> DataError | None:
    """Return the error for something else in the place of a file; None for another cause."""
    found = _FILE_TYPE_ERRORS.get(error.errno or 0)
    if found is None:
        return None
    for folder in reversed(path.parents):
        if os.path.lexists(folder) and not folder.is_dir():
            return DataError(
                f"{folder} cannot be used.",
                expected="a folder",
                found="a loop of symbolic links" if folder.is_symlink() else "a file",
                fix="move it away, then run the command again",
            )
    return _not_regular(path, found)


def _not_regular(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} cannot be used.",
        expected="a regular file",
        found=found,
        fix="move it away; `git restore` or `dvc checkout` brings back the file",
    )


def read_bytes(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        DataError: something else is in its place.
        FileNotFoundError: it does not exist.
    """
    return regular(path).read_bytes()


def read_text(path: Path) -> str:
    """Read a regular file of UTF-8 text.

    Raises:
        DataError: something else is in its place.
        FileNotFoundError: it does not exist.
        UnicodeDecodeError: it is not UTF-8.
    """
    return regular(path).read_text(encoding="utf-8")


def read_csv(path: Path, names: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a table. Its columns are those of the file.

    Args:
        path: the file.
        names: columns that hold names, such as those of classes: "007" and "NA" are read as text. A table
            with such columns has a value in every cell.

    Raises:
        DataError: the file is missing or is not a table.
    """
    import pandas as pd

    try:
        return pd.read_csv(regular(path), dtype=dict.fromkeys(names, str), keep_default_na=not names)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read.", expected="a CSV table", found=error, fix="`dvc repro` writes it"
        ) from None


def read_yaml(path: Path, *, fix: str) -> Any:
    """Read a YAML file as plain Python values.

    Args:
        path: the file.
        fix: what the user can do when the file is missing.

    Raises:
        UsageError: the file is missing or is not YAML.
        DataError: it is no regular file.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(read_text(path))
    except FileNotFoundError:
        raise UsageError(f"There is no {path.name}.", expected=path, fix=fix) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML.", found=error, fix="correct the syntax of the file") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, as 64 hexadecimal digits.

    Raises:
        DataError: the file does not exist, or is no regular file.
    """
    return _digest(path, "sha256")


def md5(path: Path) -> str:
    """Return the MD5 of a file's content, which is its name in DVC. It does not protect against tampering.

    Raises:
        DataError: the file does not exist, or is no regular file.
    """
    return _digest(path, "md5")


def _digest(path: Path, algorithm: str) -> str:
    try:
        with regular(path).open("rb") as file:
            return hashlib.file_digest(
                file, lambda: hashlib.new(algorithm, usedforsecurity=algorithm != "md5")
            ).hexdigest()
    except FileNotFoundError:
        raise DataError(f"There is no {path}.", fix="`dvc repro` writes it; `dvc pull` fetches it") from None


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():  # a read-only file system refuses to remove what does not exist
        path.unlink(missing_ok=True)
