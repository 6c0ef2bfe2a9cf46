"""Write files atomically: to a temporary name, flushed to the disk, then renamed. Read tables and YAML."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet5.core.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Replace a file or a folder atomically.

    The caller writes a file or a folder at the yielded path, which is beside ``target``. At the end of the
    block it is flushed to the disk and renamed to ``target``. After an exception or a kill, ``target`` is
    unchanged. A folder needs two renames; a kill between them leaves no ``target``. Files that a killed
    writer of the same target left behind are removed first.

    Yields:
        The temporary path, which does not exist yet.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.[0-9]*.partial"):
        _remove(leftover)
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    old = target.parent / f".{target.name}.{os.getpid()}.old.partial"
    try:
        yield partial
        for path in [partial, *sorted(partial.rglob("*"))]:
            _flush(path)
        if target.is_dir():  # a folder cannot be renamed to one that has files in it
            target.replace(old)
        partial.replace(target)
        _flush(target.parent)
    finally:
        _remove(partial)
        _remove(old)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(target: Path, value: object) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    write_text(target, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_csv(target: Path, frame: "pd.DataFrame") -> None:
    """Write the columns of any table, without its index, with the same line ends on every system."""
    write_text(target, frame.to_csv(index=False, lineterminator="\n"))


def read_csv(path: Path) -> "pd.DataFrame":
    """Read a table. Its columns are those of the file.

    Raises:
        DataError: the file is missing or is not a table.
    """
    import pandas as pd

    try:
        return pd.read_csv(path)
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
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no {path.name}.", expected=path, fix=fix) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML.", found=error, fix="correct the syntax of the file") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, as 64 hexadecimal digits.

    Raises:
        DataError: the file does not exist.
    """
    return _digest(path, "sha256")


def md5(path: Path) -> str:
    """Return the MD5 of a file's content, which is its name in DVC. It does not protect against tampering.

    Raises:
        DataError: the file does not exist.
    """
    return _digest(path, "md5")


def _digest(path: Path, algorithm: str) -> str:
    try:
        with path.open("rb") as file:
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
    else:
        path.unlink(missing_ok=True)
