"""Read files from a folder or an fsspec URL as a stream, and retry when the network fails."""

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
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
    """A folder of files, or one ``.npz`` file."""

    def __init__(self, url: str, root: Path, *, limit: int, attempts: int) -> None:
        """Choose the driver for a URL.

        Args:
            url: a path, absolute or relative to ``root``, or any URL of fsspec.
            root: the checkout.
            limit: the largest size of a file, in bytes.
            attempts: how often each file is tried.

        Raises:
            UsageError: fsspec does not know the protocol, or its driver is not installed.
            Unavailable: the driver connects at once, and the source does not answer.
        """
        self.url = url if "://" in url else str(root / Path(url).expanduser())
        end = PurePosixPath(url.partition("?")[0])
        self.archive = end.name if end.suffix == ".npz" else None
        self._limit = limit
        self._attempts = attempts
        self._web = url.startswith(_WEB)
        self._local = False
        try:
            self._fs, self._path = url_to_fs(self.url, **(_WEB_OPTIONS if self._web else {}))
            self._local = isinstance(self._fs, LocalFileSystem)
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
            found="; ".join(reasons),
            fix="check ingest.source in params.yaml; git or `dvc pull` may have to fetch the files first",
        )

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
                raise classify(error, f"{name} from {self.url}") from error
        # when fsspec's HTTP driver requests a size, it reports every failure as "not found"; a given size
        # skips that request
        options = {"block_size": 0, "size": 1} if self._web else {}
        try:
            with self._fs.open(path, "rb", **options) as remote:
                progress.update(task, total=_size(remote))
                while chunk := remote.read(_CHUNK):
                    yield chunk
        except Exception as error:
            raise classify(error, f"{name} from {self.url}") from error


def _size(remote: Any) -> int | None:
    """Return the size of a file in bytes, if the source states it; an HTTP stream has it in its response."""
    response = getattr(remote, "r", None)
    size: int | None = response.content_length if response is not None else getattr(remote, "size", None)
    return size
