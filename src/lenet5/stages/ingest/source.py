"""List and read files of a folder or an fsspec URL, and retry when the network fails."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import aiohttp
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from rich.progress import Progress, TaskID
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from lenet5.core import files
from lenet5.core.errors import DataError, UsageError
from lenet5.stages.ingest.source_errors import AbsentError, TransientError, classify
from lenet5.stages.ingest.unzip import too_large

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_ARCHIVES = {".npz", ".csv", ".tsv", ".arff", ".parquet"}
"""Endings of a URL that names one file; ``.gz`` may follow."""
_IGNORED = ("__MACOSX", "__pycache__")
_SHOWN = 10
_SEVERAL = 64
"""Small files that one request to an object store may ask for."""
_DRIVERS = {"s3": "pip install -e '.[s3]'", "gs": "pip install gcsfs", "gcs": "pip install gcsfs"}
_WEB = ("http://", "https://")
_WEB_OPTIONS = {
    "client_kwargs": {
        # a total timeout would stop a slow download; these stop a server that does not answer any more
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
        "headers": {"Accept-Encoding": "identity"},  # then Content-Length is the number of bytes that arrive
        "trust_env": True,  # this makes aiohttp use the proxies of the environment
    }
}


class Source:
    """A folder of files, or one file."""

    def __init__(self, url: str, root: Path, *, limit: int, attempts: int) -> None:
        """Choose the driver for a URL.

        Args:
            url: a path, absolute or relative to ``root``, or any URL of fsspec. A ``*`` in its last part
                stands for any characters; only files whose names match are read.
            root: the checkout.
            limit: the largest size of a file, in bytes.
            attempts: how often each file is tried.

        Raises:
            UsageError: fsspec does not know the protocol, or its driver is not installed.
            Unavailable: the driver connects at once, and the source does not answer.
        """
        self.url = url if "://" in url else str(root / Path(url).expanduser())
        end = PurePosixPath(url.partition("?")[0])
        self._web = url.startswith(_WEB)
        self.archive: str | None = end.name if ending(end.name) in _ARCHIVES else None
        """The name of the file, if the source is one file."""
        self._pattern: str | None = None
        if "*" in end.name and not self._web:
            self._pattern, self.archive = end.name, None
            self.url = self.url.rpartition("/")[0]
        self._limit = limit
        self._attempts = attempts
        self._local = False
        self._names: tuple[str, ...] | None = None
        try:
            self._fs, self._path = url_to_fs(self.url, **(_WEB_OPTIONS if self._web else {}))
            self._local = isinstance(self._fs, LocalFileSystem)
            if self._local and Path(self._path).is_dir():
                self.archive = None
        except ImportError as error:
            protocol = url.partition("://")[0]
            raise UsageError(
                f"ingest.source {url} needs a driver that is not installed.",
                found=error,
                fix=_DRIVERS.get(protocol, "install the package that the line `found` names"),
            ) from None
        except OSError as error:  # some drivers connect when they are created
            raise classify(error, url) from error
        except ValueError as error:
            raise UsageError(
                f"ingest.source {url} is not a valid source.",
                expected="a folder, or a URL that fsspec reads, such as https://, s3:// or gs://",
                found=error,
                fix="correct ingest.source in params.yaml",
            ) from None

    def fetch(self, names: Sequence[str], into: BinaryIO, progress: Progress) -> str:
        """Copy the first file that exists.

        Args:
            names: the possible names of the file, in order of preference.
            into: the copy, positioned at its start afterwards; its previous content is removed.
            progress: shows the transfer.

        Returns:
            The name of the file that was copied.

        Raises:
            DataError: no such file exists, it is no regular file, or it is larger than the limit.
            StorageError: the disk of a local source is broken.
            Unavailable: the source does not answer, or every attempt failed.
        """
        reasons = []
        for name in names:
            try:
                self._retrying(name)(self._copy, name, into, progress)
            except AbsentError as error:
                reasons.append(f"{name}: {error}")
            else:
                return name
        raise DataError(
            f"A file is missing from {self.url}.",
            expected=" or ".join(names),
            found="; ".join(reasons) + self._instead(),
            fix="check ingest.source in params.yaml; git or `dvc pull` may have to fetch the files first",
        )

    def _instead(self) -> str:
        """Say what a source on this machine holds; the answer is empty for another one."""
        if not self._local:
            return ""
        place = Path(self._path)
        if place.is_dir():
            return f". The folder holds {overview(self.names() or ())}"
        parent = place.parent
        return f". {parent} holds {_entries(parent)}" if self.archive and parent.is_dir() else ""

    def names(self) -> tuple[str, ...] | None:
        """Return the paths of all files below the folder, in order; None if the source cannot list them.

        Hidden files are left out. A source that is one file has one name.

        Raises:
            DataError: the folder does not exist, is a file of another kind, or cannot be read.
            Unavailable: the source does not answer, or every attempt failed.
        """
        if self._names is None:
            self._names = self._listing()
        return self._names

    def _listing(self) -> tuple[str, ...] | None:
        if self.archive:
            return (self.archive,)
        if self._web:
            return None
        if self._local:
            found: Iterable[str] = self._walk()
        else:
            try:
                found = self._retrying("the list of files")(self._find)
            except AbsentError:  # the user may read the files, but not list them
                return None
        kept = (name for name in found if not _is_hidden(name))
        return tuple(sorted(n for n in kept if not self._pattern or fnmatchcase(n, self._pattern)))

    def _walk(self) -> Generator[str, None, None]:
        """Yield the paths of the files below a local folder. Links to folders are followed once."""
        root = Path(self._path)
        if root.exists() and not root.is_dir():
            raise DataError(
                f"{self.url} cannot be used.",
                expected=f"a folder, or a file that ends with {', '.join(sorted(_ARCHIVES))}",
                found="a file with another ending",
                fix="set ingest.source to the folder of the file; unpack an archive first",
            )
        if not root.is_dir():
            nearest = next(folder for folder in root.parents if folder.is_dir())
            raise DataError(
                f"A file is missing from {self.url}.",
                expected="a folder, or a file",
                found=f"nothing of this name; {nearest} holds {_entries(nearest)}",
                fix="check ingest.source in params.yaml; git or `dvc pull` may have to fetch the files first",
            )
        seen: set[str] = set()
        for folder, folders, inside in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [name for name in folders if not _is_hidden(name)]
            relative = Path(folder).relative_to(root)
            yield from ((relative / name).as_posix() for name in inside)

    def _find(self) -> list[str]:
        try:
            base = self._fs._strip_protocol(self._path).rstrip("/") + "/"
            return [name.removeprefix(base) for name in self._fs.find(self._path)]
        except Exception as error:
            raise classify(error, self.url) from error

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Return the content of small files.

        Raises:
            DataError, StorageError, Unavailable: as :meth:`fetch`.
        """
        contents: list[bytes] = []
        for start in range(0, len(names), _SEVERAL):
            some = names[start : start + _SEVERAL]
            try:
                contents += self._retrying(some[0])(self._read, some)
            except AbsentError as error:
                raise DataError(
                    f"A file is missing from {self.url}.",
                    expected=some[0] if len(some) == 1 else f"{some[0]} and {len(some) - 1} more",
                    found=error,
                    fix="check ingest.source in params.yaml",
                ) from None
        for name, content in zip(names, contents, strict=True):
            if len(content) > self._limit:
                raise too_large(name, self._limit)
        return contents

    def _read(self, names: Sequence[str]) -> list[bytes]:
        paths = [self._path if self.archive else f"{self._path.rstrip('/')}/{name}" for name in names]
        where = f"{names[0]} from {self.url}"
        try:
            if self._local:
                return [self._read_local(Path(path)) for path in paths]
            found = self._fs.cat(paths)
            return (
                [found] if isinstance(found, bytes) else [found[self._fs._strip_protocol(p)] for p in paths]
            )
        except DataError:
            raise
        except Exception as error:
            raise classify(error, where, local=self._local) from error

    def _read_local(self, path: Path) -> bytes:
        # without this flag, opening a named pipe would wait for its other end
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                files.regular(path)  # raises the error that names what it is
            return file.read(self._limit + 1)

    def _retrying(self, name: str) -> Retrying:
        def log_retry(state: RetryCallState) -> None:
            seconds = state.next_action.sleep if state.next_action else 0
            log.warning(
                "%s: attempt %d of %d failed, next in %.1f s",
                name,
                state.attempt_number,
                self._attempts,
                seconds,
            )

        return Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self._attempts),
            wait=wait_exponential_jitter(max=30),
            before_sleep=log_retry,
            reraise=True,
        )

    def _copy(self, name: str, into: BinaryIO, progress: Progress) -> None:
        into.seek(0)
        into.truncate()  # a failed attempt may have written a part of the file
        task = progress.add_task(name, total=None)
        try:
            with closing(self._chunks(name, progress, task)) as chunks:
                for chunk in chunks:
                    if into.tell() + len(chunk) > self._limit:
                        raise too_large(name, self._limit)
                    into.write(chunk)
                    progress.advance(task, len(chunk))
        finally:
            progress.remove_task(task)
        into.seek(0)

    def _chunks(self, name: str, progress: Progress, task: TaskID) -> Generator[bytes, None, None]:
        """Yield the bytes of one file. Only errors of reading are classified here, not those of the disk."""
        path = self._path if self.archive else f"{self._path.rstrip('/')}/{name}"
        if self._local:  # before it is opened: a pipe would never answer
            try:
                files.regular(Path(path))
            except OSError as error:
                raise classify(error, f"{name} from {self.url}", local=True) from error
        # when fsspec's HTTP driver requests a size, it reports every failure as "not found"; a given size
        # skips that request
        options = {"block_size": 0, "size": 1} if self._web else {}
        try:
            with self._fs.open(path, "rb", **options) as remote:
                progress.update(task, total=_size(remote))
                while chunk := remote.read(_CHUNK):
                    yield chunk
        except Exception as error:
            raise classify(error, f"{name} from {self.url}", local=self._local) from error


def ending(name: str) -> str:
    """Return the ending of a name in lower case, such as ``.csv``; ``.gz`` after it does not count."""
    return PurePosixPath(name.lower().removesuffix(".gz")).suffix


def overview(names: Iterable[str]) -> str:
    """Describe a list of files in one line: how many, of which kinds, and the first ones."""
    listed = sorted(names, key=lambda name: (name.count("/"), name))
    if not listed:
        return "no files"
    kinds = Counter(ending(name) or "without an ending" for name in listed)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    more = f", … ({len(listed) - _SHOWN} more)" if len(listed) > _SHOWN else ""
    return f"{len(listed)} files ({counts}): {', '.join(listed[:_SHOWN])}{more}"


def _entries(folder: Path) -> str:
    try:
        found = sorted(f"{each.name}/" if each.is_dir() else each.name for each in folder.iterdir())
    except PermissionError:
        return "entries that this user may not list"
    visible = [name for name in found if not name.startswith(".")]
    more = f", … ({len(visible) - _SHOWN} more)" if len(visible) > _SHOWN else ""
    return ", ".join(visible[:_SHOWN]) + more if visible else "nothing"


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part in _IGNORED for part in name.split("/"))


def _size(remote: Any) -> int | None:
    """Return the size of a file in bytes, if the source states it; an HTTP stream has it in its response."""
    response = getattr(remote, "r", None)
    size: int | None = response.content_length if response is not None else getattr(remote, "size", None)
    return size
